"""Latency: what meets the request's budget first, then what misses it by least."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, ClassVar, Final

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.routing.strategies.ranking import Ranked, Ranking, bands_by_score, check_share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litellm_plugin.routing.candidates import EndpointStatistics
    from litellm_plugin.routing.decision import Assessment
    from litellm_plugin.routing.strategies.ranking import RankingContext

# Times of whole answers come from answers of all lengths and say little of one that is much longer: from twice
# the length that is assumed of an answer of which nothing is known, the time per token says more.
LONG_ANSWER_TOKENS: Final = 1_024
# With fewer values than this, their 95th percentile is nothing but the largest of them.
MINIMUM_SAMPLES: Final = 20
# A median says something sooner.
_MEDIAN_SAMPLES: Final = 5
# One request in so many looks at endpoints of which too little is known; more would cost callers what it finds out.
_EXPLORING: Final = 20


@dataclass(frozen=True, slots=True)
class Latency:
    """Candidates that meet the latency budget are equal and come first; without a budget, the fastest first.

    Attributes:
        tolerance: How far a latency may lie above the least and still be equal to it, as a share of it; applies to
            those that miss the budget, and to all where there is no budget.
        minimum_samples: How many attempts must have been seen before the tail counts; five are enough for medians.

    Raises:
        ConfigurationError: The tolerance is not a share, or the number of samples is below 1.
    """

    name: ClassVar[str] = "latency"

    tolerance: float = 0.1
    minimum_samples: int = MINIMUM_SAMPLES

    def __post_init__(self) -> None:
        check_share("tolerance", self.tolerance)
        if self.minimum_samples < 1:
            raise ConfigurationError(f"minimum_samples: expected 1 or more, got {self.minimum_samples}")

    def rank(self, inputs: Sequence[Assessment], context: RankingContext) -> Ranking:
        """Orders the candidates by expected latency against the budget."""
        expectations = expected_latencies(inputs, context, self.minimum_samples)
        budget_ms = context.facts.latency_budget_ms
        ranked = [
            Ranked(each, expected.score, expected.terms(budget_ms))
            for each, expected in zip(inputs, expectations, strict=True)
        ]
        if not any(expected.is_measured for expected in expectations):
            notes = ("latency: nothing is measured yet; failures alone decide",) if inputs else ()
            return Ranking(bands_by_score(ranked, self.tolerance), notes)
        if budget_ms is None:
            return Ranking(bands_by_score(ranked, self.tolerance))
        within = tuple(each for each in ranked if each.score is not None and each.score <= budget_ms)
        beyond = [each for each in ranked if each.score is None or each.score > budget_ms]
        if not within:
            note = f"latency: no candidate meets the budget of {budget_ms} ms; the least bad comes first"
            return Ranking(bands_by_score(beyond, self.tolerance), (note,))
        return Ranking((within, *bands_by_score(beyond, self.tolerance)))


@dataclass(frozen=True, slots=True)
class ExpectedLatency:
    """How long a candidate is expected to take.

    Attributes:
        latency_ms: What the request waits for, times `tries`: the 95th percentile against a budget, else the
            median; None where nothing is measured of any candidate.
        tries: How many tries one answer takes there, 1 or more.
        is_measured: Whether enough was seen of this candidate itself.
    """

    latency_ms: float | None
    tries: float
    is_measured: bool

    @property
    def score(self) -> float:
        """What to rank by, lower is better: milliseconds, or tries where nothing is measured of any candidate."""
        return self.tries if self.latency_ms is None else self.latency_ms

    def terms(self, budget_ms: int | None) -> dict[str, float]:
        """What decided, for the record."""
        terms: dict[str, float] = {"expected_tries": self.tries, "is_measured": int(self.is_measured)}
        if self.latency_ms is not None:
            terms["latency_ms"] = self.latency_ms
        if budget_ms is not None:
            terms["latency_budget_ms"] = budget_ms
        return terms


def expected_latencies(
    inputs: Sequence[Assessment], context: RankingContext, minimum_samples: int = MINIMUM_SAMPLES
) -> list[ExpectedLatency]:
    """The expected latency of each candidate, in the order of `inputs`.

    A failed try costs the caller about one answer's time and is then repeated, so the expected time is the
    latency times the expected number of tries of a geometric distribution, 1 / (1 - failure rate). Latencies are
    measured of answers and timeouts, never of errors: an endpoint that fails fast does not look fast.

    Where too little was seen, a candidate counts as fast as the best that is known for one request in twenty, by the
    seed, and as the median of the known for the others: optimism is what gets it tried ("optimism in the face of
    uncertainty", Lai and Robbins, Advances in Applied Mathematics 6(1), 1985), and a share of the requests bounds what
    that costs. Its failures count from the first.
    """
    tries = [expected_tries(each.statistics) for each in inputs]
    measured = [_measured_ms(each.statistics, context, minimum_samples) for each in inputs]
    known = [ms * times for ms, times in zip(measured, tries, strict=True) if ms is not None]
    explores = context.seed % _EXPLORING == 0
    neutral_ms = min(known, default=None) if explores or not known else median(known)
    return [_expectation(ms, times, neutral_ms) for ms, times in zip(measured, tries, strict=True)]


def expected_tries(statistics: EndpointStatistics | None) -> float:
    """How many tries one answer takes, 1 or more.

    One success is added to what was seen (Laplace's rule, one-sided): a first failure doubles the number instead
    of making it infinite, and an endpoint that never failed has exactly 1.
    """
    if statistics is None:
        return 1.0
    successes = max(0, statistics.attempts - statistics.failures)
    return (max(statistics.attempts, successes) + 1) / (successes + 1)


def _expectation(ms: float | None, tries: float, neutral_ms: float | None) -> ExpectedLatency:
    if ms is not None:
        return ExpectedLatency(ms * tries, tries, is_measured=True)
    return ExpectedLatency(None if neutral_ms is None else neutral_ms * tries, tries, is_measured=False)


def _measured_ms(
    statistics: EndpointStatistics | None, context: RankingContext, minimum_samples: int
) -> float | None:
    """What the caller waits for: the tail where there is a budget to meet, else what is usual."""
    if statistics is None:
        return None
    if context.facts.latency_budget_ms is not None:
        return _tail_ms(statistics, context) if statistics.attempts >= minimum_samples else None
    if statistics.attempts < min(minimum_samples, _MEDIAN_SAMPLES):
        return None
    usual_ms = _usual_ms(statistics, context)
    return _tail_ms(statistics, context) if usual_ms is None else usual_ms


def _tail_ms(statistics: EndpointStatistics, context: RankingContext) -> float | None:
    """The 95th percentile of the first token of a stream, else of the whole answer."""
    if context.facts.stream:
        return _positive(statistics.first_token_p95_ms)
    per_token_ms = _positive(statistics.output_token_p95_ms)
    if per_token_ms is not None and (context.output_tokens or 0) > LONG_ANSWER_TOKENS:
        first_token_ms = _positive(statistics.first_token_p95_ms) or 0.0
        return _positive(first_token_ms + per_token_ms * (context.output_tokens or 0))
    return _positive(statistics.total_p95_ms)


def _usual_ms(statistics: EndpointStatistics, context: RankingContext) -> float | None:
    """The median of the first token of a stream; else the median per token times the expected length.

    Medians tell which is faster with far fewer values than the tail does, and per token an endpoint that was given
    longer answers does not look slower.
    """
    if context.facts.stream:
        return _positive(statistics.first_token_p50_ms)
    per_token_ms = _positive(statistics.output_token_p50_ms)
    if per_token_ms is not None and context.output_tokens:
        return _positive(per_token_ms * context.output_tokens)
    return _positive(statistics.total_p50_ms)


def _positive(value_ms: float | None) -> float | None:
    return value_ms if value_ms is not None and math.isfinite(value_ms) and value_ms >= 0 else None
