"""What every exchange does, in one table over the backends."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from litellm_plugin.state.exchange import Batch, Contribution, HashChange, Lease, LeaseRequest
from litellm_plugin.state.memory_exchange import MOST_HASHES, MemoryExchange

LONG_S = 600.0


class Worker:
    """One worker before an exchange; its batches rise."""

    def __init__(self, exchange, name="w1"):
        self._exchange = exchange
        self._name = name
        self.sequence = 0

    async def send(self, *, changes=(), reads=(), leases=(), sequence=None, answered=None):
        self.sequence = sequence or self.sequence + 1
        contribution = Contribution(tuple(changes), tuple(reads), tuple(leases))
        return await self._exchange.exchange(Batch(self._name, self.sequence, contribution, answered))

    async def lease(self, want, *, spent=0, limit=100, sequence=None, answered=None, **terms):
        request = LeaseRequest("rpm:d1", limit, spent, want, terms.pop("ttl_s", LONG_S), **terms)
        reply = await self.send(leases=[request], sequence=sequence, answered=answered)
        return reply.leases["rpm:d1"]


def change(key="counts", lifetime_s=LONG_S, add=None, put=None):
    return HashChange(key, lifetime_s, add or {}, put or {})


async def read(exchange, key="counts"):
    return (await Worker(exchange, uuid.uuid4().hex).send(reads=[key])).hashes[key]


async def until(is_so, timeout_s=30.0):
    async with asyncio.timeout(timeout_s):
        while not await is_so():  # noqa: ASYNC110 - a store tells nobody what ends
            await asyncio.sleep(0.01)


class TestHashes:
    async def test_a_missing_hash_is_empty(self, exchange):
        reply = await Worker(exchange).send(reads=["nothing"])
        assert (reply.hashes, reply.skipped) == ({"nothing": {}}, 0)

    async def test_counts_of_all_workers_add_up(self, exchange):
        for name in ("w1", "w2", "w2"):
            await Worker(exchange, name).send(changes=[change(add={"a": 2, "b": -1})])
        assert await read(exchange) == {"a": "6", "b": "-3"}

    async def test_what_is_put_replaces_what_stood(self, exchange):
        for value in ("one", "zwölf"):
            await Worker(exchange).send(changes=[change(put={"name": value})])
        assert await read(exchange) == {"name": "zwölf"}

    async def test_a_batch_reads_what_it_changed(self, exchange):
        reply = await Worker(exchange).send(
            changes=[change(add={"a": 1}), change("other", put={"b": "x"})], reads=["counts", "other"]
        )
        assert reply.hashes == {"counts": {"a": "1"}, "other": {"b": "x"}}

    async def test_a_hash_ends_with_its_lifetime(self, exchange):
        await Worker(exchange).send(changes=[change(lifetime_s=0.02, add={"a": 1})])

        async def is_gone():
            return await read(exchange) == {}

        await until(is_gone)

    async def test_a_change_begins_the_lifetime_anew(self, exchange):
        await Worker(exchange).send(changes=[change(lifetime_s=LONG_S, add={"a": 1})])
        await Worker(exchange).send(changes=[change(lifetime_s=0.02)])

        async def is_gone():
            return await read(exchange) == {}

        await until(is_gone)

    @pytest.mark.parametrize(
        "value",
        [
            pytest.param("many", id="C06-word"),
            pytest.param("", id="C06-nothing"),
            pytest.param("1.5", id="C06-fraction"),
            pytest.param("nan", id="C06-nan"),
            pytest.param("007", id="C06-zeros"),
            pytest.param(" 1", id="C06-space"),
            pytest.param("9" * 40, id="C06-too-long"),
            pytest.param(str(2**63 - 1), id="C06-C14-overflow"),
        ],
    )
    async def test_a_field_that_is_no_number_begins_at_0(self, exchange, value):
        await Worker(exchange).send(changes=[change(put={"a": value, "b": "5"})])
        reply = await Worker(exchange).send(changes=[change(add={"a": 2, "b": 1})], reads=["counts"])
        assert (reply.hashes["counts"], reply.skipped) == ({"a": "2", "b": "6"}, 1)

    async def test_an_absurd_increment_is_clamped(self, exchange):
        reply = await Worker(exchange).send(changes=[change(add={"a": 10**30})], reads=["counts"])
        assert (reply.hashes["counts"], reply.skipped) == ({"a": str(2**53)}, 0)

    async def test_names_that_cannot_be_encoded_end_no_batch(self, exchange):
        reply = await Worker(exchange, "w\ud800").send(
            changes=[change("a\ud800", add={"b\ud800": 1}), change(add={"a": 1})],
            reads=["a\ud800", "counts"],
            leases=[LeaseRequest("r\ud800", 10, 0, 5, LONG_S)],
        )
        assert len(reply.hashes["a\ud800"]) == 1
        assert (reply.hashes["counts"], reply.leases["r\ud800"].granted) == ({"a": "1"}, 5)

    async def test_the_clock_goes_on(self, exchange):
        first, second = [(await Worker(exchange).send()).now_s for _ in range(2)]
        assert first <= second < first + 3600


class TestLeases:
    async def test_a_worker_gets_what_it_wants_below_the_limit(self, exchange):
        assert await Worker(exchange).lease(30) == Lease(granted=30, used=0, held=30)

    async def test_the_leases_of_all_stay_within_the_limit(self, exchange):
        granted = [(await Worker(exchange, f"w{number}").lease(40)).granted for number in range(4)]
        assert granted == [40, 40, 20, 0]

    async def test_what_is_spent_is_no_longer_granted(self, exchange):
        worker = Worker(exchange)
        await worker.lease(30)
        assert await worker.lease(90, spent=30) == Lease(granted=70, used=30, held=70)

    async def test_what_a_worker_held_is_given_back_first(self, exchange):
        worker = Worker(exchange)
        await worker.lease(90)
        await worker.lease(10)
        assert await Worker(exchange, "w2").lease(100) == Lease(granted=90, used=0, held=100)

    async def test_more_spent_than_the_limit_grants_nothing(self, exchange):
        assert await Worker(exchange).lease(10, spent=150) == Lease(granted=0, used=150, held=0)

    async def test_less_spent_than_told_returns(self, exchange):
        worker = Worker(exchange)
        await worker.lease(0, spent=50)
        assert (await worker.lease(100, spent=-20)).granted == 70

    async def test_a_smaller_limit_takes_nothing_back(self, exchange):
        await Worker(exchange).lease(80)
        assert await Worker(exchange, "w2").lease(10, limit=50) == Lease(granted=0, used=0, held=80)

    @pytest.mark.parametrize("sequence", [pytest.param(2, id="twice"), pytest.param(1, id="late")])
    async def test_a_batch_that_arrives_again_changes_nothing(self, exchange, sequence):
        worker = Worker(exchange)
        await worker.lease(10, spent=1)
        await worker.lease(20, spent=2)
        assert await worker.lease(50, spent=40, sequence=sequence) == Lease(granted=20, used=3, held=20)

    async def test_what_an_unanswered_batch_told_counts_once(self, exchange):
        worker = Worker(exchange)
        await worker.lease(10, spent=5, sequence=1, answered=0)
        await worker.lease(10, spent=12, sequence=2, answered=0)
        assert (await worker.lease(10, spent=1, sequence=3, answered=2)).used == 13

    async def test_what_a_lost_batch_did_not_tell_counts_with_the_next(self, exchange):
        worker = Worker(exchange)
        await worker.lease(10, spent=5, sequence=1, answered=0)
        assert (await worker.lease(10, spent=12, sequence=3, answered=1)).used == 17

    async def test_what_a_silent_worker_holds_returns(self, exchange):
        await Worker(exchange).lease(100, spent=3, ttl_s=0.02)

        async def has_returned():
            return (await Worker(exchange, uuid.uuid4().hex).lease(0, ttl_s=0.02)).held == 0

        await until(has_returned)
        assert (await Worker(exchange, "w2").lease(100)).granted == 97

    async def test_what_was_spent_before_the_window_counts_no_more(self, exchange):
        await Worker(exchange).lease(0, spent=60, window_s=0.12)

        async def is_over():
            return (await Worker(exchange, "w2").lease(0, window_s=0.12)).used == 0

        await until(is_over)

    async def test_without_a_window_what_was_spent_counts_on(self, exchange):
        await Worker(exchange).lease(0, spent=60)
        assert (await Worker(exchange, "w2").lease(100)).granted == 40

    async def test_absurd_units_are_clamped(self, exchange):
        lease = await Worker(exchange).lease(10**40, limit=10**40, spent=-(10**40))
        assert lease == Lease(granted=10**14, used=0, held=10**14)

    async def test_each_resource_has_a_limit_of_its_own(self, exchange):
        requests = [LeaseRequest(name, 10, 0, 8, LONG_S) for name in ("a", "b")]
        reply = await Worker(exchange).send(leases=requests)
        assert {name: lease.granted for name, lease in reply.leases.items()} == {"a": 8, "b": 8}

    async def test_workers_at_once_never_hold_more_than_the_limit(self, exchange):
        leases = await asyncio.gather(*(Worker(exchange, f"w{number}").lease(3) for number in range(200)))
        assert sum(lease.granted for lease in leases) == 100


async def test_the_memory_forgets_what_has_ended():
    now_s = 0.0
    exchange = MemoryExchange(lambda: now_s)
    for number in range(100):
        await Worker(exchange).send(changes=[change(f"key{number}", lifetime_s=5, add={"a": 1})])
    now_s = 100.0
    await Worker(exchange).send()
    assert len(exchange) == 0


async def test_memory_keeps_a_bounded_number_of_hashes_those_written_last():
    exchange = MemoryExchange()
    changes = tuple(change(f"key{number}", add={"a": 1}) for number in range(MOST_HASHES))
    again, new = change("key0", add={"a": 1}), change("new", add={"a": 1})
    reads = ("key0", "key1", "key2", "new")
    reply = await exchange.exchange(Batch("w", 1, Contribution((*changes, again, new), reads)))
    assert len(exchange) == MOST_HASHES
    assert [bool(reply.hashes[key]) for key in reads] == [True, False, True, True]
