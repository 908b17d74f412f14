"""Patience: a timeout that an event loop which is busy with other work does not use up."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# A command on a new connection needs some ten turns of the loop: connecting, four replies, and who waits for each.
_TURNS: Final = 25


@contextlib.asynccontextmanager
async def patience(limit_s: float) -> AsyncIterator[None]:
    """Ends what it holds after a time, but not before the event loop has turned 25 times since.

    A plain timeout ends what was answered long ago where the loop came late to both: libuv, and so uvloop, runs its
    timers before it looks what arrived. A loop with nothing else to do turns at once, so this takes `limit_s` then.

    Args:
        limit_s: How long it may take, in seconds.

    Raises:
        TimeoutError: It took longer.
    """
    loop = asyncio.get_running_loop()
    turns_left = _TURNS
    handle: asyncio.TimerHandle

    def turn() -> None:
        nonlocal turns_left, handle
        turns_left -= 1
        if turns_left:
            handle = loop.call_later(limit_s / _TURNS, turn)
        else:
            timeout.reschedule(loop.time())

    async with asyncio.timeout(None) as timeout:
        handle = loop.call_later(limit_s / _TURNS, turn)
        try:
            yield
        finally:
            handle.cancel()
