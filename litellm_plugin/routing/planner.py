"""The planner: request, scope and candidates in, decision out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.routing.candidates import NO_AFFINITY
from litellm_plugin.routing.decision import Decision, Exclusion
from litellm_plugin.routing.eligibility import assess
from litellm_plugin.routing.strategies import RankingContext, spread
from litellm_plugin.routing.verdicts import verdict_without_plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from litellm_plugin.errors import Verdict
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

    Raises:
        ConfigurationError: `attempts` is below 1.
    """

    rules: RuleSet
    attempts: int

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ConfigurationError(f"attempts: expected 1 or more, got {self.attempts}")


def decide(
    policy: RoutingPolicy,
    facts: RequestFacts,
    scope: RoutingScope,
    candidates: Sequence[Candidate],
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
    context = RankingContext(facts, scope, seed, affinity or NO_AFFINITY)
    assessments = assess(
        candidates, facts, scope, statistics=statistics, tried=tried, affinity=context.affinity
    )
    rule, match = policy.rules.match({**facts.names(), **scope.names()})
    ranking = rule.strategy.rank([each for each in assessments if each.exclusion is None], context)
    order = _order(ranking, assessments, context)[: policy.attempts]
    plan = tuple(ranked.assessment.candidate for ranked in order)
    return Decision(
        facts=facts,
        scope=scope,
        assessments=_with_ranks(assessments, order),
        rule=match,
        plan=plan,
        verdict=None if plan else _verdict(rule, assessments, context, tried),
        seed=seed,
        notes=ranking.notes,
    )


def _order(ranking: Ranking, assessments: Iterable[Assessment], context: RankingContext) -> list[Ranked]:
    """Spreads each band, and holds the strategy's answer against the permit once more.

    The candidates come from our own assessments, by deployment id: a strategy can reorder and leave out,
    but neither add one nor rename one.
    """
    own = {each.candidate.deployment_id: each for each in assessments if each.exclusion is None}
    order: dict[str, Ranked] = {}
    for band in ranking.bands:
        for ranked in spread(band, context.seed):
            deployment_id = ranked.assessment.candidate.deployment_id
            mine = own.get(deployment_id)
            if mine is not None and mine.candidate.endpoint in context.scope.endpoints:
                order.setdefault(deployment_id, replace(ranked, assessment=mine))
    return list(order.values())


def _with_ranks(assessments: tuple[Assessment, ...], order: Sequence[Ranked]) -> tuple[Assessment, ...]:
    ranks = {ranked.assessment.candidate.deployment_id: (rank, ranked) for rank, ranked in enumerate(order)}
    return tuple(_with_rank(each, ranks) for each in assessments)


def _with_rank(assessment: Assessment, ranks: Mapping[str, tuple[int, Ranked]]) -> Assessment:
    if assessment.exclusion is not None or assessment.candidate.deployment_id not in ranks:
        return assessment
    rank, ranked = ranks[assessment.candidate.deployment_id]
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
