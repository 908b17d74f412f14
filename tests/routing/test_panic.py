"""Panic mode: one attempt at the least bad inside the set, and only where breakers alone are in the way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing_cases import a_candidate, a_policy, a_request, a_scope, situations

from litellm_plugin.errors import Reason
from litellm_plugin.routing import (
    BreakerState,
    EndpointHealth,
    EndpointStatistics,
    Exclusion,
    Static,
    StatisticsSnapshot,
    WhenAllOpen,
    decide,
    missed_by_breakers,
)

A, B, C = a_candidate("a"), a_candidate("b"), a_candidate("c")
OUTSIDE = a_candidate("outside")
OPEN = EndpointHealth(BreakerState.OPEN, "5 failures in a row", retry_after_s=8.0)
HALF_OPEN = EndpointHealth(BreakerState.HALF_OPEN, "5 failures in a row")
REFUSING = replace(a_policy(), when_all_open=WhenAllOpen.REFUSE)


def plan(health, candidates=(A, B, C), policy=None, *, statistics=None, tried=(), scope=None, request=None):
    return decide(
        policy or a_policy(),
        request or a_request(),
        scope or a_scope(),
        candidates,
        statistics=StatisticsSnapshot(statistics or {}, taken_at_s=0.0, health=health),
        seed=1,
        tried=frozenset(tried),
    )


def ids(decision):
    return [each.deployment_id for each in decision.plan]


def test_what_has_a_closed_breaker_comes_before_panic():
    decision = plan({"a-1": OPEN, "b-1": OPEN})
    assert ids(decision) == ["c-1"]
    assert not decision.notes


def test_a_probe_that_is_held_is_no_panic():
    decision = plan({"a-1": replace(HALF_OPEN, may_probe=True), "b-1": OPEN, "c-1": OPEN})
    assert ids(decision) == ["a-1"]
    assert not decision.notes


def test_when_all_are_open_one_attempt_goes_to_the_least_bad():
    decision = plan({"a-1": OPEN, "b-1": replace(OPEN, retry_after_s=2.0), "c-1": OPEN})
    assert ids(decision) == ["b-1"]
    assert decision.notes == (
        "every breaker is open: one attempt at the least bad, b (5 failures in a row; open for 2.0 s more)",
    )
    chosen = decision.assessment_of("b-1")
    assert (chosen.exclusion, chosen.rank) == (Exclusion.BREAKER_OPEN, 0)


def test_a_group_of_one_deployment_is_asked_all_the_same():
    assert ids(plan({"a-1": HALF_OPEN}, [A])) == ["a-1"]


@pytest.mark.parametrize(
    ("health", "statistics", "chosen"),
    [
        pytest.param(
            {},
            {"a-1": EndpointStatistics(20, 20), "b-1": EndpointStatistics(20, 12)},
            "b-1",
            id="fewest-failures",
        ),
        pytest.param({"b-1": HALF_OPEN}, {}, "b-1", id="soonest"),
        pytest.param(
            {"b-1": replace(OPEN, cause="provider_auth")},
            {"a-1": EndpointStatistics(20, 20), "b-1": EndpointStatistics(20, 1)},
            "a-1",
            id="not-what-the-operator-must-repair",
        ),
        pytest.param(
            {"a-1": replace(OPEN, cause="misconfigured"), "b-1": replace(OPEN, cause="provider_auth")},
            {"a-1": EndpointStatistics(9, 9)},
            "b-1",
            id="or-the-better-of-these",
        ),
    ],
)
def test_the_least_bad_is(health, statistics, chosen):
    found = plan({"a-1": OPEN, "b-1": OPEN} | health, [A, B], statistics=statistics)
    assert ids(found) == [chosen]


def test_between_equals_the_strategy_decides():
    dear = a_candidate("a", price=1.0)
    assert ids(plan({"a-1": OPEN, "b-1": OPEN}, [dear, B])) == ["b-1"]


def test_what_the_strategy_leaves_out_is_not_asked():
    found = plan({"a-1": OPEN, "b-1": HALF_OPEN}, [A, B], a_policy(Static(("a",))))
    assert ids(found) == ["a-1"]


def test_nothing_outside_the_set_is_asked():
    found = plan({"a-1": OPEN, "outside-1": replace(OPEN, retry_after_s=0.1)}, [A, OUTSIDE])
    assert ids(found) == ["a-1"]
    alone = plan({"outside-1": HALF_OPEN}, [OUTSIDE])
    assert (ids(alone), alone.verdict.reason) == ([], Reason.NOT_AUTHORIZED)


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"waits": "429"}, id="asked-to-wait"),
        pytest.param({"requests_left": 0}, id="no-requests-left"),
        pytest.param({"tokens_left": 10}, id="too-few-tokens-left"),
    ],
)
def test_what_more_than_its_breaker_keeps_out_is_not_asked(more):
    found = plan({"a-1": replace(OPEN, **more)}, [A])
    assert (ids(found), found.verdict.reason) == ([], Reason.UNAVAILABLE)


WAITING = EndpointHealth(waits="429", waits_unasked=True, retry_after_s=4.0)


def test_where_all_are_waited_for_one_attempt_goes_to_the_soonest():
    """One tenant's 429 does not shut a group for all."""
    decision = plan({"a-1": WAITING, "b-1": replace(WAITING, retry_after_s=2.0)}, [A, B])
    assert ids(decision) == ["b-1"]
    assert decision.notes == (
        "every endpoint is shut: one attempt at the least bad, b (429; left alone for 2.0 s more)",
    )
    chosen = decision.assessment_of("b-1")
    assert (chosen.exclusion, chosen.rank) == (Exclusion.RATE_LIMITED, 0)


def test_one_that_is_only_waited_for_comes_before_an_open_breaker():
    assert ids(plan({"a-1": replace(OPEN, retry_after_s=0.1), "b-1": WAITING}, [A, B])) == ["b-1"]


@pytest.mark.parametrize("breaker", [{}, {"breaker": BreakerState.OPEN, "cause": "5 failures in a row"}])
@pytest.mark.parametrize("is_unasked", [True, False])
def test_a_wait_that_the_provider_asked_for_is_kept(is_unasked, breaker):
    found = plan({"a-1": replace(WAITING, waits_unasked=is_unasked, **breaker)}, [A])
    assert ids(found) == (["a-1"] if is_unasked else [])


@pytest.mark.parametrize("kept", [{"tried": ["c-1"]}, {"policy": REFUSING}])
def test_a_wait_holds_where_an_open_breaker_would(kept):
    found = plan({"a-1": WAITING}, [A], **kept)
    assert (ids(found), found.verdict.reason) == ([], Reason.UNAVAILABLE)
    assert found.verdict.retry_after_s == 4.0


def test_an_endpoint_that_may_not_serve_is_not_asked():
    bare = a_candidate("a", clearances=frozenset())
    found = plan({"a-1": OPEN}, [bare])
    assert (ids(found), found.verdict.reason) == ([], Reason.NOT_ELIGIBLE)


def test_a_request_that_had_an_attempt_gets_none_through_an_open_breaker():
    found = plan({"a-1": OPEN, "b-1": OPEN}, [A, B], tried=["c-1"])
    assert (ids(found), found.verdict.reason) == ([], Reason.UNAVAILABLE)


def test_where_that_is_refused_the_caller_is_told_when_to_come_back():
    found = plan({"a-1": OPEN, "b-1": replace(OPEN, retry_after_s=2.5)}, [A, B], REFUSING)
    verdict = found.verdict
    assert (ids(found), verdict.reason, verdict.status, verdict.retry_after_s) == (
        [],
        Reason.UNAVAILABLE,
        503,
        2.5,
    )
    assert verdict.message.endswith("is available now: a: breaker_open; b: breaker_open.")


def test_a_half_open_one_may_be_asked_at_once():
    assert plan({"a-1": OPEN, "b-1": HALF_OPEN}, [A, B], REFUSING).verdict.retry_after_s == 0.0


def test_nobody_knows_when_what_litellm_holds_back_returns():
    found = plan({}, [a_candidate("a", is_available=False)])
    assert (found.verdict.reason, found.verdict.retry_after_s) == (Reason.UNAVAILABLE, None)


def test_what_breakers_kept_a_request_from_is_known():
    health = {"a-1": OPEN, "b-1": HALF_OPEN, "c-1": replace(OPEN, waits="429"), "outside-1": OPEN}
    decision = plan(health, [A, B, C, OUTSIDE, a_candidate("a", "a-2")])
    assert missed_by_breakers(decision) == ("a-1", "b-1")


healths = st.builds(
    EndpointHealth,
    breaker=st.sampled_from(BreakerState),
    cause=st.sampled_from(("", "5 failures in a row", "provider_auth")),
    may_probe=st.booleans(),
    retry_after_s=st.none() | st.floats(0, 300),
    waits=st.sampled_from(("", "429")),
    waits_unasked=st.booleans(),
    requests_left=st.none() | st.integers(-1, 2),
    tokens_left=st.none() | st.integers(0, 1000),
)


@given(
    situation=situations(st.integers(0, 9).map("deployment-{}".format)),
    health=st.dictionaries(st.integers(0, 9).map("deployment-{}".format), healths),
    when_all_open=st.sampled_from(WhenAllOpen),
)
def test_whatever_is_open_a_plan_stays_inside_the_set(situation, health, when_all_open):
    situation["policy"] = replace(situation["policy"], when_all_open=when_all_open)
    situation["statistics"] = StatisticsSnapshot({}, taken_at_s=0.0, health=health)
    decision = decide(**situation)
    assert {each.endpoint for each in decision.plan} <= situation["scope"].endpoints
    through_open = [
        each for each in decision.assessments if each.rank is not None and each.exclusion is not None
    ]
    if through_open:
        assert when_all_open is WhenAllOpen.LEAST_BAD
        assert len(decision.plan) == 1
        assert {each.exclusion for each in through_open} <= {Exclusion.BREAKER_OPEN, Exclusion.RATE_LIMITED}
        assert not any(each.health.waits and not each.health.waits_unasked for each in through_open)
        assert not any(each.exclusion is None for each in decision.assessments)
