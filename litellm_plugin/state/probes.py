"""Probes: which of the workers may ask a half-open deployment, as leases that no silence can hold for ever."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from litellm_plugin.state.exchange import LeaseRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from litellm_plugin.state.breaker_rules import BreakerPolicy
    from litellm_plugin.state.exchange import Lease

# A worker that asks once a second and dies gives its probe back after this.
LEASE_S: Final = 10.0
# How long a request that met a closed door counts as demand for a probe: leases go where requests are, and an
# idle one goes on to another worker.
DEMAND_S: Final = 10.0
# Of so many half-open deployments that nobody here wants to ask a worker hears whether anybody holds their probes.
MOST_WATCHED: Final = 64
# So long nobody must have held a probe for a worker to take it before it asks: where requests are frequent
# somebody does, and two workers do not take it at once.
VACANT_S: Final = 2.0
# So long without an answer of the store a worker decides alone.
SILENCE_S: Final = 5.0
# How often a worker that decides alone grants itself a probe.
ALONE_S: Final = 1.0
_LIFETIME_S: Final = 3600.0
_KEY: Final = "probe:"


@dataclass(slots=True)
class _Held:
    """What this worker holds of one deployment's probes."""

    granted: int = 0
    taken_s: list[float] = field(default_factory=list)
    wanted_s: float | None = None
    alone_s: float | None = None

    def under_way(self, now_s: float, policy: BreakerPolicy) -> int:
        """How many were taken and are not overdue."""
        self.taken_s = [each for each in self.taken_s if abs(now_s - each) < policy.probe_timeout_s]
        return len(self.taken_s)

    def is_wanted(self, now_s: float) -> bool:
        return self.wanted_s is not None and abs(now_s - self.wanted_s) < DEMAND_S


class ProbeLeases:
    """The probes that this worker holds, by deployment id.

    A probe that is cancelled, hangs or answers nothing of use ends with its time, and one of a worker that died with
    its lease. One that nobody held for a while, and so nobody wanted, is taken at once and told with the next
    exchange: requests may be further apart than demand is remembered. While the store is silent a worker grants itself one probe a second, one at a time.
    """

    def __init__(self, policy: BreakerPolicy) -> None:
        self.policy = policy
        self._held: dict[str, _Held] = {}
        self._asked: dict[str, int] = {}
        # Since when no worker held one, as the answers said.
        self._vacant_s: dict[str, float] = {}
        self._heard_s: float | None = None

    def want(self, deployment_id: str, now_s: float) -> None:
        """Notes that a request would have gone there."""
        self._of(deployment_id).wanted_s = now_s

    def is_free(self, deployment_id: str, now_s: float) -> bool:
        """Whether this worker holds a probe that nobody took, or may take one that no worker holds."""
        held = self._held.get(deployment_id)
        if held is not None and held.granted > held.under_way(now_s, self.policy):
            return True
        if self._is_vacant(deployment_id, now_s):
            return True
        return self._is_alone(now_s) and self._may_grant_itself(held, now_s)

    def take(self, deployment_id: str, now_s: float) -> bool:
        """Takes a free probe; False where there is none."""
        if not self.is_free(deployment_id, now_s):
            return False
        held = self._of(deployment_id)
        if self._is_vacant(deployment_id, now_s):
            del self._vacant_s[deployment_id]
            held.granted = 1  # until the store says otherwise
        elif held.granted <= held.under_way(now_s, self.policy):
            held.alone_s = now_s
        held.taken_s.append(now_s)
        held.wanted_s = now_s
        return True

    def give_back(self, deployment_id: str) -> None:
        """Ends the oldest probe under way; nothing happens where there is none."""
        held = self._held.get(deployment_id)
        if held is not None and held.taken_s:
            held.taken_s.pop(0)

    def end(self, deployment_id: str) -> None:
        """The breaker is half open no more: what is held goes back with the next request."""
        self._vacant_s.pop(deployment_id, None)
        held = self._held.get(deployment_id)
        if held is not None:
            held.taken_s, held.wanted_s = [], None

    def outgoing(self, half_open: Iterable[str], now_s: float) -> tuple[LeaseRequest, ...]:
        """Leases to ask for, to give back, and to hear of: a request for nothing tells whether anybody holds one."""
        asked: dict[str, int] = {}
        watched = 0
        for name in half_open:
            want = self._wanted(name, now_s) if name in self._held else 0
            watched += not want
            if want or watched <= MOST_WATCHED:
                asked[name] = want
        for name, held in self._held.items():
            if held.granted and name not in asked:
                asked[name] = 0
        self._asked = asked
        return tuple(
            LeaseRequest(
                resource=f"{_KEY}{name}",
                limit=self.policy.probes,
                spent=0,
                want=want,
                ttl_s=LEASE_S,
                lifetime_s=_LIFETIME_S,
            )
            for name, want in self._asked.items()
        )

    def incoming(self, leases: Mapping[str, Lease], now_s: float) -> None:
        """Takes what was granted; what the store could not read is this worker's own to grant, once."""
        self._heard_s = now_s
        before, self._vacant_s = self._vacant_s, {}
        for name, want in self._asked.items():
            lease = leases.get(f"{_KEY}{name}")
            granted = min(want, 1) if lease is None else min(max(lease.granted, 0), want)
            if want or name in self._held:
                self._of(name).granted = granted
            if lease is not None and lease.held == 0:
                self._vacant_s[name] = before.get(name, now_s)
        self._drop_idle(now_s)

    def lost(self) -> None:
        """The store does not answer: from now on this worker decides alone."""
        self._heard_s = None
        self._vacant_s.clear()

    def _is_vacant(self, deployment_id: str, now_s: float) -> bool:
        since_s = self._vacant_s.get(deployment_id)
        return since_s is not None and abs(now_s - since_s) >= VACANT_S and not self._is_alone(now_s)

    def _wanted(self, deployment_id: str, now_s: float) -> int:
        held = self._held[deployment_id]
        under_way = held.under_way(now_s, self.policy)
        return min(self.policy.probes, under_way + 1) if held.is_wanted(now_s) else under_way

    def _is_alone(self, now_s: float) -> bool:
        return self._heard_s is None or abs(now_s - self._heard_s) > SILENCE_S

    def _may_grant_itself(self, held: _Held | None, now_s: float) -> bool:
        if held is None:
            return True
        is_due = held.alone_s is None or abs(now_s - held.alone_s) >= ALONE_S
        return is_due and not held.under_way(now_s, self.policy)

    def _drop_idle(self, now_s: float) -> None:
        self._held = {
            name: held
            for name, held in self._held.items()
            if held.granted or held.is_wanted(now_s) or held.under_way(now_s, self.policy)
        }

    def _of(self, deployment_id: str) -> _Held:
        return self._held.setdefault(deployment_id, _Held())
