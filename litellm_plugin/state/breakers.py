"""Breakers: which deployments may be asked now, as all workers found out together.

Each worker decides on its own from what it saw and what the others told, and tells its decision; of two decisions
the newer one holds. Nothing in the request path waits.
"""

from __future__ import annotations

import logging
import random
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from litellm_plugin.routing.attempts import AttemptStatus
from litellm_plugin.routing.health import BreakerState, EndpointHealth
from litellm_plugin.state.breaker_rules import (
    SIGNS,
    UNTOUCHED,
    Breaker,
    BreakerPolicy,
    Sign,
    cause_to_open,
    wait_s,
)
from litellm_plugin.state.exchange import Contribution, HashChange
from litellm_plugin.state.health_window import HealthWindow
from litellm_plugin.state.probes import ProbeLeases
from litellm_plugin.state.waits import Waits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from litellm_plugin.state.exchange import Reply

MOST_DEPLOYMENTS: Final = 4096
# Half open comes while a batch is under way: a probe is asked for this much before.
_AHEAD_S: Final = 1.0
_KEY: Final = "breakers"
_LIFETIME_S: Final = 3600.0

_logger = logging.getLogger("LiteLLM Proxy").getChild("permit_router")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended, as far as breakers care.

    Attributes:
        deployment_id: LiteLLM's id of the deployment.
        status: How it ended.
        duration_s: How long it took, in seconds.
        retry_after_s: When the provider asked to come back, in seconds; None where it said nothing readable.
        is_probe: Whether it took a probe.
        is_excused: Whether it failed for reasons of this worker or of the request, such as an event loop that stood
            still, or a body that LiteLLM could not make a request of.
    """

    deployment_id: str
    status: AttemptStatus
    duration_s: float = 0.0
    retry_after_s: float | None = None
    is_probe: bool = False
    is_excused: bool = False


@dataclass(slots=True)
class _Known:
    """What this worker knows of one deployment."""

    breaker: Breaker = UNTOUCHED
    in_a_row: defaultdict[Sign, int] = field(default_factory=lambda: defaultdict(int))
    asked_until_s: float = 0.0
    alert: Sign | None = None


class Breakers:
    """The breakers of all deployments, one worker's view of them; a `Part` of what replicas share.

    It belongs to one event loop. All times are seconds on the shared clock.

    Args:
        policy: The rules; None switches breakers and waits off.
        chance: Gives numbers from 0 to 1 that spread open times.
        most: How many deployments are remembered; past that the one silent for longest goes.
    """

    def __init__(
        self,
        policy: BreakerPolicy | None,
        chance: Callable[[], float] = random.random,
        most: int = MOST_DEPLOYMENTS,
    ) -> None:
        self._policy = policy
        self._chance = chance
        self._most = most
        self._rules = policy or BreakerPolicy()
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._configured: frozenset[str] | None = None
        self._open: set[str] = set()
        self._window = HealthWindow(self._rules.window_s)
        self._probes = ProbeLeases(self._rules)
        self._waits = Waits()
        self._to_tell: set[str] = set()
        self._changes: Counter[str] = Counter()
        self._alerts = 0
        self._skipped = 0

    def use(self, policy: BreakerPolicy | None) -> None:
        """Takes other rules; breakers keep their state, and None forgets everything."""
        if policy == self._policy:
            return
        before, self._policy, self._rules = self._rules, policy, policy or BreakerPolicy()
        self._probes.policy = self._rules
        if policy is None:
            self._known.clear()
            self._open.clear()
            self._to_tell.clear()
            self._waits = Waits()
        if policy is None or policy.window_s != before.window_s:
            self._window = HealthWindow(self._rules.window_s)

    def know(self, deployment_ids: Iterable[str]) -> None:
        """Takes the deployments that are configured: from now on the store makes none of other names known.

        What the store said of other names before is forgotten; a deployment that is asked all the same is known.
        """
        self._configured = frozenset(deployment_ids)
        for name in self._known.keys() - self._configured:
            del self._known[name]
            self._forget(name)

    def record(self, outcome: Outcome, now_s: float) -> None:
        """Takes one ended attempt into account, at once in this worker."""
        if self._policy is None:
            return
        if outcome.is_probe:
            self._probes.give_back(outcome.deployment_id)
        if outcome.is_excused:
            return
        if outcome.status is AttemptStatus.RATE_LIMITED:
            self._waits.add(
                outcome.deployment_id,
                now_s + wait_s(self._rules, outcome.retry_after_s),
                now_s,
                is_asked=outcome.retry_after_s is not None,
            )
            return
        sign = SIGNS.get(outcome.status)
        if sign is None:
            return
        known = self._of(outcome.deployment_id, now_s)
        self._alert(outcome.deployment_id, known, sign)
        if now_s - outcome.duration_s >= known.breaker.counts_from_s(now_s):
            self._count(outcome, known, sign, now_s)

    def health(self, now_s: float) -> Mapping[str, EndpointHealth]:
        """What keeps deployments from being asked, by deployment id; a healthy one has no entry.

        An entry is made when it is first looked up: a decision reads some of thousands. It is read in the turn of the
        event loop in which it was asked for.
        """
        if not self._open and not self._waits:
            return _ALL_HEALTHY
        return _Healths(self, now_s)

    def want(self, deployment_ids: Iterable[str], now_s: float) -> None:
        """Notes deployments that a request would have asked but for their breakers: probes go to who needs them."""
        for name in self._open.intersection(deployment_ids):
            self._probes.want(name, now_s)

    def take_probe(self, deployment_id: str, now_s: float) -> bool:
        """Takes this worker's free probe of a half-open deployment; False where it is not half open or none is free.

        `record` with `is_probe` ends it, or `give_back_probe` where no attempt followed; else its time does.
        """
        if self._state(deployment_id, now_s) is not BreakerState.HALF_OPEN:
            return False
        return self._probes.take(deployment_id, now_s)

    def give_back_probe(self, deployment_id: str) -> None:
        """Ends a probe that told nothing."""
        self._probes.give_back(deployment_id)

    def outgoing(self, now_s: float) -> Contribution:
        """What this worker saw, its decisions that others lack, and the probes that it wants."""
        if self._policy is None:
            return Contribution()
        self._clamp(now_s)
        counts, reads = self._window.outgoing(now_s)
        told = {
            name: self._known[name].breaker.text() for name in sorted(self._to_tell) if name in self._known
        }
        changes = (HashChange(_KEY, _LIFETIME_S, put=told),) if told else ()
        waits = self._waits.outgoing()
        half_open = [
            name for name in sorted(self._open) if self._known[name].breaker.until_s <= now_s + _AHEAD_S
        ]
        return Contribution(
            changes=(*counts, *changes, *waits.changes),
            reads=(*reads, _KEY, *waits.reads),
            leases=self._probes.outgoing(half_open, now_s),
        )

    def incoming(self, reply: Reply, now_s: float) -> None:
        """Takes what the others saw and decided; what cannot be read is skipped, counted and written over."""
        if self._policy is None:
            return
        told = reply.hashes.get(_KEY, {})
        self._to_tell.clear()
        for name, text in told.items():
            if self._is_ours(name):
                self._adopt(name, text, now_s)
            else:
                self._skipped += 1
        self._to_tell.update(
            name
            for name, known in self._known.items()
            if name not in told and known.breaker.is_worth_telling(now_s, self._rules)
        )
        failed, skipped = self._window.incoming(reply.hashes, self._is_ours)
        self._skipped += skipped + self._waits.incoming(reply.hashes, now_s, self._rules.longest_wait_s)
        for name in sorted(failed):
            if self._is_ours(name):
                self._judge(name, self._of(name, now_s), now_s)
        self._probes.incoming(reply.leases, now_s)

    def lost(self, *, was_sent: bool) -> None:
        """The exchange failed: this worker goes on with what it knows, and probes on its own."""
        self._window.lost(was_sent=was_sent)
        self._waits.lost()
        self._probes.lost()

    def report(self, now_s: float) -> Mapping[str, object]:
        """What a health page shows: deployments that are not healthy, changes since the start, alerts."""
        return {
            "deployments": {
                name: {
                    "breaker": str(each.breaker),
                    "cause": each.cause,
                    "waits": each.waits,
                    "retry_after_s": None if each.retry_after_s is None else round(each.retry_after_s, 3),
                }
                for name, each in self.health(now_s).items()
            },
            "alerts": {name: str(known.alert) for name, known in self._known.items() if known.alert},
            "changes": dict(self._changes),
            "alerts_raised": self._alerts,
            "skipped": self._skipped,
        }

    def _count(self, outcome: Outcome, known: _Known, sign: Sign, now_s: float) -> None:
        name = outcome.deployment_id
        match known.breaker.state(now_s):
            case BreakerState.OPEN:
                return
            case BreakerState.HALF_OPEN if sign is Sign.OK:
                self._change(name, known, known.breaker.probed(now_s, self._rules), now_s)
            case BreakerState.HALF_OPEN:
                cause = str(sign) if sign.is_fault else "a probe failed"
                self._trip(name, known, cause, now_s, outcome.retry_after_s)
            case BreakerState.CLOSED:
                self._window.add(name, sign, now_s)
                self._note(known, sign, outcome.retry_after_s, now_s)
                if sign is not Sign.OK:
                    self._judge(name, known, now_s)

    def _note(self, known: _Known, sign: Sign, asked_s: float | None, now_s: float) -> None:
        if sign is Sign.OK:
            known.in_a_row.clear()
            return
        known.in_a_row[sign] += 1
        if sign is Sign.BAD and asked_s is not None:
            known.asked_until_s = now_s + wait_s(self._rules, asked_s)

    def _judge(self, name: str, known: _Known, now_s: float) -> None:
        if known.breaker.is_open:
            return
        since_s = known.breaker.since_s
        window = self._window.counts(name, now_s, since_s)
        recent = self._window.counts(name, now_s, max(since_s, now_s - self._rules.recent_s))
        cause = cause_to_open(self._rules, window, recent, known.in_a_row)
        if cause is not None:
            self._trip(name, known, cause, now_s, max(0.0, known.asked_until_s - now_s))

    def _trip(self, name: str, known: _Known, cause: str, now_s: float, asked_s: float | None) -> None:
        opened = known.breaker.opened(
            now_s,
            self._rules,
            cause=cause,
            chance=self._chance(),
            asked_s=0.0 if asked_s is None else wait_s(self._rules, asked_s),
        )
        self._change(name, known, opened, now_s)

    def _change(self, name: str, known: _Known, to: Breaker, now_s: float) -> None:
        """Takes a decision of this worker, tells it, and logs it where the state is another one."""
        before = known.breaker
        self._put(name, known, to)
        self._to_tell.add(name)
        if to.term == before.term:
            return
        if to.is_open:
            self._changes["opened"] += 1
            _logger.warning(
                "The breaker of deployment %r opened for %.1f s: %s", name, to.until_s - now_s, to.cause
            )
        else:
            self._changes["closed"] += 1
            _logger.info("The breaker of deployment %r closed", name)

    def _put(self, name: str, known: _Known, to: Breaker) -> None:
        if to.term != known.breaker.term:
            known.in_a_row.clear()
            known.asked_until_s = 0.0
            self._probes.end(name)
        known.breaker = to
        if to.is_open:
            self._open.add(name)
        else:
            self._open.discard(name)

    def _adopt(self, name: str, text: str, now_s: float) -> None:
        told = Breaker.read(text)
        mine = self._known.get(name)
        if told is None:
            self._skipped += 1
            if mine is not None and mine.breaker.is_worth_telling(now_s, self._rules):
                self._to_tell.add(name)
            return
        known = self._of(name, now_s)
        clamped = told.clamped(now_s, self._rules)
        if clamped is not told:
            # Written over, for else it would be clamped again at every exchange, and never end.
            self._to_tell.add(name)
            if told.term == known.breaker.term:
                return
            told = clamped
        if told.is_newer_than(known.breaker):
            if told.is_open != known.breaker.is_open:
                self._changes["heard"] += 1
                _logger.debug("Another worker changed the breaker of %r: %r", name, told.cause or "it closed")
            self._put(name, known, told)
        elif known.breaker.is_newer_than(told):
            self._to_tell.add(name)

    def _alert(self, name: str, known: _Known, sign: Sign) -> None:
        """Raises what the operator must see, once a change."""
        if sign.is_fault and known.alert is not sign:
            known.alert = sign
            self._alerts += 1
            _logger.error(
                "Deployment %r answers %s: its key, account, address or model is to be looked at", name, sign
            )
        elif sign is Sign.OK and known.alert is not None:
            _logger.info("Deployment %r answers again after %s", name, known.alert)
            known.alert = None

    def _health(self, name: str, now_s: float) -> EndpointHealth:
        known = self._known.get(name, _NOTHING)
        breaker = known.breaker.clamped(now_s, self._rules)
        state = breaker.state(now_s)
        until_s = self._waits.until_s(name, now_s, self._rules.longest_wait_s)
        left_s = [each - now_s for each in (until_s, breaker.until_s) if each is not None and each > now_s]
        return EndpointHealth(
            breaker=state,
            cause=breaker.cause if breaker.is_open else "",
            may_probe=state is BreakerState.HALF_OPEN and self._probes.is_free(name, now_s),
            retry_after_s=max(left_s, default=None),
            waits="" if until_s is None else "429",
            waits_unasked=until_s is not None and not self._waits.is_asked(name, now_s),
        )

    def _state(self, name: str, now_s: float) -> BreakerState:
        known = self._known.get(name)
        return BreakerState.CLOSED if known is None else known.breaker.state(now_s)

    def _is_healthy(self, name: str, now_s: float) -> bool:
        is_waited_for = self._waits.until_s(name, now_s, self._rules.longest_wait_s) is not None
        return name not in self._open and not is_waited_for

    def _unhealthy(self, now_s: float) -> list[str]:
        return sorted(self._open | self._waits.names(now_s))

    def _clamp(self, now_s: float) -> None:
        for name in self._open:
            known = self._known[name]
            known.breaker = known.breaker.clamped(now_s, self._rules)

    def _is_ours(self, name: str) -> bool:
        """Whether what the store says of a deployment concerns this worker; while nobody knows, there is a bound."""
        if name in self._known:
            return True
        return len(self._known) < self._most if self._configured is None else name in self._configured

    def _forget(self, gone: str) -> None:
        self._window.forget([gone])
        self._to_tell.discard(gone)
        self._open.discard(gone)

    def _of(self, name: str, now_s: float) -> _Known:
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = _Known()
        self._known.move_to_end(name)
        if len(self._known) > self._most:
            self._forget(self._known.popitem(last=False)[0])
        known.breaker = known.breaker.clamped(now_s, self._rules)
        return known


class _Healths(Mapping[str, EndpointHealth]):
    """What is known of each deployment at one moment."""

    __slots__ = ("_breakers", "_made", "_now_s")

    def __init__(self, breakers: Breakers, now_s: float) -> None:
        self._breakers = breakers
        self._now_s = now_s
        self._made: dict[str, EndpointHealth] = {}

    def __getitem__(self, name: str) -> EndpointHealth:
        found = self._made.get(name)
        if found is None:
            if self._breakers._is_healthy(name, self._now_s):  # noqa: SLF001 - one noun with its view
                raise KeyError(name)
            found = self._made[name] = self._breakers._health(name, self._now_s)  # noqa: SLF001 - as above
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._breakers._unhealthy(self._now_s))  # noqa: SLF001 - as above

    def __len__(self) -> int:
        return len(self._breakers._unhealthy(self._now_s))  # noqa: SLF001 - as above


_NOTHING: Final = _Known()
_ALL_HEALTHY: Final[Mapping[str, EndpointHealth]] = MappingProxyType({})
