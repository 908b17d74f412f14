"""The line before the store: few operations ask at once, and one that meets silence asks again for a moment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar
from weakref import WeakKeyDictionary

from litellm_plugin.errors import StoreUnavailable
from litellm_plugin.state.store_loop import is_cancelled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_Answer = TypeVar("_Answer")

# An operation takes a server well under 1 ms: more of them at once would only make each wait for the others.
AT_ONCE: Final = 8
# Ten thousand at once are through in a fifth of this, on a machine that is not busy with what follows them.
LONGEST_LINE_S: Final = 30.0
# A machine whose processors are all taken may run nobody for as long as a reply may take: who asks again is answered.
MOST_TRIES: Final = 4
LEAST_TRIES: Final = 3
AGAIN_WITHIN_S: Final = 0.25
# A server that restarts refuses connections at once, for a moment.
PAUSE_S: Final = 0.05
# So many operations in a row without an answer are no starved machine: who stands behind them is not kept waiting.
MOST_SILENT: Final = 2 * AT_ONCE
# For all tries of one operation, should the client not end by itself; an event loop may be seconds late in a burst.
LONGEST_S: Final = 5.0


class StoreLine:
    """Lets eight operations ask the store at once; the others wait in line, in the order in which they came.

    It may be used in one event loop after another, as a client that is made anew for each.
    """

    def __init__(self) -> None:
        self._places: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()
        # How often the store was silent: ever, and since it last answered.
        self._silences = 0
        self._silent_in_a_row = 0

    async def ask(self, operation: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Waits in line and gives the answer of an operation, which is tried again where it meets silence.

        It is tried four times at most, 50 ms apart, and again only within 250 ms of its beginning, but three times in
        any case.

        Args:
            operation: What asks the store; to do it twice must mean what once does. It raises `StoreUnavailable`.

        Raises:
            StoreUnavailable: The store refuses, or was silent to each try, or to 16 others one after the other while
                this one was in line; or the line was longer than 30 s. `was_sent` is false where nothing was tried.
        """
        silences = self._silences
        place = self._places.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE))
        try:
            async with asyncio.timeout(LONGEST_LINE_S):
                await place.acquire()
        except TimeoutError:
            raise StoreUnavailable(f"{LONGEST_LINE_S:g} s in line for it", was_sent=False) from None
        try:
            if self._silent_in_a_row >= MOST_SILENT and self._silences != silences:
                raise StoreUnavailable("silent to others", was_sent=False, is_silent=True)
            return await self._answer(operation)
        finally:
            place.release()

    async def _answer(self, operation: Callable[[], Awaitable[_Answer]]) -> _Answer:
        try:
            async with asyncio.timeout(LONGEST_S):
                answer = await _until_answered(operation)
        except TimeoutError:
            self._note_silence()
            raise StoreUnavailable(f"no answer within {LONGEST_S:g} s", is_silent=True) from None
        except StoreUnavailable as error:
            if error.is_silent:
                self._note_silence()
            else:
                # A refusal may be one key's, and says that the server is there.
                self._silent_in_a_row = 0
            raise
        self._silent_in_a_row = 0
        return answer

    def _note_silence(self) -> None:
        self._silences += 1
        self._silent_in_a_row += 1


async def _until_answered(operation: Callable[[], Awaitable[_Answer]]) -> _Answer:
    loop = asyncio.get_running_loop()
    end_s = loop.time() + AGAIN_WITHIN_S
    tries = 0
    while True:
        tries += 1
        try:
            return await operation()
        except StoreUnavailable as error:
            if is_cancelled():
                raise asyncio.CancelledError from error
            is_over = tries >= LEAST_TRIES and loop.time() >= end_s
            if not error.is_silent or is_over or tries == MOST_TRIES:
                raise
        await asyncio.sleep(PAUSE_S)
