"""The lease book: what workers spend together of a limit, whatever is lost and whoever dies."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litellm_plugin.state.exchange import Batch, Contribution, Lease, LeaseRequest, Reply
from litellm_plugin.state.leases import (
    FIRST_SHARE,
    LEASE_TTL_S,
    LEFT_ALONE_S,
    MOST_PER_EXCHANGE,
    MOST_RESOURCES,
    REMEMBERED_S,
    SILENT_S,
    STORE_LOST_AFTER_S,
    LeaseBook,
    Resource,
)
from litellm_plugin.state.memory_exchange import MemoryExchange
from litellm_plugin.state.roster import Roster
from litellm_plugin.state.sync import merged
from litellm_plugin.testing import FakeClock

RPM = Resource("rpm:d1", limit=120, window_s=60.0)
BUDGET = Resource("budget:acme", limit=1_000)


class Ledger:
    """The memory exchange, and what an observer who spends nothing sees of it."""

    def __init__(self, clock):
        self._exchange = MemoryExchange(clock.wall)
        self._looks = 0

    def send(self, batch):
        exchanged = self._exchange.exchange(batch)
        try:
            exchanged.send(None)
        except StopIteration as ended:  # memory never waits
            return ended.value
        raise AssertionError("the memory exchange waited")

    def look(self, resource):
        self._looks += 1
        asked = LeaseRequest(resource.name, resource.limit, 0, 0, LEASE_TTL_S, resource.window_s)
        reply = self.send(Batch("observer", self._looks, Contribution(leases=(asked,))))
        return reply.leases[resource.name]

    def used(self, resource):
        return self.look(resource).used

    def held(self, resource):
        return self.look(resource).held


class Worker:
    """A book and its exchanges with a ledger, each in two halves so that requests fall between them."""

    def __init__(self, name, ledger, clock, workers):
        self.name = name
        self.book = LeaseBook(lambda: workers, clock.monotonic)
        self.most_held = 0
        self._ledger = ledger
        self._clock = clock
        self._reply = None
        self._is_asking = False
        self._sequence = self._answered = 0

    def ask(self, fate="answered"):
        """Fates: answered; unanswered (the store took it); unsent."""
        now_s = self._clock.monotonic()
        contribution = self.book.outgoing(now_s)
        self._sequence += 1
        if fate != "unsent":
            self._reply = self._ledger.send(Batch(self.name, self._sequence, contribution, self._answered))
            self.most_held = max([self.most_held, *(each.granted for each in self._reply.leases.values())])
        self._fate = fate
        self._is_asking = True

    def hear(self):
        if not self._is_asking:
            return
        self._is_asking = False
        if self._fate == "answered":
            self._answered = self._sequence
            self.book.incoming(self._reply, self._clock.monotonic())
        else:
            self.book.lost(was_sent=self._fate == "unanswered")

    def exchange(self, fate="answered"):
        self.hear()
        self.ask(fate)
        self.hear()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def ledger(clock):
    return Ledger(clock)


@pytest.fixture
def team(clock, ledger):
    def made(number):
        return [Worker(f"w{place}", ledger, clock, number) for place in range(number)]

    return made


def spend_all(worker, resource, units=1, at_most=100_000):
    spent = 0
    while spent < at_most and worker.book.reserve(resource, units):
        spent += units
    return spent


def test_before_the_first_exchange_a_worker_spends_a_tenth(team):
    (worker,) = team(1)
    assert spend_all(worker, RPM) == RPM.limit // FIRST_SHARE


def test_c39_a_request_that_comes_while_a_lease_is_given_back_is_served(ledger, clock):
    """Two workers that do not know of each other yet hold all there is; the answer to the one takes its time."""
    pair = [Worker(name, ledger, clock, 1) for name in ("w1", "w2")]
    for worker in pair:
        worker.book.left(RPM)
        worker.exchange()
    assert ledger.held(RPM) == RPM.limit
    for _ in range(int(SILENT_S) - 1):
        clock.advance(1)
        pair[1].exchange()
    clock.advance(1)
    pair[1].ask()
    assert pair[1].book.reserve(RPM, 1)


def test_c39_a_worker_that_finds_everything_held_by_the_dead_begins_all_the_same(ledger, clock):
    """Two workers were killed with leases in their hands, and two others took their place before these returned."""
    for name in ("dead-1", "dead-2"):
        dead = Worker(name, ledger, clock, 1)
        dead.book.left(BUDGET)
        dead.exchange()
    worker = Worker("w1", ledger, clock, 2)
    worker.book.left(BUDGET)
    worker.exchange()
    assert ledger.held(BUDGET) == BUDGET.limit
    part = BUDGET.limit // 4
    assert spend_all(worker, BUDGET) == part
    worker.exchange()
    assert (ledger.used(BUDGET), spend_all(worker, BUDGET)) == (part, 0)


def test_a_worker_that_finds_everything_spent_spends_nothing(ledger, clock):
    spender, worker = (Worker(name, ledger, clock, 2) for name in ("w1", "w2"))
    spender.book.spend(BUDGET, BUDGET.limit)
    spender.exchange()
    worker.book.left(BUDGET)
    worker.exchange()
    assert spend_all(worker, BUDGET) == 0


def test_before_the_first_exchange_one_request_may_be_larger(team):
    (worker,) = team(1)
    assert worker.book.reserve(BUDGET, BUDGET.limit + 1) is None
    assert worker.book.reserve(BUDGET, BUDGET.limit // 2)
    assert worker.book.reserve(BUDGET, 1) is None


TPM = Resource("tpm:d1", limit=10_000, window_s=60.0)


@pytest.mark.parametrize(
    ("resource", "units", "gap_s"),
    [
        *((TPM, 1_100, gap_s) for gap_s in (8, 12)),
        *((TPM, 2_054, gap_s) for gap_s in (31, 250, 400)),
        *((BUDGET, 120, gap_s) for gap_s in (8, 12, 31, 250, 400)),
    ],
)
def test_large_requests_are_served_however_rare_they_are(team, clock, resource, units, gap_s):
    for number in (1, 4):
        workers = team(number)
        refused = 0
        each = replace(resource, name=f"{resource.name}/{number}")
        for _ in range(6):
            refused += not workers[0].book.reserve(each, units)
            for _ in range(gap_s):
                clock.advance(1)
                for worker in workers:
                    worker.exchange()
        assert refused <= number // 4


def test_a_lease_covers_the_largest_request_of_late_however_many_workers_there_seem_to_be(ledger, clock):
    """C14: names in the roster that are of nobody."""
    worker = Worker("w", ledger, clock, 256)
    refused = 0
    for number in range(60):
        refused += not worker.book.reserve(BUDGET, 10 if number % 20 == 0 else 1)
        for _ in range(8):
            clock.advance(1)
            worker.exchange()
    assert refused == 0


def test_a_request_that_was_refused_is_covered_minutes_later(team, clock):
    """A part of what is left that is smaller than the request is no reason to refuse it for ever."""
    here, *others = team(4)
    here.book.left(BUDGET)
    here.exchange()
    clock.advance(SILENT_S)
    here.exchange()
    assert here.book.left(BUDGET) == BUDGET.limit // 4
    assert here.book.reserve(BUDGET, 400) is None
    for _ in range(int(REMEMBERED_S) - 1):
        for worker in (here, *others):
            worker.exchange()
        clock.advance(1)
    assert here.book.reserve(BUDGET, 400)


def test_a_refused_request_that_never_comes_back_is_forgotten(team, clock, ledger):
    (worker, _) = team(2)
    worker.book.reserve(BUDGET, 300)
    worker.book.reserve(BUDGET, 300)
    for _ in range(int(SILENT_S)):
        worker.exchange()
        clock.advance(1)
    assert ledger.held(BUDGET) == 300
    for _ in range(int(REMEMBERED_S)):
        worker.exchange()
        clock.advance(1)
    assert ledger.held(BUDGET) == 0


def test_an_idle_fleet_holds_half_of_what_is_left(team, ledger):
    workers = team(4)
    for _ in range(3):
        for worker in workers:
            worker.book.left(RPM)
            worker.exchange()
    assert ledger.held(RPM) == RPM.limit // 2


def test_a_busy_worker_takes_the_rest(team, clock):
    workers = team(4)
    busy = workers[0]
    spent = 0
    for _ in range(30):
        spent += spend_all(busy, RPM, at_most=12)
        for worker in workers:
            worker.exchange()
        clock.advance(1)
    assert spent == RPM.limit


def test_what_left_the_window_is_spent_again(team, clock):
    (worker,) = team(1)
    spent = 0
    for _ in range(300):
        spent += spend_all(worker, RPM)
        worker.exchange()
        clock.advance(1)
    assert 4 * RPM.limit <= spent <= 5 * RPM.limit + worker.most_held


@pytest.mark.parametrize("other", [10, 100_000])
@pytest.mark.parametrize("is_after", [False, True])
def test_a_look_at_another_limit_changes_nothing(team, clock, other, is_after):
    """A shadow policy may limit the same to something else."""

    def played(worker, *, has_shadow):
        limit = replace(BUDGET, name="with" if has_shadow else "without")
        left = []
        for second in range(40):
            if has_shadow and not is_after:
                worker.book.left(replace(limit, limit=other))
            left.append(worker.book.left(limit))
            if second in {3, 30}:
                worker.book.reserve(limit, 7)
            if has_shadow and is_after:
                worker.book.left(replace(limit, limit=other))
            worker.exchange()
            clock.advance(1)
        return left

    here, there = team(2)
    start = 4 if not is_after else 0
    assert played(here, has_shadow=True)[start:] == played(there, has_shadow=False)[start:]


def test_a_shadow_wakes_nothing(team, clock):
    (worker,) = team(1)
    worker.book.left(BUDGET)
    for _ in range(int(SILENT_S) - 1):
        worker.exchange()
        clock.advance(1)
        worker.book.left(replace(BUDGET, limit=10))
    clock.advance(1)
    assert [each.want for each in worker.book.outgoing(clock.monotonic()).leases] == [0]


def test_another_limit_tells_what_it_leaves(team, clock):
    (worker,) = team(1)
    worker.book.reserve(BUDGET, 50)
    worker.exchange()
    clock.advance(1)
    left = worker.book.left(BUDGET)
    assert 50 < left < BUDGET.limit
    seen = [worker.book.left(replace(BUDGET, limit=limit)) for limit in (0, 50, 90, 100_000)]
    assert seen == [0, 0, 40, 99_950]
    assert worker.book.left(BUDGET) == left


@pytest.mark.parametrize("limit", [100, 5_000])
def test_a_limit_that_changed_holds_from_then_on(team, clock, limit):
    (worker,) = team(1)
    spent = spend_all(worker, BUDGET, at_most=80)
    worker.exchange()
    clock.advance(1)
    changed = replace(BUDGET, limit=limit)
    assert worker.book.left(changed)
    for _ in range(60):
        spent += spend_all(worker, changed)
        worker.exchange()
        clock.advance(1)
    assert spent == limit


def test_a_limit_of_nothing_that_was_raised_is_open_at_once(team, clock):
    (worker,) = team(1)
    worker.book.left(replace(RPM, limit=0))
    worker.exchange()
    clock.advance(1)
    assert worker.book.left(RPM)
    assert worker.book.reserve(RPM, 1)


def test_a_settlement_returns_what_was_not_used(team, ledger):
    (worker,) = team(1)
    worker.book.left(BUDGET)
    worker.exchange()
    reservation = worker.book.reserve(BUDGET, 400)
    worker.exchange()
    assert ledger.used(BUDGET) == 400
    worker.book.settle(reservation, 150)
    worker.book.settle(reservation, 150)
    worker.book.release(reservation)
    worker.exchange()
    assert ledger.used(BUDGET) == 150


def test_a_settlement_tells_what_was_used_beyond_the_reservation(team, ledger):
    (worker,) = team(1)
    worker.book.settle(worker.book.reserve(BUDGET, 10), 1_500)
    worker.exchange()
    assert ledger.used(BUDGET) == 1_500
    assert worker.book.left(BUDGET) == 0


def test_nothing_returns_to_a_window_that_has_passed(team, clock, ledger):
    (worker,) = team(1)
    reservation = worker.book.reserve(RPM, 10)
    worker.exchange()
    clock.advance(RPM.window_s * 13 / 12)
    worker.book.reserve(RPM, 3)
    worker.book.release(reservation)
    worker.exchange()
    assert ledger.used(RPM) == 3


def test_a_silent_resource_is_given_back_and_not_asked_for(team, clock, ledger):
    (worker,) = team(1)
    worker.book.left(BUDGET)
    worker.exchange()
    assert ledger.held(BUDGET) > 0
    clock.advance(SILENT_S)
    worker.exchange()
    assert ledger.held(BUDGET) == 0
    assert worker.book.outgoing(clock.monotonic()).leases == ()


def test_what_is_used_up_is_not_forgotten_in_silence(team, clock):
    (worker,) = team(1)
    for _ in range(40):
        spend_all(worker, BUDGET)
        worker.exchange()
        clock.advance(1)
    clock.advance(2 * SILENT_S)
    worker.exchange()
    worker.exchange()
    assert worker.book.left(BUDGET) == 0


def test_a_window_that_was_used_up_is_open_again_after_a_silence(team, clock):
    (worker,) = team(1)
    for _ in range(10):
        spend_all(worker, RPM)
        worker.exchange()
        clock.advance(1)
    for _ in range(90):
        worker.exchange()
        clock.advance(1)
    assert worker.book.left(RPM) == RPM.limit
    assert spend_all(worker, RPM) == RPM.limit // FIRST_SHARE


def test_a_question_under_way_leaves_no_more_than_it_asks_for(team, clock):
    """The store may already have granted the rest to others."""
    (worker,) = team(1)
    for units in (100, 300, 0, 0, 0):
        spend_all(worker, BUDGET, at_most=units)
        worker.exchange()
    before = worker.book.left(BUDGET)
    (asked,) = worker.book.outgoing(clock.monotonic()).leases
    assert worker.book.left(BUDGET) == asked.want < before
    worker.book.lost(was_sent=False)
    assert worker.book.left(BUDGET) == before


def test_what_may_have_been_told_is_told_again_first(team, clock, ledger):
    """What is told again counts once only as long as no answer comes between."""
    (worker,) = team(1)
    resources = [Resource(f"r{number}", 100) for number in range(MOST_PER_EXCHANGE + 44)]
    for resource in resources:
        worker.book.reserve(resource, 1)
    worker.exchange("unanswered")
    clock.advance(1)
    for _ in range(3):
        worker.exchange()
        clock.advance(1)
    assert [ledger.used(each) for each in resources] == [1] * len(resources)


def test_lost_store_goes_on_against_what_was_known(team, clock):
    """C02, C03: losing the store denies nothing that is not known to be used up."""
    here, there = team(2)
    spent_there = spend_all(there, BUDGET, at_most=100)
    there.exchange()
    here.book.left(BUDGET)
    here.exchange()
    clock.advance(STORE_LOST_AFTER_S + 0.1)
    assert spend_all(here, BUDGET) == BUDGET.limit - spent_there


def test_store_down_at_start_leaves_the_limit(team, clock):
    """C01."""
    (worker,) = team(1)
    clock.advance(STORE_LOST_AFTER_S + 0.1)
    assert spend_all(worker, BUDGET) == BUDGET.limit


def test_lost_store_lets_old_spending_leave_the_window(team, clock):
    (worker,) = team(1)
    worker.book.left(RPM)
    worker.exchange()
    clock.advance(STORE_LOST_AFTER_S + 0.1)
    spend_all(worker, RPM)
    assert worker.book.left(RPM) == 0
    clock.advance(RPM.window_s * 13 / 12)
    assert worker.book.left(RPM) == RPM.limit


@pytest.mark.parametrize("fate", ["unsent", "unanswered"])
def test_what_a_lost_exchange_told_counts_once(team, ledger, fate):
    (worker,) = team(1)
    worker.book.reserve(BUDGET, 20)
    worker.exchange(fate)
    worker.book.reserve(BUDGET, 5)
    for _ in range(2):
        worker.exchange(fate)
    worker.exchange()
    worker.exchange()
    assert ledger.used(BUDGET) == 25


def test_what_a_dead_worker_held_returns(team, clock):
    """C39: the worker is gone without a word."""
    dead, alive = team(2)
    dead.book.reserve(BUDGET, 100)
    for _ in range(2):
        dead.exchange()
    spent = 0
    for _ in range(int(LEASE_TTL_S) + 40):
        spent += spend_all(alive, BUDGET)
        alive.exchange()
        clock.advance(1)
    assert spent == BUDGET.limit - 100


def test_a_resource_that_the_store_could_not_read_is_asked_for_again(team, clock, ledger):
    """C06."""
    (worker,) = team(1)
    worker.book.reserve(BUDGET, 7)
    worker.book.outgoing(clock.monotonic())
    worker.book.incoming(Reply(now_s=0.0, hashes={}, leases={}), clock.monotonic())
    worker.exchange()
    assert ledger.used(BUDGET) == 7


@pytest.mark.parametrize("lease", [Lease(-5, -5, -5), Lease(10**30, 0, 0), Lease(10**30, 10**30, 10**30)])
def test_absurd_answers_are_clamped(team, clock, lease):
    """C14."""
    (worker,) = team(1)
    worker.book.left(RPM)
    worker.book.outgoing(clock.monotonic())
    worker.book.incoming(Reply(now_s=0.0, hashes={}, leases={RPM.name: lease}), clock.monotonic())
    assert 0 <= worker.book.left(RPM) <= RPM.limit


def test_an_exchange_is_bounded_and_everything_has_its_turn(team, clock, ledger):
    (worker,) = team(1)
    resources = [Resource(f"r{number}", 100) for number in range(MOST_RESOURCES)]
    for resource in resources:
        worker.book.reserve(resource, 1)
    for _ in range(MOST_RESOURCES // MOST_PER_EXCHANGE):
        assert len(worker.book.outgoing(clock.monotonic()).leases) == MOST_PER_EXCHANGE
        worker.book.lost(was_sent=False)
        worker.exchange()
        clock.advance(1)
    for _ in range(MOST_RESOURCES // MOST_PER_EXCHANGE):
        worker.exchange()
        clock.advance(1)
    assert sum(ledger.used(each) for each in resources) == MOST_RESOURCES


def test_beyond_the_bound_the_resource_unused_for_longest_goes(team, clock):
    (worker,) = team(1)
    for number in range(MOST_RESOURCES + 10):
        worker.book.left(Resource(f"r{number}", 100))
    asked = set()
    for _ in range(2 * MOST_RESOURCES // MOST_PER_EXCHANGE):
        asked |= {each.resource for each in worker.book.outgoing(clock.monotonic()).leases}
        worker.book.lost(was_sent=False)
        clock.advance(0.1)
    assert asked == {f"r{number}" for number in range(10, MOST_RESOURCES + 10)}


@pytest.mark.parametrize("is_told", [False, True])
def test_invented_names_bring_back_nothing_that_was_spent(team, clock, ledger, is_told):
    (worker,) = team(1)
    spent = spend_all(worker, BUDGET)
    while is_told and spent < BUDGET.limit:
        worker.exchange()
        clock.advance(1)
        spent += spend_all(worker, BUDGET)
    for number in range(2 * MOST_RESOURCES):
        worker.book.left(Resource(f"r{number}", 100))
    assert worker.book.left(BUDGET) == 0
    for _ in range(2 * MOST_RESOURCES // MOST_PER_EXCHANGE):
        worker.exchange()
    assert ledger.used(BUDGET) == spent


def test_a_full_book_keeps_what_was_spent_and_answers_for_the_rest(team, clock):
    (worker,) = team(1)
    for number in range(MOST_RESOURCES):
        worker.book.spend(Resource(f"r{number}", 100), 1)
    assert worker.book.left(BUDGET) == BUDGET.limit
    reservation = worker.book.reserve(BUDGET, 10)
    worker.book.release(reservation)
    for _ in range(MOST_RESOURCES // MOST_PER_EXCHANGE):
        worker.exchange()
    clock.advance(LEFT_ALONE_S - 1)
    worker.book.left(Resource("r0", 100))
    worker.book.reserve(BUDGET, BUDGET.limit)
    assert worker.book.left(BUDGET) == BUDGET.limit
    clock.advance(1)
    worker.exchange()
    worker.book.reserve(BUDGET, BUDGET.limit)
    assert worker.book.left(BUDGET) == 0


def test_a_window_that_has_passed_makes_room(team, clock):
    (worker,) = team(1)
    for number in range(MOST_RESOURCES):
        worker.book.spend(replace(RPM, name=f"r{number}"), 1)
    for wait_s in (RPM.window_s * 13 / 12, 0):
        for _ in range(MOST_RESOURCES // MOST_PER_EXCHANGE):
            worker.exchange()
        clock.advance(wait_s)
    worker.book.spend(BUDGET, BUDGET.limit)
    assert worker.book.left(BUDGET) == 0


@pytest.mark.parametrize(
    ("limit", "window_s"),
    [(-1, None), (10**14 + 1, None), (1, 0.0), (1, float("inf")), (1, float("nan"))],
)
def test_a_resource_says_what_it_expects(limit, window_s):
    with pytest.raises(ValueError, match="expected a"):
        Resource("r", limit, window_s)


def test_a_reservation_is_never_negative(team):
    (worker,) = team(1)
    with pytest.raises(ValueError, match="expected 0 units or more"):
        worker.book.reserve(RPM, -1)


STEPS = st.one_of(
    st.tuples(st.just("spend"), st.integers(0, 3), st.integers(1, 40)),
    st.tuples(st.just("spend"), st.integers(0, 3), st.integers(41, 1_000)),
    st.tuples(st.just("settle"), st.integers(0, 3), st.integers(0, 40)),
    st.tuples(st.just("ask"), st.integers(0, 3), st.sampled_from(["answered", "unanswered", "unsent"])),
    st.tuples(st.just("hear"), st.integers(0, 3), st.none()),
    st.tuples(
        st.just("exchange"), st.integers(0, 3), st.sampled_from(["answered", "answered", "unanswered"])
    ),
    st.tuples(st.just("burst"), st.integers(0, 3), st.none()),
    st.tuples(st.just("die"), st.integers(0, 3), st.none()),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 1.0, 5.0, 20.0]), st.none()),
)


class Fleet:
    """Four workers over one ledger; it knows what was really spent and when."""

    def __init__(self, resource):
        self.clock = FakeClock()
        self.ledger = Ledger(self.clock)
        self.resource = resource
        self.names = 4
        self.workers = [self.worker(f"w{place}") for place in range(4)]
        self.spent = []
        self.open = [[], [], [], []]
        self.gone = 0
        self.largest = -(-resource.limit // FIRST_SHARE)

    def worker(self, name):
        return Worker(name, self.ledger, self.clock, 4)

    def step(self, action, who, what):
        match action:
            case "wait":
                self._wait(who)
            case "die":
                self.workers[who] = self.worker(f"w{self.names}")
                self.names += 1
                self.gone += 1
                self.open[who] = []
            case "settle" if self.open[who]:
                reservation, _ = self.open[who].pop()
                self.workers[who].book.settle(reservation, min(what, reservation.units))
                self.spent.append((self.clock.monotonic(), min(what, reservation.units) - reservation.units))
            case "spend":
                self._spend(who, what)
            case "burst":
                while self._spend(who, 1):
                    pass
            case "ask":
                self.workers[who].hear()
                self.workers[who].ask(what)
            case "hear":
                self.workers[who].hear()
            case "exchange":
                self.workers[who].exchange(what)
        self.largest = max([self.largest, *(each.most_held for each in self.workers)])

    def total(self):
        oldest_s = self.clock.monotonic() - (self.resource.window_s or float("inf"))
        return sum(units for at_s, units in self.spent if at_s > oldest_s)

    def _spend(self, who, units):
        reservation = self.workers[who].book.reserve(self.resource, units)
        if reservation:
            self.spent.append((self.clock.monotonic(), units))
            self.open[who].append((reservation, units))
            self.largest = max(self.largest, units)
        return reservation

    def _wait(self, seconds):
        """Time passes, and nobody is without an answer for long: a worker that is, is told of below."""
        while seconds > 0:
            self.clock.advance(min(seconds, 1.0))
            seconds -= 1.0
            for worker in self.workers:
                worker.exchange()


@pytest.mark.parametrize("resource", [BUDGET, RPM], ids=["for-ever", "window"])
@settings(deadline=None, max_examples=300)
@given(steps=st.lists(STEPS, max_size=60))
def test_workers_never_spend_more_than_the_limit_and_a_lease_or_request_each(resource, steps):
    fleet = Fleet(resource)
    for step in steps:
        fleet.step(*step)
        everyone = 4 + fleet.gone
        assert fleet.total() <= resource.limit + everyone * fleet.largest


@settings(deadline=None, max_examples=100)
@given(st.lists(STEPS, max_size=60))
def test_nothing_leaks_when_everything_is_released(steps):
    fleet = Fleet(BUDGET)
    for action, who, what in steps:
        if action != "die":
            fleet.step(action, who, what)
    for place in range(4):
        while fleet.open[place]:
            fleet.step("settle", place, 0)
    fleet.step("wait", REMEMBERED_S + 2.0, None)
    assert fleet.ledger.used(BUDGET) == fleet.total()
    assert fleet.ledger.held(BUDGET) == 0


class Newcomer:
    """A worker of a fleet that counts itself, as workers do: roster and book in one exchange."""

    def __init__(self, name, exchange, clock, resource):
        self.roster = Roster(name)
        self.book = LeaseBook(self.roster.count, clock.monotonic)
        self.resource = resource
        self.spent = 0
        self.largest = math.ceil(resource.limit / FIRST_SHARE)
        self._name, self._exchange, self._clock = name, exchange, clock
        self._sequence = 0

    async def tell(self):
        now_s = self._clock.monotonic()
        told = merged([self.roster.outgoing(now_s), self.book.outgoing(now_s)])
        reply = await self._exchange.exchange(Batch(self._name, self._sequence + 1, told, self._sequence))
        self._sequence += 1
        self.largest = max([self.largest, *(lease.granted for lease in reply.leases.values())])
        for part in (self.roster, self.book):
            part.incoming(reply, now_s)

    def spend(self, most):
        self.book.left(self.resource)
        for _ in range(most):
            if self.book.reserve(self.resource, 1) is None:
                return
            self.spent += 1


@pytest.mark.parametrize("workers", [4, 8, 16])
@pytest.mark.parametrize("flood_at", [0, 1, 5, 10, 19, 21, 30])
async def test_a_fleet_that_starts_in_a_flood_keeps_the_bound(workers, flood_at):
    """Workers begin within one second of each other; the flood begins `flood_at` twentieths of a second after the first."""
    clock, resource = FakeClock(), Resource("rpm:d1", 600, 60.0)
    exchange = MemoryExchange(clock.monotonic)
    fleet = [Newcomer(f"w{number}", exchange, clock, resource) for number in range(workers)]
    for tick in range(20 * 8):
        for number, each in enumerate(fleet):
            if tick % 20 == number * 20 // workers:
                await each.tell()
            each.spend(400 if tick >= flood_at else 0)
        clock.advance(0.05)
    assert sum(each.spent for each in fleet) <= resource.limit + sum(each.largest for each in fleet)
