"""The planner: request, scope and candidates in, decision out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.routing.budgets import read_budgets, uncovered
from litellm_plugin.routing.candidates import NO_AFFINITY, CandidateGroup
from litellm_plugin.routing.cost import expected_output_tokens, route_of
from litellm_plugin.routing.decision import Decision, Exclusion
from litellm_plugin.routing.eligibility import assess
from litellm_plugin.routing.health import WhenAllOpen
from litellm_plugin.routing.latency_classes import LatencyClass
from litellm_plugin.routing.overspending import affordable
from litellm_plugin.routing.panic import least_bad, panic_note, shut_for_now
from litellm_plugin.routing.retries import RetryPolicy
from litellm_plugin.routing.stickiness import Stickiness, stick
from litellm_plugin.routing.strategies import RankingContext, most_attempts, spread
from litellm_plugin.routing.strategies.ranking import listed
from litellm_plugin.routing.verdicts import verdict_without_plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from litellm_plugin.errors import Verdict
    from litellm_plugin.routing.budgets import Budget, BudgetReading
    from litellm_plugin.routing.candidates import Affinity, Candidate, StatisticsSnapshot
    from litellm_plugin.routing.decision import Assessment
    from litellm_plugin.routing.facts import RequestFacts, RoutingScope
    from litellm_plugin.routing.rules import Rule, RuleSet
    from litellm_plugin.routing.strategies import Ranked, Ranking


@dataclass(frozen=True, slots=True)
class RoutingPolicy:
    """What the operator configured of routing.

    Attributes:
        rules: Which strategy a request gets.
        attempts: How many candidates a plan holds at most; 1 or more.
        latency_classes: What each latency class allows; one that is not listed allows everything.
        context_margin: By which share the estimate of input tokens is raised against a context window; 0 or more.
        follows_preferences: Whether a permit's `preferences` reorder what the strategy ranked.
        retries: When a failed attempt is followed by another one.
        stickiness: When a conversation stays where it was answered.
        when_all_open: What a request gets that breakers, or waits that nobody asked for, alone keep from being served.
        budgets: How much may be spent, by whom or where.

    Raises:
        ConfigurationError: `attempts` is below 1, or the margin is negative or no number.
    """

    rules: RuleSet
    attempts: int
    latency_classes: Mapping[str, LatencyClass] = field(default_factory=dict, hash=False)
    context_margin: float = 0.0
    follows_preferences: bool = True
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    stickiness: Stickiness = field(default_factory=Stickiness)
    when_all_open: WhenAllOpen = WhenAllOpen.LEAST_BAD
    budgets: tuple[Budget, ...] = ()

    def reads(self, name: str) -> bool:
        """Whether a rule or a budget reads this fact."""
        return self.rules.reads(name) or any(each.where and name in each.where.names for each in self.budgets)

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ConfigurationError(f"attempts: expected 1 or more, got {self.attempts}")
        if not 0.0 <= self.context_margin < math.inf:
            raise ConfigurationError(f"context_margin: expected 0 or more, got {self.context_margin}")


def decide(
    policy: RoutingPolicy,
    facts: RequestFacts,
    scope: RoutingScope,
    candidates: Sequence[Candidate] | CandidateGroup,
    *,
    statistics: StatisticsSnapshot | None,
    seed: int,
    tried: frozenset[str] = frozenset(),
    affinity: Affinity | None = None,
) -> Decision:
    """Chooses where a request may go and in which order; the same arguments give the same decision.

    Args:
        policy: Rules and the number of attempts.
        facts: The request.
        scope: What its permit opens; every candidate of the plan lies inside it.
        candidates: All deployments of the model group, those that are not available included.
        statistics: What was measured of them; None when nothing was.
        seed: What ties are broken with.
        tried: The deployment ids that earlier attempts of this request took; they do not come back.
        affinity: What earlier requests of the same tenant and classification left where; None for nothing.
    """
    facts = _latency_class(policy, scope).with_default(facts)
    group = candidates if isinstance(candidates, CandidateGroup) else CandidateGroup.of(candidates)
    context = RankingContext(
        facts,
        scope,
        seed,
        affinity or NO_AFFINITY,
        output_tokens=expected_output_tokens(facts, _answer_tokens(facts, scope, statistics)),
    )
    budgets = _budgets(policy, facts, scope, group, statistics)
    assessments = assess(
        group,
        facts,
        scope,
        statistics=statistics,
        tried=tried,
        affinity=context.affinity,
        context_margin=policy.context_margin,
        budgets=budgets,
    )
    return replace(choose(policy, context, assessments, tried, budgets), deployment_ids=group.deployment_ids)


def choose(
    policy: RoutingPolicy,
    context: RankingContext,
    assessments: tuple[Assessment, ...],
    tried: frozenset[str] = frozenset(),
    budgets: tuple[BudgetReading, ...] = (),
) -> Decision:
    """Makes the plan out of candidates that were held against the request already.

    Args:
        policy: Rules and the number of attempts.
        context: The request and what ties are broken with.
        assessments: The candidates with what keeps them out.
        tried: The deployment ids that earlier attempts of this request took.
        budgets: The budgets that apply, and what is left of them.
    """
    facts, scope = context.facts, context.scope
    rule, match = policy.rules.match({**facts.names(), **scope.names()})
    most = most_attempts(rule.strategy)
    attempts = policy.attempts if most is None else min(most, policy.attempts)
    decision = Decision(
        facts=facts,
        scope=scope,
        assessments=assessments,
        rule=match,
        plan=(),
        verdict=_latency_class(policy, scope).refusal(facts, scope),
        seed=context.seed,
        affinity=context.affinity,
        output_tokens=context.output_tokens,
        attempts=attempts,
        tried=tried,
        most_attempts=most,
        budgets=budgets,
    )
    is_authorized = any(each.exclusion is not Exclusion.NOT_AUTHORIZED for each in assessments)
    if decision.verdict is not None and is_authorized:
        return decision
    eligible = [each for each in assessments if each.exclusion is None]
    if not eligible:
        return _without_eligible(policy, rule, decision, context)
    ranking = rule.strategy.rank(eligible, context)
    preferences = scope.preferences if policy.follows_preferences else ()
    order, kept = stick(policy.stickiness, _order(ranking, eligible, context), ranking, context)
    order, preferred = _preferred(order, preferences)
    paid = affordable(order, budgets, assessments, rule.strategy, context)
    order = _own(paid.order, eligible, context)[:attempts]
    return replace(
        decision,
        assessments=_with_ranks(assessments, order),
        plan=tuple(ranked.assessment.candidate for ranked in order),
        verdict=None if order else paid.verdict or _verdict(rule, assessments, context, tried),
        notes=(*ranking.notes, *kept, *preferred, *paid.notes),
        budgets=paid.readings,
    )


def _without_eligible(
    policy: RoutingPolicy, rule: Rule, decision: Decision, context: RankingContext
) -> Decision:
    """One attempt at the least bad where breakers and unasked waits alone stand in the way, or the verdict.

    A request that had an attempt gets none through them: it would be a retry against bad odds.
    """
    assessments, tried = decision.assessments, decision.tried
    shut = [
        each
        for each in shut_for_now(assessments, context.facts, tried)
        if not uncovered(each.candidate.deployment_id, each.expected_cost_usd, decision.budgets)
    ]
    ranking = rule.strategy.rank(shut, context)
    order = _order(ranking, shut, context)
    if not order or tried or policy.when_all_open is WhenAllOpen.REFUSE:
        return replace(decision, verdict=_verdict(rule, assessments, context, tried), notes=(*ranking.notes,))
    taken = least_bad(order)
    offered = [replace(taken.assessment, exclusion=None)]
    paid = affordable([taken], decision.budgets, offered, rule.strategy, context)
    if paid.verdict is not None:
        return replace(decision, verdict=paid.verdict, notes=(*ranking.notes,), budgets=paid.readings)
    return replace(
        decision,
        assessments=_with_ranks(assessments, [taken]),
        plan=(taken.assessment.candidate,),
        verdict=None,
        notes=(*ranking.notes, panic_note(taken.assessment), *paid.notes),
        budgets=paid.readings,
    )


def _latency_class(policy: RoutingPolicy, scope: RoutingScope) -> LatencyClass:
    return policy.latency_classes.get(scope.latency_class, LatencyClass())


def _budgets(
    policy: RoutingPolicy,
    facts: RequestFacts,
    scope: RoutingScope,
    group: CandidateGroup,
    statistics: StatisticsSnapshot | None,
) -> tuple[BudgetReading, ...]:
    if not policy.budgets:
        return ()
    authorized = [group.candidates[place] for place in group.places(scope.endpoints, 0)]
    return read_budgets(policy.budgets, facts, scope, authorized, statistics.budgets if statistics else {})


def _answer_tokens(
    facts: RequestFacts, scope: RoutingScope, statistics: StatisticsSnapshot | None
) -> float | None:
    return statistics.output_tokens.get(route_of(facts, scope)) if statistics else None


def _order(ranking: Ranking, offered: Iterable[Assessment], context: RankingContext) -> list[Ranked]:
    """Spreads each band, and holds the strategy's answer against the permit once more."""
    ranked = [each for band in ranking.bands for each in spread(band, context.seed)]
    return _own(ranked, offered, context)


def _own(order: Iterable[Ranked], offered: Iterable[Assessment], context: RankingContext) -> list[Ranked]:
    """Those of an order that were offered and lie inside the permit, each once.

    The candidates come from our own assessments, by deployment id: a strategy can reorder and leave out,
    but neither add one nor rename one.
    """
    own = {each.candidate.deployment_id: each for each in offered}
    kept: dict[str, Ranked] = {}
    for ranked in order:
        deployment_id = ranked.assessment.candidate.deployment_id
        mine = own.get(deployment_id)
        if mine is not None and mine.candidate.endpoint in context.scope.endpoints:
            kept.setdefault(deployment_id, replace(ranked, assessment=mine))
    return list(kept.values())


def _preferred(order: list[Ranked], preferences: Sequence[str]) -> tuple[list[Ranked], tuple[str, ...]]:
    """Puts the permit's preferred endpoints first, in its order; the others keep theirs."""
    places = {endpoint: place for place, endpoint in enumerate(dict.fromkeys(preferences))}
    taken = [places.get(ranked.assessment.candidate.endpoint, len(places)) for ranked in order]
    if taken == sorted(taken):
        return order, ()
    by_place = sorted(zip(taken, range(len(order)), strict=True))
    note = f"the permit's preferences reordered the plan: {listed(preferences)}"
    return [order[position] for _, position in by_place], (note,)


def _with_ranks(assessments: tuple[Assessment, ...], order: Sequence[Ranked]) -> tuple[Assessment, ...]:
    ranks = {ranked.assessment.candidate.deployment_id: (rank, ranked) for rank, ranked in enumerate(order)}
    return tuple(_with_rank(each, ranks) for each in assessments)


def _with_rank(assessment: Assessment, ranks: Mapping[str, tuple[int, Ranked]]) -> Assessment:
    rank, ranked = ranks.get(assessment.candidate.deployment_id, (None, None))
    if ranked is None or assessment.exclusion is not ranked.assessment.exclusion:
        return assessment
    return replace(assessment, rank=rank, terms=ranked.terms)


def _verdict(
    rule: Rule,
    assessments: Sequence[Assessment],
    context: RankingContext,
    tried: frozenset[str],
) -> Verdict:
    """Tells a refusal from an outage: the rule is asked again as if every endpoint were up and untried."""
    survivors = [each for each in assessments if each.exclusion is None or each.exclusion.is_health]
    wanted = {each.assessment.candidate.deployment_id for each in rule.strategy.rank(survivors, context)}
    return verdict_without_plan(
        facts=context.facts,
        scope=context.scope,
        rule_name=rule.name,
        authorized=[each for each in assessments if each.exclusion is not Exclusion.NOT_AUTHORIZED],
        survivors=survivors,
        wanted=[each for each in survivors if each.candidate.deployment_id in wanted],
        tried=tried,
    )
