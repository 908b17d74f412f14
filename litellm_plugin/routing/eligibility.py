"""Eligibility: the ordered filters that a candidate passes before any strategy sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from litellm_plugin.routing.budgets import by_deployment, uncovered
from litellm_plugin.routing.candidates import NO_AFFINITY, CandidateGroup
from litellm_plugin.routing.cost import MOST_ANSWERS, expected_cost, expected_output_tokens, route_of
from litellm_plugin.routing.decision import Assessment, Exclusion
from litellm_plugin.routing.health import HEALTHY, EndpointHealth

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from litellm_plugin.routing.budgets import BudgetReading
    from litellm_plugin.routing.candidates import Affinity, Candidate, StatisticsSnapshot
    from litellm_plugin.routing.cost import ExpectedCost
    from litellm_plugin.routing.facts import RequestFacts, RoutingScope


@dataclass(frozen=True, slots=True)
class Demand:
    """What the filters hold a candidate against.

    Attributes:
        facts: The request.
        scope: What its permit opens.
        tried: The deployment ids that earlier attempts took.
        shared_ids: The endpoints behind each deployment id that several endpoints share.
        context_margin: By which share the estimate of input tokens is raised against a context window.
        costs: What the request is expected to cost, by the deployment id of each authorized candidate; None
            where a price is unknown.
        full_costs: The same as if nothing of the prompt were cached anywhere, and all answers were given.
        health: Whether deployments may be asked now, by deployment id.
        budgets: The budgets that single candidates spend from and what is left of them, by deployment id.
        answer_tokens: The mean length of earlier answers like this request's; None when there were none.
    """

    facts: RequestFacts
    scope: RoutingScope
    tried: frozenset[str]
    shared_ids: Mapping[str, frozenset[str]]
    costs: Mapping[str, ExpectedCost | None]
    full_costs: Mapping[str, ExpectedCost | None]
    context_margin: float = 0.0
    health: Mapping[str, EndpointHealth] = field(default_factory=dict)
    answer_tokens: float | None = None
    budgets: Mapping[str, Sequence[BudgetReading]] = field(default_factory=dict)


Filter: TypeAlias = Callable[["Candidate", Demand], "str | None"]
"""Gives None when the candidate passes, else what is missing; an empty text where the reason says it all."""


# How many candidates outside the permit a decision looks at and a record lists: a large group must cost no more.
OUTSIDE_CANDIDATES = 64


def assess(
    candidates: Sequence[Candidate] | CandidateGroup,
    facts: RequestFacts,
    scope: RoutingScope,
    *,
    statistics: StatisticsSnapshot | None = None,
    tried: frozenset[str] = frozenset(),
    context_margin: float = 0.0,
    affinity: Affinity = NO_AFFINITY,
    budgets: Sequence[BudgetReading] = (),
) -> tuple[Assessment, ...]:
    """Holds each authorized candidate against the request and its permit, in the candidates' order.

    Each keeps the first filter that it fails. Cost and statistics are filled in for authorized candidates. Of the
    others the first 64 are listed. Of the budgets, those of candidates keep out whom they do not cover.
    """
    group = candidates if isinstance(candidates, CandidateGroup) else CandidateGroup.of(candidates)
    seen = [group.candidates[place] for place in group.places(scope.endpoints, OUTSIDE_CANDIDATES)]
    authorized = [each for each in seen if each.endpoint in scope.endpoints]
    answer_tokens = statistics.output_tokens.get(route_of(facts, scope)) if statistics else None
    costs = _costs(authorized, facts, scope, answer_tokens, affinity)
    # A cap is held against the full price: what a provider has cached, and that it gives no more answers than
    # others do, are guesses, and must not widen a permit.
    answers = max(MOST_ANSWERS, facts.output_count)
    is_guessed = scope.max_cost_usd is not None and (bool(affinity.warm_tokens) or answers > MOST_ANSWERS)
    full = (
        _costs(authorized, facts, scope, answer_tokens, NO_AFFINITY, most_answers=answers)
        if is_guessed
        else costs
    )
    known = statistics.health if statistics else {}
    demand = Demand(
        facts,
        scope,
        tried,
        group.shared_ids,
        costs,
        full,
        context_margin,
        health={each.deployment_id: known.get(each.deployment_id, HEALTHY) for each in authorized},
        answer_tokens=answer_tokens,
        budgets=by_deployment(budgets),
    )
    return tuple(_assessment(each, demand, statistics) for each in seen)


def identity_exclusion(candidate: Candidate, facts: RequestFacts, scope: RoutingScope) -> Exclusion | None:
    """Why a candidate may not receive the request whatever its state; None when it may.

    It looks at authorization, clearances, attributes and region: what a candidate is, and not what it costs or does.
    """
    demand = Demand(facts, scope, frozenset(), {}, {}, {})
    return next(
        (exclusion for exclusion, missing in FILTERS[:4] if missing(candidate, demand) is not None), None
    )


def _costs(
    authorized: Iterable[Candidate],
    facts: RequestFacts,
    scope: RoutingScope,
    answer_tokens: float | None,
    affinity: Affinity,
    *,
    most_answers: int = MOST_ANSWERS,
) -> dict[str, ExpectedCost | None]:
    return {
        each.deployment_id: expected_cost(
            each,
            facts,
            tenant_tier=scope.tenant_tier,
            warm_tokens=affinity.warm_tokens.get(each.deployment_id, 0),
            answer_tokens=answer_tokens,
            most_answers=most_answers,
        )
        for each in authorized
    }


def _assessment(candidate: Candidate, demand: Demand, statistics: StatisticsSnapshot | None) -> Assessment:
    if candidate.endpoint not in demand.scope.endpoints:
        # Most candidates of a large group end here.
        return Assessment(candidate, Exclusion.NOT_AUTHORIZED)
    exclusion, detail = _first_failure(candidate, demand)
    if exclusion is Exclusion.NOT_AUTHORIZED:
        return Assessment(candidate, exclusion, detail)
    cost = demand.costs[candidate.deployment_id]
    return Assessment(
        candidate,
        exclusion,
        detail,
        expected_cost_usd=cost.total_usd if cost else None,
        cost_terms=cost.terms if cost else {},
        expected_output_tokens=cost.output_tokens if cost else None,
        statistics=statistics.by_deployment.get(candidate.deployment_id) if statistics else None,
        in_flight=statistics.in_flight.get(candidate.deployment_id, 0) if statistics else 0,
        health=demand.health.get(candidate.deployment_id, HEALTHY),
    )


def _first_failure(candidate: Candidate, demand: Demand) -> tuple[Exclusion | None, str]:
    for exclusion, missing in FILTERS:
        detail = missing(candidate, demand)
        if detail is not None:
            return exclusion, detail
    return None, ""


def _authorization(candidate: Candidate, demand: Demand) -> str | None:
    if candidate.endpoint not in demand.scope.endpoints:
        return ""
    # The proxy calls by deployment id: an id that two endpoints share could lead outside the permit.
    shared = demand.shared_ids.get(candidate.deployment_id)
    return "deployment id is not unique" if shared and not shared <= demand.scope.endpoints else None


def _clearance(candidate: Candidate, demand: Demand) -> str | None:
    classification = demand.scope.data_classification
    if candidate.clearances is None or classification in candidate.clearances:
        return None
    return classification


def _attributes(candidate: Candidate, demand: Demand) -> str | None:
    return _listed(demand.scope.requirements - candidate.attributes)


def _region(candidate: Candidate, demand: Demand) -> str | None:
    regions = demand.scope.regions
    if regions is None or candidate.region in regions:
        return None
    return candidate.region or "undeclared"


def _language(candidate: Candidate, demand: Demand) -> str | None:
    """A language that could not be told keeps nobody out."""
    language = demand.facts.language
    if candidate.languages is None or language is None or language in candidate.languages:
        return None
    return language


def _capabilities(candidate: Candidate, demand: Demand) -> str | None:
    return _listed(demand.facts.needs - candidate.capabilities)


def _context_window(candidate: Candidate, demand: Demand) -> str | None:
    needed = round(demand.facts.window_tokens * (1.0 + demand.context_margin))
    asked, window, longest = (
        demand.facts.max_output_tokens,
        candidate.max_input_tokens,
        candidate.max_output_tokens,
    )
    if window is not None and needed > window:
        return f"about {needed} tokens, window {window}"
    if longest is not None and asked is not None and asked > longest:
        return f"{asked} output tokens asked for, at most {longest}"
    return None


def _latency_class(candidate: Candidate, demand: Demand) -> str | None:
    latency_class = demand.scope.latency_class
    if candidate.latency_classes is None or latency_class in candidate.latency_classes:
        return None
    return latency_class


def _max_cost(candidate: Candidate, demand: Demand) -> str | None:
    limit_usd = demand.scope.max_cost_usd
    if limit_usd is None:
        return None
    cost = demand.full_costs[candidate.deployment_id]
    if cost is None:
        return "unknown cost"
    if cost.total_usd <= limit_usd:
        return None
    return f"about {cost.total_usd:.6f} USD, limit {limit_usd:.6f}"


def _availability(candidate: Candidate, _demand: Demand) -> str | None:
    return None if candidate.is_available else ""


def _breaker(candidate: Candidate, demand: Demand) -> str | None:
    health = demand.health.get(candidate.deployment_id, HEALTHY)
    return health.cause if health.is_open else None


def _provider_limit(candidate: Candidate, demand: Demand) -> str | None:
    return demand.health.get(candidate.deployment_id, HEALTHY).waits or None


def _quota(candidate: Candidate, demand: Demand) -> str | None:
    health = demand.health.get(candidate.deployment_id, HEALTHY)
    if health is HEALTHY:
        return None
    # Not the expected cost's: a length is expected where a price is unknown, too.
    answer_tokens = expected_output_tokens(demand.facts, demand.answer_tokens, candidate.max_output_tokens)
    return quota_missing(health, demand.facts, answer_tokens)


def quota_missing(health: EndpointHealth, facts: RequestFacts, answer_tokens: float | None) -> str | None:
    """What of a worker's share of a limit is used up for this request; None where there is enough."""
    if health.requests_left is not None and health.requests_left < 1:
        return "no requests left"
    if health.tokens_left is None:
        return None
    needed = facts.input_tokens + round(answer_tokens or 0)
    return f"about {needed} tokens, {health.tokens_left} left" if needed > health.tokens_left else None


def _budget(candidate: Candidate, demand: Demand) -> str | None:
    own = demand.budgets.get(candidate.deployment_id)
    if not own:
        return None
    cost = demand.costs[candidate.deployment_id]
    spent = uncovered(candidate.deployment_id, cost.total_usd if cost else None, own)
    return None if spent is None else f"{spent.budget.name}, resets at {spent.account.resets_at}"


def _untried(candidate: Candidate, demand: Demand) -> str | None:
    return "" if candidate.deployment_id in demand.tried else None


FILTERS: tuple[tuple[Exclusion, Filter], ...] = (
    (Exclusion.NOT_AUTHORIZED, _authorization),
    (Exclusion.NOT_CLEARED, _clearance),
    (Exclusion.ATTRIBUTE_MISSING, _attributes),
    (Exclusion.REGION, _region),
    (Exclusion.LANGUAGE, _language),
    (Exclusion.CAPABILITY, _capabilities),
    (Exclusion.CONTEXT_WINDOW, _context_window),
    (Exclusion.LATENCY_CLASS, _latency_class),
    (Exclusion.MAX_COST, _max_cost),
    (Exclusion.UNAVAILABLE, _availability),
    (Exclusion.BREAKER_OPEN, _breaker),
    (Exclusion.RATE_LIMITED, _provider_limit),
    (Exclusion.QUOTA, _quota),
    (Exclusion.BUDGET, _budget),
    (Exclusion.ALREADY_TRIED, _untried),
)


def _listed(missing: Iterable[str]) -> str | None:
    return ", ".join(sorted(missing)) or None
