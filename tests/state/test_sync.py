"""The synchroniser and the shared clock, over every exchange."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tally import Tally

from litellm_plugin.errors import StoreUnavailable
from litellm_plugin.state.exchange import Contribution, HashChange, LeaseRequest
from litellm_plugin.state.memory_exchange import MemoryExchange
from litellm_plugin.state.shared_clock import SharedClock
from litellm_plugin.state.sync import Synchroniser, merged

LOGGER = "LiteLLM Proxy.permit_router"
HOUR_S = 3600.0


class Gated:
    """Another exchange behind a gate: it answers, is lost, or waits until it is cancelled."""

    def __init__(self, inner):
        self._inner = inner
        self.fault = None
        self.waits = asyncio.Event()

    async def exchange(self, batch):
        if self.fault == "hang":
            self.waits.set()
            await asyncio.Event().wait()
        if self.fault is not None:
            raise self.fault
        return await self._inner.exchange(batch)

    async def aclose(self):
        await self._inner.aclose()


class Broken:
    """A part with a mistake in each place that one can be."""

    def __init__(self, place):
        self._place = place

    def outgoing(self, now_s):
        self._break("outgoing")
        return Contribution()

    def incoming(self, reply, now_s):
        self._break("incoming")

    def lost(self, *, was_sent):
        self._break("lost")

    def _break(self, place):
        if place == self._place:
            raise KeyError(place)


def synchroniser(*parts, exchange, worker="w1", clock=None):
    return Synchroniser(parts, exchange, worker, clock or SharedClock())


@pytest.fixture
def lines(caplog):
    """The lines of our logger from INFO on."""
    with caplog.at_level(logging.INFO, LOGGER):
        yield lambda: [record.message for record in caplog.records if record.name == LOGGER]


class TestRounds:
    async def test_what_one_worker_counts_all_know(self, exchange):
        ours, theirs = Tally(), Tally()
        for worker, part in (("w1", ours), ("w2", theirs)):
            part.count(3)
            assert await synchroniser(part, exchange=exchange, worker=worker).round()
        assert (ours.total, theirs.total) == (3, 6)

    async def test_a_round_tells_what_was_counted_since_the_last(self, exchange):
        part = Tally()
        worker = synchroniser(part, exchange=exchange)
        for _ in range(3):
            part.count(2)
            await worker.round()
        assert part.total == 6

    async def test_each_part_gets_the_whole_answer(self, exchange):
        parts = [Tally("a"), Tally("b")]
        await synchroniser(*parts, exchange=exchange).round()
        assert [set(part.replies[0][0].hashes) for part in parts] == [{"a", "b"}] * 2

    async def test_leases_are_renewed_each_round(self, exchange):
        part = Tally(want=10, limit=15)
        worker = synchroniser(part, exchange=exchange)
        await worker.round()
        part.spent = 8
        await worker.round()
        assert (part.lease.granted, part.lease.used) == (7, 8)

    async def test_a_lost_round_is_told_to_each_part_and_leases_count_once(self, exchange):
        gated, part = Gated(exchange), Tally()
        worker = synchroniser(part, exchange=gated)
        part.count(5)
        part.spent = 4
        gated.fault = StoreUnavailable("gone", was_sent=False)
        assert not await worker.round()
        gated.fault = None
        assert await worker.round()
        assert (part.losses, part.total, part.lease.used) == ([False], 5, 4)

    @pytest.mark.parametrize("place", ["outgoing", "incoming", "lost"])
    async def test_a_part_that_raises_leaves_the_others_alone_and_is_logged_once(self, place, lines):
        gated, part = Gated(MemoryExchange()), Tally()
        worker = synchroniser(Broken(place), part, exchange=gated)
        for fault in (None, StoreUnavailable("gone"), None, StoreUnavailable("gone")):
            gated.fault = fault
            part.count()
            await worker.round()
        assert (part.total, len(part.losses), len(lines())) == (2, 2, 1)

    async def test_an_exchange_that_raises_something_else_counts_as_lost(self, lines):
        gated, part = Gated(MemoryExchange()), Tally()
        worker = synchroniser(part, exchange=gated)
        gated.fault = RuntimeError("mistake")
        assert [await worker.round() for _ in range(2)] == [False, False]
        assert (part.losses, len(lines())) == ([True, True], 1)

    async def test_c16_a_cancelled_round_is_lost_and_the_next_is_answered(self):
        gated, part = Gated(MemoryExchange()), Tally()
        worker = synchroniser(part, exchange=gated)
        gated.fault = "hang"
        task = asyncio.create_task(worker.round())
        await gated.waits.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gated.fault = None
        assert await worker.round()
        assert part.losses == [True]

    async def test_the_loop_goes_round_until_it_is_cancelled(self):
        gated, part = Gated(MemoryExchange()), Tally()
        worker = Synchroniser([part], gated, "w1", SharedClock(), period_s=0.001)
        gated.fault = StoreUnavailable("gone")
        task = asyncio.create_task(worker.run())
        async with asyncio.timeout(30):
            while len(part.losses) < 5:  # noqa: ASYNC110 - the loop tells nobody
                await asyncio.sleep(0.001)
            gated.fault = None
            while len(part.replies) < 5:  # noqa: ASYNC110 - the loop tells nobody
                await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    @pytest.mark.parametrize(("drawn", "pause_s"), [(0.0, 0.9), (0.5, 1.0), (1.0, 1.1)])
    def test_the_pause_is_jittered_by_a_tenth(self, drawn, pause_s):
        worker = Synchroniser([], MemoryExchange(), "w1", SharedClock(), draw=lambda: drawn)
        assert worker.pause_s() == pytest.approx(pause_s)


class TestLoss:
    async def test_a_store_that_is_lost_and_comes_back_is_logged_once_each(self, lines):
        gated = Gated(MemoryExchange())
        worker = synchroniser(Tally(), exchange=gated)
        for fault in [None] + [StoreUnavailable("gone")] * 20 + [None] * 20:
            gated.fault = fault
            await worker.round()
        lost, back = lines()
        assert "does not answer" in lost
        assert back == "The shared store answers again after 20 missed rounds"

    async def test_c37_one_missed_round_is_no_loss(self, lines):
        gated = Gated(MemoryExchange())
        worker = synchroniser(Tally(), exchange=gated)
        for fault in [None, StoreUnavailable("slow"), None] * 10:
            gated.fault = fault
            await worker.round()
        assert (lines(), worker.health()["missed"]) == ([], 10)

    async def test_health_tells_the_age_and_the_counts(self):
        now_s = 50.0
        gated = Gated(MemoryExchange())
        worker = synchroniser(Tally(), exchange=gated, clock=SharedClock(lambda: now_s))
        assert (worker.health()["answers"], worker.health()["age_s"]) == (False, None)
        await worker.round()
        now_s, gated.fault = 57.0, StoreUnavailable("gone")
        await worker.round()
        health = worker.health()
        assert (health["answers"], health["age_s"], health["rounds"]) == (False, 7.0, 2)
        assert (health["missed"], health["missed_in_a_row"], worker.is_lost) == (1, 1, False)


class TestMerging:
    def test_changes_of_one_key_become_one(self):
        first = HashChange("k", 5.0, {"a": 1, "b": 2}, {"x": "old"})
        second = HashChange("k", 9.0, {"b": 3}, {"x": "new"})
        both = merged([Contribution((first,)), Contribution((second,))])
        assert both.changes == (HashChange("k", 9.0, {"a": 1, "b": 5}, {"x": "new"}),)

    def test_a_key_is_read_once(self):
        assert merged([Contribution(reads=("a", "b")), Contribution(reads=("b", "c"))]).reads == (
            "a",
            "b",
            "c",
        )

    def test_a_resource_is_leased_once(self):
        first, second = (LeaseRequest("r", limit, 0, 1, ttl_s=1) for limit in (1, 2))
        both = [Contribution(leases=(request,)) for request in (first, second)]
        assert merged(both).leases == (first,)


class TestSharedClock:
    def test_before_the_first_answer_it_is_the_wall_clock_of_the_start(self):
        own_s = 5.0
        clock = SharedClock(lambda: own_s, lambda: 1000.0)
        own_s = 7.0
        assert clock.now_s() == 1002.0

    @pytest.mark.parametrize(
        "set_by_s",
        [pytest.param(HOUR_S, id="C12-C36-ahead"), pytest.param(-HOUR_S, id="C12-C36-back")],
    )
    def test_it_follows_when_the_stores_clock_is_set(self, set_by_s):
        own_s = 0.0
        clock = SharedClock(lambda: own_s, lambda: 1000.0)
        clock.observe(1000.0, asked_s=0.0, answered_s=0.0)
        own_s = 1.0
        clock.observe(1001.0 + set_by_s, asked_s=0.9, answered_s=1.0)
        assert clock.now_s() == pytest.approx(1001.0 + set_by_s, abs=0.1)
        assert clock.jumps == 1

    def test_the_first_answer_is_no_jump(self):
        clock = SharedClock(lambda: 0.0, lambda: 1000.0)
        clock.observe(1000.0 + HOUR_S, asked_s=0.0, answered_s=0.0)
        assert (clock.now_s(), clock.jumps) == (1000.0 + HOUR_S, 0)

    def test_c37_an_answer_that_waited_for_a_stalled_loop_moves_nothing(self):
        own_s = 0.0
        clock = SharedClock(lambda: own_s, lambda: 1000.0)
        clock.observe(1000.0, asked_s=0.0, answered_s=0.0)
        own_s = 10.0
        clock.observe(1008.0, asked_s=8.0, answered_s=10.0)
        assert clock.now_s() == 1010.0

    @given(
        ahead_s=st.floats(-1e6, 1e6),
        waits=st.lists(st.tuples(st.floats(0, 3), st.floats(0, 3)), min_size=1),
    )
    def test_it_differs_by_no_more_than_the_quickest_answer_took(self, ahead_s, waits):
        own_s = 0.0
        clock = SharedClock(lambda: own_s, lambda: 0.0)
        for there_s, back_s in waits:
            asked_s, own_s = own_s, own_s + there_s + back_s
            clock.observe(asked_s + there_s + ahead_s, asked_s, own_s)
        quickest_s = min(there_s + back_s for there_s, back_s in waits)
        assert abs(clock.now_s() - own_s - ahead_s) <= quickest_s + 1e-6


@pytest.mark.parametrize(
    "set_by_s", [pytest.param(HOUR_S, id="C12-C36-ahead"), pytest.param(-HOUR_S, id="C12-C36-back")]
)
async def test_workers_go_on_when_the_stores_clock_is_set(set_by_s):
    store_s = 1_800_000_000.0
    part = Tally(want=10, limit=100)
    worker = synchroniser(part, exchange=MemoryExchange(lambda: store_s))
    await worker.round()
    store_s += set_by_s
    for _ in range(2):
        part.count()
        assert await worker.round()
    assert part.lease.granted == 10
    assert part.replies[-1][1] == pytest.approx(store_s, abs=5.0)


async def test_c37_a_stalled_loop_costs_a_round_at_most(exchange, lines):
    worker = synchroniser(Tally(), exchange=exchange)
    await worker.round()
    task = asyncio.create_task(worker.round())
    await asyncio.sleep(0)
    time.sleep(0.3)  # noqa: ASYNC251 - the stall is the case
    with contextlib.suppress(StoreUnavailable):
        await task
    assert await worker.round()
    assert (lines(), worker.health()["missed"] <= 1) == ([], True)
