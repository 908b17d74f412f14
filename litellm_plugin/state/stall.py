"""Stalls: whether this worker's event loop stood still while an attempt was under way.

A loop that stands still makes timeouts and broken connections that no provider is to blame for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from litellm_plugin.routing.attempts import AttemptStatus

if TYPE_CHECKING:
    from collections.abc import Callable

PERIOD_S: Final = 0.25
# A loop that is busy lets a beat wait for some tenths of a second; connections do not break of that.
STALL_S: Final = 1.0
# After so long without a beat nobody beats any more: nothing would ever count.
_DEAD_S: Final = 60.0
_REMEMBERED: Final = 64
_EXCUSED: Final = frozenset({AttemptStatus.TIMEOUT, AttemptStatus.CONNECTION_ERROR})


class LoopWatch:
    """Knows when the event loop stood still, from beats that come late.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._beat_s: float | None = None
        self._stalls: deque[tuple[float, float]] = deque(maxlen=_REMEMBERED)

    def beat(self) -> None:
        """Notes that the loop turns."""
        now_s = self._clock()
        if self._beat_s is not None and now_s - self._beat_s >= STALL_S:
            self._stalls.append((self._beat_s, now_s))
        self._beat_s = now_s

    async def keep_beating(self) -> None:
        """Beats four times a second until it is cancelled; its owner keeps and ends the task."""
        while True:
            self.beat()
            await asyncio.sleep(PERIOD_S)

    def excuses(self, status: AttemptStatus, began_s: float) -> bool:
        """Whether an attempt that ends now failed while the loop stood still.

        What ends in the turn after a stall is told before the late beat: the moment of telling counts too.

        Args:
            status: How the attempt ended.
            began_s: When it began, in monotonic seconds.
        """
        if status not in _EXCUSED:
            return False
        return self._stands_still() or any(end_s > began_s for _, end_s in self._stalls)

    def _stands_still(self) -> bool:
        return self._beat_s is not None and STALL_S <= self._clock() - self._beat_s < _DEAD_S
