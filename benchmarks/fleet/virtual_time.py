"""Virtual time: an event loop that jumps to the next timer, and every clock of the process with it."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any

import time_machine

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

# A Monday, 06:00 UTC.
EPOCH_S = 1_772_431_200.0


class VirtualClock:
    """The loop's time as wall clock and monotonic clock."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def wall(self) -> float:
        return EPOCH_S + self.now_s

    def monotonic(self) -> float:
        return 1_000.0 + self.now_s


class _JumpingSelector(selectors.DefaultSelector):
    """Looks for events without waiting; what the loop would have waited passes at once."""

    def __init__(self, clock: VirtualClock, move: Callable[[float], None]) -> None:
        super().__init__()
        self._clock = clock
        self._move = move

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0.001 if timeout is None else 0)
        if not events and timeout:
            self._clock.now_s += timeout
            self._move(self._clock.wall())
        return events


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, clock: VirtualClock, move: Callable[[float], None]) -> None:
        super().__init__(_JumpingSelector(clock, move))
        self._virtual = clock

    def time(self) -> float:
        return self._virtual.now_s

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:  # noqa: ARG002
        """At once, in the loop: time must not jump while a thread works."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - the future carries it
            future.set_exception(error)
        return future


def run_virtually(main: Callable[[VirtualClock], Coroutine[Any, Any, Any]]) -> Any:
    """Runs a coroutine in virtual time and gives its result; `time.time` and `datetime.now` move with the loop."""
    clock = VirtualClock()
    with time_machine.travel(clock.wall(), tick=False) as traveller:
        loop = _VirtualLoop(clock, traveller.move_to)
        asyncio.set_event_loop(loop)
        try:
            return loop.run_until_complete(main(clock))
        finally:
            rest = asyncio.all_tasks(loop)
            for task in rest:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
            loop.close()
            asyncio.set_event_loop(None)
