"""Provider limits: what is left of the limits of deployments' providers, as these told one worker or another."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from litellm_plugin.state.exchange import Contribution, HashChange
from litellm_plugin.state.provider_headers import MOST_UNITS, MOST_WAIT_S, Allowance, read_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from litellm_plugin.state.exchange import Reply

KEY: Final = "provider-limits"
# About 1 KB each.
MOST_DEPLOYMENTS: Final = 4096
MOST_PER_EXCHANGE: Final = 512
# The last fiftieth of a limit is left to those who do not know yet that it is the last.
_RESERVED: Final = 50
# Below a quarter a limit is near enough to tell the others.
_NEAR: Final = 4
# A reading without a time of reset holds as long as the usual window.
_USUAL_RESET_S: Final = 60.0
# When it was said, and three numbers each of requests and tokens.
_NUMBERS: Final = 7


@dataclass(frozen=True, slots=True)
class ProviderStanding:
    """What a deployment's provider would take now.

    Attributes:
        waits: Why nothing may be sent there; empty when something may.
        retry_after_s: How long until something may, in seconds; None when it may now.
        requests_left: How many requests it would take; None where it said nothing that still counts.
        tokens_left: How many tokens it would take; None where it said nothing that still counts.
    """

    waits: str = ""
    retry_after_s: float | None = None
    requests_left: int | None = None
    tokens_left: int | None = None


WELCOME: Final = ProviderStanding()


@dataclass(frozen=True, slots=True)
class _Said:
    """What a provider said when; the time is this worker's monotonic clock."""

    at_s: float
    requests: Allowance | None
    tokens: Allowance | None

    def ends_at_s(self) -> float:
        """When its limits are whole again."""
        return self.at_s + max(
            (_reset_s(each) for each in (self.requests, self.tokens) if each is not None), default=0.0
        )

    def is_near(self) -> bool:
        """Whether a limit is used up, or will be soon."""
        return any(
            each.remaining * _NEAR <= (each.limit or 0) or each.remaining == 0
            for each in (self.requests, self.tokens)
            if each is not None
        )


class ProviderLimits:
    """What is left of providers' own limits, to all workers; a part of the state that is exchanged.

    A limit fills up again at a steady rate between what was left and its reset, where the provider says how large it
    is, as those of OpenAI and Anthropic do; otherwise nothing is added before its reset.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._configured: frozenset[str] | None = None
        self._said: OrderedDict[str, _Said] = OrderedDict()
        # What the others do not know yet; and what of it is on its way.
        self._news: dict[str, None] = {}
        self._telling: tuple[str, ...] = ()

    def hear(self, deployment_id: str, headers: Mapping[str, object], wall_s: float) -> None:
        """Takes the headers of an answer or of a refusal; without a readable limit nothing changes.

        Args:
            deployment_id: Who answered.
            headers: As the provider sent them or as LiteLLM hands them on, see `read_headers`.
            wall_s: Seconds since the epoch.
        """
        reading = read_headers(headers, wall_s)
        if reading.requests is None and reading.tokens is None:
            return
        said = _Said(self._clock(), reading.requests, reading.tokens)
        self._keep(deployment_id, said)
        if said.is_near():
            self._news[deployment_id] = None

    def know(self, deployment_ids: Iterable[str]) -> None:
        """Takes the deployments that are configured: from now on nothing is taken of what the store says of others."""
        self._configured = frozenset(deployment_ids)
        for name in self._said.keys() - self._configured:
            self._forget(name)

    def standing(self, deployment_id: str) -> ProviderStanding:
        """What the deployment's provider would take now."""
        said = self._said.get(deployment_id)
        if said is None:
            return WELCOME
        now_s = self._clock()
        requests = _left(said.requests, said.at_s, now_s)
        tokens = _left(said.tokens, said.at_s, now_s)
        standing = ProviderStanding(requests_left=requests, tokens_left=tokens)
        for left, allowance, what in (
            (requests, said.requests, "requests"),
            (tokens, said.tokens, "tokens"),
        ):
            if left == 0 and allowance is not None:
                return replace(
                    standing,
                    waits=f"the provider has no {what} left",
                    retry_after_s=max(0.0, said.at_s + _first_s(allowance) - now_s),
                )
        return standing

    def outgoing(self, now_s: float) -> Contribution:
        """Tells what was heard since the last exchange of limits that are near, and reads what others heard."""
        here_s = self._clock()
        self._expire(here_s)
        self._telling = tuple(self._news)[:MOST_PER_EXCHANGE]
        for deployment_id in self._telling:
            del self._news[deployment_id]
        told = {name: _text(self._said[name], now_s - here_s) for name in self._telling}
        changes = (HashChange(KEY, lifetime_s=2 * MOST_WAIT_S, put=told),) if told else ()
        return Contribution(changes=changes, reads=(KEY,))

    def incoming(self, reply: Reply, now_s: float) -> None:
        """Takes what others heard later than this worker; what cannot be read is skipped."""
        self._telling = ()
        here_s = self._clock()
        for deployment_id, text in reply.hashes.get(KEY, {}).items():
            if not self._is_ours(deployment_id):
                continue
            said = _read(text, here_s - now_s, here_s)
            mine = self._said.get(deployment_id)
            if said is None or said.ends_at_s() <= here_s or (mine is not None and mine.at_s >= said.at_s):
                continue
            self._keep(deployment_id, said)

    def lost(self, *, was_sent: bool) -> None:  # noqa: ARG002 - a value may be put twice
        """Tells it again: what is left is a value and no count."""
        self._news = dict.fromkeys(each for each in self._telling if each in self._said) | self._news
        self._telling = ()

    def _is_ours(self, deployment_id: str) -> bool:
        """Whether what the store says concerns this worker; until it knows what is configured, there is a bound."""
        if deployment_id in self._said:
            return True
        if self._configured is None:
            return len(self._said) < MOST_DEPLOYMENTS
        return deployment_id in self._configured

    def _keep(self, deployment_id: str, said: _Said) -> None:
        self._said.pop(deployment_id, None)
        self._said[deployment_id] = said
        if len(self._said) > MOST_DEPLOYMENTS:
            self._forget(next(iter(self._said)))

    def _expire(self, here_s: float) -> None:
        for deployment_id in [name for name, said in self._said.items() if said.ends_at_s() <= here_s]:
            self._forget(deployment_id)

    def _forget(self, deployment_id: str) -> None:
        del self._said[deployment_id]
        self._news.pop(deployment_id, None)


def _reset_s(allowance: Allowance) -> float:
    return _USUAL_RESET_S if allowance.reset_s is None else allowance.reset_s


def _left(allowance: Allowance | None, said_at_s: float, now_s: float) -> int | None:
    """What is left now without the reserve; None where nothing was said, or the limit is whole again."""
    if allowance is None:
        return None
    reset_s = _reset_s(allowance)
    share = 1.0 if reset_s <= 0 else (now_s - said_at_s) / reset_s
    if share >= 1.0:
        return None
    limit = allowance.limit or 0
    filled = max(0, limit - allowance.remaining) * max(0.0, share)
    return max(0, allowance.remaining + math.floor(filled) - limit // _RESERVED)


def _first_s(allowance: Allowance) -> float:
    """How long after it was said the first unit beyond the reserve is there."""
    reset_s, limit = _reset_s(allowance), allowance.limit or 0
    missing = limit - allowance.remaining
    wanted = limit // _RESERVED + 1 - allowance.remaining
    return reset_s * min(1.0, wanted / missing) if missing > 0 else reset_s


def _text(said: _Said, ahead_s: float) -> str:
    """What others read: times in milliseconds, the first of them on the shared clock; what was not said as -1.

    Args:
        said: What was heard.
        ahead_s: How far the shared clock is ahead of this worker's.
    """
    numbers = [round((said.at_s + ahead_s) * 1000)]
    for each in (said.requests, said.tokens):
        if each is None:
            numbers += [-1, -1, -1]
        else:
            limit = -1 if each.limit is None else each.limit
            numbers += [each.remaining, limit, round(_reset_s(each) * 1000)]
    return " ".join(map(str, numbers))


def _read(text: str, behind_s: float, here_s: float) -> _Said | None:
    """What another worker wrote; None where it is none of it, and absurd numbers are clamped."""
    words = text.split(" ")
    if len(words) != _NUMBERS or not all(map(_is_number, words)):
        return None
    at_ms, *said = map(int, words)
    at_s = min(at_ms / 1000 + behind_s, here_s)
    return _Said(at_s, _allowance(*said[:3]), _allowance(*said[3:]))


def _is_number(word: str) -> bool:
    return word.isascii() and len(word) <= len(str(MOST_UNITS)) and word.removeprefix("-").isdecimal()


def _allowance(remaining: int, limit: int, reset_ms: int) -> Allowance | None:
    if remaining < 0 or reset_ms < 0:
        return None
    return Allowance(remaining, None if limit < 0 else limit, min(reset_ms / 1000, MOST_WAIT_S))
