"""The tally: what was counted and timed of one deployment in a stretch of time, and its form in the store."""

from __future__ import annotations

import enum
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Final, Self

from litellm_plugin.routing.attempts import AttemptStatus
from litellm_plugin.state.histogram import FIRST_BUCKET, LAST_BUCKET, LatencyHistogram

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litellm_plugin.routing.attempts import Measurement

ATTEMPTS: Final = "a"
FAILURES: Final = "f"
OUTPUT_TOKENS: Final = "k"

# 30,000 attempts a second at one deployment for all of a slice of 30 s are 900,000; a larger count is nobody's.
MOST_ATTEMPTS: Final = 1_000_000
# The longest answers of today have 128,000 tokens; this is ten thousand tokens for each of those attempts.
MOST_TOKENS: Final = MOST_ATTEMPTS * 10_000
# Three times all buckets, and the counts.
_MOST_FIELDS: Final = 3 * (LAST_BUCKET - FIRST_BUCKET + 1) + 32
_ERROR: Final = "e:"
_MOST: Final = {
    ATTEMPTS: MOST_ATTEMPTS,
    FAILURES: MOST_ATTEMPTS,
    OUTPUT_TOKENS: MOST_TOKENS,
    **{f"{_ERROR}{status}": MOST_ATTEMPTS for status in AttemptStatus},
}
# Only an answer has a time to the whole answer. A timeout counts too: an answer would have taken longer
# still, and an endpoint must not look faster for each slow answer that was cut off.
_TIMED: Final = frozenset({AttemptStatus.SUCCESS, AttemptStatus.TIMEOUT})


class Timed(enum.StrEnum):
    """What is timed: the whole answer, its first token, each further token; the values are the letters of fields."""

    TOTAL = "t"
    FIRST = "p"
    PACE = "o"


# Each field that is a bucket; a look-up takes a fifth of the time of reading its name.
_BUCKETS: Final = {
    f"{kind}:{bucket}": (kind, bucket) for kind in Timed for bucket in range(FIRST_BUCKET, LAST_BUCKET + 1)
}


class Tally:
    """Counts and latencies of one deployment.

    In the store it is a hash: `a` attempts, `f` failures, `k` output tokens, `e:<status>` attempts that ended
    otherwise than in success, and `t:<bucket>`, `p:<bucket>`, `o:<bucket>` the histograms of the whole answer, the
    first token and the output token.

    Attributes:
        counts: Each count by its field.
        times: The histograms, by what is timed.
    """

    __slots__ = ("counts", "times")

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.times = {kind: LatencyHistogram() for kind in Timed}

    @classmethod
    def of(cls, measurement: Measurement) -> Self:
        """Counts one ended attempt; an abandoned one is no success, no failure and no latency."""
        tally = cls()
        status = measurement.status
        tally.counts[ATTEMPTS] = 1
        if status.is_retryable:
            tally.counts[FAILURES] = 1
        if status is not AttemptStatus.SUCCESS:
            tally.counts[f"{_ERROR}{status}"] = 1
        if measurement.output_tokens is not None and measurement.output_tokens > 0:
            tally.counts[OUTPUT_TOKENS] = min(measurement.output_tokens, MOST_TOKENS)
        if status in _TIMED and measurement.total_ms is not None:
            tally.times[Timed.TOTAL].add(measurement.total_ms)
        if measurement.first_token_ms is not None and status is not AttemptStatus.ABANDONED:
            tally.times[Timed.FIRST].add(measurement.first_token_ms)
        if measurement.output_token_ms is not None:
            tally.times[Timed.PACE].add(measurement.output_token_ms)
        return tally

    @classmethod
    def read(cls, fields: Mapping[str, str]) -> tuple[Self, int]:
        """Reads a hash of the store; what can be no count of ours is left out.

        Returns:
            The tally, and how many fields were left out.
        """
        tally = cls()
        buckets: dict[Timed, dict[int, int]] = {kind: {} for kind in Timed}
        taken = 0
        for field, text in islice(fields.items(), _MOST_FIELDS):
            place = _BUCKETS.get(field)
            if place is not None and (count := whole_number(text, MOST_ATTEMPTS)) is not None:
                buckets[place[0]][place[1]] = count
                taken += 1
            elif field in _MOST and (count := whole_number(text, _MOST[field])) is not None:
                tally.counts[field] = count
                taken += 1
        tally.times = {kind: LatencyHistogram(each) for kind, each in buckets.items()}
        return tally, len(fields) - taken

    @property
    def attempts(self) -> int:
        """The number of attempts."""
        return self.counts[ATTEMPTS]

    @property
    def errors(self) -> dict[str, int]:
        """How many attempts ended how, by status; successes are left out."""
        return {
            field.removeprefix(_ERROR): count
            for field, count in self.counts.items()
            if field.startswith(_ERROR) and count
        }

    @property
    def is_empty(self) -> bool:
        """Whether nothing was counted and nothing timed."""
        return not any(self.counts.values()) and not any(each.buckets for each in self.times.values())

    def fields(self) -> dict[str, int]:
        """The form in the store; attempts come last, so that who reads them has read the rest."""
        fields = {
            f"{kind}:{bucket}": count
            for kind, histogram in self.times.items()
            for bucket, count in histogram.buckets.items()
        }
        fields.update(self.counts)
        fields[ATTEMPTS] = fields.pop(ATTEMPTS, 0)
        return fields

    def merge(self, other: Tally, weight: int = 1) -> None:
        """Adds another one; its latencies, and they alone, weigh as much as is said."""
        for field, count in other.counts.items():
            self.counts[field] += count
        for kind, histogram in other.times.items():
            self.times[kind].merge(histogram, weight)

    def subtract(self, other: Tally, weight: int = 1) -> None:
        """Takes another one away, of each count at most what is here."""
        for field, count in other.counts.items():
            self.counts[field] = max(0, self.counts[field] - count)
        for kind, histogram in other.times.items():
            self.times[kind].subtract(histogram, weight)

    def beyond(self, other: Tally) -> Tally:
        """What is counted and timed here and not in another one."""
        more = Tally()
        for field, count in self.counts.items():
            if count > (theirs := other.counts[field]):
                more.counts[field] = count - theirs
        more.times = {kind: histogram.beyond(other.times[kind]) for kind, histogram in self.times.items()}
        return more

    def covers(self, other: Tally) -> bool:
        """Whether all that is counted and timed in another one is here."""
        return all(self.counts[field] >= count for field, count in other.counts.items()) and all(
            histogram.covers(other.times[kind]) for kind, histogram in self.times.items()
        )


def whole_number(text: str, most: int) -> int | None:
    """The number that a text of the store says; None unless it is whole, positive and not above the most."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most))):
        return None
    return number if 0 < (number := int(text)) <= most else None
