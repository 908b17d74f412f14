"""The planner: request, scope and candidates in, decision out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.routing.decision import Decision, Exclusion
from litellm_plugin.routing.eligibility import assess
from litellm_plugin.routing.strategies import RankingContext
from litellm_plugin.routing.verdicts import verdict_without_plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from litellm_plugin.errors import Verdict
    from litellm_plugin.routing.candidates import Candidate, StatisticsSnapshot
    from litellm_plugin.routing.decision import Assessment
    from litellm_plugin.routing.facts import RequestFacts, RoutingScope
    from litellm_plugin.routing.rules import Rule, RuleSet


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
    """
    assessments = assess(candidates, facts, scope, statistics=statistics, tried=tried)
    rule, match = policy.rules.match({**facts.names(), **scope.names()})
    context = RankingContext(facts, seed)
    plan = _plan(rule, assessments, context, scope)[: policy.attempts]
    return Decision(
        facts=facts,
        scope=scope,
        assessments=_with_ranks(assessments, plan),
        rule=match,
        plan=plan,
        verdict=None if plan else _verdict(rule, assessments, context, scope, tried),
        seed=seed,
    )


def _plan(
    rule: Rule, assessments: Iterable[Assessment], context: RankingContext, scope: RoutingScope
) -> tuple[Candidate, ...]:
    """Ranks what is eligible, and holds the strategy's answer against the permit once more.

    The candidates come from our own assessments, by deployment id: a strategy can reorder and leave out,
    but neither add one nor rename one.
    """
    eligible = [each for each in assessments if each.exclusion is None]
    own = {each.candidate.deployment_id: each.candidate for each in eligible}
    ranked_ids = dict.fromkeys(each.candidate.deployment_id for each in rule.strategy.rank(eligible, context))
    plan = (own[deployment_id] for deployment_id in ranked_ids if deployment_id in own)
    return tuple(candidate for candidate in plan if candidate.endpoint in scope.endpoints)


def _with_ranks(assessments: tuple[Assessment, ...], plan: tuple[Candidate, ...]) -> tuple[Assessment, ...]:
    ranks = {candidate.deployment_id: rank for rank, candidate in enumerate(plan)}
    return tuple(
        replace(each, rank=ranks[each.candidate.deployment_id])
        if each.exclusion is None and each.candidate.deployment_id in ranks
        else each
        for each in assessments
    )


def _verdict(
    rule: Rule,
    assessments: Sequence[Assessment],
    context: RankingContext,
    scope: RoutingScope,
    tried: frozenset[str],
) -> Verdict:
    """Tells a refusal from an outage: the rule is asked again as if every endpoint were up and untried."""
    survivors = [each for each in assessments if each.exclusion is None or each.exclusion.is_health]
    wanted = {each.candidate.deployment_id for each in rule.strategy.rank(survivors, context)}
    return verdict_without_plan(
        facts=context.facts,
        scope=scope,
        rule_name=rule.name,
        authorized=[each for each in assessments if each.exclusion is not Exclusion.NOT_AUTHORIZED],
        survivors=survivors,
        wanted=[each for each in survivors if each.candidate.deployment_id in wanted],
        tried=tried,
    )
