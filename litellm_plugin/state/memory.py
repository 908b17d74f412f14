"""The store in memory: statistics of one process, for single workers, tests and the time without a server."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from litellm_plugin.routing.attempts import AttemptStatus
from litellm_plugin.routing.candidates import EndpointStatistics, StatisticsSnapshot
from litellm_plugin.state.answer_lengths import AnswerLengths
from litellm_plugin.state.histogram import LatencyHistogram

if TYPE_CHECKING:
    from collections.abc import Callable

    from litellm_plugin.routing.attempts import Measurement

MOST_DEPLOYMENTS = 4096
# A decision may be this old: far below the window, and a snapshot costs as much as many decisions.
SNAPSHOT_AGE_S = 0.1

# Only an answer has a time to the whole answer. A timeout counts too: an answer would have taken longer
# still, and an endpoint must not look faster for each slow answer that was cut off.
_TIMED = frozenset({AttemptStatus.SUCCESS, AttemptStatus.TIMEOUT})


class MemoryStore:
    """Keeps the measurements of a rolling window, in slices that expire as a whole.

    It belongs to one event loop: no call waits, and none may come from another thread.

    Args:
        window_s: Length of the window in seconds; statistics cover between this less one slice and this.
        slices: Into how many slices the window is cut.
        clock: Monotonic seconds.

    Raises:
        ValueError: The window is not positive, or has no slices.
    """

    def __init__(
        self, window_s: float = 300.0, slices: int = 10, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not window_s > 0 or slices < 1:
            raise ValueError(f"expected a positive window and 1 slice or more, got {window_s} s and {slices}")
        self._slice_s = window_s / slices
        self._slices = slices
        self._clock = clock
        self._windows: OrderedDict[str, _Window] = OrderedDict()
        self._lengths = AnswerLengths()
        self._in_flight: Counter[str] = Counter()
        self._load_changed = False
        self._snapshot: StatisticsSnapshot | None = None

    def record(self, measurement: Measurement) -> None:
        """Takes one ended attempt into account; absurd latencies are clamped, never raised."""
        window = self._window(measurement.deployment_id)
        number = self._slice_number(self._clock())
        window.expire(before=number - self._slices + 1)
        window.add(number, measurement)
        if measurement.route is not None and measurement.answer_tokens is not None:
            self._lengths.add(measurement.route, measurement.answer_tokens, self._clock())

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

    def _taken(self, now_s: float) -> StatisticsSnapshot:
        oldest = self._slice_number(now_s) - self._slices + 1
        for deployment_id, window in tuple(self._windows.items()):
            window.expire(before=oldest)
            if not window.slices:
                del self._windows[deployment_id]
        by_deployment = {name: window.statistics() for name, window in self._windows.items()}
        return StatisticsSnapshot(
            MappingProxyType(by_deployment),
            taken_at_s=now_s,
            in_flight=MappingProxyType(dict(self._in_flight)),
            output_tokens=self._lengths.means(now_s),
        )

    def _window(self, deployment_id: str) -> _Window:
        """The deployment's window, now the youngest; beyond the bound the one silent for longest goes."""
        window = self._windows.pop(deployment_id, None) or _Window()
        self._windows[deployment_id] = window
        if len(self._windows) > MOST_DEPLOYMENTS:
            self._windows.popitem(last=False)
        return window

    def _slice_number(self, now_s: float) -> int:
        return int(now_s // self._slice_s)


class _Counts:
    """Counts and latencies of a stretch of time."""

    __slots__ = ("attempts", "failures", "first_token", "output_token", "total")

    def __init__(self) -> None:
        self.attempts = 0
        self.failures = 0
        self.total = LatencyHistogram()
        self.first_token = LatencyHistogram()
        self.output_token = LatencyHistogram()

    def add(self, measurement: Measurement) -> None:
        status = measurement.status
        self.attempts += 1
        self.failures += status.is_retryable
        if status in _TIMED and measurement.total_ms is not None:
            self.total.add(measurement.total_ms)
        if measurement.first_token_ms is not None and status is not AttemptStatus.ABANDONED:
            self.first_token.add(measurement.first_token_ms)
        if measurement.output_token_ms is not None:
            self.output_token.add(measurement.output_token_ms)

    def subtract(self, other: _Counts) -> None:
        self.attempts -= other.attempts
        self.failures -= other.failures
        self.total.subtract(other.total)
        self.first_token.subtract(other.first_token)
        self.output_token.subtract(other.output_token)


class _Window:
    """The slices of one deployment, oldest first, and their sum."""

    __slots__ = ("_statistics", "_sum", "slices")

    def __init__(self) -> None:
        self.slices: deque[tuple[int, _Counts]] = deque()
        self._sum = _Counts()
        self._statistics: EndpointStatistics | None = None

    def add(self, number: int, measurement: Measurement) -> None:
        if not self.slices or self.slices[-1][0] != number:
            self.slices.append((number, _Counts()))
        self.slices[-1][1].add(measurement)
        self._sum.add(measurement)
        self._statistics = None

    def expire(self, *, before: int) -> None:
        while self.slices and self.slices[0][0] < before:
            self._sum.subtract(self.slices.popleft()[1])
            self._statistics = None

    def statistics(self) -> EndpointStatistics:
        """What the window holds; computed once per change."""
        if self._statistics is None:
            self._statistics = _statistics(self._sum)
        return self._statistics


def _statistics(counts: _Counts) -> EndpointStatistics:
    total_p50_ms, total_p95_ms = counts.total.quantiles_ms(0.5, 0.95)
    first_token_p50_ms, first_token_p95_ms = counts.first_token.quantiles_ms(0.5, 0.95)
    output_token_p50_ms, output_token_p95_ms = counts.output_token.quantiles_ms(0.5, 0.95)
    return EndpointStatistics(
        attempts=counts.attempts,
        failures=counts.failures,
        total_p50_ms=total_p50_ms,
        total_p95_ms=total_p95_ms,
        first_token_p50_ms=first_token_p50_ms,
        first_token_p95_ms=first_token_p95_ms,
        output_token_p50_ms=output_token_p50_ms,
        output_token_p95_ms=output_token_p95_ms,
    )
