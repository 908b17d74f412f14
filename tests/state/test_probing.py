"""Probing: who is asked next, and that all workers together keep the number."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_plugin.errors import StoreUnavailable
from litellm_plugin.state import Probing, ProbingPolicy, Turn, TurnCause, TurnEnd
from litellm_plugin.state.exchange import Batch
from litellm_plugin.state.memory_exchange import MemoryExchange
from litellm_plugin.state.probing import LEASE_S, REST_S, next_turn
from litellm_plugin.testing import FakeClock

EVERY_S = 60.0
POLICY = ProbingPolicy(every_s=EVERY_S, requests_per_hour=100)
DONE = TurnEnd("success", 10.0, 20.0)
LOST = [pytest.param("before", id="C01 down"), pytest.param("after", id="C02 killed before it answered")]


def choose(silences_s, half_open=(), may_ask=lambda _: True, draw=lambda: 0.0):
    return next_turn(silences_s, half_open, EVERY_S, may_ask, draw)


class TestChoice:
    def test_nobody_is_asked_who_was_measured_of_late(self):
        assert choose({"a": 59.9, "b": 0.0}) is None

    def test_the_one_that_is_silent_for_longest_is_asked(self):
        assert choose({"a": 61.0, "b": 500.0, "c": 90.0}) == Turn("b", TurnCause.SILENT)

    def test_a_half_open_one_comes_first_however_short_its_silence(self):
        assert choose({"a": 500.0, "b": 1.0}, half_open={"b"}) == Turn("b", TurnCause.HALF_OPEN)

    def test_one_that_has_no_room_is_left_out(self):
        assert choose({"a": 500.0, "b": 70.0}, may_ask=lambda name: name != "a") == Turn(
            "b", TurnCause.SILENT
        )

    def test_equal_ones_are_in_the_order_of_chance(self):
        draws = itertools.cycle([0.3, 0.9, 0.1, 0.2, 0.8, 0.7])
        chosen = {
            choose(dict.fromkeys("abc", 70.0), draw=lambda: next(draws)).deployment_id for _ in range(2)
        }
        assert chosen == {"c", "a"}

    def test_whether_one_has_room_is_looked_up_for_no_more_than_needed(self):
        seen = []
        choose(dict.fromkeys(map(str, range(100)), 70.0), may_ask=lambda name: not seen.append(name))
        assert len(seen) == 1

    @given(
        st.dictionaries(st.text(max_size=3), st.floats(0, 1e6)),
        st.sets(st.text(max_size=3)),
        st.sets(st.text(max_size=3)),
        st.floats(0, 1, exclude_max=True),
    )
    def test_who_is_asked_is_due_and_has_room(self, silences_s, half_open, shut, chance):
        turn = choose(silences_s, half_open, lambda name: name not in shut, lambda: chance)
        due = {name for name, silence_s in silences_s.items() if silence_s >= EVERY_S or name in half_open}
        if turn is None:
            assert due <= shut
        else:
            assert turn.deployment_id in due - shut
            assert (turn.cause is TurnCause.HALF_OPEN) == (turn.deployment_id in half_open)


class Worker:
    """One worker that takes every turn it is granted, unless a test says otherwise."""

    def __init__(self, name, exchange, policy=POLICY, deployments=("d1",)):
        self.clock = FakeClock()
        self.measured_at_s = {}
        self.half_open = set()
        self.shut = set()
        self.asked = []
        self.under_way = None
        self.probing = Probing(
            self.measured_at_s.get,
            lambda: self.half_open,
            lambda name: name not in self.shut,
            self.clock.monotonic,
            lambda: 0.5,
        )
        self.probing.use(policy)
        self.probing.declare(deployments)
        self._name = name
        self._exchange = exchange
        self._sequence = itertools.count(1)
        self._answered = 0

    def wait(self, seconds=EVERY_S):
        self.clock.advance(seconds)
        return self

    async def exchange(self):
        batch = Batch(self._name, next(self._sequence), self.probing.outgoing(0.0), self._answered)
        try:
            reply = await self._exchange.exchange(batch)
        except StoreUnavailable as error:
            self.probing.lost(was_sent=error.was_sent)
            return
        self._answered = batch.sequence
        self.probing.incoming(reply, 0.0)

    def take(self):
        turn = self.probing.granted
        if turn is not None:
            self.probing.begin(turn)
            self.asked.append(turn)
            self.under_way = turn
        return turn

    def end(self, end=DONE):
        turn, self.under_way = self.under_way, None
        self.probing.end(turn, end)
        if end.tells:
            self.measured_at_s[turn.deployment_id] = self.clock.monotonic()

    async def ask(self):
        """One period in which a turn that is granted is taken and ends."""
        await self.exchange()
        if self.take():
            self.end()

    @property
    def report(self):
        return self.probing.report()


def fleet(exchange, workers=3, **options):
    return [Worker(f"w{number}", exchange, **options) for number in range(workers)]


async def test_one_that_is_silent_is_asked_once_and_then_left_alone(exchange):
    worker = Worker("w", exchange).wait()
    for _ in range(5):
        await worker.ask()
    assert worker.asked == [Turn("d1", TurnCause.SILENT)]


async def test_nobody_is_asked_before_this_worker_listened_for_long_enough(exchange):
    worker = Worker("w", exchange).wait(EVERY_S - 1)
    await worker.ask()
    assert worker.asked == []
    assert worker.report["next_in_s"] == 1.0


async def test_what_any_worker_measured_puts_it_off(exchange):
    worker = Worker("w", exchange).wait()
    worker.measured_at_s["d1"] = worker.clock.monotonic() - 10.0
    await worker.ask()
    assert worker.asked == []
    worker.measured_at_s.clear()  # the statistics forget
    await worker.wait(EVERY_S - 11).ask()
    assert worker.asked == []
    await worker.wait(1).ask()
    assert len(worker.asked) == 1


async def test_a_measurement_that_comes_after_the_grant_takes_the_turn_away(exchange):
    worker = Worker("w", exchange).wait()
    await worker.exchange()
    worker.measured_at_s["d1"] = worker.clock.monotonic()
    assert worker.probing.granted is None


async def test_of_all_workers_one_asks_a_deployment(exchange):
    workers = [each.wait() for each in fleet(exchange)]
    for _ in range(4):
        for each in workers:
            await each.exchange()
        for each in workers:
            each.take()
    assert sum(len(each.asked) for each in workers) == 1


async def test_one_worker_asks_one_deployment_at_a_time(exchange):
    worker = Worker("w", exchange, deployments=("d1", "d2")).wait()
    await worker.exchange()
    worker.take()
    await worker.exchange()
    assert worker.probing.granted is None
    worker.end()
    await worker.ask()
    assert {each.deployment_id for each in worker.asked} == {"d1", "d2"}


@pytest.mark.parametrize("workers", [1, 4])
async def test_all_workers_together_keep_the_hours_number(exchange, workers):
    names = [f"d{number}" for number in range(40)]
    policy = ProbingPolicy(every_s=EVERY_S, requests_per_hour=7)
    asking = [each.wait() for each in fleet(exchange, workers, policy=policy, deployments=names)]
    for _ in range(90):
        for each in asking:
            await each.exchange()
        for each in asking:
            each.take()
        for each in asking:
            if each.under_way:
                each.end()
            each.clock.advance(1.0)
    asked = Counter(turn.deployment_id for each in asking for turn in each.asked)
    assert sum(asked.values()) == 7
    assert max(asked.values()) == 1
    assert asking[0].report["requests_left"] == 0


async def test_who_finds_the_number_spent_rests(exchange):
    policy = ProbingPolicy(every_s=EVERY_S, requests_per_hour=1)
    worker = Worker("w", exchange, policy=policy, deployments=("d1", "d2")).wait()
    await worker.ask()
    await worker.exchange()
    await worker.exchange()
    assert len(worker.asked) == 1
    assert 0 < worker.report["next_in_s"] <= REST_S


async def test_a_half_open_one_is_asked_again_and_again_until_it_closes(exchange):
    worker = Worker("w", exchange)
    worker.half_open = {"d1"}
    for _ in range(3):
        await worker.ask()
    assert worker.asked == [Turn("d1", TurnCause.HALF_OPEN)] * 3


async def test_a_half_open_one_is_asked_by_one_worker_at_a_time(exchange):
    workers = fleet(exchange, 2)
    for each in workers:
        each.half_open = {"d1"}
        await each.exchange()
        each.take()
    for each in workers:
        await each.exchange()
        each.take()
    assert sum(each.under_way is not None for each in workers) == 1
    first, second = sorted(workers, key=lambda each: each.under_way is None)
    first.end()
    first.half_open = set()
    await first.exchange()
    second.wait(EVERY_S / 10)
    await second.exchange()
    assert second.take() is not None


async def test_what_told_nothing_is_left_alone_although_it_is_half_open(exchange):
    worker = Worker("w", exchange)
    worker.half_open = {"d1"}
    await worker.exchange()
    worker.take()
    worker.end(TurnEnd("refused", tells=False))
    await worker.ask()
    assert len(worker.asked) == 1
    await worker.wait().ask()
    assert len(worker.asked) == 2


async def test_a_turn_that_is_put_off_costs_nothing(exchange):
    worker = Worker("w", exchange).wait()
    await worker.exchange()
    worker.probing.put_off(worker.probing.granted)
    await worker.exchange()
    assert worker.report["requests_left"] == POLICY.requests_per_hour
    assert worker.asked == []
    await worker.wait(EVERY_S / 10).ask()
    assert len(worker.asked) == 1


async def test_a_turn_that_nobody_takes_goes_to_another_worker(exchange):
    idle, other = (each.wait() for each in fleet(exchange, 2))
    await idle.exchange()
    await other.exchange()
    assert (idle.probing.granted is None, other.probing.granted is None) == (False, True)
    idle.wait(LEASE_S + 0.1)
    await idle.exchange()
    await other.wait(EVERY_S / 10).ask()
    assert len(other.asked) == 1


async def test_without_rules_nobody_is_asked_and_nothing_is_sent(exchange):
    worker = Worker("w", exchange, policy=None).wait()
    assert worker.probing.outgoing(0.0).leases == ()
    await worker.ask()
    assert worker.asked == []
    assert not worker.probing.is_on


async def test_rules_that_go_take_a_granted_turn_with_them(exchange):
    worker = Worker("w", exchange).wait()
    await worker.exchange()
    worker.probing.use(None)
    assert worker.probing.granted is None


async def test_one_that_is_declared_no_more_is_not_asked(exchange):
    worker = Worker("w", exchange).wait()
    await worker.exchange()
    worker.probing.declare(())
    assert worker.probing.granted is None
    await worker.ask()
    assert worker.asked == []


async def test_the_report_tells_how_a_turn_ended(exchange):
    worker = Worker("w", exchange).wait()
    await worker.exchange()
    worker.take()
    assert worker.report["under_way"] == "d1"
    worker.end()
    await worker.exchange()
    report = worker.report
    assert report["asked"] == {"silent": 1}
    assert report["requests_left"] == POLICY.requests_per_hour - 1
    assert report["last"]["d1"] == {
        "cause": "silent",
        "ended": "success",
        "first_token_ms": 10.0,
        "total_ms": 20.0,
        "age_s": 0.0,
    }


class Lossy:
    """An exchange of which a test says what is lost, before or after the store took it."""

    def __init__(self):
        self.now_s = 1_700_000_000.0
        self.inner = MemoryExchange(lambda: self.now_s)
        self.fault = None

    async def exchange(self, batch):
        if self.fault == "before":
            raise StoreUnavailable("gone", was_sent=False)
        reply = await self.inner.exchange(batch)
        if self.fault == "after":
            raise StoreUnavailable("gone", was_sent=True)
        return reply


@pytest.mark.parametrize("fault", LOST)
async def test_without_the_store_nobody_is_asked(fault):
    lossy = Lossy()
    worker = Worker("w", lossy).wait()
    lossy.fault = fault
    for _ in range(3):
        await worker.ask()
    assert worker.asked == []
    lossy.fault = None
    await worker.ask()
    assert len(worker.asked) == 1


@pytest.mark.parametrize("fault", LOST)
async def test_what_was_asked_counts_once_whatever_became_of_the_telling(fault):
    lossy = Lossy()
    worker = Worker("w", lossy).wait()
    await worker.exchange()
    worker.take()
    lossy.fault = fault
    await worker.exchange()
    await worker.exchange()
    lossy.fault = None
    worker.end()
    await worker.exchange()
    await worker.exchange()
    assert worker.report["requests_left"] == POLICY.requests_per_hour - 1


@pytest.mark.parametrize("has_begun", [False, True])
async def test_a_worker_that_dies_wedges_nothing(has_begun):
    lossy = Lossy()
    dead, alive = fleet(lossy, 2, policy=ProbingPolicy(every_s=EVERY_S, requests_per_hour=1))
    dead.wait()
    await dead.exchange()
    if has_begun:
        dead.take()
    alive.wait()
    await alive.ask()
    assert alive.asked == []
    lossy.now_s += LEASE_S + 1
    await alive.wait(EVERY_S / 10 + REST_S).ask()
    assert len(alive.asked) == 1


async def test_an_hour_later_there_is_room_again():
    lossy = Lossy()
    names = ("d1", "d2")
    worker = Worker("w", lossy, policy=ProbingPolicy(requests_per_hour=1), deployments=names).wait()
    await worker.ask()
    await worker.exchange()
    for _ in range(14):
        lossy.now_s += 300
        worker.wait(300)
        await worker.ask()
    assert len(worker.asked) == 2
