"""The line before the store: few operations ask at once, and one that meets silence asks again for a moment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar
from weakref import WeakKeyDictionary

from litellm_plugin.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_Answer = TypeVar("_Answer")

# An operation takes a server well under 1 ms: more of them at once would only make each wait for the others.
AT_ONCE: Final = 8
# Ten thousand at once are through in a tenth of this, on a machine that is not busy with what follows them.
LONGEST_LINE_S: Final = 30.0
# A machine whose processors are all taken may run nobody for as long as a reply may take: who asks again is answered.
MOST_TRIES: Final = 4
LEAST_TRIES: Final = 3
AGAIN_WITHIN_S: Final = 0.25
# For all tries of one operation, should the client not end by itself; an event loop may be seconds late in a burst.
LONGEST_S: Final = 5.0


class StoreLine:
    """Lets eight operations ask the store at once; the others wait in line, in the order in which they came.

    It may be used in one event loop after another, as a client that is made anew for each.
    """

    def __init__(self) -> None:
        self._places: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()
        # How often the store was silent, and how often it answered.
        self._silences = 0
        self._answers = 0

    async def ask(self, operation: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Waits in line and gives the answer of an operation, which is tried again where it meets silence.

        It is tried four times at most, and again only within 250 ms of its beginning, but three times in any case.

        Args:
            operation: What asks the store; to do it twice must mean what once does. It raises `StoreUnavailable`.

        Raises:
            StoreUnavailable: The store refuses, or was silent to each try, or to others while this one was in line and
                answered none; or the line was longer than 30 s. `was_sent` is false where nothing was tried.
        """
        silences, answers = self._silences, self._answers
        place = self._places.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE))
        try:
            async with asyncio.timeout(LONGEST_LINE_S):
                await place.acquire()
        except TimeoutError:
            raise StoreUnavailable(f"{LONGEST_LINE_S:g} s in line for it", was_sent=False) from None
        try:
            if self._silences != silences and self._answers == answers:
                raise StoreUnavailable("silent to others", was_sent=False, is_silent=True)
            return await self._answer(operation)
        finally:
            place.release()

    async def _answer(self, operation: Callable[[], Awaitable[_Answer]]) -> _Answer:
        try:
            async with asyncio.timeout(LONGEST_S):
                answer = await _until_answered(operation)
        except TimeoutError:
            self._silences += 1
            raise StoreUnavailable(f"no answer within {LONGEST_S:g} s", is_silent=True) from None
        except StoreUnavailable as error:
            # A refusal comes at once, and may be one key's.
            self._silences += error.is_silent
            raise
        self._answers += 1
        return answer


async def _until_answered(operation: Callable[[], Awaitable[_Answer]]) -> _Answer:
    loop = asyncio.get_running_loop()
    end_s = loop.time() + AGAIN_WITHIN_S
    tries = 0
    while True:
        tries += 1
        try:
            return await operation()
        except StoreUnavailable as error:
            is_over = tries >= LEAST_TRIES and loop.time() >= end_s
            if not error.is_silent or is_over or tries == MOST_TRIES:
                raise
