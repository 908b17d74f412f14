"""The memory exchange: what the workers of one process share, where no server is named."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from litellm_plugin.state.exchange import Reply
from litellm_plugin.state.lease_table import LeaseTerms, kept_ms, settle, whole_ms

if TYPE_CHECKING:
    from collections.abc import Callable

    from litellm_plugin.state.exchange import Batch, HashChange, Lease, LeaseRequest

# What a server counts with: HINCRBY is of 64 bits.
MOST: Final = 2**63 - 1
# An increment beyond it is of no measurement; two of them do not overflow a field.
MOST_ADDED: Final = 2**53

# More than a worker asks for leases of (256 a second) while a table of which nothing is spent is kept (220 s).
MOST_HASHES: Final = 65_536
_SWEEP_S: Final = 10.0
_NUMBER: Final = re.compile(r"0|-?[1-9][0-9]{0,18}")


@dataclass(slots=True)
class _Hash:
    ends_s: float
    fields: dict[str, str] = field(default_factory=dict)


class MemoryExchange:
    """Keeps hashes and leases in this process, each for its lifetime; it is never lost.

    Beyond 65,536 hashes the one that was written longest ago goes.

    Several workers of one event loop may share one.

    Args:
        clock: The store's clock, in seconds since the epoch. `SharedClock.now_s` never jumps; `time.time` does.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._hashes: dict[str, _Hash] = {}
        self._next_sweep_s = clock()

    def __len__(self) -> int:
        return len(self._hashes)

    async def exchange(self, batch: Batch) -> Reply:
        """Takes a batch and answers it; a field that is no whole number begins at 0, and its key counts as skipped."""
        now_s = self._clock()
        self._sweep(now_s)
        contribution = batch.contribution
        skipped = sum(self._change(change, now_s) for change in contribution.changes)
        leases = {request.resource: self._lease(batch, request, now_s) for request in contribution.leases}
        hashes = {key: dict(self._living(key, now_s).fields) for key in contribution.reads}
        return Reply(now_s=now_s, hashes=hashes, leases=leases, skipped=skipped)

    async def aclose(self) -> None:
        """Forgets nothing: other workers may share it."""

    def _change(self, change: HashChange, now_s: float) -> bool:
        """Makes a change, and says whether it met something that is no number."""
        fields = self._living(change.key, now_s).fields
        is_spoiled = False
        for name, amount in change.add.items():
            before = fields.get(name, "0")
            after = clamp_added(amount) + int(before) if _NUMBER.fullmatch(before) else MOST + 1
            if not -MOST <= after <= MOST:
                is_spoiled, after = True, clamp_added(amount)
            fields[name] = str(after)
        fields |= change.put
        self._keep(change.key, fields, whole_ms(change.lifetime_s), now_s)
        return is_spoiled

    def _lease(self, batch: Batch, request: LeaseRequest, now_s: float) -> Lease:
        key = lease_key(request.resource)
        terms = LeaseTerms.of(batch, request)
        lease, table = settle(self._living(key, now_s).fields, terms, int(now_s * 1000))
        self._keep(key, table, kept_ms(table, terms), now_s)
        return lease

    def _living(self, key: str, now_s: float) -> _Hash:
        found = self._hashes.get(key)
        return found if found is not None and found.ends_s > now_s else _Hash(now_s)

    def _keep(self, key: str, fields: dict[str, str], lifetime_ms: int, now_s: float) -> None:
        if fields:
            self._hashes.pop(key, None)
            self._hashes[key] = _Hash(now_s + lifetime_ms / 1000, fields)
            if len(self._hashes) > MOST_HASHES:
                del self._hashes[next(iter(self._hashes))]

    def _sweep(self, now_s: float) -> None:
        # A clock that went back must not put the next sweep off.
        if self._next_sweep_s - _SWEEP_S <= now_s < self._next_sweep_s:
            return
        self._next_sweep_s = now_s + _SWEEP_S
        self._hashes = {key: kept for key, kept in self._hashes.items() if kept.ends_s > now_s}


def lease_key(resource: str) -> str:
    """The key of a resource's lease table, which no hash of a part has."""
    return f"lease:{resource}"


def clamp_added(amount: int) -> int:
    """An increment as every store takes it."""
    return max(-MOST_ADDED, min(MOST_ADDED, amount))
