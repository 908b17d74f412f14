"""Panic mode: what a request gets whose endpoints would all serve it but for breakers, and for waits nobody asked for.

A breaker protects an endpoint from requests that would fail, and so does the wait after a 429 that named no time. Where nothing else is left, one that may fail is
better than none; it stays inside the permit's set, and it is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from litellm_plugin.routing.attempts import AttemptStatus
from litellm_plugin.routing.decision import Exclusion
from litellm_plugin.routing.eligibility import quota_missing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from litellm_plugin.routing.decision import Assessment, Decision
    from litellm_plugin.routing.facts import RequestFacts
    from litellm_plugin.routing.strategies import Ranked

PASSABLE = frozenset({Exclusion.BREAKER_OPEN, Exclusion.RATE_LIMITED})
"""What panic mode may plan an attempt through."""

# What the operator must repair does not pass by being asked.
_FAULTS = frozenset({AttemptStatus.PROVIDER_AUTH, AttemptStatus.MISCONFIGURED})


def shut_by_breaker_alone(
    assessments: Iterable[Assessment], facts: RequestFacts, tried: frozenset[str]
) -> list[Assessment]:
    """The candidates that would be eligible if their breakers were closed."""
    return [
        each
        for each in assessments
        if each.exclusion is Exclusion.BREAKER_OPEN
        and not each.health.waits
        and _is_free_otherwise(each, facts, tried)
    ]


def shut_for_now(
    assessments: Iterable[Assessment], facts: RequestFacts, tried: frozenset[str]
) -> list[Assessment]:
    """The candidates that only breakers keep out, or waits that no provider is known to have asked for."""
    return [
        each
        for each in assessments
        if each.exclusion in PASSABLE
        and (not each.health.waits or each.health.waits_unasked)
        and _is_free_otherwise(each, facts, tried)
    ]


def missed_by_breakers(decision: Decision) -> tuple[str, ...]:
    """The deployment ids that breakers alone kept a decision from: where its worker wants to probe."""
    shut = shut_by_breaker_alone(decision.assessments, decision.facts, decision.tried)
    return tuple(each.candidate.deployment_id for each in shut)


def least_bad(order: Sequence[Ranked]) -> Ranked:
    """The one to ask: what the operator need not repair, then what is only waited for, then the fewest failures.

    Of equals, and of those that are waited for, the one that may be asked soonest.

    Args:
        order: The candidates as the strategy would take them; it decides between equals. At least one.
    """
    return min(order, key=lambda ranked: _badness(ranked.assessment))


def panic_note(assessment: Assessment) -> str:
    """Says in the record that this attempt goes through an open breaker, or through a wait."""
    health = assessment.health
    if assessment.exclusion is Exclusion.RATE_LIMITED:
        return (
            f"every endpoint is shut: one attempt at the least bad, {assessment.candidate.endpoint}"
            f" ({health.waits}; left alone for {health.retry_after_s or 0.0:.1f} s more)"
        )
    when = f"open for {health.retry_after_s:.1f} s more" if health.retry_after_s else "half open"
    return (
        f"every breaker is open: one attempt at the least bad, {assessment.candidate.endpoint}"
        f" ({health.cause or 'no cause'}; {when})"
    )


def _is_free_otherwise(assessment: Assessment, facts: RequestFacts, tried: frozenset[str]) -> bool:
    return (
        quota_missing(assessment.health, facts, assessment.expected_output_tokens) is None
        and assessment.candidate.deployment_id not in tried
    )


def _badness(assessment: Assessment) -> tuple[bool, bool, float, float]:
    if assessment.exclusion is Exclusion.RATE_LIMITED:
        return False, False, 0.0, assessment.health.retry_after_s or 0.0
    health, seen = assessment.health, assessment.statistics
    attempts, failures = (seen.attempts, seen.failures) if seen else (0, 0)
    # Laplace's rule of succession: one failure of one says less than a hundred of a hundred.
    return health.cause in _FAULTS, True, (failures + 1) / (attempts + 2), health.retry_after_s or 0.0
