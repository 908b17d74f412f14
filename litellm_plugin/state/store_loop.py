"""The store's event loop: a thread of its own, in which a busy worker does not use up the store's 50 ms.

LiteLLM takes tens of milliseconds of an event loop for each request. With a dozen under way a reply lies there for
longer than it may take before anybody looks, and the timeout, which is due by then, is what is looked at: a loaded
worker would lose a store that answers in half a millisecond.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeAlias, TypeVar

_Result = TypeVar("_Result")
# Runs what talks to the store, wherever that is, and gives what came of it.
Runner: TypeAlias = Callable[[Coroutine[Any, Any, _Result]], Awaitable[_Result]]

THREAD_NAME: Final = "permit-router-store"
# What it still does when it is closed is cancelled, which takes a turn of the loop, and is not waited for for ever.
_END_S: Final = 5.0
# All work has deadlines of its own; this ends the wait for a thread that the machine does not run.
_STUCK_S: Final = 5.0
_logger = logging.getLogger("LiteLLM Proxy").getChild("permit_router")

_CLOSED: Final = "the connection to the store was closed: this worker ends"


class StoreLoop:
    """An event loop in a daemon thread, made at its first use in a process: one that forks makes another.

    Clients that are used here belong to this loop, and are closed in it.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._process: int | None = None
        self._is_closed = False
        self._sign: asyncio.Future[None] | None = None

    @property
    def is_closed(self) -> bool:
        """Whether it runs nothing any more."""
        return self._is_closed

    async def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Runs a coroutine in the thread and waits for it in the caller's loop; cancelling one cancels the other.

        Raises:
            ConnectionError: The loop was closed, or its thread does not turn.
            Exception: Whatever the coroutine raises.
        """
        if self._is_closed:
            work.close()
            raise ConnectionError(_CLOSED)
        done = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._running()))
        try:
            while not await _is_done_soon(done):
                if not await self._turns() and not done.done():
                    done.cancel()
                    raise ConnectionError(
                        f"the thread that talks to the store did not turn for {2 * _STUCK_S:g} s"
                    )
        except asyncio.CancelledError:
            if not done.cancel() and not done.cancelled():
                # Nobody waits for its error any more.
                done.exception()
            raise
        if done.cancelled():
            # By `aclose`, or by the work itself: nobody cancelled the caller.
            raise ConnectionError(_CLOSED)
        return done.result()

    async def _turns(self) -> bool:
        """Whether the thread does anything at all; all who wait in one loop look for the same sign."""
        if self._loop is None:
            return False
        sign = self._sign
        if sign is None or sign.done() or sign.get_loop() is not asyncio.get_running_loop():
            turn = asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop)
            sign = self._sign = asyncio.wrap_future(turn)
        return await _is_done_soon(sign)

    async def aclose(self, last: Callable[[], Awaitable[object]] | None = None) -> None:
        """Ends the thread and cancels what it still does; what is run after that is refused.

        Args:
            last: What is done in the thread once nothing else is done there any more; its errors are logged.
        """
        self._is_closed = True
        # A process that forked has no part in the thread of the one before it.
        if self._loop is None or self._thread is None or self._process != os.getpid():
            return
        end = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_end(last), self._loop))
        # A thread that is stuck goes with its process.
        await asyncio.wait({end}, timeout=3 * _END_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join, _END_S)
        # A daemon thread that does not end goes with its process.
        if not self._thread.is_alive():
            self._loop.close()
        self._loop = self._thread = None

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None or self._process != os.getpid():
            self._process = os.getpid()
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name=THREAD_NAME, daemon=True)
            self._thread.start()
        return self._loop


def is_cancelled() -> bool:
    """Whether this task was told to end; redis-py 8.1 turns some cancellations into errors of its own."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _is_done_soon(work: asyncio.Future[Any]) -> bool:
    await asyncio.wait({work}, timeout=_STUCK_S)
    return work.done()


async def in_place(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Runs a coroutine in the caller's own loop."""
    return await work


async def _end(last: Callable[[], Awaitable[object]] | None) -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=_END_S)
    if last is None:
        return
    try:
        async with asyncio.timeout(_END_S):
            await last()
    except Exception:
        _logger.debug("The connections to the shared store did not close", exc_info=True)
