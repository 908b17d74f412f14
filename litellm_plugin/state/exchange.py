"""The exchange: what a worker tells the shared store and learns from it, in one round trip a period.

Everything that replicas share passes here: counts that are added, values that are put, hashes that are read and
leases that are renewed. The request path never waits for it; a part of the state fills a batch and reads the reply.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class HashChange:
    """What becomes of one hash of the store.

    Attributes:
        key: Its name behind the store's prefix, such as `latency:d1:4711`.
        add: By how much each field rises; a field that is missing, or no whole number, begins at 0.
        put: What each field becomes, whatever stands there.
        lifetime_s: How long the hash is kept after this change, in seconds.
    """

    key: str
    lifetime_s: float
    add: Mapping[str, int] = field(default_factory=dict)
    put: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LeaseRequest:
    """What a worker spent of a limited resource, and how much of it it wants to hold until its lease ends.

    A lease is what a worker may spend without asking. The store never lets the units spent in the window and the
    leases of all workers together exceed the limit, other than by what a worker says that it spent beyond its lease.

    Attributes:
        resource: Its name behind the store's prefix, such as `rpm:d1` or `budget:free:acme:2026-11`.
        limit: How many units the window holds; what was granted is not taken back when it shrinks.
        spent: Units spent since the last request that was answered; negative where less was used than was spent
            in advance. What an unanswered request told already is in it again, and counts once.
        want: How many units to hold from now on; what the worker held before is given back first.
        ttl_s: How long the lease is held for a worker that is silent; then what it holds returns.
        window_s: For at least how long what was spent counts, in slices of a twelfth: the slice that the window's
            beginning falls into counts as a whole. None for as long as the resource is kept.
        lifetime_s: How long the resource is kept after this request.
    """

    resource: str
    limit: int
    spent: int
    want: int
    ttl_s: float
    window_s: float | None = None
    lifetime_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Lease:
    """What a worker may spend, and what all of them did.

    Attributes:
        granted: Units that this worker holds now.
        used: Units spent in the window by all workers.
        held: Units that all workers hold, this one included.
    """

    granted: int
    used: int
    held: int


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one part of the state has for the store.

    Attributes:
        changes: Hashes that change; each key stands in one change only.
        reads: Hashes to read after the changes.
        leases: Leases to renew, each resource once.
    """

    changes: tuple[HashChange, ...] = ()
    reads: tuple[str, ...] = ()
    leases: tuple[LeaseRequest, ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """What one worker sends in one period.

    Attributes:
        worker: Names the worker among all of them, and among its own restarts.
        sequence: Rises with each batch of the worker from 1 on; leases of a batch that arrives late, or twice,
            change nothing.
        contribution: What all parts have to say.
        answered: The sequence of the worker's last batch that was answered, 0 for none: what leases spent is told
            since then. None stands for the batch before this one.
    """

    worker: str
    sequence: int
    contribution: Contribution
    answered: int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What the store answered.

    Attributes:
        now_s: The store's clock, in seconds; all workers of a store share it, and it may jump.
        hashes: What was read, by key and field, as text; empty for a missing key and for one of another type.
        leases: What was granted, by resource; a resource that the store could not read is missing.
        skipped: How many keys were of a wrong type or could not be read.
    """

    now_s: float
    hashes: Mapping[str, Mapping[str, str]]
    leases: Mapping[str, Lease]
    skipped: int = 0


class Exchange(Protocol):
    """A store that workers share, or one worker's own."""

    async def exchange(self, batch: Batch) -> Reply:
        """Takes a batch and answers it; what is wrong with one key is skipped, counted and overwritten.

        Raises:
            StoreUnavailable: The store did not answer in time, refuses or is gone; `was_sent` tells whether the
                batch may have been taken.
        """

    async def aclose(self) -> None:
        """Closes connections."""


class Part(Protocol):
    """One part of the state that replicas share; belongs to one event loop, and no call waits."""

    def outgoing(self, now_s: float) -> Contribution:
        """What to tell and to ask now.

        It is called once a period. What it hands out counts as sent until `lost` says otherwise.

        Args:
            now_s: The shared clock, in seconds (`SharedClock`).
        """

    def incoming(self, reply: Reply, now_s: float) -> None:
        """Takes the answer to the last `outgoing`; what in it makes no sense is clamped or skipped, never raised."""

    def lost(self, *, was_sent: bool) -> None:
        """The exchange of the last `outgoing` failed.

        Args:
            was_sent: Whether the store may have taken it all the same: counts are not told twice.
        """
