"""Breaker rules: what counts against a deployment, when its breaker opens, for how long, and when it closes.

Everything here is pure. Times are seconds on the clock that the replicas share.
"""

from __future__ import annotations

import enum
import json
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from litellm_plugin.routing.attempts import AttemptStatus
from litellm_plugin.routing.health import BreakerState

if TYPE_CHECKING:
    from collections.abc import Mapping

# How far the replicas' clocks may differ: an attempt that began this much before a change still counts after it.
CLOCK_SLACK_S: Final = 1.0
# The rate is looked at in the whole window and in its newest third: after an hour of health, half of what a window of
# 30 s holds has failed 25 s after six in ten begin to.
_RECENT_PART: Final = 3
_VERSION: Final = 1
_TEXT_CHARS: Final = 512
_CAUSE_CHARS: Final = 100
_MOST_TERMS: Final = 2**53
_MOST_TRIPS: Final = 64


class Sign(enum.StrEnum):
    """What an attempt says of a deployment."""

    OK = "ok"
    BAD = "bad"
    PROVIDER_AUTH = "provider_auth"
    MISCONFIGURED = "misconfigured"

    @property
    def is_fault(self) -> bool:
        """Whether the operator has to act: it is no ill health, and it does not pass by itself."""
        return self in _FAULTS


_FAULTS = frozenset({Sign.PROVIDER_AUTH, Sign.MISCONFIGURED})
# What is missing says nothing: a request that a provider found wrong, a client that left, a limit (429).
SIGNS: Final[Mapping[AttemptStatus, Sign]] = {
    AttemptStatus.SUCCESS: Sign.OK,
    AttemptStatus.SERVER_ERROR: Sign.BAD,
    AttemptStatus.TIMEOUT: Sign.BAD,
    AttemptStatus.CONNECTION_ERROR: Sign.BAD,
    AttemptStatus.PROVIDER_AUTH: Sign.PROVIDER_AUTH,
    AttemptStatus.MISCONFIGURED: Sign.MISCONFIGURED,
}


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When breakers open and close.

    Attributes:
        failure_rate: The share of attempts in the window whose failure opens a breaker; above 0, at most 1.
        minimum_attempts: Below this many attempts in the window no rate is looked at.
        window_s: Length of the window, in seconds.
        consecutive_failures: How many failures in a row open a breaker.
        open_s: How long it stays open the first time, in seconds; each further time doubles it.
        longest_open_s: The longest open time, in seconds.
        reset_after_s: After how long a closed time the open time begins anew, in seconds.
        probes: How many probes may be under way at once, of all workers together.
        probes_to_close: How many probes in a row must succeed.
        probe_timeout_s: After how long a probe that nobody heard of makes room for another one, in seconds.
        rate_limit_s: How long a deployment is left alone after a 429 that says nothing, in seconds.
        longest_wait_s: The longest Retry-After that is followed, in seconds.
    """

    failure_rate: float = 0.5
    minimum_attempts: int = 10
    window_s: float = 30.0
    consecutive_failures: int = 5
    open_s: float = 10.0
    longest_open_s: float = 300.0
    reset_after_s: float = 300.0
    probes: int = 1
    probes_to_close: int = 2
    probe_timeout_s: float = 30.0
    rate_limit_s: float = 5.0
    longest_wait_s: float = 300.0

    @property
    def recent_s(self) -> float:
        """Length of the newest part of the window, in seconds."""
        return self.window_s / _RECENT_PART

    @property
    def bound_s(self) -> float:
        """No breaker is open for longer than this at a stretch."""
        return max(self.longest_open_s, self.longest_wait_s)


@dataclass(frozen=True, slots=True)
class Breaker:
    """What replicas tell each other of one breaker.

    Attributes:
        term: Rises with each change; of two values the one with the higher term holds.
        is_open: Whether it opened and did not close since; half open is an open time that has passed.
        until_s: Until when it stays open.
        since_s: When it last changed.
        trips: How often it opened without a long closed time between.
        successes: How many probes succeeded since it opened.
        cause: What opened it.
    """

    term: int = 0
    is_open: bool = False
    until_s: float = 0.0
    since_s: float = -math.inf
    trips: int = 0
    successes: int = 0
    cause: str = ""

    def state(self, now_s: float) -> BreakerState:
        """What it lets through now."""
        if not self.is_open:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now_s < self.until_s else BreakerState.HALF_OPEN

    def counts_from_s(self, now_s: float) -> float:
        """When an attempt must have begun to say something of the state that it is in now."""
        from_s = self.until_s if self.state(now_s) is BreakerState.HALF_OPEN else self.since_s
        return from_s - CLOCK_SLACK_S

    def is_newer_than(self, other: Breaker) -> bool:
        """Whether this value holds against another one; of two changes at once the more careful holds."""
        return self._order > other._order

    @property
    def _order(self) -> tuple[int, bool, float, int]:
        return self.term, self.is_open, self.until_s, self.successes

    def clamped(self, now_s: float, policy: BreakerPolicy) -> Breaker:
        """The same with times that a clock that jumped cannot have made absurd."""
        is_absurd = self.until_s > now_s + policy.bound_s + CLOCK_SLACK_S
        if not is_absurd and self.since_s <= now_s + CLOCK_SLACK_S:
            return self
        until_s = now_s + policy.bound_s if is_absurd else self.until_s
        return replace(self, until_s=until_s, since_s=min(self.since_s, now_s))

    def opened(
        self, now_s: float, policy: BreakerPolicy, *, cause: str, chance: float, asked_s: float = 0.0
    ) -> Breaker:
        """The breaker after it opens, or opens again.

        Args:
            now_s: The time.
            policy: The rules.
            cause: What opened it.
            chance: From 0 to 1; it shortens the open time by up to a fifth, so that breakers do not close together.
            asked_s: How long the provider asked to be left alone.
        """
        is_stable = not self.is_open and now_s - self.since_s >= policy.reset_after_s
        trips = 1 if is_stable else min(self.trips + 1, _MOST_TRIPS)
        grown_s = min(policy.open_s * 2.0 ** (trips - 1), policy.longest_open_s)
        open_s = max(grown_s * (1.0 - 0.2 * chance), min(asked_s, policy.longest_wait_s))
        return Breaker(self.term + 1, True, now_s + open_s, now_s, trips, 0, cause[:_CAUSE_CHARS])

    def probed(self, now_s: float, policy: BreakerPolicy) -> Breaker:
        """The half-open breaker after a probe succeeded."""
        successes = self.successes + 1
        if successes < policy.probes_to_close:
            return replace(self, successes=successes)
        return Breaker(self.term + 1, False, now_s, now_s, self.trips)

    def is_worth_telling(self, now_s: float, policy: BreakerPolicy) -> bool:
        """Whether another replica decides otherwise for knowing it."""
        return self.is_open or (self.term > 0 and now_s - self.since_s < policy.reset_after_s)

    def text(self) -> str:
        """What stands in the store."""
        state = BreakerState.OPEN if self.is_open else BreakerState.CLOSED
        return json.dumps(
            [_VERSION, self.term, state, self.until_s, self.since_s, self.trips, self.successes, self.cause],
            separators=(",", ":"),
        )

    @classmethod
    def read(cls, text: str) -> Breaker | None:
        """What another replica told; None where it is no such value, or one of another version."""
        try:
            version, term, state, until_s, since_s, trips, successes, cause = json.loads(text[:_TEXT_CHARS])
            is_known = version == _VERSION and state in {BreakerState.OPEN, BreakerState.CLOSED}
            if not is_known or not isinstance(cause, str):
                return None
            return cls(
                _whole(term, 1, _MOST_TERMS),
                state == BreakerState.OPEN,
                _finite(until_s),
                _finite(since_s),
                _whole(trips, 0, _MOST_TRIPS),
                _whole(successes, 0, _MOST_TERMS),
                cause[:_CAUSE_CHARS],
            )
        except (ValueError, TypeError, OverflowError, RecursionError):
            return None


UNTOUCHED: Final = Breaker()


@dataclass(frozen=True, slots=True)
class Counts:
    """What attempts said within a stretch of time.

    Attributes:
        ok: Answers.
        bad: Failures of the endpoint.
        provider_auth: Refusals of our key.
        misconfigured: Answers that say that the endpoint is not what the operator thinks.
    """

    ok: int = 0
    bad: int = 0
    provider_auth: int = 0
    misconfigured: int = 0

    def of(self, sign: Sign) -> int:
        """How often this was said."""
        return int(getattr(self, sign))

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.ok + other.ok,
            self.bad + other.bad,
            self.provider_auth + other.provider_auth,
            self.misconfigured + other.misconfigured,
        )


def cause_to_open(
    policy: BreakerPolicy, window: Counts, recent: Counts, in_a_row: Mapping[Sign, int]
) -> str | None:
    """Says why a closed breaker opens now; None where it does not.

    Args:
        policy: The rules.
        window: What all workers saw in the window.
        recent: What of it they saw in its newest third.
        in_a_row: What this worker saw since its last answer.
    """
    most = policy.consecutive_failures
    for sign in (Sign.PROVIDER_AUTH, Sign.MISCONFIGURED, Sign.BAD):
        # Where nobody saw an answer within the window, all that was seen was in a row.
        seen = max(in_a_row.get(sign, 0), window.of(sign) if window.ok == 0 else 0)
        if seen >= most:
            return str(sign) if sign.is_fault else f"{seen} failures in a row"
    for counts, length_s in ((window, policy.window_s), (recent, policy.recent_s)):
        attempts = counts.ok + counts.bad
        if attempts >= policy.minimum_attempts and counts.bad >= policy.failure_rate * attempts:
            return f"{counts.bad} of {attempts} attempts failed within {length_s:g} s"
    return None


def wait_s(policy: BreakerPolicy, asked_s: float | None) -> float:
    """How long a deployment that answered 429 is left alone, in seconds.

    Args:
        policy: The rules.
        asked_s: Its Retry-After, in seconds; None where it said nothing that can be read.
    """
    if asked_s is None or not math.isfinite(asked_s) or asked_s < 0:
        return min(policy.rate_limit_s, policy.longest_wait_s)
    return min(asked_s, policy.longest_wait_s)


def _whole(value: object, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"expected a whole number from {least} to {most}")
    return value


def _finite(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError("expected a finite number")
    return float(value)
