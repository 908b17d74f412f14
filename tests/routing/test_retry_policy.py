"""Retries: which class of failure is followed by what, and what ends a chain."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing_cases import a_candidate, names

from litellm_plugin.routing import (
    AttemptStatus,
    Chain,
    Halt,
    PastAttempt,
    Retry,
    RetryLoad,
    RetryPolicy,
    following,
)

POLICY = RetryPolicy()
A = a_candidate("a", max_input_tokens=8_000)
B = a_candidate("b", max_input_tokens=8_000)
C = a_candidate("c", max_input_tokens=128_000)
PLAN = (A, B, C)
COSTS = {"a-1": 0.1, "b-1": 0.1, "c-1": 0.5}
FOLLOWED = frozenset(AttemptStatus) - {
    AttemptStatus.CONTEXT_WINDOW,
    AttemptStatus.CONTENT_FILTER,
    AttemptStatus.CLIENT_ERROR,
    AttemptStatus.ABANDONED,
}


def past(status, candidate=A, **fields):
    acted = status is None or status.may_have_acted
    return PastAttempt(
        candidate, "gpt", status, **{"expected_cost_usd": 0.1, "may_have_acted": acted} | fields
    )


def a_chain(*attempts, **fields):
    return Chain(tuple(attempts), **{"limit": 3} | fields)


def step(chain, policy=POLICY, plan=PLAN, costs_usd=COSTS):
    return following(policy, chain, plan, model_group="gpt", costs_usd=costs_usd)


def test_the_first_of_the_plan_comes_first():
    assert step(a_chain()) is A


@pytest.mark.parametrize("status", sorted(FOLLOWED))
def test_a_failure_of_the_endpoint_is_followed_by_the_next(status):
    assert step(a_chain(past(status))) is B


@pytest.mark.parametrize(
    "status", sorted(frozenset(AttemptStatus) - FOLLOWED - {AttemptStatus.CONTEXT_WINDOW})
)
def test_what_the_request_says_is_tried_nowhere_else(status):
    assert step(a_chain(past(status))) is Halt.ERROR_CLASS


def test_a_prompt_that_is_too_long_goes_to_a_larger_window():
    assert step(a_chain(past(AttemptStatus.CONTEXT_WINDOW))) is C


def test_after_that_no_smaller_one_is_tried_whatever_happens():
    chain = a_chain(past(AttemptStatus.CONTEXT_WINDOW), past(AttemptStatus.SERVER_ERROR, C))
    assert step(chain) is Halt.EXHAUSTED


@pytest.mark.parametrize("windows", [(None, 9_000), (8_000, None), (None, None)])
def test_an_unknown_window_is_not_larger(windows):
    failed, other = (replace(each, max_input_tokens=size) for each, size in zip((A, B), windows, strict=True))
    assert step(a_chain(past(AttemptStatus.CONTEXT_WINDOW, failed)), plan=(failed, other)) is Halt.EXHAUSTED


@pytest.mark.parametrize("status", sorted(POLICY.rules))
def test_each_class_can_be_told_to_stop(status):
    policy = replace(POLICY, rules={**POLICY.rules, status: Retry.STOP})
    assert step(a_chain(past(status)), policy) is Halt.ERROR_CLASS


def test_the_number_of_attempts_is_a_limit():
    chain = a_chain(past(AttemptStatus.SERVER_ERROR), past(AttemptStatus.SERVER_ERROR, B), limit=2)
    assert step(chain) is Halt.ATTEMPTS


@pytest.mark.parametrize(
    ("load", "wanted"),
    [
        pytest.param(RetryLoad(0, 2), B, id="C34-minimum"),
        pytest.param(RetryLoad(0, 3), Halt.RETRY_BUDGET, id="C34-minimum-is-used-up"),
        pytest.param(RetryLoad(100, 19), B, id="C34-ratio"),
        pytest.param(RetryLoad(100, 20), Halt.RETRY_BUDGET, id="C34-ratio-is-used-up"),
    ],
)
def test_retries_of_an_endpoints_requests_are_bounded(load, wanted):
    assert step(a_chain(past(AttemptStatus.SERVER_ERROR), load=load)) is wanted


def test_a_first_attempt_costs_no_budget():
    assert step(a_chain(load=RetryLoad(0, 1000))) is A


def test_without_a_budget_nothing_is_bounded():
    chain = a_chain(past(AttemptStatus.SERVER_ERROR), load=RetryLoad(0, 1000))
    assert step(chain, replace(POLICY, budget=None)) is B


def test_the_plans_end_is_the_end():
    failed = [past(AttemptStatus.SERVER_ERROR, each) for each in PLAN]
    assert step(a_chain(*failed, limit=9)) is Halt.EXHAUSTED


@pytest.mark.parametrize(("elapsed_ms", "wanted"), [(999.0, A), (1000.0, Halt.DEADLINE)])
def test_the_deadline_holds_for_the_first_attempt_too(elapsed_ms, wanted):
    assert step(a_chain(elapsed_ms=elapsed_ms), replace(POLICY, deadline_ms=1000)) is wanted


def test_without_a_deadline_time_does_not_count():
    assert step(a_chain(elapsed_ms=1e12), replace(POLICY, deadline_ms=None)) is A


class TestWrites:
    def test_what_may_have_acted_is_not_repeated(self):
        assert step(a_chain(past(AttemptStatus.TIMEOUT), writes=True)) is Halt.WRITES

    def test_what_was_refused_is(self):
        assert step(a_chain(past(AttemptStatus.RATE_LIMITED), writes=True)) is B

    def test_what_was_never_sent_is(self):
        failed = past(AttemptStatus.CONNECTION_ERROR, may_have_acted=False)
        assert step(a_chain(failed, writes=True)) is B

    def test_with_a_key_it_is(self):
        assert step(a_chain(past(AttemptStatus.TIMEOUT), writes=True, has_idempotency_key=True)) is B

    def test_where_the_policy_asks_for_no_key_it_is(self):
        policy = replace(POLICY, writes_need_idempotency_key=False)
        assert step(a_chain(past(AttemptStatus.TIMEOUT), writes=True), policy) is B

    def test_an_end_that_nobody_told_may_have_acted(self):
        assert step(a_chain(past(None), writes=True)) is Halt.WRITES

    def test_it_is_said_before_any_other_reason(self):
        chain = a_chain(past(AttemptStatus.SERVER_ERROR), writes=True, limit=1, elapsed_ms=1e12)
        assert step(chain) is Halt.WRITES


class TestCost:
    def test_the_first_attempt_is_a_matter_of_eligibility(self):
        assert step(a_chain(), replace(POLICY, max_chain_cost_usd=0.01)) is A

    def test_what_went_before_counts(self):
        chain = a_chain(past(AttemptStatus.SERVER_ERROR))
        assert step(chain, replace(POLICY, max_chain_cost_usd=0.2)) is B
        assert step(chain, replace(POLICY, max_chain_cost_usd=0.19)) is Halt.COST

    def test_what_a_provider_refused_does_not(self):
        chain = a_chain(past(AttemptStatus.RATE_LIMITED))
        assert step(chain, replace(POLICY, max_chain_cost_usd=0.1)) is B

    def test_a_dear_candidate_is_passed_over(self):
        chain = a_chain(past(AttemptStatus.SERVER_ERROR))
        assert step(chain, replace(POLICY, max_chain_cost_usd=0.3), plan=(A, C, B)) is B

    def test_the_permits_limit_holds_too(self):
        chain = a_chain(past(AttemptStatus.SERVER_ERROR), max_cost_usd=0.19)
        assert step(chain, replace(POLICY, max_chain_cost_usd=1.0)) is Halt.COST

    @pytest.mark.parametrize("costs", [{}, {"b-1": None, "c-1": None}])
    def test_an_unknown_cost_fits_no_limit(self, costs):
        chain = a_chain(past(AttemptStatus.SERVER_ERROR))
        assert step(chain, replace(POLICY, max_chain_cost_usd=1.0), costs_usd=costs) is Halt.COST
        assert step(chain, costs_usd=costs) is B


class TestWaits:
    def test_an_endpoint_that_asked_to_wait_is_not_tried_in_another_group(self):
        waiting = replace(past(AttemptStatus.RATE_LIMITED, asked_to_wait=True), model_group="other")
        again = a_candidate("a", "a-9")
        assert step(a_chain(waiting), plan=(again, B)) is B

    def test_the_deployments_of_one_group_are_a_pool_of_keys(self):
        waiting = past(AttemptStatus.RATE_LIMITED, asked_to_wait=True)
        key_2 = a_candidate("a", "a-2")
        assert step(a_chain(waiting), plan=(A, key_2, B)) is key_2


candidates = st.builds(
    lambda name, number, window: a_candidate(name, f"{name}-{number}", max_input_tokens=window),
    names,
    st.integers(0, 2),
    st.none() | st.integers(1, 3),
)
attempts = st.builds(
    PastAttempt,
    candidate=candidates,
    model_group=st.sampled_from(("gpt", "other")),
    status=st.none() | st.sampled_from(AttemptStatus),
    expected_cost_usd=st.none() | st.floats(0, 1),
    may_have_acted=st.booleans(),
    asked_to_wait=st.booleans(),
)
chains = st.builds(
    Chain,
    past=st.lists(attempts, max_size=4).map(tuple),
    limit=st.integers(1, 5),
    elapsed_ms=st.floats(0, 1_000_000),
    writes=st.booleans(),
    has_idempotency_key=st.booleans(),
    max_cost_usd=st.none() | st.floats(0, 1),
)
policies = st.builds(
    RetryPolicy,
    rules=st.dictionaries(st.sampled_from(AttemptStatus), st.sampled_from(Retry)),
    deadline_ms=st.none() | st.integers(1, 1_000_000),
    max_chain_cost_usd=st.none() | st.floats(0, 1),
    writes_need_idempotency_key=st.booleans(),
)


@given(policies, chains, st.lists(candidates, max_size=6))
def test_what_follows_is_of_the_plan_untried_and_within_the_limits(policy, chain, plan):
    found = following(policy, chain, plan, model_group="gpt", costs_usd={})
    if isinstance(found, Halt):
        return
    assert any(found is each for each in plan)
    assert found.deployment_id not in {each.candidate.deployment_id for each in chain.past}
    assert not chain.past or len(chain.past) < chain.limit
    assert policy.deadline_ms is None or chain.elapsed_ms < policy.deadline_ms
    acted = any(each.may_have_acted for each in chain.past)
    assert not (acted and chain.writes and policy.writes_need_idempotency_key) or chain.has_idempotency_key
