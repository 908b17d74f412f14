"""The latency histogram: logarithmic buckets, so that quantiles keep a bounded relative error.

Source: DDSketch, Masson, Rim and Lee, PVLDB 12(12), 2019: bucket i holds the values in (gamma^(i-1), gamma^i],
with gamma = (1 + a) / (1 - a), and 2 gamma^i / (gamma + 1) is within the relative error a of each of them.
Histograms of one gamma add up and subtract bucket by bucket, whoever filled them and whatever each weighs.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import accumulate
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

# The bound that is stated is 2 %; half of it would take twice the buckets, and each one is a field to tell and read.
RELATIVE_ERROR: Final = 0.019
GAMMA: Final = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
# One hour is longer than any provider keeps a request open; with the floor it bounds the buckets to under 600.
LONGEST_MS: Final = 3_600_000.0
SHORTEST_MS: Final = 0.01

_LOG_GAMMA: Final = math.log(GAMMA)


class LatencyHistogram:
    """Counts of latencies in milliseconds; quantiles are within 2 % of the exact ones of what was added."""

    __slots__ = ("_buckets",)

    def __init__(self, buckets: Mapping[int, int] | None = None) -> None:
        self._buckets = dict(buckets or {})

    @property
    def buckets(self) -> Mapping[int, int]:
        """The count of each bucket that is not empty."""
        return MappingProxyType(self._buckets)

    def add(self, value_ms: float) -> None:
        """Adds one value; what is not a latency is clamped, see `clamped_ms`."""
        bucket = bucket_of(value_ms)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1

    def merge(self, other: LatencyHistogram, weight: int = 1) -> None:
        """Adds the values of another histogram, each as often as `weight` says."""
        for bucket, count in other._buckets.items():
            self._buckets[bucket] = self._buckets.get(bucket, 0) + count * weight

    def subtract(self, other: LatencyHistogram, weight: int = 1) -> None:
        """Takes away the values of another histogram, of each at most as many as are here."""
        for bucket, count in other._buckets.items():
            left = self._buckets.pop(bucket, 0) - count * weight
            if left > 0:
                self._buckets[bucket] = left

    def beyond(self, other: LatencyHistogram) -> LatencyHistogram:
        """The values that are here and not in another histogram."""
        theirs = other._buckets
        return LatencyHistogram(
            {
                bucket: more
                for bucket, count in self._buckets.items()
                if (more := count - theirs.get(bucket, 0)) > 0
            }
        )

    def covers(self, other: LatencyHistogram) -> bool:
        """Whether all values of another histogram are here."""
        ours = self._buckets
        return all(ours.get(bucket, 0) >= count for bucket, count in other._buckets.items())

    def quantiles_ms(self, *fractions: float) -> tuple[float | None, ...]:
        """The values at the given fractions, in milliseconds; None each when there are no values.

        The value at a fraction is the least one that at least this share of all values do not exceed (the
        inverse of the distribution function; type 1 in Hyndman and Fan, The American Statistician 50(4), 1996).

        Args:
            fractions: From 0 to 1.
        """
        if not self._buckets:
            return (None,) * len(fractions)
        buckets = sorted(self._buckets)
        counts = list(accumulate(map(self._buckets.__getitem__, buckets)))
        total = counts[-1]
        # Not more than all: the product may be rounded up.
        places = (bisect_left(counts, min(fraction * total, total)) for fraction in fractions)
        return tuple(2 * GAMMA ** buckets[place] / (GAMMA + 1) for place in places)


def bucket_of(value_ms: float) -> int:
    """The number of the bucket that holds a value, once it is clamped."""
    return math.ceil(math.log(clamped_ms(value_ms)) / _LOG_GAMMA)


def clamped_ms(value_ms: float) -> float:
    """The value inside the range that is kept: not a number and infinity are as bad as the longest."""
    if not value_ms <= LONGEST_MS:  # written so that NaN, which compares false with all, is caught too
        return LONGEST_MS
    return max(value_ms, SHORTEST_MS)


FIRST_BUCKET: Final = bucket_of(SHORTEST_MS)
LAST_BUCKET: Final = bucket_of(LONGEST_MS)
