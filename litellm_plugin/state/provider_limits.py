"""Provider limits: which deployments' providers want to be left alone now, and what is left of their own limits."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from litellm_plugin.state.exchange import Contribution, HashChange
from litellm_plugin.state.provider_headers import MOST_UNITS, MOST_WAIT_S, Allowance, read_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from litellm_plugin.state.exchange import Reply

KEY: Final = "provider-limits"
# About 1 KB each.
MOST_DEPLOYMENTS: Final = 4096
MOST_PER_EXCHANGE: Final = 512
# A provider that refuses and says nothing more is left alone for a second, then for twice as long each time.
FIRST_WAIT_S: Final = 1.0
LONGEST_UNASKED_WAIT_S: Final = 30.0
# The last fiftieth of a limit is left to those who do not know yet that it is the last.
_RESERVED: Final = 50
# Below a quarter a limit is near enough to tell the others.
_NEAR: Final = 4
# A reading without a time of reset holds as long as the usual window.
_USUAL_RESET_S: Final = 60.0
_WAIT: Final = "wait:"
_LEFT: Final = "left:"
# Three numbers each of requests and tokens.
_ALLOWANCES: Final = 6


@dataclass(frozen=True, slots=True)
class ProviderStanding:
    """What a deployment's provider allows now.

    Attributes:
        waits: Why it wants to be left alone; empty when it does not.
        retry_after_s: For how much longer, in seconds; None when it does not.
        requests_left: How many requests it would take now; None where it said nothing.
        tokens_left: How many tokens it would take now; None where it said nothing.
    """

    waits: str = ""
    retry_after_s: float | None = None
    requests_left: int | None = None
    tokens_left: int | None = None


WELCOME: Final = ProviderStanding()


@dataclass(frozen=True, slots=True)
class _Known:
    """What was heard of one deployment's limits; times are this worker's monotonic clock."""

    heard_at_s: float
    waits_until_s: float = -math.inf
    requests: Allowance | None = None
    tokens: Allowance | None = None

    def ends_at_s(self) -> float:
        """When nothing of it counts any more."""
        resets = [_reset_s(each) for each in (self.requests, self.tokens) if each is not None]
        return max(self.waits_until_s, self.heard_at_s + max(resets, default=0.0))

    def is_near(self) -> bool:
        """Whether a limit is used up, or will be soon."""
        return self.waits_until_s > self.heard_at_s or any(
            each.remaining * _NEAR <= (each.limit or 0) or each.remaining == 0
            for each in (self.requests, self.tokens)
            if each is not None
        )


_NOTHING_HEARD: Final = _Known(-math.inf)


class ProviderLimits:
    """What providers say of their limits, to all workers; a part of the state that is exchanged.

    A limit fills up again at a steady rate between what was left and its reset, where the provider says how large it
    is, as those of OpenAI and Anthropic do; otherwise it is empty until its reset.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._refusals: OrderedDict[str, int] = OrderedDict()
        # What the others do not know yet; and what of it is on its way.
        self._news: dict[str, None] = {}
        self._telling: tuple[str, ...] = ()

    def answered(self, deployment_id: str, headers: Mapping[str, object], wall_s: float) -> None:
        """Takes the headers of an answer; a wait that was asked for meanwhile stands.

        Args:
            deployment_id: Who answered.
            headers: As the provider sent them or as LiteLLM hands them on, see `read_headers`.
            wall_s: Seconds since the epoch.
        """
        self._refusals.pop(deployment_id, None)
        reading = read_headers(headers, wall_s)
        if reading.requests is not None or reading.tokens is not None:
            known = self._known.get(deployment_id, _NOTHING_HEARD)
            heard = replace(known, heard_at_s=self._clock(), requests=reading.requests, tokens=reading.tokens)
            self._hear(deployment_id, heard)

    def refused(self, deployment_id: str, headers: Mapping[str, object], wall_s: float) -> None:
        """Takes the headers of a refusal for its rate (429); without a readable wish a short wait is assumed.

        Args:
            deployment_id: Who refused.
            headers: As the provider sent them or as LiteLLM hands them on; empty where there are none.
            wall_s: Seconds since the epoch.
        """
        reading = read_headers(headers, wall_s)
        refusals = self._refusals.pop(deployment_id, 0)
        self._refusals[deployment_id] = refusals + 1
        if len(self._refusals) > MOST_DEPLOYMENTS:
            self._refusals.popitem(last=False)
        wait_s = reading.retry_after_s
        if wait_s is None:
            wait_s = min(FIRST_WAIT_S * 2.0 ** min(refusals, 16), LONGEST_UNASKED_WAIT_S)
        now_s = self._clock()
        known = self._known.get(deployment_id, _NOTHING_HEARD)
        heard = replace(known, waits_until_s=max(now_s + wait_s, known.waits_until_s))
        if reading.requests is not None or reading.tokens is not None:
            heard = replace(heard, heard_at_s=now_s, requests=reading.requests, tokens=reading.tokens)
        self._hear(deployment_id, heard)

    def standing(self, deployment_id: str) -> ProviderStanding:
        """What the deployment's provider allows now."""
        known = self._known.get(deployment_id)
        if known is None:
            return WELCOME
        now_s = self._clock()
        requests = _left(known.requests, known.heard_at_s, now_s)
        tokens = _left(known.tokens, known.heard_at_s, now_s)
        standing = ProviderStanding(requests_left=requests, tokens_left=tokens)
        if now_s < known.waits_until_s:
            return replace(
                standing,
                waits="the provider asked to wait",
                retry_after_s=known.waits_until_s - now_s,
            )
        for left, allowance, what in (
            (requests, known.requests, "requests"),
            (tokens, known.tokens, "tokens"),
        ):
            if left == 0 and allowance is not None:
                return replace(
                    standing,
                    waits=f"the provider has no {what} left",
                    retry_after_s=max(0.0, known.heard_at_s + _first_s(allowance) - now_s),
                )
        return standing

    def outgoing(self, now_s: float) -> Contribution:
        """Tells what was heard since the last exchange of limits that are near, and reads what others heard."""
        here_s = self._clock()
        self._expire(here_s)
        self._telling = tuple(self._news)[:MOST_PER_EXCHANGE]
        for deployment_id in self._telling:
            del self._news[deployment_id]
        told: dict[str, str] = {}
        for deployment_id in self._telling:
            told |= _fields(deployment_id, self._known[deployment_id], now_s - here_s)
        changes = (HashChange(KEY, lifetime_s=2 * MOST_WAIT_S, put=told),) if told else ()
        return Contribution(changes=changes, reads=(KEY,))

    def incoming(self, reply: Reply, now_s: float) -> None:
        """Takes what others heard later than this worker; what cannot be read is skipped."""
        self._telling = ()
        here_s = self._clock()
        fields = reply.hashes.get(KEY, {})
        for name in tuple(fields)[: 2 * MOST_DEPLOYMENTS]:
            kind, deployment_id = name[: len(_WAIT)], name[len(_WAIT) :]
            known = self._known.get(deployment_id, _NOTHING_HEARD)
            heard = _heard(kind, fields[name], known, here_s - now_s, here_s)
            if heard != known and heard.ends_at_s() > here_s:
                self._keep(deployment_id, heard)

    def lost(self, *, was_sent: bool) -> None:  # noqa: ARG002 - a value may be put twice
        """Tells it again: what is known of a provider is a value and no count."""
        self._news = dict.fromkeys(each for each in self._telling if each in self._known) | self._news
        self._telling = ()

    def _hear(self, deployment_id: str, heard: _Known) -> None:
        self._keep(deployment_id, heard)
        if heard.is_near():
            self._news[deployment_id] = None

    def _keep(self, deployment_id: str, heard: _Known) -> None:
        self._known.pop(deployment_id, None)
        self._known[deployment_id] = heard
        if len(self._known) > MOST_DEPLOYMENTS:
            dropped, _ = self._known.popitem(last=False)
            self._news.pop(dropped, None)

    def _expire(self, here_s: float) -> None:
        for deployment_id in [name for name, known in self._known.items() if known.ends_at_s() <= here_s]:
            del self._known[deployment_id]
            self._news.pop(deployment_id, None)


def _reset_s(allowance: Allowance) -> float:
    return _USUAL_RESET_S if allowance.reset_s is None else allowance.reset_s


def _left(allowance: Allowance | None, heard_at_s: float, now_s: float) -> int | None:
    """What is left now without the reserve; None where nothing was said, or the limit is whole again."""
    if allowance is None:
        return None
    reset_s = _reset_s(allowance)
    share = 1.0 if reset_s <= 0 else (now_s - heard_at_s) / reset_s
    if share >= 1.0:
        return None
    limit = allowance.limit or 0
    filled = max(0, limit - allowance.remaining) * max(0.0, share)
    return max(0, allowance.remaining + math.floor(filled) - limit // _RESERVED)


def _first_s(allowance: Allowance) -> float:
    """How long after it was heard the first unit beyond the reserve is there again."""
    reset_s, limit = _reset_s(allowance), allowance.limit or 0
    missing = limit - allowance.remaining
    wanted = limit // _RESERVED + 1 - allowance.remaining
    return reset_s * min(1.0, wanted / missing) if missing > 0 else reset_s


def _fields(deployment_id: str, known: _Known, ahead_s: float) -> dict[str, str]:
    """What others read: times in milliseconds of the shared clock, and what was not said as -1.

    Args:
        deployment_id: Whom it is about.
        known: What was heard.
        ahead_s: How far the shared clock is ahead of this worker's.
    """
    fields = {}
    if known.waits_until_s > known.heard_at_s:
        fields[_WAIT + deployment_id] = str(round((known.waits_until_s + ahead_s) * 1000))
    if known.requests is not None or known.tokens is not None:
        numbers = [round((known.heard_at_s + ahead_s) * 1000)]
        for each in (known.requests, known.tokens):
            limit = -1 if each is None or each.limit is None else each.limit
            said = [-1, -1, -1] if each is None else [each.remaining, limit, round(_reset_s(each) * 1000)]
            numbers.extend(said)
        fields[_LEFT + deployment_id] = " ".join(map(str, numbers))
    return fields


def _heard(kind: str, text: str, known: _Known, behind_s: float, here_s: float) -> _Known:
    """What is known after another worker's words; what cannot be read changes nothing, absurd numbers are clamped."""
    match kind, _numbers(text):
        case "wait:", [until_ms]:
            until_s = min(until_ms / 1000 + behind_s, here_s + MOST_WAIT_S)
            return replace(known, waits_until_s=max(until_s, known.waits_until_s))
        case "left:", [heard_ms, *said] if len(said) == _ALLOWANCES:
            heard_at_s = min(heard_ms / 1000 + behind_s, here_s)
            if heard_at_s > known.heard_at_s:
                return _Known(heard_at_s, known.waits_until_s, _allowance(*said[:3]), _allowance(*said[3:]))
    return known


def _numbers(text: str) -> list[int]:
    """The numbers of a text; none where one of its words is no number."""
    words = text.split(" ")
    is_numbers = all(
        word.isascii() and len(word) <= len(str(MOST_UNITS)) and word.removeprefix("-").isdecimal()
        for word in words
    )
    return [int(word) for word in words] if is_numbers else []


def _allowance(remaining: int, limit: int, reset_ms: int) -> Allowance | None:
    if remaining < 0 or reset_ms < 0:
        return None
    return Allowance(remaining, None if limit < 0 else limit, min(reset_ms / 1000, MOST_WAIT_S))
