"""C13: the line before the store, with operations that answer, refuse and keep silent as the test wants."""

from __future__ import annotations

import asyncio

import pytest

from litellm_plugin.errors import StoreUnavailable
from litellm_plugin.state.store_line import AT_ONCE, LEAST_TRIES, MOST_SILENT, MOST_TRIES, StoreLine

SILENT_S = 0.01
ALWAYS = range(1, 1_000_000)


class Server:
    """Answers each operation after a time, but some of them not at all, or with a refusal.

    Attributes:
        asked: How often it was asked; the first time is 1.
        most_at_once: The most operations that were under way together.
    """

    def __init__(self, takes_s=0.0, silent=(), refused=()):
        self.takes_s = takes_s
        self.silent = silent
        self.refused = refused
        self.asked = 0
        self.most_at_once = 0
        self._under_way = 0

    async def operation(self):
        self.asked += 1
        number = self.asked
        self._under_way += 1
        self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            await asyncio.sleep(SILENT_S if number in self.silent else self.takes_s)
        finally:
            self._under_way -= 1
        if number in self.refused:
            raise StoreUnavailable("refused")
        if number in self.silent:
            raise StoreUnavailable("silent", is_silent=True)
        return number


def crowd(server, count, line=None):
    line = line or StoreLine()
    return asyncio.gather(*(line.ask(server.operation) for _ in range(count)), return_exceptions=True)


def errors(ends):
    return [str(end) for end in ends if isinstance(end, Exception)]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """As many tries as there may be, whatever the machine does meanwhile."""
    monkeypatch.setattr("litellm_plugin.state.store_line.PAUSE_S", 0.001)
    monkeypatch.setattr("litellm_plugin.state.store_line.AGAIN_WITHIN_S", 60.0)


async def test_few_ask_at_once_and_all_are_answered():
    server = Server(takes_s=0.001)
    assert sorted(await crowd(server, 100)) == list(range(1, 101))
    assert server.most_at_once == AT_ONCE


async def test_one_silence_is_asked_again():
    server = Server(silent={1})
    assert await StoreLine().ask(server.operation) == 2


async def test_a_silence_in_a_burst_refuses_nobody():
    server = Server(takes_s=0.001, silent=range(3, 9))
    assert errors(await crowd(server, 200)) == []


async def test_a_silence_that_lasts_is_asked_four_times():
    server = Server(silent=ALWAYS)
    with pytest.raises(StoreUnavailable, match="silent") as lost:
        await StoreLine().ask(server.operation)
    assert lost.value.is_silent
    assert server.asked == MOST_TRIES


async def test_a_silence_that_used_up_the_time_is_asked_twice_more(monkeypatch):
    """Where the machine did not run this thread for longer than the whole time."""
    monkeypatch.setattr("litellm_plugin.state.store_line.AGAIN_WITHIN_S", 0.0)
    server = Server(silent=ALWAYS)
    with pytest.raises(StoreUnavailable):
        await StoreLine().ask(server.operation)
    assert server.asked == LEAST_TRIES == 3


async def test_a_refusal_is_not_asked_again():
    server = Server(refused={1})
    with pytest.raises(StoreUnavailable, match="refused"):
        await StoreLine().ask(server.operation)
    assert server.asked == 1


async def test_a_store_that_refuses_one_is_asked_by_the_others():
    """A key of another type is one permit's matter."""
    server = Server(refused=range(1, 101))
    assert errors(await crowd(server, 100)) == ["refused"] * 100
    assert server.asked == 100


async def test_a_silent_store_is_asked_by_those_in_front_and_the_others_end_with_them():
    server = Server(silent=ALWAYS)
    ends = errors(await crowd(server, 100))
    asked = ends.count("silent")
    assert MOST_SILENT <= asked < MOST_SILENT + AT_ONCE
    assert server.asked == asked * MOST_TRIES
    assert ends.count("silent to others") == 100 - asked


async def test_a_store_that_falls_silent_is_asked_no_more_by_those_who_saw_it_answer():
    server = Server(takes_s=0.001, silent=range(101, 1_000_000))
    ends = errors(await crowd(server, 1000))
    assert len(ends) == 900
    assert server.asked <= 100 + (MOST_SILENT + AT_ONCE) * MOST_TRIES


async def test_who_was_refused_in_line_sent_nothing():
    ends = await crowd(Server(silent=ALWAYS), 100)
    assert all(end.was_sent == (str(end) == "silent") for end in ends)


async def test_a_refusal_says_that_the_store_is_there():
    """Silences that a refusal comes between are not in a row."""
    server = Server(silent=ALWAYS, refused=range(1, 1_000_000, 5))
    assert "silent to others" not in errors(await crowd(server, 100))


async def test_who_comes_after_a_silence_asks_again():
    line, server = StoreLine(), Server(silent=ALWAYS)
    await crowd(server, 100, line)
    server.silent = ()
    assert errors(await crowd(server, 100, line)) == []


async def test_an_operation_that_does_not_end_by_itself_is_ended(monkeypatch):
    monkeypatch.setattr("litellm_plugin.state.store_line.LONGEST_S", 0.05)
    with pytest.raises(StoreUnavailable, match="no answer within") as lost:
        await StoreLine().ask(Server(takes_s=60).operation)
    assert lost.value.is_silent
    assert lost.value.was_sent


async def test_a_cancelled_operation_is_not_tried_again():
    """redis-py turns some cancellations into errors of its own."""
    asked = 0

    async def silent():
        nonlocal asked
        asked += 1
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise StoreUnavailable("silent", is_silent=True) from None

    task = asyncio.create_task(StoreLine().ask(silent))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asked == 1


async def test_a_line_that_a_slow_store_does_not_work_off_is_refused(monkeypatch):
    monkeypatch.setattr("litellm_plugin.state.store_line.LONGEST_LINE_S", 0.2)
    server = Server(takes_s=0.03)
    refused = errors(await crowd(server, 400))
    assert set(refused) == {"0.2 s in line for it"}
    assert server.asked + len(refused) == 400


async def test_a_cancelled_operation_gives_its_place_to_the_next():
    line, stuck = StoreLine(), Server(takes_s=60)
    tasks = [asyncio.create_task(line.ask(stuck.operation)) for _ in range(AT_ONCE + 5)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    assert {type(end) for end in await asyncio.gather(*tasks, return_exceptions=True)} == {
        asyncio.CancelledError
    }
    assert errors(await crowd(Server(), 20, line)) == []


def test_a_line_belongs_to_no_event_loop():
    """A guarded router may be used in one event loop after another."""
    line, server = StoreLine(), Server(takes_s=0.001)

    async def come():
        await crowd(server, 40, line)

    asyncio.run(come())
    asyncio.run(come())
    assert server.asked == 80
