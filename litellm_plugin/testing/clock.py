"""The fake clock: wall time and monotonic time that move only when a test says so."""

from __future__ import annotations


class FakeClock:
    """A wall clock and a monotonic clock that advance together.

    `clock.wall` stands in for `time.time`, `clock.monotonic` for `time.monotonic`.

    Args:
        wall_s: Where the wall clock starts, in seconds since the epoch.
        monotonic_s: Where the monotonic clock starts, in seconds.
    """

    def __init__(self, wall_s: float = 1_700_000_000.0, monotonic_s: float = 1_000.0) -> None:
        self._wall_s = wall_s
        self._monotonic_s = monotonic_s

    def wall(self) -> float:
        """Seconds since the epoch, as `time.time` gives them."""
        return self._wall_s

    def monotonic(self) -> float:
        """Seconds since an arbitrary start, as `time.monotonic` gives them."""
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Move both clocks forward.

        Raises:
            ValueError: `seconds` is negative; a monotonic clock never runs back.
        """
        if seconds < 0:
            raise ValueError(f"expected seconds >= 0, got {seconds!r}")
        self._wall_s += seconds
        self._monotonic_s += seconds
