"""Overspending: what becomes of a plan whose first candidate a budget does not cover."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from litellm_plugin.errors import Reason, Verdict
from litellm_plugin.routing.budgets import BudgetAction, WhenExceeded
from litellm_plugin.routing.decision import Exclusion
from litellm_plugin.routing.strategies import Cost, most_attempts, spread
from litellm_plugin.routing.strategies.ranking import listed_candidates
from litellm_plugin.routing.verdicts import over_budget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litellm_plugin.routing.budgets import BudgetReading
    from litellm_plugin.routing.decision import Assessment
    from litellm_plugin.routing.strategies import Ranked, RankingContext, Strategy

_ACTIONS = {
    WhenExceeded.REFUSE: BudgetAction.REFUSED,
    WhenExceeded.TIER: BudgetAction.TIER,
    WhenExceeded.CHEAPEST: BudgetAction.CHEAPEST,
}


@dataclass(frozen=True, slots=True)
class Affordable:
    """A plan as the budgets leave it.

    Attributes:
        order: The candidates in the order in which attempts take them.
        readings: The budgets that were read, each with what was done for it.
        notes: What a reader of the record must know of it.
        verdict: Why the request ends here; None when it does not.
    """

    order: list[Ranked]
    readings: tuple[BudgetReading, ...]
    notes: tuple[str, ...] = ()
    verdict: Verdict | None = None


def affordable(
    order: list[Ranked],
    readings: Sequence[BudgetReading],
    assessments: Sequence[Assessment],
    strategy: Strategy,
    context: RankingContext,
) -> Affordable:
    """Holds a plan against the budgets of its request.

    The request is over a budget when the plan's first candidate is expected to cost more than is left of it. Of the
    budgets that it is over the strictest counts: one that refuses, then one that degrades to a tier, then one that
    takes the cheapest. What those take is not held against the budget any more. Of a plan that is not over any
    budget, the candidates behind the first one that cost more than is left are dropped.

    Args:
        order: The plan by the rule's strategy, not yet cut.
        readings: The budgets that apply.
        assessments: All candidates; those that a budget of their own keeps out say so.
        strategy: The rule's; one that allows a single attempt keeps to its own candidates.
        context: The request.
    """
    kept_out = [each for each in assessments if each.exclusion is Exclusion.BUDGET]
    told = tuple(_told(each, kept_out) for each in readings)
    shared = [each for each in told if each.deployment_ids is None]
    if not order or not shared:
        return Affordable(order, told)
    over = [each for each in shared if not _covers(each, order[0])]
    if not over:
        return _trimmed(order, told, shared)
    action = next(way for way in WhenExceeded if any(each.budget.when_exceeded is way for each in over))
    acting = next(each for each in over if each.budget.when_exceeded is action)
    is_bound = most_attempts(strategy) is not None
    eligible = (
        [each.assessment for each in order]
        if is_bound
        else [each for each in assessments if each.exclusion is None]
    )
    match action:
        case WhenExceeded.CHEAPEST:
            return _degraded(told, acting, eligible, Cost(0.0), context)
        case WhenExceeded.TIER:
            within = [each for each in eligible if each.candidate.tier == acting.budget.tier]
            taken = strategy if any(strategy.rank(within, context)) else Cost()
            return _degraded(told, acting, within, taken, context)
        case _:
            return _refused(told, acting, context)


def _degraded(
    told: tuple[BudgetReading, ...],
    acting: BudgetReading,
    within: list[Assessment],
    strategy: Strategy,
    context: RankingContext,
) -> Affordable:
    if not within:
        return _refused(told, acting, context)
    order = [ranked for band in strategy.rank(within, context).bands for ranked in spread(band, context.seed)]
    by = f"tier {acting.budget.tier!r} alone" if acting.budget.tier is not None else "the cheapest first"
    note = f"budget {acting.budget.name}: does not cover this request, so {by}, instead of what the rule says"
    return Affordable(order, _acted(told, acting, _ACTIONS[acting.budget.when_exceeded]), (note,))


def _refused(told: tuple[BudgetReading, ...], acting: BudgetReading, context: RankingContext) -> Affordable:
    verdict = Verdict(Reason.BUDGET_EXCEEDED, over_budget(acting, context.scope))
    return Affordable([], _acted(told, acting, BudgetAction.REFUSED), verdict=verdict)


def _trimmed(
    order: list[Ranked], told: tuple[BudgetReading, ...], shared: Sequence[BudgetReading]
) -> Affordable:
    fits = [all(_covers(each, ranked) for each in shared) for ranked in order]
    if all(fits):
        return Affordable(order, told)
    kept = [ranked for ranked, is_covered in zip(order, fits, strict=True) if is_covered]
    dropped = [ranked.assessment for ranked, is_covered in zip(order, fits, strict=True) if not is_covered]
    note = f"budgets: less is left than these cost, so left out: {listed_candidates(dropped)}"
    return Affordable(kept, told, (note,))


def _covers(reading: BudgetReading, ranked: Ranked) -> bool:
    return reading.covers(ranked.assessment.expected_cost_usd)


def _acted(
    told: tuple[BudgetReading, ...], acting: BudgetReading, action: BudgetAction
) -> tuple[BudgetReading, ...]:
    return tuple(replace(each, action=action) if each is acting else each for each in told)


def _told(reading: BudgetReading, kept_out: Sequence[Assessment]) -> BudgetReading:
    """The reading, with what it did if it kept one of these candidates out."""
    if reading.deployment_ids is None:
        return reading
    keeps_out = any(
        reading.concerns(each.candidate.deployment_id) and not reading.covers(each.expected_cost_usd)
        for each in kept_out
    )
    return replace(reading, action=BudgetAction.KEPT_OUT) if keeps_out else reading
