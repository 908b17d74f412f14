"""The report: the demo's table, its verdict and one decision told in plain words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.markup import escape
from rich.table import Table

from litellm_plugin.cli.demo.scenes import Attacker, Client, Forgery

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from litellm_plugin.cli.demo.callers import Answer
    from litellm_plugin.cli.demo.decisions import Decisions
    from litellm_plugin.cli.demo.play import Played, PlayedPrompt

_FIRST_ERROR_STATUS: Final = 400
_NOTHING: Final = "-"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        request: What was asked.
        sender: Who asked.
        answer: What came of it.
        arrivals: Where it arrived.
        is_good: Whether that was expected.
        is_attack: Whether it came past the gateway.
    """

    request: str
    sender: Client | Attacker
    answer: Answer
    arrivals: tuple[str, ...]
    is_good: bool

    @property
    def is_attack(self) -> bool:
        """Whether it came past the gateway."""
        return isinstance(self.sender, Attacker)


def scene_row(played: Played, *, is_good: bool) -> Row:
    """The row of a scene."""
    return Row(played.scene.name, played.scene.sender, played.answer, played.arrivals, is_good)


def prompt_row(played: PlayedPrompt) -> Row:
    """The row of a prompt of the user's."""
    is_good = played.answer.status > 0 and not played.outside
    return Row(played.prompt.label, played.sender, played.answer, played.arrivals, is_good)


def table(rows: Sequence[Row], decisions: Decisions, endpoints: Sequence[str]) -> Table:
    """The table of everything that was sent.

    Args:
        rows: What was sent, in order.
        decisions: What the decision log says of it.
        endpoints: Every endpoint there is.
    """
    drawn = Table(header_style="bold", box=box.SIMPLE_HEAD)
    drawn.add_column("", justify="right", no_wrap=True)
    drawn.add_column("request", min_width=16)
    drawn.add_column("tenant", overflow="fold")
    drawn.add_column("classification", overflow="fold")
    drawn.add_column("authorized", max_width=32)
    drawn.add_column("chosen", overflow="fold")
    drawn.add_column("reason", overflow="fold")
    drawn.add_column("cost", justify="right", no_wrap=True)
    drawn.add_column("ms", justify="right", no_wrap=True)
    if any(row.is_attack for row in rows):
        drawn.add_row("", "[bold]through the gateway[/]")
    for number, row in enumerate(rows, start=1):
        if row.is_attack and not rows[number - 2].is_attack:
            drawn.add_row("", "[bold]past it, master key in hand[/]")
        following = rows[number] if number < len(rows) else None
        drawn.add_row(
            f"{number} {'✓' if row.is_good else '✗'}",
            escape(row.request),
            row.sender.label,
            row.sender.data_classification,
            _authorized(row.sender, endpoints),
            _chosen(row),
            _reason(row.answer, decisions),
            _cost(row.answer, decisions),
            f"{row.answer.total_ms:.0f}",
            style=None if row.is_good else "bold red",
            end_section=following is not None and following.is_attack != row.is_attack,
        )
    return drawn


def _authorized(sender: Client | Attacker, endpoints: Sequence[str]) -> str:
    """The endpoints that a valid permit names."""
    if isinstance(sender, Attacker) and sender.forgery is not Forgery.NOTHING:
        return _NOTHING
    if frozenset(sender.endpoints) == frozenset(endpoints):
        return f"all {len(endpoints)}"
    return " ".join(sender.endpoints)


def _chosen(row: Row) -> str:
    """The endpoint that answered, after those that failed before it."""
    if row.answer.status >= _FIRST_ERROR_STATUS or not row.answer.endpoint:
        return " → ".join((*(f"{name} ✗" for name in row.arrivals), _NOTHING))
    failed = [f"{name} ✗" for name in row.arrivals if name != row.answer.endpoint]
    return " → ".join((*failed, row.answer.endpoint))


def _reason(answer: Answer, decisions: Decisions) -> str:
    rule = (decisions.by_id.get(answer.decision_id or "", {}).get("rule") or {}).get("name")
    if not answer.status:
        return escape(answer.error or "no answer")
    said = answer.reason or "no reason given"
    by = f", rule {rule}" if rule and rule != "default" and answer.status < _FIRST_ERROR_STATUS else ""
    cached = (decisions.success(answer.decision_id) or {}).get("cache_hit")
    return f"{answer.status} {said}{by}{', cached' if cached else ''}"


def _cost(answer: Answer, decisions: Decisions) -> str:
    """What LiteLLM billed; with `~` what was expected, where it has not said."""
    if answer.status >= _FIRST_ERROR_STATUS:
        return _NOTHING
    attempt = decisions.success(answer.decision_id) or {}
    billed = attempt.get("cost_usd")
    # LiteLLM bills nothing for a stream whose provider told no usage; that is not its cost.
    if billed or attempt.get("cache_hit"):
        return _usd(billed or 0.0)
    expected = decisions.expected_cost_usd(answer.decision_id)
    return _NOTHING if expected is None else f"~{_usd(expected)}"


def _usd(amount: float) -> str:
    return f"${amount:.7f}" if amount else "$0"


def explanation(decision: Mapping[str, Any]) -> Iterator[str]:
    """Tells one decision record in plain words."""
    rule = decision["rule"]
    yield (
        f"Request {decision['request_id']} of tenant {decision['tenant']}, data classification "
        f"{decision['data_classification']}, asked for {decision['requested_model']!r}."
    )
    yield f"Its permit (policy version {decision['permit']['policy_version']}) authorizes {', '.join(decision['authorized_endpoints'])}."
    yield f"Rule {rule['name']!r} applied: strategy {rule['strategy']}."
    yield from (f"  {_candidate(each)}" for each in sorted(decision["candidates"], key=_place))


def _place(candidate: Mapping[str, Any]) -> tuple[bool, bool, int]:
    """The plan first, then what is eligible, then what is not."""
    rank = candidate["rank"]
    return candidate["exclusion"] is not None and rank is None, rank is None, rank or 0


def _candidate(candidate: Mapping[str, Any]) -> str:
    name = f"{candidate['endpoint']} ({candidate['deployment_id']})"
    # The least bad of those whose breakers are all open is asked all the same.
    if candidate["exclusion"] is not None and candidate["rank"] is None:
        detail = f": {candidate['detail']}" if candidate["detail"] else ""
        return f"out     {name}: {candidate['exclusion']}{detail}"
    cost = candidate["expected_cost_usd"]
    price = "cost unknown" if cost is None else f"expected cost {_usd(cost)}"
    if candidate["rank"] is None:
        return f"left    {name}: eligible, but not in the plan; {price}"
    return f"{'chosen' if candidate['rank'] == 0 else 'then  '}  {name}: {price}"
