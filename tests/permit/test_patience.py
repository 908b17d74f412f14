from __future__ import annotations

import asyncio
import time

import pytest

from litellm_plugin.permit.patience import patience

LIMIT_S = 0.05


async def test_it_ends_what_takes_longer():
    began_s = time.monotonic()
    with pytest.raises(TimeoutError):
        async with patience(LIMIT_S):
            await asyncio.Event().wait()
    assert time.monotonic() - began_s >= 0.9 * LIMIT_S


async def test_it_lets_what_ends_in_time_be():
    async with patience(30):
        await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_a_loop_that_is_late_uses_up_none_of_it():
    """C13: of each turn, which takes longer than the limit, nothing is the waiting's own."""

    async def turns():
        for _ in range(10):
            time.sleep(2 * LIMIT_S)  # noqa: ASYNC251 - the loop stands still
            await asyncio.sleep(0)

    async with patience(LIMIT_S):
        await turns()


async def test_a_late_loop_ends_it_all_the_same():
    async def turns():
        async with patience(LIMIT_S):
            while True:
                time.sleep(LIMIT_S / 5)  # noqa: ASYNC251 - the loop stands still
                await asyncio.sleep(0)

    with pytest.raises(TimeoutError):
        await turns()


async def test_it_passes_on_errors_and_cancellations():
    with pytest.raises(ZeroDivisionError):
        async with patience(LIMIT_S):
            raise ZeroDivisionError
    task = asyncio.create_task(wait_for_ever())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def wait_for_ever():
    async with patience(30):
        await asyncio.Event().wait()
