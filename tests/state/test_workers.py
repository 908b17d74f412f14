from __future__ import annotations

import asyncio

import pytest

from litellm_plugin.state import MemoryExchange, Workers
from litellm_plugin.state.exchange import Batch, Reply
from litellm_plugin.state.workers import MOST_WORKERS, SLICE_S


class Clock:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def fleet(clock):
    exchange = MemoryExchange(clock)

    def meet(*workers):
        for number, each in enumerate(workers):
            batch = Batch(f"w{number}", 1, each.outgoing(clock()))
            each.incoming(asyncio.run(exchange.exchange(batch)), clock())

    return meet


def test_a_worker_knows_itself_before_it_heard_of_others():
    assert Workers("a").known() == 1


def test_workers_count_each_other(fleet):
    a, b = Workers("a"), Workers("b")
    fleet(a, b)
    fleet(a, b)
    assert (a.known(), b.known()) == (2, 2)


def test_a_worker_that_is_silent_is_forgotten(fleet, clock):
    a, b = Workers("a"), Workers("b")
    fleet(a, b)
    clock.now_s += 2 * SLICE_S
    fleet(a)
    assert a.known() == 1


def test_a_lost_exchange_keeps_what_was_known(fleet):
    a, b = Workers("a"), Workers("b")
    fleet(a, b)
    fleet(a, b)
    a.lost(was_sent=False)
    assert a.known() == 2


def test_c14_absurd_numbers_of_workers_are_clamped(clock):
    worker = Workers("a")
    key = worker.outgoing(clock()).reads[0]
    many = {f"w{number}": "1" for number in range(MOST_WORKERS + 5)}
    worker.incoming(Reply(clock(), {key: many}, {}), clock())
    assert worker.known() == MOST_WORKERS
