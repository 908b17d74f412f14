"""The store in memory: a worker's statistics, from its own measurements and from what others tell it."""

from __future__ import annotations

import heapq
import time
from collections import Counter, OrderedDict
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from litellm_plugin.routing.candidates import StatisticsSnapshot
from litellm_plugin.state.answer_lengths import AnswerLengths
from litellm_plugin.state.tally import Tally
from litellm_plugin.state.window import RollingWindow

if TYPE_CHECKING:
    from collections.abc import Callable

    from litellm_plugin.routing.attempts import Measurement

MOST_DEPLOYMENTS = 4096
# A health page is read by people and by scripts that ask often.
MOST_REPORTED: Final = 100
# A decision may be this old: far below the window, and a snapshot costs as much as many decisions.
SNAPSHOT_AGE_S = 0.1
# The newest of ten slices of 30 s weighs 4.8 times the oldest, and all together as much as 5.2 that are new.
HALF_LIFE_S = 120.0


class MemoryStore:
    """Keeps the measurements of a rolling window, in slices that expire as a whole; the latest weigh most.

    Its own measurements count at once. What other workers measured comes in through `learn` (see `SharedLatency`);
    attempts under way and the lengths of answers are this worker's alone. It belongs to one event loop: no call
    waits, and none may come from another thread.

    Args:
        window_s: Length of the window in seconds; statistics cover between this less one slice and this.
        slices: Into how many slices the window is cut.
        clock: Monotonic seconds.
        half_life_s: After how many seconds a latency weighs half as much in the quantiles; None for no decay.

    Attributes:
        slices: Into how many slices the window is cut.
        slice_s: Length of a slice in seconds.

    Raises:
        ValueError: The window or the half-life is not positive, or there are no slices.
    """

    def __init__(
        self,
        window_s: float = 300.0,
        slices: int = 10,
        clock: Callable[[], float] = time.monotonic,
        half_life_s: float | None = HALF_LIFE_S,
    ) -> None:
        if not window_s > 0 or slices < 1:
            raise ValueError(f"expected a positive window and 1 slice or more, got {window_s} s and {slices}")
        if half_life_s is not None and not half_life_s > 0:
            raise ValueError(f"expected a positive half-life or None, got {half_life_s} s")
        self.slices: Final = slices
        self.slice_s: Final = window_s / slices
        self._half_life = None if half_life_s is None else half_life_s / self.slice_s
        self._clock = clock
        self._windows: OrderedDict[str, RollingWindow] = OrderedDict()
        self._lengths = AnswerLengths()
        self._in_flight: Counter[str] = Counter()
        self._load_changed = False
        self._snapshot: StatisticsSnapshot | None = None
        self._tell: Callable[[str, Tally], None] | None = None

    @property
    def slice_number(self) -> int:
        """The number of the slice of this moment; it never falls."""
        return self._number(self._clock())

    def tell(self, listener: Callable[[str, Tally], None]) -> None:
        """Names who hears of each attempt of this worker: the deployment's id and the attempt's tally."""
        self._tell = listener

    def record(self, measurement: Measurement) -> None:
        """Takes one ended attempt into account; absurd latencies are clamped, never raised."""
        now_s = self._clock()
        tally = Tally.of(measurement)
        self._add(measurement.deployment_id, tally, self._number(now_s))
        if self._tell is not None:
            self._tell(measurement.deployment_id, tally)
        if measurement.route is not None and measurement.answer_tokens is not None:
            self._lengths.add(measurement.route, measurement.answer_tokens, now_s)

    def learn(self, deployment_id: str, tally: Tally, age: int) -> bool:
        """Takes into account what other workers measured.

        Args:
            deployment_id: LiteLLM's id of the deployment.
            tally: What they measured.
            age: How many slices ago; what is older than the window is left out.

        Returns:
            Whether there was room: what others tell drives out nothing that is known.
        """
        if deployment_id not in self._windows and len(self._windows) >= MOST_DEPLOYMENTS:
            return False
        number = self.slice_number
        if not tally.is_empty and 0 <= age < self.slices:
            self._add(deployment_id, tally, number - age)
        return True

    def begin(self, deployment_id: str) -> None:
        """Counts an attempt that is under way from now on."""
        self._in_flight[deployment_id] += 1
        self._load_changed = True

    def end(self, deployment_id: str) -> None:
        """Counts an attempt as ended; what never began is left alone."""
        count = self._in_flight.pop(deployment_id, 0)
        if count > 1:
            self._in_flight[deployment_id] = count - 1
        self._load_changed = True

    def snapshot(self) -> StatisticsSnapshot:
        """Gives the statistics of the window, at most 0.1 s old; a silent deployment has no entry.

        The attempts under way are those of this moment: load is spread by them, and a burst is shorter than 0.1 s.
        """
        now_s = self._clock()
        if self._snapshot is None or now_s - self._snapshot.taken_at_s >= SNAPSHOT_AGE_S:
            self._snapshot = self._taken(now_s)
        if self._load_changed:
            self._load_changed = False
            self._snapshot = replace(self._snapshot, in_flight=MappingProxyType(dict(self._in_flight)))
        return self._snapshot

    def report(self) -> dict[str, object]:
        """What operators are told of the deployments that failed most in the window, and of the busiest after them."""
        self._forget(self._number(self._clock()))
        busiest = heapq.nlargest(
            MOST_REPORTED,
            self._windows.items(),
            key=lambda each: (each[1].statistics().failures, each[1].statistics().attempts),
        )
        return {name: window.report() for name, window in busiest}

    def _forget(self, number: int) -> None:
        """Forgets what has left the window that ends with this slice."""
        for deployment_id, window in tuple(self._windows.items()):
            window.expire(before=number - self.slices + 1)
            if window.is_empty:
                del self._windows[deployment_id]

    def _taken(self, now_s: float) -> StatisticsSnapshot:
        self._forget(self._number(now_s))
        by_deployment = {name: window.statistics() for name, window in self._windows.items()}
        return StatisticsSnapshot(
            MappingProxyType(by_deployment),
            taken_at_s=now_s,
            in_flight=MappingProxyType(dict(self._in_flight)),
            output_tokens=self._lengths.means(now_s),
        )

    def _add(self, deployment_id: str, tally: Tally, number: int) -> None:
        """Adds to the deployment's window, now the youngest; beyond the bound the one silent for longest goes."""
        window = self._windows.pop(deployment_id, None) or RollingWindow(self._half_life)
        self._windows[deployment_id] = window
        if len(self._windows) > MOST_DEPLOYMENTS:
            self._windows.popitem(last=False)
        window.expire(before=self._number(self._clock()) - self.slices + 1)
        window.add(number, tally)

    def _number(self, now_s: float) -> int:
        return int(now_s // self.slice_s)
