"""Stalls: what an event loop that stood still excuses, and what it does not."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from litellm_plugin.routing import AttemptStatus
from litellm_plugin.routing.health import HEALTHY
from litellm_plugin.state import BreakerPolicy, Breakers, LoopWatch, Outcome
from litellm_plugin.testing import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def watch(clock):
    watch = LoopWatch(clock.monotonic)
    watch.beat()
    return watch


def beats(clock, watch, times=8):
    for _ in range(times):
        clock.advance(0.25)
        watch.beat()


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(AttemptStatus.TIMEOUT, id="C37-timeout"),
        pytest.param(AttemptStatus.CONNECTION_ERROR, id="C37-connection"),
    ],
)
def test_a_stall_excuses_what_it_may_have_caused(clock, watch, status):
    began_s = clock.monotonic()
    clock.advance(2)
    assert watch.excuses(status, began_s)
    watch.beat()
    beats(clock, watch)
    assert watch.excuses(status, began_s)


@pytest.mark.parametrize(
    "status", sorted(set(AttemptStatus) - {AttemptStatus.TIMEOUT, AttemptStatus.CONNECTION_ERROR})
)
def test_a_stall_excuses_nothing_that_a_provider_said(clock, watch, status):
    began_s = clock.monotonic()
    clock.advance(2)
    assert not watch.excuses(status, began_s)


def test_a_loop_that_turns_excuses_nothing(clock, watch):
    began_s = clock.monotonic()
    beats(clock, watch, 100)
    assert not watch.excuses(AttemptStatus.TIMEOUT, began_s)


def test_an_attempt_after_a_stall_is_not_excused(clock, watch):
    clock.advance(2)
    watch.beat()
    began_s = clock.monotonic()
    beats(clock, watch)
    assert not watch.excuses(AttemptStatus.TIMEOUT, began_s)


def test_a_watch_that_nobody_beats_excuses_nothing(clock, watch):
    assert not LoopWatch(clock.monotonic).excuses(AttemptStatus.TIMEOUT, 0.0)
    clock.advance(61)
    assert not watch.excuses(AttemptStatus.TIMEOUT, clock.monotonic() - 1)


@pytest.mark.parametrize("stall_s", [pytest.param(2.0, id="C37")])
def test_no_breaker_trips_while_a_loop_stands_still(stall_s):
    async def stalled():
        watch = LoopWatch(time.monotonic)
        breakers = Breakers(BreakerPolicy())
        beating = asyncio.create_task(watch.keep_beating())
        await asyncio.sleep(0)
        began_s = time.monotonic()
        attempts = [asyncio.create_task(asyncio.wait_for(asyncio.sleep(3600), 0.01)) for _ in range(20)]
        await asyncio.sleep(0)
        time.sleep(stall_s)  # noqa: ASYNC251 - the stall is the case
        for each in attempts:
            with pytest.raises(TimeoutError):
                await each
            is_excused = watch.excuses(AttemptStatus.TIMEOUT, began_s)
            breakers.record(Outcome("d", AttemptStatus.TIMEOUT, is_excused=is_excused), time.time())
        beating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beating
        return breakers.health(time.time()).get("d", HEALTHY)

    assert asyncio.run(stalled()) == HEALTHY
