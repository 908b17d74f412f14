"""The latency histogram: logarithmic buckets, so that quantiles keep a bounded relative error.

Source: DDSketch, Masson, Rim and Lee, PVLDB 12(12), 2019: bucket i holds the values in (gamma^(i-1), gamma^i],
with gamma = (1 + a) / (1 - a), and 2 gamma^i / (gamma + 1) is within the relative error a of each of them.
Histograms of one gamma add up and subtract bucket by bucket.
"""

from __future__ import annotations

import math
from collections import Counter

RELATIVE_ERROR = 0.01
GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
# One hour is longer than any provider keeps a request open; with the floor it bounds the buckets to under 1,000.
LONGEST_MS = 3_600_000.0
SHORTEST_MS = 0.01

_LOG_GAMMA = math.log(GAMMA)


class LatencyHistogram:
    """Counts of latencies in milliseconds; quantiles are within 1 % of a value that was added."""

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()

    def add(self, value_ms: float) -> None:
        """Adds one value; what is not a latency is clamped, see `clamped_ms`."""
        self._buckets[math.ceil(math.log(clamped_ms(value_ms)) / _LOG_GAMMA)] += 1

    def subtract(self, other: LatencyHistogram) -> None:
        """Takes away the values of another histogram that were added to this one too."""
        self._buckets -= other._buckets

    def quantiles_ms(self, *fractions: float) -> tuple[float | None, ...]:
        """The values at the given fractions, in milliseconds; None each when there are no values.

        The value at fraction q of n values is the one of rank floor(q (n - 1)), counted from 0.

        Args:
            fractions: From 0 to 1, in ascending order.
        """
        total = self._buckets.total()
        if not total:
            return (None,) * len(fractions)
        found: list[float | None] = []
        buckets = iter(sorted(self._buckets.items()))
        bucket, seen = next(buckets)
        for fraction in fractions:
            rank = math.floor(fraction * (total - 1))
            while seen <= rank:
                bucket, count = next(buckets)
                seen += count
            found.append(2 * GAMMA**bucket / (GAMMA + 1))
        return tuple(found)


def clamped_ms(value_ms: float) -> float:
    """The value inside the range that is kept: not a number and infinity are as bad as the longest."""
    if not value_ms <= LONGEST_MS:  # written so that NaN, which compares false with all, is caught too
        return LONGEST_MS
    return max(value_ms, SHORTEST_MS)
