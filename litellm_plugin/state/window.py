"""The rolling window: the tallies of one deployment in slices that expire as a whole, and their decaying sum."""

from __future__ import annotations

from typing import Final

from litellm_plugin.routing.candidates import EndpointStatistics
from litellm_plugin.state.tally import ATTEMPTS, FAILURES, OUTPUT_TOKENS, Tally, Timed

_FRACTIONS: Final = 0.5, 0.95, 0.99
# Weights are whole numbers, so that what a slice added can be taken away exactly; with 20 bits the oldest slice's
# weight is right to 1 in 1,000 if it is worth a thousandth of the newest.
_WEIGHT_BITS: Final = 20
_MOST_DOUBLINGS: Final = 64


class RollingWindow:
    """The slices of one deployment and their sum.

    Latencies decay: what is one half-life older weighs half as much in the quantiles, which stay quantiles of
    values that were measured, within the histogram's relative error. Attempts and failures are plain counts. The
    weights grow with a slice's number instead of shrinking with its age, so that nothing is computed anew as time
    goes by (forward decay: Cormode, Shkapenyuk, Srivastava and Xu, ICDE 2009, section III).

    Args:
        half_life: In slices; None for no decay.
    """

    __slots__ = ("_half_life", "_landmark", "_slices", "_statistics", "_sum")

    def __init__(self, half_life: float | None) -> None:
        self._half_life = half_life
        self._landmark: int | None = None
        self._slices: dict[int, Tally] = {}
        self._sum = Tally()
        self._statistics: EndpointStatistics | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left of it."""
        return not self._slices

    def add(self, number: int, tally: Tally) -> None:
        """Adds a tally to the slice of this number."""
        if number not in self._slices:
            self._slices[number] = Tally()
            self._move_landmark(number)
        self._slices[number].merge(tally)
        self._sum.merge(tally, self._weight(number))
        self._statistics = None

    def expire(self, *, before: int) -> None:
        """Forgets the slices of smaller numbers."""
        if self.is_empty or min(self._slices) >= before:
            return
        for number in [each for each in self._slices if each < before]:
            self._sum.subtract(self._slices.pop(number), self._weight(number))
        self._statistics = None

    def statistics(self) -> EndpointStatistics:
        """What the window holds; computed once per change."""
        if self._statistics is None:
            self._statistics = _statistics(self._sum)
        return self._statistics

    def report(self) -> dict[str, object]:
        """What operators are told of the window: attempts, failures, errors by class and output tokens."""
        counts = self._sum.counts
        return {
            "attempts": counts[ATTEMPTS],
            "failures": counts[FAILURES],
            "errors": self._sum.errors,
            "output_tokens": counts[OUTPUT_TOKENS],
        }

    def _weight(self, number: int) -> int:
        if self._half_life is None or self._landmark is None:
            return 1
        return max(1, int(2.0 ** (_WEIGHT_BITS + (number - self._landmark) / self._half_life)))

    def _move_landmark(self, number: int) -> None:
        """Keeps the weights from growing without end: the sum is made anew, once in 64 half-lives."""
        if self._half_life is None:
            return
        if self._landmark is None:
            self._landmark = number
        elif (number - self._landmark) / self._half_life > _MOST_DOUBLINGS:
            self._landmark = number
            self._sum = Tally()
            for each, tally in self._slices.items():
                self._sum.merge(tally, self._weight(each))


def _statistics(tally: Tally) -> EndpointStatistics:
    quantiles = (tally.times[kind].quantiles_ms(*_FRACTIONS) for kind in Timed)
    total, first_token, output_token = quantiles
    return EndpointStatistics(
        tally.counts[ATTEMPTS],
        tally.counts[FAILURES],
        *total,
        *first_token,
        *output_token,
    )
