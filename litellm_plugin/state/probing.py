"""Probing: which deployment is asked with a synthetic prompt next, and by which worker, within an hourly budget.

A deployment that nobody asks is measured by nobody, and one behind an open breaker does not come back by itself. Which
of them is asked, and when, is decided here; the call itself is made elsewhere.
"""

from __future__ import annotations

import enum
import random
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from litellm_plugin.state.exchange import Contribution, LeaseRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from litellm_plugin.state.exchange import Lease, Reply

HOUR_S: Final = 3600.0
# A worker that asks once a second and dies gives its turn back after this.
LEASE_S: Final = 10.0
# So long nobody is chosen after the hour's budget was found spent.
REST_S: Final = 10.0
# One that another worker is about to ask, or that has no room now, is tried again after this part of the wait.
_AGAIN: Final = 0.1
_ALL: Final = "probing"


class TurnCause(enum.StrEnum):
    """Why a deployment is asked."""

    SILENT = "silent"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Turn:
    """One deployment that is asked once.

    Attributes:
        deployment_id: LiteLLM's id of the deployment.
        cause: Why it is asked.
    """

    deployment_id: str
    cause: TurnCause

    @property
    def resource(self) -> str:
        """What a worker holds while it asks: a silent one's counts as used until it may be asked again."""
        kind = "probing" if self.cause is TurnCause.SILENT else "probing-half-open"
        return f"{kind}:{self.deployment_id}"


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """How a turn ended, for the health page.

    Attributes:
        how: In a word.
        first_token_ms: Time until the first token; None where there was none.
        total_ms: Time until the whole answer or the error; None where nothing was sent.
        tells: Whether it told something of the deployment; else it is left alone for as long as one that did.
    """

    how: str
    first_token_ms: float | None = None
    total_ms: float | None = None
    tells: bool = True


@dataclass(frozen=True, slots=True)
class ProbingPolicy:
    """When deployments are asked, and how often.

    Attributes:
        every_s: How long no attempt of any worker was measured before a deployment is asked, in seconds.
        requests_per_hour: How many are asked within any hour, all workers and deployments together.
        max_tokens: How long an answer may be.
        timeout_s: How long one may take, in seconds.
    """

    every_s: float = 60.0
    requests_per_hour: int = 60
    max_tokens: int = 16
    timeout_s: float = 30.0


def next_turn(
    silences_s: Mapping[str, float],
    half_open: Collection[str],
    every_s: float,
    may_ask: Callable[[str], bool],
    draw: Callable[[], float],
) -> Turn | None:
    """Chooses who is asked next: half-open deployments first, then the one that was silent for longest.

    Equal ones are in the order of chance, so that workers that see the same do not all choose the same.

    Args:
        silences_s: The deployments that may be asked, and for how long none of their attempts was measured.
        half_open: Those whose breaker is half open and has a free probe.
        every_s: How long a silence must be.
        may_ask: Whether a deployment may be asked now; it is looked up for as few as possible.
        draw: Gives a number from 0 to 1.
    """
    due = [
        (name not in half_open, -silence_s, draw(), name)
        for name, silence_s in silences_s.items()
        if silence_s >= every_s or name in half_open
    ]
    for is_silent, *_, name in sorted(due):
        if may_ask(name):
            return Turn(name, TurnCause.SILENT if is_silent else TurnCause.HALF_OPEN)
    return None


class Probing:
    """One worker's turns; a `Part` of what replicas share.

    A worker asks one deployment at a time, and asks it only while it holds a lease of that deployment and one of the
    hour's budget, both granted by the store: together all workers keep the number, and a worker that dies gives back
    what it did not use. What it used is told with the next exchange; one that dies before that has asked once more
    than is counted. While the store is silent nobody is asked.

    A deployment counts as silent from the moment on at which this worker was told of it.

    Args:
        measured_at_s: When an attempt of any worker was last measured, in monotonic seconds; None for long ago.
        half_open: The deployments that are half open and have a probe that nobody holds.
        may_ask: Whether breaker, provider and quota let a deployment be asked now.
        clock: Monotonic seconds.
        draw: Gives numbers from 0 to 1.
    """

    def __init__(
        self,
        measured_at_s: Callable[[str], float | None],
        half_open: Callable[[], Collection[str]],
        may_ask: Callable[[str], bool],
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._measured_at_s = measured_at_s
        self._half_open = half_open
        self._may_ask = may_ask
        self._clock = clock
        self._draw = draw
        self._policy: ProbingPolicy | None = None
        # Since when each is known to be silent.
        self._since_s: dict[str, float] = {}
        self._not_before_s: dict[str, float] = {}
        self._rests_until_s = 0.0
        self._turn: Turn | None = None
        self._is_granted = False
        self._granted_s = 0.0
        self._is_under_way = False
        # What is leased and to be given back, and what was spent and is not known to be told.
        self._held: set[str] = set()
        self._untold: Counter[str] = Counter()
        self._telling: Counter[str] = Counter()
        self._left: int | None = None
        self._asked: Counter[str] = Counter()
        self._last: dict[str, tuple[float, Turn, TurnEnd]] = {}

    def use(self, policy: ProbingPolicy | None) -> None:
        """Takes other rules; None asks nobody any more."""
        self._policy = policy

    def declare(self, deployment_ids: Iterable[str]) -> None:
        """Replaces the deployments that may be asked."""
        now_s = self._clock()
        self._since_s = {name: self._since_s.get(name, now_s) for name in deployment_ids}
        self._not_before_s = {name: at for name, at in self._not_before_s.items() if name in self._since_s}
        self._last = {name: last for name, last in self._last.items() if name in self._since_s}

    @property
    def granted(self) -> Turn | None:
        """The turn that this worker may take now; None without one."""
        turn = self._turn
        if turn is None or not self._is_granted or self._policy is None:
            return None
        if turn.deployment_id in self._since_s and self._is_due(turn, self._policy):
            return turn
        self._drop()
        return None

    def begin(self, turn: Turn) -> None:
        """Takes the granted turn: it counts as spent from now on, whatever comes of it."""
        self._is_granted, self._is_under_way = False, True
        self._untold[_ALL] += 1
        if turn.cause is TurnCause.SILENT:
            self._untold[turn.resource] += 1
        self._since_s[turn.deployment_id] = self._clock()
        self._asked[str(turn.cause)] += 1

    def put_off(self, turn: Turn) -> None:
        """Gives a turn back that was not taken: quota or budget are gone."""
        self._wait(turn)
        self._drop()

    def end(self, turn: Turn, end: TurnEnd) -> None:
        """The call has ended."""
        if turn.deployment_id in self._since_s:
            self._last[turn.deployment_id] = (self._clock(), turn, end)
        if not end.tells:
            self._not_before_s[turn.deployment_id] = self._clock() + (self._policy or ProbingPolicy()).every_s
        self._drop()

    def outgoing(self, now_s: float) -> Contribution:
        """Tells what was spent, chooses who is next, and asks for the two leases that this takes."""
        del now_s
        policy = self._policy
        if policy is None or not self._since_s:
            self._forget()
            return Contribution()
        if self._is_granted and self._turn is not None and self._clock() - self._granted_s > LEASE_S:
            self.put_off(self._turn)  # others may
        if self._turn is None:
            self._turn = self._chosen(policy)
        turn = self._turn
        self._untold += self._telling  # nobody told how the last period ended
        self._telling, self._untold = self._untold, Counter()
        wanted = turn is not None and not self._is_under_way
        names = {*self._held, *self._telling, *((turn.resource,) if turn else ())} - {_ALL}
        return Contribution(
            leases=(
                self._request(_ALL, policy.requests_per_hour, HOUR_S, want=int(wanted)),
                *(
                    self._request(
                        name, 1, policy.every_s, want=int(turn is not None and name == turn.resource)
                    )
                    for name in sorted(names)
                ),
            )
        )

    def incoming(self, reply: Reply, now_s: float) -> None:
        """Takes what was granted: both leases, or none."""
        del now_s
        self._telling.clear()
        self._held.clear()
        policy, whole = self._policy, reply.leases.get(_ALL)
        if policy is None:
            return
        self._left = None if whole is None else max(0, policy.requests_per_hour - whole.used)
        turn = self._turn
        if turn is None:
            return
        own = reply.leases.get(turn.resource)
        if own is not None and own.granted:
            self._held.add(turn.resource)
        if not self._is_under_way:
            self._take(turn, own, whole)

    def lost(self, *, was_sent: bool) -> None:
        """Nobody is asked without the store; what was spent is told again, and counts once."""
        del was_sent
        self._untold += self._telling
        self._telling.clear()
        if not self._is_under_way:
            self._drop()

    def report(self) -> Mapping[str, object]:
        """What a health page shows; None while probing is off."""
        now_s = self._clock()
        due_in_s = self._next_in_s()
        return {
            "deployments": sorted(self._since_s),
            "requests_left": self._left,
            "asked": dict(self._asked),
            "under_way": self._turn.deployment_id if self._turn is not None and self._is_under_way else None,
            "last": {
                name: {
                    "cause": str(turn.cause),
                    "ended": end.how,
                    "first_token_ms": _rounded(end.first_token_ms),
                    "total_ms": _rounded(end.total_ms),
                    "age_s": _rounded(now_s - at_s),
                }
                for name, (at_s, turn, end) in self._last.items()
            },
            "next_in_s": _rounded(due_in_s),
        }

    @property
    def is_on(self) -> bool:
        """Whether anybody is asked at all."""
        return self._policy is not None

    def _take(self, turn: Turn, own: Lease | None, whole: Lease | None) -> None:
        if own is None or whole is None:
            self._drop()
        elif not own.granted:
            if own.used:
                # Whoever asked it knows when, and asks it again in time.
                self._since_s[turn.deployment_id] = self._clock()
            else:
                self._wait(turn)
            self._drop()
        elif not whole.granted:
            self._rests_until_s = self._clock() + REST_S
            self._drop()
        elif not self._is_granted:
            self._is_granted, self._granted_s = True, self._clock()

    def _chosen(self, policy: ProbingPolicy) -> Turn | None:
        now_s = self._clock()
        if now_s < self._rests_until_s:
            return None
        silences_s = {
            name: self._silence_s(name)
            for name in self._since_s
            if now_s >= self._not_before_s.get(name, now_s)
        }
        half_open = silences_s.keys() & set(self._half_open())
        return next_turn(silences_s, half_open, policy.every_s, self._may_ask, self._draw)

    def _is_due(self, turn: Turn, policy: ProbingPolicy) -> bool:
        """Whether nobody measured it meanwhile; what is half open knows that itself."""
        return turn.cause is TurnCause.HALF_OPEN or self._silence_s(turn.deployment_id) >= policy.every_s

    def _silence_s(self, name: str) -> float:
        """For how long nothing of it was measured; what the statistics forget is remembered here."""
        measured_s = self._measured_at_s(name)
        if measured_s is not None and measured_s > self._since_s[name]:
            self._since_s[name] = measured_s
        return self._clock() - self._since_s[name]

    def _next_in_s(self) -> float | None:
        if self._policy is None or not self._since_s:
            return None
        longest_s = max(self._silence_s(name) for name in self._since_s)
        return max(0.0, self._policy.every_s - longest_s, self._rests_until_s - self._clock())

    def _wait(self, turn: Turn) -> None:
        """Leaves one alone for a while that could not be asked now."""
        every_s = (self._policy or ProbingPolicy()).every_s
        self._not_before_s[turn.deployment_id] = self._clock() + every_s * _AGAIN

    def _drop(self) -> None:
        self._turn, self._is_granted, self._is_under_way = None, False, False

    def _forget(self) -> None:
        if not self._is_under_way:
            self._drop()
        self._held.clear()
        self._untold.clear()
        self._telling.clear()
        self._left = None

    def _request(self, name: str, limit: int, window_s: float, *, want: int) -> LeaseRequest:
        return LeaseRequest(
            resource=name,
            limit=limit,
            spent=self._telling[name],
            want=want,
            ttl_s=LEASE_S,
            window_s=window_s,
            lifetime_s=2 * window_s + LEASE_S,
        )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
