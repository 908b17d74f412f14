from __future__ import annotations

import pytest
from routing_cases import a_candidate, a_policy, a_request, a_scope

from litellm_plugin.errors import Reason
from litellm_plugin.routing import LatencyClass, RoutingPolicy, decide

CLASSES = {
    "interactive": LatencyClass(minimum_budget_ms=0, default_budget_ms=1500),
    "batch": LatencyClass(minimum_budget_ms=10_000, default_budget_ms=60_000),
}


def decided(latency_class, budget_ms, endpoints=("a",)):
    policy = RoutingPolicy(a_policy().rules, 3, CLASSES)
    return decide(
        policy,
        a_request(latency_budget_ms=budget_ms),
        a_scope(latency_class=latency_class, endpoints=frozenset(endpoints)),
        [a_candidate("a")],
        statistics=None,
        seed=1,
    )


def test_a_batch_caller_that_asks_for_half_a_second_is_sent_back_to_the_gateway():
    decision = decided("batch", 500)
    assert (decision.plan, decision.verdict.reason, decision.verdict.status) == (
        (),
        Reason.LATENCY_BUDGET,
        403,
    )
    assert decision.verdict.message == (
        "A latency budget of 500 ms was asked for; latency class 'batch' allows 10000 ms or more. The policy gateway "
        "decided that class for request R (policy version 42): ask for a larger budget, or the gateway for another "
        "class."
    )


def test_the_candidates_of_a_refused_budget_are_recorded_all_the_same():
    assert [each.exclusion for each in decided("batch", 500).assessments] == [None]


@pytest.mark.parametrize("budget_ms", [10_000, 10_001])
def test_a_budget_that_the_class_allows_is_served(budget_ms):
    decision = decided("batch", budget_ms)
    assert (decision.verdict, decision.facts.latency_budget_ms) == (None, budget_ms)


@pytest.mark.parametrize(("latency_class", "budget_ms"), [("interactive", 1500), ("batch", 60_000)])
def test_a_request_without_a_budget_has_its_class_default(latency_class, budget_ms):
    assert decided(latency_class, None).facts.latency_budget_ms == budget_ms


def test_a_class_without_bounds_allows_everything():
    assert decided("other", 1).verdict is None


def test_what_is_not_authorized_is_said_first():
    assert decided("batch", 500, endpoints=("b",)).verdict.reason is Reason.NOT_AUTHORIZED
