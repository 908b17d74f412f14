"""Replay: a decision made again from its record and the policy, to see that it comes out the same."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from litellm_plugin.routing.budgets import BudgetAccount, BudgetReading
from litellm_plugin.routing.candidates import Affinity, Candidate, EndpointStatistics
from litellm_plugin.routing.decision import Assessment, Exclusion
from litellm_plugin.routing.facts import CallType, Capability, Moment, RequestFacts, RoutingScope
from litellm_plugin.routing.health import HEALTHY, BreakerState, EndpointHealth
from litellm_plugin.routing.planner import choose
from litellm_plugin.routing.strategies import RankingContext

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from litellm_plugin.routing.budgets import Budget
    from litellm_plugin.routing.decision import Decision
    from litellm_plugin.routing.planner import RoutingPolicy


def replay(policy: RoutingPolicy, record: Mapping[str, Any]) -> Decision:
    """Decides again on what a decision record says that the router saw.

    Rules, strategy, preferences, stickiness and plan are computed anew; what kept a candidate out is taken from the
    record. Text that was cut for the record, and a model name that it does not show, are seen as the record has them.
    A custom strategy sees of a candidate what the record holds: neither windows nor attributes, capabilities or prices.
    Where an earlier plan of the request was used up, the record tells that as its reason; here the plan alone is judged.

    Args:
        policy: The policy whose hash the record names.
        record: A decision record as `decision.schema.json` describes it, of a request that got as far as a decision.

    Raises:
        ValueError: The record is of no decision, or of another shape.
    """
    try:
        facts, scope = _facts(record["request"]), _scope(record)
        assessments = tuple(_assessment(each) for each in record["candidates"])
        affinity = Affinity(
            record["session_deployment"],
            {
                each["deployment_id"]: each["warm_tokens"]
                for each in record["candidates"]
                if each["warm_tokens"]
            },
        )
        context = RankingContext(facts, scope, record["seed"], affinity, record["expected_output_tokens"])
        budgets = _budgets(policy, record["budgets"])
        attempts, tried = int(record["attempts"]), frozenset(record["tried"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"expected the record of a decision, got one without or with another {error}"
        ) from error
    return choose(replace(policy, attempts=attempts), context, assessments, tried, budgets)


def _budgets(policy: RoutingPolicy, told: Iterable[Mapping[str, Any]]) -> tuple[BudgetReading, ...]:
    by_name = {budget.name: budget for budget in policy.budgets}
    return tuple(_reading(by_name[each["name"]], each) for each in told)


def _reading(budget: Budget, told: Mapping[str, Any]) -> BudgetReading:
    ids = told["deployment_ids"]
    account = BudgetAccount(
        budget=budget.name,
        subject=told["subject"] or "",
        period=budget.period,
        period_id=told["period"],
        limit_usd=told["limit_usd"],
        resets_at=told["resets_at"],
    )
    return BudgetReading(budget, account, told["left_usd"], None if ids is None else frozenset(ids))


def _facts(request: Mapping[str, Any]) -> RequestFacts:
    moment = request["moment"]
    return RequestFacts(
        **{
            **request,
            "call_type": CallType(request["call_type"]),
            "needs": frozenset(map(Capability, request["needs"])),
            "moment": Moment(**moment) if moment else None,
        }
    )


def _scope(record: Mapping[str, Any]) -> RoutingScope:
    return RoutingScope(
        request_id=record["request_id"],
        endpoints=frozenset(record["authorized_endpoints"]),
        policy_version=record["permit"]["policy_version"],
        data_classification=record["data_classification"],
        tenant=record["tenant"],
        tenant_tier=record["tenant_tier"],
        latency_class=record["latency_class"],
        preferences=tuple(record["preferences"]),
    )


def _health(told: Mapping[str, Any] | None) -> EndpointHealth:
    return EndpointHealth(**{**told, "breaker": BreakerState(told["breaker"])}) if told else HEALTHY


def _assessment(told: Mapping[str, Any]) -> Assessment:
    statistics = told["statistics"]
    return Assessment(
        Candidate(
            deployment_id=told["deployment_id"],
            endpoint=told["endpoint"],
            model=told["model"],
            region=told["region"],
            tier=told["tier"],
            quality=told["quality"],
        ),
        exclusion=Exclusion(told["exclusion"]) if told["exclusion"] else None,
        detail=told["detail"],
        expected_cost_usd=told["expected_cost_usd"],
        expected_output_tokens=told["expected_output_tokens"],
        statistics=EndpointStatistics(**statistics) if statistics else None,
        in_flight=told["in_flight"],
        health=_health(told["health"]),
    )
