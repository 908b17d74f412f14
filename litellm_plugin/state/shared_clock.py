"""The shared clock: the store's clock, as a worker knows it between two answers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

# Clocks drift by milliseconds a period, and answers wait as long; what differs by more was set.
JUMP_S: Final = 1.0


class SharedClock:
    """Maps this worker's monotonic clock to the store's; until the store answered, to the wall clock of its start.

    The store read its clock at some moment between a question and its answer. A mapping that says the same stays,
    so that an answer that waited long, such as behind a stalled event loop, moves nothing; another is corrected as
    far as it must be. Where the store's clock is set by an hour, this one follows at the next answer.

    Args:
        clock: Monotonic seconds.
        wall: Seconds since the epoch; read once.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._ahead_s = wall() - clock()
        self._is_known = False
        self.jumps = 0

    def monotonic_s(self) -> float:
        """This worker's own clock, for durations."""
        return self._clock()

    def now_s(self) -> float:
        """The store's clock, in seconds since the epoch."""
        return self._clock() + self._ahead_s

    def observe(self, now_s: float, asked_s: float, answered_s: float) -> None:
        """Takes what the store's clock said into account.

        Args:
            now_s: What it said.
            asked_s: Monotonic seconds before the question.
            answered_s: Monotonic seconds after the answer.
        """
        ahead_s = min(max(self._ahead_s, now_s - answered_s), now_s - asked_s)
        # Before the first answer the wall clock was a guess: to correct it is no jump.
        self.jumps += self._is_known and abs(ahead_s - self._ahead_s) > JUMP_S
        self._ahead_s = ahead_s
        self._is_known = True
