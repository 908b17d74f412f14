"""Leases: what a worker may spend of a limited resource without asking, so that a request never waits for the store.

A worker holds a part of what is left, spends from it in memory, and tells and asks once a period. While the store
answers, all workers together spend the limit and at most one lease or one request each beyond it, whichever is larger;
what a worker spends first, while it holds nothing, counts as such a lease.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from litellm_plugin.state.exchange import Contribution, Lease, LeaseRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from litellm_plugin.state.exchange import Reply

# A period is about a second: three exchanges in a row have failed.
STORE_LOST_AFTER_S: Final = 3.0
# Longer than it takes to renew every lease of a full book, see `MOST_RESOURCES`.
LEASE_TTL_S: Final = 20.0
# What nobody looked at for so long is given back.
SILENT_S: Final = 10.0
# For so long a lease covers a request that was refused, however rare such requests are, and the largest that was made.
REMEMBERED_S: Final = 300.0
# What a worker may spend of a resource that it holds no lease of yet: one part of so many of the limit.
FIRST_SHARE: Final = 10
# After so long an account that was spent from and told of may make room for others.
LEFT_ALONE_S: Final = 3600.0
# About 1 KB each; those that wait longest are renewed first, so many in one exchange.
MOST_RESOURCES: Final = 4096
MOST_PER_EXCHANGE: Final = 256
# A worker holds what it spends in so many periods: its load may rise that much from one period to the next.
_PERIODS_HELD: Final = 4.0
# What a period without spending leaves of the expectation: a tenth after ten periods.
_DEMAND_KEPT: Final = 0.8
# The store cuts its windows into as many (`LeaseRequest.window_s`).
_SLICES: Final = 12
# A hundred million USD in millionths; the sum of a hundred such is counted exactly by a script of the store.
MOST_UNITS: Final = 10**14


@dataclass(frozen=True, slots=True)
class Resource:
    """Something of which all workers together may spend a limited number of units.

    Attributes:
        name: Its name behind the store's prefix, such as `rpm:d1`.
        limit: How many units a window holds; 0 or more.
        window_s: For how long what was spent counts, in seconds; None for as long as the resource is kept.
        lifetime_s: How long the store keeps the resource after it was last asked for.
    """

    name: str
    limit: int
    window_s: float | None = None
    lifetime_s: float = 3600.0

    def __post_init__(self) -> None:
        if not 0 <= self.limit <= MOST_UNITS:
            raise ValueError(f"expected a limit from 0 to 10^14 for {self.name}, got {self.limit}")
        if self.window_s is not None and not 0 < self.window_s < math.inf:
            raise ValueError(f"expected a positive window in seconds for {self.name}, got {self.window_s}")


class Reservation:
    """Units that were taken before it is known how many are used; it is settled or released once."""

    __slots__ = ("is_open", "reserved_at_s", "resource", "units")

    def __init__(self, resource: Resource, units: int, reserved_at_s: float) -> None:
        self.resource = resource
        self.units = units
        self.reserved_at_s = reserved_at_s
        self.is_open = True


class LeaseBook:
    """One worker's leases; a part of the state that is exchanged.

    How much a worker holds follows what it spends: four times the spending of a period, and not less than its share
    of half of what is left, so that an idle worker can begin and a busy one can take the rest, nor than its largest request of the last five
    minutes. A worker that holds nothing may make one request of its part of all that was not used when the store last
    answered, or of the whole limit where it never did; beyond that it spends a tenth of the limit. While less than a tenth is used
    it may spend its share of half of what is left whatever others hold, who may be dead. When a lease is used
    up before the next exchange and the store had more that nobody holds, the worker overdraws by its part of that, and
    by one lease at most.
    When the store is silent for three seconds, the worker spends what is left as far as it knows: what was used
    when the store last answered, and what it spent itself.

    Args:
        workers: How many workers share the store now, this one included.
        clock: Monotonic seconds.
    """

    def __init__(
        self, workers: Callable[[], int] = lambda: 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._workers = workers
        self._clock = clock
        self._answered_at_s = clock()
        self._accounts: dict[str, _Account] = {}
        # Those of which nothing was spent as far as this worker knows, the one looked at last at the end.
        self._untouched: OrderedDict[str, _Account] = OrderedDict()
        # Whose answer is awaited.
        self._asked: tuple[_Account, ...] = ()

    def left(self, resource: Resource) -> int:
        """How many units this worker may spend now, 0 or more; to look is enough to be granted a lease.

        To look at what others use under another limit of the same name, as a shadow policy does, changes nothing.
        """
        now_s = self._clock()
        account = self._account(resource)
        account.look(resource, now_s)
        return max(0, self._left(account, resource, now_s))

    def reserve(self, resource: Resource, units: int) -> Reservation | None:
        """Takes units from what is left; None where that is too little.

        Raises:
            ValueError: The units are negative.
        """
        if units < 0:
            raise ValueError(f"expected 0 units or more of {resource.name}, got {units}")
        now_s = self._clock()
        account = self._account(resource)
        left = self._left(account, resource, now_s)
        account.use(resource, now_s)
        if units > left:
            account.miss(units, now_s)
            return None
        return self._spend(account, resource, units, now_s)

    def spend(self, resource: Resource, units: int) -> Reservation:
        """Takes units whatever is left: what is spent all the same has to be known.

        Raises:
            ValueError: The units are negative.
        """
        if units < 0:
            raise ValueError(f"expected 0 units or more of {resource.name}, got {units}")
        now_s = self._clock()
        account = self._account(resource)
        account.use(resource, now_s)
        return self._spend(account, resource, units, now_s)

    def settle(self, reservation: Reservation, used: int) -> None:
        """Replaces what was reserved by what was used, which may be more; a second settlement changes nothing."""
        if not reservation.is_open:
            return
        reservation.is_open = False
        now_s = self._clock()
        resource = reservation.resource
        difference = min(max(0, used), MOST_UNITS) - reservation.units
        window_s = resource.window_s
        has_left_window = window_s is not None and now_s - reservation.reserved_at_s >= window_s
        if difference == 0 or (difference < 0 and has_left_window):
            return
        account = self._account(resource)
        account.look(resource, now_s)
        self._spend(account, resource, difference, now_s)

    def release(self, reservation: Reservation) -> None:
        """Gives back what was reserved: nothing of it was used."""
        self.settle(reservation, 0)

    def outgoing(self, now_s: float) -> Contribution:
        """Tells what was spent and asks for leases, of those resources that have waited longest."""
        now_s = self._clock()
        workers = max(1, self._workers())
        due = [each for each in self._accounts.values() if each.is_due(now_s)]
        due.sort(key=lambda each: (not each.is_unsure, each.asked_at_s))
        self._asked = tuple(due[:MOST_PER_EXCHANGE])
        return Contribution(leases=tuple(each.ask(workers, now_s) for each in self._asked))

    def incoming(self, reply: Reply, now_s: float) -> None:
        """Takes what was granted; a resource that is missing from the answer is asked for again."""
        now_s = self._clock()
        self._answered_at_s = now_s
        # The roster, which comes before, may have counted anew: what is granted was asked for by as many.
        workers = max(1, self._workers())
        for account in self._asked:
            lease = reply.leases.get(account.resource.name)
            if lease is None:
                account.lost(was_sent=False)
            else:
                account.answered(lease, workers, now_s)
                self._sort(account, now_s)
        self._asked = ()

    def lost(self, *, was_sent: bool) -> None:
        """Keeps what was told for the next exchange, which tells it again; the store counts it once."""
        for account in self._asked:
            account.lost(was_sent=was_sent)
        self._asked = ()

    def _left(self, account: _Account, resource: Resource, now_s: float) -> int:
        is_lost = now_s - self._answered_at_s > STORE_LOST_AFTER_S
        return account.known_left(resource, now_s) if is_lost else account.leased_left(resource, now_s)

    def _spend(self, account: _Account, resource: Resource, units: int, now_s: float) -> Reservation:
        """Takes units; of an account that the book has no room for there is nothing to give back."""
        account.spend(units, now_s)
        self._untouched.pop(resource.name, None)
        return Reservation(resource, units if self._has(account) else 0, now_s)

    def _sort(self, account: _Account, now_s: float) -> None:
        name = account.resource.name
        if not account.is_untouched(now_s):
            self._untouched.pop(name, None)
        elif self._has(account):
            self._untouched.setdefault(name, account)

    def _has(self, account: _Account) -> bool:
        return self._accounts.get(account.resource.name) is account

    def _account(self, resource: Resource) -> _Account:
        """The resource's account; what the book has no room for has one that is not kept."""
        name = resource.name
        account = self._accounts.get(name)
        if account is None:
            account = _Account(resource)
            if self._make_room():
                self._accounts[name] = self._untouched[name] = account
        elif name in self._untouched:
            self._untouched.move_to_end(name)
        return account

    def _make_room(self) -> bool:
        """Forgets the untouched account that is unused for longest, and else one that was told of and left alone.

        One that was spent from begins anew when it is forgotten: who invents names must not bring that about.
        """
        if len(self._accounts) < MOST_RESOURCES:
            return True
        if self._untouched:
            name, _ = self._untouched.popitem(last=False)
        else:
            eldest = min(self._accounts.values(), key=lambda each: each.looked_at_s)
            if not eldest.is_left_alone(self._clock()):
                return False
            name = eldest.resource.name
        del self._accounts[name]
        return True


class _Account:
    """One resource in the book."""

    __slots__ = (
        "_allowed",
        "_answered_at_s",
        "_demand",
        "_is_asleep",
        "_largest",
        "_lease",
        "_spent_in_period",
        "_telling",
        "_unmet",
        "_untold",
        "_wanted",
        "_workers",
        "asked_at_s",
        "is_unsure",
        "looked_at_s",
        "resource",
    )

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self.looked_at_s = -math.inf
        self.asked_at_s = -math.inf
        # Whether the store may know of something that is told again.
        self.is_unsure = False
        # The largest request of late, and the largest of those that were refused.
        self._largest = _Peak()
        self._unmet = _Peak()
        self._workers = 1
        self._demand = 0.0
        self._spent_in_period = 0
        self._untold = _Spending()
        # What is told and not answered yet, and what was asked with it; None while nothing is.
        self._telling = _Spending()
        self._wanted: int | None = None
        self._lease: Lease | None = None
        self._allowed = 0
        # It holds nothing because it asked for nothing.
        self._is_asleep = True
        self._answered_at_s = -math.inf

    def is_untouched(self, now_s: float) -> bool:
        """Whether nothing was spent, here or by others, as far as is known."""
        return self._is_told and self._surely_unused(now_s) == self.resource.limit

    def is_left_alone(self, now_s: float) -> bool:
        """Whether all that was spent is told, long ago."""
        return self._is_told and now_s - self.looked_at_s >= LEFT_ALONE_S

    @property
    def _is_told(self) -> bool:
        return self._untold.is_empty and self._telling.is_empty and not self.is_unsure

    def use(self, resource: Resource, now_s: float) -> None:
        """Counts against a limit from now on."""
        self.resource = resource
        self.looked_at_s = now_s

    def look(self, resource: Resource, now_s: float) -> None:
        """Keeps what is looked at awake; another limit comes into use when nobody looks at the one in use any more."""
        if resource == self.resource or self._is_silent(now_s):
            self.use(resource, now_s)

    def leased_left(self, resource: Resource, now_s: float) -> int:
        """What is left of the lease, while the store answers; under another limit, what that one leaves of it."""
        spent = self._untold.total + self._telling.total
        unused = self._surely_unused(now_s) + resource.limit - self.resource.limit - spent
        left = min(self._leased(spent, now_s) - spent, unused)
        return max(left, unused // self._workers) if resource.limit > self.resource.limit else left

    def _leased(self, spent: int, now_s: float) -> int:
        gives_back = self._wanted == 0
        if not (self._is_asleep or gives_back):
            return max(self._allowed, self._own_part(now_s))
        share = self._first_share(now_s)
        first = share if spent > 0 else max(share, self._first_request(now_s))
        return max(first, self._allowed) if gives_back else first

    def _own_part(self, now_s: float) -> int:
        """What may be spent whatever others hold, who may be dead, while next to nothing is used."""
        lease = self._lease
        if lease is None or lease.used > self._share():
            return 0
        return self._surely_unused(now_s) // (2 * self._workers)

    def known_left(self, resource: Resource, now_s: float) -> int:
        """What is left as far as this worker knows, while the store is silent."""
        oldest = self._oldest_slice(now_s)
        difference = resource.limit - self.resource.limit
        return self._unused(now_s) + difference - self._untold.units(oldest) - self._telling.units(oldest)

    def spend(self, units: int, now_s: float) -> None:
        self._untold.add(self._slice(now_s), units)
        self._spent_in_period += max(0, units)
        self._largest.note(units, now_s)
        if units > self._share():
            self._unmet.prolong(now_s)

    def miss(self, units: int, now_s: float) -> None:
        """Remembers a request that was refused; one beyond the limit is refused for ever."""
        if units <= self.resource.limit:
            self._unmet.note(units, now_s)

    def is_due(self, now_s: float) -> bool:
        """Whether there is something to ask, to tell or to give back."""
        is_wanted = not self._is_silent(now_s) or self._kept(now_s) > 0
        return not self._is_asleep or not self._untold.is_empty or is_wanted

    def ask(self, workers: int, now_s: float) -> LeaseRequest:
        self._demand = max(float(self._spent_in_period), self._demand * _DEMAND_KEPT)
        self._workers = workers
        self._wanted = self._want(now_s)
        self._spent_in_period = 0
        self.asked_at_s = now_s
        self._telling, self._untold = self._untold, _Spending()
        # Until the answer comes, not more than what is asked for: the rest may be granted to others.
        self._allow(self._telling.total + self._wanted)
        return LeaseRequest(
            resource=self.resource.name,
            limit=self.resource.limit,
            spent=self._telling.units(self._oldest_slice(now_s)),
            want=self._wanted,
            ttl_s=LEASE_TTL_S,
            window_s=self.resource.window_s,
            lifetime_s=self.resource.lifetime_s,
        )

    def answered(self, lease: Lease, workers: int, now_s: float) -> None:
        wanted = self._wanted or 0
        self._workers = workers
        self._lease = Lease(
            granted=min(max(0, lease.granted), wanted),
            used=min(max(0, lease.used), MOST_UNITS),
            held=min(max(0, lease.held), MOST_UNITS),
        )
        self._is_asleep = wanted == 0
        self._allow(self._lease.granted)
        self._answered_at_s = now_s
        self._telling = _Spending()
        self._wanted = None
        self.is_unsure = False

    def lost(self, *, was_sent: bool) -> None:
        self._untold.add_all(self._telling)
        self._telling = _Spending()
        self._wanted = None
        self._allow(MOST_UNITS)
        self.is_unsure = was_sent or self.is_unsure

    def _want(self, now_s: float) -> int:
        """What is asked for; of what nobody looks at only what a rare request needs."""
        if self._is_silent(now_s):
            return self._kept(now_s)
        share = math.ceil(max(0, self._unused(now_s)) / (2 * self._workers))
        largest = max(self._largest.units(now_s), self._unmet.units(now_s))
        wanted = max(math.ceil(self._demand * _PERIODS_HELD), share, largest, 1)
        return min(wanted, self.resource.limit)

    def _kept(self, now_s: float) -> int:
        """What is held on to through a silence: enough for a request that was refused and needs more than a tenth."""
        unmet = min(self._unmet.units(now_s), self.resource.limit)
        return unmet if unmet > self._share() else 0

    def _allow(self, at_most: int) -> None:
        """Reckons what may be spent: the lease, and beyond it a worker's part of what nobody held at the last answer."""
        lease = self._lease
        if lease is None:
            return
        unleased = max(0, self.resource.limit - lease.used - lease.held)
        self._allowed = min(lease.granted, at_most) + min(lease.granted, unleased // self._workers)

    def _unused(self, now_s: float) -> int:
        """What was not used when the store last answered; what was leaves the window at a steady rate."""
        if self._lease is None:
            return self.resource.limit
        window_s = self.resource.window_s
        share = 1.0 if window_s is None else max(0.0, 1.0 - (now_s - self._answered_at_s) / window_s)
        return self.resource.limit - math.ceil(self._lease.used * share)

    def _share(self) -> int:
        return math.ceil(self.resource.limit / FIRST_SHARE)

    def _first_share(self, now_s: float) -> int:
        """What may be spent without a lease."""
        return min(self._share(), self._surely_unused(now_s))

    def _first_request(self, now_s: float) -> int:
        """What one request may take without a lease."""
        return self._surely_unused(now_s) // (1 if self._lease is None else self._workers)

    def _surely_unused(self, now_s: float) -> int:
        """What was not used at the last answer, if there was one; what it said counts until the window has passed."""
        window_s = self.resource.window_s
        if self._lease is None or (window_s is not None and now_s - self._answered_at_s >= window_s):
            return self.resource.limit
        return self.resource.limit - self._lease.used

    def _is_silent(self, now_s: float) -> bool:
        return now_s - self.looked_at_s >= SILENT_S

    def _slice(self, now_s: float) -> int:
        window_s = self.resource.window_s
        return 0 if window_s is None else math.floor(now_s * _SLICES / window_s)

    def _oldest_slice(self, now_s: float) -> int:
        """The oldest slice that counts; without a window everything stands in slice 0."""
        return 0 if self.resource.window_s is None else self._slice(now_s) - _SLICES


class _Peak:
    """The largest of the numbers noted within `REMEMBERED_S`."""

    __slots__ = ("_at_s", "_units")

    def __init__(self) -> None:
        self._units = 0
        self._at_s = -math.inf

    def note(self, units: int, now_s: float) -> None:
        if units > 0 and units >= self.units(now_s):
            self._units, self._at_s = units, now_s

    def prolong(self, now_s: float) -> None:
        self.note(self.units(now_s), now_s)

    def units(self, now_s: float) -> int:
        return self._units if now_s - self._at_s < REMEMBERED_S else 0


class _Spending:
    """What was spent and not told, by slice of the window."""

    __slots__ = ("_slices", "total")

    def __init__(self) -> None:
        self.total = 0
        self._slices: dict[int, int] = {}

    @property
    def is_empty(self) -> bool:
        return not self._slices

    def add(self, number: int, units: int) -> None:
        self._slices[number] = self._slices.get(number, 0) + units
        self.total += units
        if len(self._slices) > _SLICES + 1:
            self.total -= self._slices.pop(min(self._slices))

    def add_all(self, other: _Spending) -> None:
        for number, units in other._slices.items():
            self.add(number, units)

    def units(self, oldest: int) -> int:
        return sum(units for number, units in self._slices.items() if number >= oldest)
