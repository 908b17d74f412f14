"""Budgets in the proxy: what requests reserve when they are planned, and what ends it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from litellm_plugin.errors import Reason, RequestDenied
from litellm_plugin.proxy.planning import Planner
from litellm_plugin.routing import Budget, BudgetPer, BudgetPeriod, Candidate, Moment, Prices, RequestFacts

# Before its first exchange a worker may make one request or spend a tenth of a limit: two requests.
LIMIT_USD, COST_USD = 1.0, 0.05
CANDIDATES = (Candidate("eu-1", "eu", prices=Prices(0.0, 0.0, COST_USD)),)


@pytest.fixture
def planner(worker):
    return Planner(worker.runtime)


@pytest.fixture
def admit(worker, planner):
    """Plans a request under a budget, and gives its state."""
    budget = Budget("cap", BudgetPer.TENANT, LIMIT_USD, BudgetPeriod.MONTH)

    def admitted():
        state = worker.state("eu")
        state.policy = replace(state.policy, routing=replace(state.policy.routing, budgets=(budget,)))
        moment = Moment(12, 7, 11, "2026-11-22")
        state.facts = RequestFacts("gpt", state.call_type, input_tokens=1, moment=moment)
        planner.plan(state, "gpt", CANDIDATES)
        return state

    return admitted


def is_refused(admit):
    try:
        admit()
    except RequestDenied as denied:
        return denied.verdict.reason is Reason.BUDGET_EXCEEDED
    return False


def test_requests_that_are_planned_at_once_do_not_share_what_is_left(admit):
    assert [is_refused(admit) for _ in range(4)] == [False, False, True, True]


def test_a_request_that_ends_without_an_attempt_gives_back_what_it_reserved(admit, worker):
    states = [admit(), admit()]
    assert is_refused(admit)
    worker.runtime.close(states[0], answered=False)
    assert not is_refused(admit)


def test_selection_takes_over_what_the_plan_reserved(admit, planner):
    state = admit()
    planner.take(state, state.groups["gpt"])
    planner.take(state, state.groups["gpt"])
    assert [is_refused(admit) for _ in range(2)] == [False, True]


def test_a_request_that_is_planned_again_does_not_stand_in_its_own_way(admit, planner):
    _, state = admit(), admit()
    planner.plan(state, "gpt", CANDIDATES)
    planner.take(state, state.groups["gpt"])
    planner.plan(state, "gpt", CANDIDATES)
    assert [each.endpoint for each in state.groups["gpt"].decision.plan] == ["eu"]
    assert is_refused(admit)


def test_the_record_tells_what_was_left_and_why_it_was_refused(admit, worker):
    states = [admit(), admit()]
    assert is_refused(admit)
    told = [(record["reason"], *record["budgets"]) for record in worker.records()]
    assert [(reason, round(each["left_usd"], 6), each["action"]) for reason, each in told] == [
        (None, 1.0, None),
        (None, 0.05, None),
        ("budget_exceeded", 0.0, "refused"),
    ]
    assert len(states) == 2
