"""The store's event loop: a worker whose own loop is held up still hears the store, and it ends without a trace."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from litellm_plugin.errors import StoreUnavailable
from litellm_plugin.state import RedisExchange, RedisReplayStore, StoredRevocations, StoreLoop, connect
from litellm_plugin.state.exchange import Batch, Contribution, HashChange
from litellm_plugin.state.store_loop import THREAD_NAME, in_place

# Longer than a reply may take; the machine's other work must not decide what a turn is.
TURN_S = 0.12
TURNS = 40
TTL_S = 600.0


@pytest.fixture
async def store_loop():
    loop = StoreLoop()
    yield loop
    await loop.aclose()


async def amid_long_turns(work):
    """What comes of a coroutine while every turn of this loop takes longer than a reply may."""
    task = asyncio.create_task(work)
    for _ in range(TURNS):
        if task.done():
            break
        time.sleep(TURN_S)  # noqa: ASYNC251 - a loop that is held up is the case
        await asyncio.sleep(0)
    return await task


def threads():
    return [each for each in threading.enumerate() if each.name == THREAD_NAME]


async def talk(client, run, name):
    """One of each: a use of a permit, a batch, the revocations; gives whether all were answered."""
    uses = RedisReplayStore(client, f"{name}:", run=run)
    exchange = RedisExchange(client, f"{name}:", run=run)
    revocations = StoredRevocations(client, f"{name}:", run=run)
    change = HashChange("counts", 60.0, add={"a": 1})
    assert await amid_long_turns(uses.put_if_absent("permit", "use", TTL_S)) is None
    await amid_long_turns(uses.replace("permit", "other use", TTL_S))
    reply = await amid_long_turns(exchange.exchange(Batch("w", 1, Contribution((change,), ("counts",)))))
    assert reply.hashes == {"counts": {"a": "1"}}
    await amid_long_turns(revocations.read(time.time(), 0.0))
    return revocations.age_s(0.0) == 0.0


@pytest.mark.parametrize("name", [pytest.param("held-up", id="C37")])
async def test_a_held_up_worker_hears_the_store_in_time(valkey, store_loop, name):
    client = connect(valkey.url)
    try:
        assert await talk(client, store_loop.run, name)
    finally:
        await store_loop.run(client.aclose())


async def test_in_the_held_up_loop_itself_the_same_store_looks_lost(valkey):
    client = connect(valkey.url)
    try:
        exchange = RedisExchange(client, "control:", run=in_place)
        with pytest.raises(StoreUnavailable):
            await amid_long_turns(exchange.exchange(Batch("w", 1, Contribution())))
    finally:
        await client.aclose()


async def test_a_store_that_hangs_is_lost_in_time_all_the_same(own_valkey, store_loop):
    client = connect(own_valkey.url)
    uses = RedisReplayStore(client, run=store_loop.run)
    await uses.put_if_absent("permit", "use", TTL_S)
    own_valkey.hang()
    try:
        with pytest.raises(StoreUnavailable, match="Timeout"):
            await asyncio.wait_for(uses.put_if_absent("other", "use", TTL_S), 20)
    finally:
        own_valkey.go_on()
        await store_loop.run(client.aclose())


async def test_errors_and_results_come_back_as_they_are(store_loop):
    async def fails():
        raise LookupError("theirs")

    async def answers():
        return threading.current_thread().name

    with pytest.raises(LookupError, match="theirs"):
        await store_loop.run(fails())
    assert await store_loop.run(answers()) == THREAD_NAME


async def test_cancelling_the_caller_cancels_the_work(store_loop):
    begun, ended = threading.Event(), threading.Event()

    async def waits():
        begun.set()
        try:
            await asyncio.sleep(600)
        finally:
            ended.set()

    task = asyncio.create_task(store_loop.run(waits()))
    await asyncio.to_thread(begun.wait, 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(ended.wait, 20)


async def test_the_thread_begins_with_the_first_use_and_ends_with_its_work():
    before = len(threads())
    loop = StoreLoop()
    assert len(threads()) == before
    waiting = asyncio.create_task(loop.run(asyncio.sleep(600)))
    await loop.run(asyncio.sleep(0))
    assert len(threads()) == before + 1

    await loop.aclose()
    await loop.aclose()

    assert len(threads()) == before
    # Nobody cancelled the one who waits.
    with pytest.raises(ConnectionError, match="this worker ends"):
        await waiting


async def test_a_thread_that_does_not_turn_is_not_waited_for(store_loop, monkeypatch):
    monkeypatch.setattr("litellm_plugin.state.store_loop._STUCK_S", 0.2)
    going_on = threading.Event()
    stuck = asyncio.create_task(store_loop.run(held_up(going_on)))
    await asyncio.sleep(0)
    with pytest.raises(ConnectionError, match="did not turn"):
        await store_loop.run(asyncio.sleep(0))
    going_on.set()
    with pytest.raises(ConnectionError, match="did not turn"):
        await stuck


async def test_work_that_takes_long_is_waited_for_while_the_thread_turns(store_loop, monkeypatch):
    """A burst of claims waits in line for longer than it takes to see that the thread does nothing."""
    monkeypatch.setattr("litellm_plugin.state.store_loop._STUCK_S", 0.1)
    assert await store_loop.run(asyncio.sleep(0.5, result="done")) == "done"


async def held_up(going_on):
    going_on.wait(30)


async def test_a_process_that_was_forked_has_a_thread_of_its_own(store_loop, monkeypatch):
    await store_loop.run(asyncio.sleep(0))
    parents, thread, before = store_loop._loop, store_loop._thread, len(threads())
    with monkeypatch.context() as forked:
        forked.setattr("os.getpid", lambda: -1)
        await store_loop.run(asyncio.sleep(0))
        assert len(threads()) == before + 1
        await store_loop.aclose()
    assert thread.is_alive()
    parents.call_soon_threadsafe(parents.stop)
    await asyncio.to_thread(thread.join)
    parents.close()


async def test_a_process_that_was_forked_ends_without_the_thread_of_the_one_before_it(
    store_loop, monkeypatch
):
    await store_loop.run(asyncio.sleep(0))
    with monkeypatch.context() as forked:
        forked.setattr("os.getpid", lambda: -1)
        async with asyncio.timeout(5):
            await store_loop.aclose()
    assert store_loop._thread.is_alive()


async def test_what_comes_after_the_end_counts_as_a_lost_store(valkey):
    loop = StoreLoop()
    await loop.aclose()
    uses = RedisReplayStore(connect(valkey.url), run=loop.run)
    exchange = RedisExchange(connect(valkey.url), run=loop.run)
    with pytest.raises(StoreUnavailable, match="this worker ends"):
        await uses.put_if_absent("permit", "use", TTL_S)
    with pytest.raises(StoreUnavailable, match="this worker ends") as lost:
        await exchange.exchange(Batch("w", 1, Contribution()))
    assert not lost.value.was_sent
