"""Balanced: several aims at once, by declared weights."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.routing.strategies.latency import expected_latencies, expected_tries
from litellm_plugin.routing.strategies.ranking import Ranked, Ranking, bands_by_score, check_share

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from litellm_plugin.routing.candidates import Candidate
    from litellm_plugin.routing.decision import Assessment
    from litellm_plugin.routing.strategies.ranking import RankingContext

BALANCED_TERMS: Final = ("cost", "latency", "quality", "reliability", "load")
# Below these a difference is none, and a free or instant endpoint must not win by an infinite ratio.
_LEAST_COST_USD: Final = 1e-6
_LEAST_LATENCY_MS: Final = 1.0
_LEAST_QUALITY: Final = 0.01
_LARGEST_EXPONENT: Final = 700.0  # `math.exp` overflows above 709


@dataclass(frozen=True, slots=True)
class Balanced:
    """The least weighted geometric mean of the terms' ratios to the best candidate's.

    A ratio to the best says "twice as dear" and "twice as slow" in one unit. Multiplied, not added, the best only
    scales every score alike: a candidate that comes or goes never turns two others round, as it does with min-max
    scaling or with sums (the weighted product model; Bridgman, Dimensional Analysis, 1922, and, for the reversals of
    the others, Belton and Gear, Omega 11(3), 1983).

    What is not declared (a price, a quality) counts as the median of the known; what is not measured counts as in
    `Latency`.

    Attributes:
        weights: What each of `BALANCED_TERMS` counts; only their proportions matter.
        tiers: Every quality tier, the lowest first: the quality of a candidate that declares only a tier is the
            tier's place, as a share of the number of tiers.
        tolerance: How far a score may lie above the best and still be equal to it, as a share of it.

    Raises:
        ConfigurationError: A weight has an unknown name or is negative, all are 0, or the tolerance is not a share.
    """

    name: ClassVar[str] = "balanced"

    weights: Mapping[str, float] = field(hash=False)
    tiers: tuple[str, ...] = ()
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        for term, weight in self.weights.items():
            if term not in BALANCED_TERMS:
                raise ConfigurationError(f"weights: expected {', '.join(BALANCED_TERMS)}; got {term!r}")
            if not (math.isfinite(weight) and weight >= 0):
                raise ConfigurationError(f"weights: {term}: expected 0 or more, got {weight!r}")
        if not any(self.weights.values()):
            raise ConfigurationError("weights: expected one above 0, got none")
        check_share("tolerance", self.tolerance)

    def rank(self, inputs: Sequence[Assessment], context: RankingContext) -> Ranking:
        """Orders the candidates by the weighted mean of their terms."""
        total = sum(self.weights.values())
        values = self._values(inputs, context)
        ratios = {term: _ratios(values[term]) for term, weight in self.weights.items() if weight > 0}
        ranked = []
        for place, each in enumerate(inputs):
            logs = (self.weights[term] / total * math.log(of[place]) for term, of in ratios.items())
            score = math.exp(min(math.fsum(logs), _LARGEST_EXPONENT))
            terms = {"score": score, **{f"{term}_ratio": of[place] for term, of in ratios.items()}}
            ranked.append(Ranked(each, score, terms))
        return Ranking(bands_by_score(ranked, self.tolerance))

    def _values(
        self, inputs: Sequence[Assessment], context: RankingContext
    ) -> Mapping[str, Sequence[float | None]]:
        """Each term of each candidate, above 0 and lower is better; None where it is unknown."""
        latencies = [expected.latency_ms for expected in expected_latencies(inputs, context)]
        qualities = [self._quality(each.candidate) for each in inputs]
        return {
            "cost": [_at_least(_LEAST_COST_USD, each.expected_cost_usd) for each in inputs],
            "latency": [_at_least(_LEAST_LATENCY_MS, latency_ms) for latency_ms in latencies],
            "quality": [None if quality is None else 1 / quality for quality in qualities],
            "reliability": [expected_tries(each.statistics) for each in inputs],
            "load": [1.0 + max(0, each.in_flight) for each in inputs],
        }

    def _quality(self, candidate: Candidate) -> float | None:
        quality = candidate.quality
        if quality is None and candidate.tier in self.tiers:
            quality = (self.tiers.index(candidate.tier) + 1) / len(self.tiers)
        return _at_least(_LEAST_QUALITY, quality)


def _at_least(least: float, value: float | None) -> float | None:
    return max(least, value) if value is not None and math.isfinite(value) else None


def _ratios(values: Sequence[float | None]) -> list[float]:
    known = [value for value in values if value is not None]
    best = min(known, default=1.0)
    neutral = statistics.median(known) if known else 1.0
    return [(neutral if value is None else value) / best for value in values]
