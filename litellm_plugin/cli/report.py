"""The commands `permit-router report`: what decision logs say of many requests together."""

from __future__ import annotations

import enum
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from litellm_plugin.records import ATTEMPT_SCHEMA, DECISION_SCHEMA, PROBE_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

report = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="What decision logs say of many requests together.",
)

_UNREADABLE: Final = 2
_UNNAMED: Final = "(unknown)"
_MOST_OPEN: Final = 100_000
_COLUMNS: Final = (
    ("attempts", "attempts"),
    ("compared", "compared"),
    ("expected USD", "expected_usd"),
    ("billed USD", "billed_usd"),
    ("bias", "bias"),
    ("mean error", "mean_error"),
    ("p50", "error_p50"),
    ("p90", "error_p90"),
    ("no expectation", "without_expectation"),
    ("no bill", "without_bill"),
    ("billed 0", "billed_nothing"),
)
_SHARES: Final = frozenset({"bias", "mean_error", "error_p50", "error_p90"})


class By(enum.StrEnum):
    """What the rows of the cost report stand for."""

    ENDPOINT = "endpoint"
    MODEL = "model"
    RULE = "rule"


@report.callback()
def _commands() -> None:
    """What decision logs say of many requests together."""


@report.command()
def cost(
    logs: Annotated[list[Path], typer.Argument(help="Decision logs, the oldest first.")],
    *,
    by: Annotated[By, typer.Option(help="What a row stands for.")] = By.ENDPOINT,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """Holds what attempts were expected to cost against what LiteLLM billed for them.

    Compared are answers that came from a provider, with an expectation and a bill above 0. Bias is the sum of
    expectations over the sum of bills, less one: above 0 is too high. An error is the difference over the bill.
    Lines that are no record are counted and left out. Exit code 2: a log cannot be read.
    """
    table = _Table(by)
    for path in logs:
        try:
            with path.open("rb") as file:
                table.read(file)
        except OSError as error:
            print(f"error: {str(path)!r} cannot be read: {error.strerror}", file=sys.stderr)
            raise typer.Exit(_UNREADABLE) from error
    if as_json:
        print(json.dumps(table.as_json(), indent=2))
        return
    for line in table.lines():
        print(line)


@dataclass(slots=True)
class CostRow:
    """What is known of one group.

    Attributes:
        attempts: Answers that came from a provider.
        without_expectation: Those whose price was unknown before.
        without_bill: Those of which LiteLLM knows no price.
        billed_nothing: Those that LiteLLM billed at 0: an error relative to that is none.
        expected_usd, billed_usd: The sums over those that are compared.
        errors: Their errors, absolute and relative to the bill.
    """

    attempts: int = 0
    without_expectation: int = 0
    without_bill: int = 0
    billed_nothing: int = 0
    expected_usd: float = 0.0
    billed_usd: float = 0.0
    errors: list[float] = field(default_factory=list)

    def add(self, expected_usd: float | None, billed_usd: float | None) -> None:
        """Takes one attempt into account."""
        self.attempts += 1
        self.without_expectation += expected_usd is None
        self.without_bill += billed_usd is None
        self.billed_nothing += billed_usd == 0
        if expected_usd is None or not billed_usd:
            return
        self.expected_usd += expected_usd
        self.billed_usd += billed_usd
        self.errors.append(abs(expected_usd - billed_usd) / billed_usd)

    def as_json(self) -> dict[str, Any]:
        """The row by the names of its columns; None where nothing could be compared."""
        errors = sorted(self.errors)
        return {
            "attempts": self.attempts,
            "compared": len(errors),
            "expected_usd": self.expected_usd,
            "billed_usd": self.billed_usd,
            "bias": self.expected_usd / self.billed_usd - 1 if errors else None,
            "mean_error": sum(errors) / len(errors) if errors else None,
            "error_p50": _quantile(errors, 0.5),
            "error_p90": _quantile(errors, 0.9),
            "without_expectation": self.without_expectation,
            "without_bill": self.without_bill,
            "billed_nothing": self.billed_nothing,
        }


class _Table:
    """Reads records, decisions before their attempts, and adds them up."""

    def __init__(self, by: By) -> None:
        self._by = by
        self._rows: dict[str, CostRow] = {}
        self._names: dict[str, str] = {}
        self._records = 0
        self._unreadable = 0
        self._foreign = 0

    def read(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            if line.strip():
                self._take(line)

    def as_json(self) -> dict[str, Any]:
        return {
            "by": str(self._by),
            "records": self._records,
            "unreadable_lines": self._unreadable,
            "foreign_lines": self._foreign,
            "groups": {name: row.as_json() for name, row in sorted(self._rows.items())},
            "all": self._total().as_json(),
        }

    def lines(self) -> Iterator[str]:
        named = [*sorted(self._rows.items()), ("all", self._total())]
        yield from _aligned(
            [
                (str(self._by), *(title for title, _ in _COLUMNS)),
                *((name, *_cells(row.as_json())) for name, row in named),
            ]
        )
        yield f"{self._records} records; {self._unreadable} lines are no JSON object, {self._foreign} are other records"

    def _take(self, line: bytes) -> None:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            self._unreadable += 1
        elif record.get("schema") == DECISION_SCHEMA:
            self._records += 1
            self._remember(record)
        elif record.get("schema") == ATTEMPT_SCHEMA:
            self._records += 1
            self._add(record)
        elif record.get("schema") == PROBE_SCHEMA:
            # No request stands behind it, and nobody expected a cost of it.
            self._records += 1
        else:
            self._foreign += 1

    def _remember(self, decision: Mapping[str, Any]) -> None:
        """Keeps what a decision's attempts do not repeat, until the last of them."""
        if self._by is By.ENDPOINT or decision.get("outcome") != "routed":
            return
        member, name = ("rule", "name") if self._by is By.RULE else ("request", "model_group")
        part = decision.get(member)
        found = part.get(name) if isinstance(part, dict) else None
        self._names[str(decision.get("decision_id"))] = str(found or _UNNAMED)
        if len(self._names) > _MOST_OPEN:
            del self._names[next(iter(self._names))]

    def _add(self, attempt: Mapping[str, Any]) -> None:
        decision_id = str(attempt.get("decision_id"))
        if self._by is By.ENDPOINT:
            name = str(attempt.get("endpoint") or _UNNAMED)
        elif attempt.get("is_final") is True:
            name = self._names.pop(decision_id, _UNNAMED)
        else:
            name = self._names.get(decision_id, _UNNAMED)
        if attempt.get("status") != "success" or attempt.get("cache_hit") is True:
            return
        row = self._rows.setdefault(name, CostRow())
        row.add(_usd(attempt.get("expected_cost_usd")), _usd(attempt.get("cost_usd")))

    def _total(self) -> CostRow:
        total = CostRow()
        for row in self._rows.values():
            total.attempts += row.attempts
            total.without_expectation += row.without_expectation
            total.without_bill += row.without_bill
            total.billed_nothing += row.billed_nothing
            total.expected_usd += row.expected_usd
            total.billed_usd += row.billed_usd
            total.errors += row.errors
        return total


def _usd(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        return None
    return float(value)


def _quantile(ordered: Sequence[float], fraction: float) -> float | None:
    """The value of rank floor(q (n - 1)), as in the latency histogram."""
    return ordered[int(fraction * (len(ordered) - 1))] if ordered else None


def _cells(row: Mapping[str, Any]) -> Iterator[str]:
    for _, name in _COLUMNS:
        value = row[name]
        if value is None:
            yield "-"
        elif name in _SHARES:
            yield f"{value * 100:+.1f} %" if name == "bias" else f"{value * 100:.1f} %"
        else:
            yield f"{value:.6f}" if isinstance(value, float) else str(value)


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for first, *others in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        yield "  ".join([f"{first:{widths[0]}}", *cells])
