from __future__ import annotations

import pytest
from routing_cases import a_candidate, a_request, a_scope

from litellm_plugin.routing import (
    Affinity,
    Capability,
    EndpointStatistics,
    Exclusion,
    Prices,
    StatisticsSnapshot,
    assess,
)

NEEDY = {"needs": frozenset({Capability.VISION, Capability.FUNCTION_CALLING})}


def assessed(candidate, *, request=None, scope=None, tried=(), margin=0.0):
    (assessment,) = assess(
        [candidate],
        a_request(**request or {}),
        a_scope(**scope or {}),
        tried=frozenset(tried),
        context_margin=margin,
    )
    return assessment.exclusion, assessment.detail


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [
        pytest.param({}, (None, ""), id="nothing declared"),
        pytest.param({"clearances": frozenset({"internal"})}, (None, ""), id="cleared"),
        pytest.param(
            {"clearances": frozenset({"public"})}, (Exclusion.NOT_CLEARED, "internal"), id="R67 not cleared"
        ),
        pytest.param(
            {"clearances": frozenset()}, (Exclusion.NOT_CLEARED, "internal"), id="R67 cleared for none"
        ),
        pytest.param({"latency_classes": frozenset({"interactive"})}, (None, ""), id="latency class"),
        pytest.param(
            {"latency_classes": frozenset({"batch"})},
            (Exclusion.LATENCY_CLASS, "interactive"),
            id="other latency class",
        ),
        pytest.param({"max_input_tokens": 100}, (None, ""), id="fits exactly"),
        pytest.param(
            {"max_input_tokens": 99}, (Exclusion.CONTEXT_WINDOW, "about 100 tokens, window 99"), id="too long"
        ),
        pytest.param({"is_available": False}, (Exclusion.UNAVAILABLE, ""), id="not available"),
        pytest.param(
            {"endpoint": "outside", "is_available": False}, (Exclusion.NOT_AUTHORIZED, ""), id="outside first"
        ),
    ],
)
def test_a_candidate_keeps_its_first_failing_reason(candidate, expected):
    assert assessed(a_candidate(**{"endpoint": "a"} | candidate)) == expected


def test_missing_attributes_are_named():
    candidate = a_candidate("a", attributes=frozenset({"baa"}))
    scope = {"requirements": frozenset({"zdr", "baa", "on_prem"})}
    assert assessed(candidate, scope=scope) == (Exclusion.ATTRIBUTE_MISSING, "on_prem, zdr")


def test_missing_capabilities_are_named():
    candidate = a_candidate("a", capabilities=frozenset({Capability.VISION}))
    assert assessed(candidate, request=NEEDY) == (Exclusion.CAPABILITY, "function_calling")


@pytest.mark.parametrize(
    ("declared", "language", "expected"),
    [
        pytest.param(None, "fr", (None, ""), id="covers all when nothing is declared"),
        pytest.param({"de", "fr"}, "fr", (None, ""), id="covered"),
        pytest.param({"de"}, "fr", (Exclusion.LANGUAGE, "fr"), id="not covered"),
        pytest.param({"de"}, None, (None, ""), id="language unknown"),
        pytest.param(set(), "fr", (Exclusion.LANGUAGE, "fr"), id="covers none"),
    ],
)
def test_an_endpoint_serves_the_languages_that_it_declares(declared, language, expected):
    languages = None if declared is None else frozenset(declared)
    assert assessed(a_candidate("a", languages=languages), request={"language": language}) == expected


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        pytest.param(110, (None, ""), id="fits"),
        pytest.param(109, (Exclusion.CONTEXT_WINDOW, "about 110 tokens, window 109"), id="does not"),
    ],
)
def test_a_margin_keeps_an_estimate_off_the_windows_edge(window, expected):
    assert assessed(a_candidate("a", max_input_tokens=window), margin=0.1) == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param(None, (None, ""), id="no limit"),
        pytest.param(4096, (None, ""), id="possible"),
        pytest.param(
            4097, (Exclusion.CONTEXT_WINDOW, "4097 output tokens asked for, at most 4096"), id="too long"
        ),
    ],
)
def test_an_answer_longer_than_the_endpoint_gives_is_not_asked_of_it(asked, expected):
    assert (
        assessed(a_candidate("a", max_output_tokens=4096), request={"max_output_tokens": asked}) == expected
    )


def test_a_tried_deployment_does_not_come_back():
    assert assessed(a_candidate("a"), tried={"a-1"}) == (Exclusion.ALREADY_TRIED, "")


def test_a_batch_is_held_against_the_window_by_its_largest_input():
    request = {"input_tokens": 5000, "largest_input_tokens": 90}
    assert assessed(a_candidate("a", max_input_tokens=100), request=request) == (None, "")


def test_a_deployment_id_that_an_outside_endpoint_shares_is_not_authorized():
    candidates = [a_candidate("a", "x"), a_candidate("outside", "x")]
    exclusions = [each.exclusion for each in assess(candidates, a_request(), a_scope())]
    assert exclusions == [Exclusion.NOT_AUTHORIZED, Exclusion.NOT_AUTHORIZED]


def test_statistics_and_cost_are_given_for_authorized_candidates_only():
    measured = EndpointStatistics(attempts=3)
    statistics = StatisticsSnapshot({"a-1": measured, "outside-1": measured}, taken_at_s=0.0)
    candidates = [a_candidate("a", is_available=False), a_candidate("outside")]
    inside, outside = assess(candidates, a_request(), a_scope(), statistics=statistics)
    assert (inside.statistics, inside.expected_cost_usd) == (measured, pytest.approx(612e-6))
    assert (outside.statistics, outside.expected_cost_usd) == (None, None)


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        pytest.param("eu-west", (None, ""), id="named"),
        pytest.param("us-east", (Exclusion.REGION, "us-east"), id="another"),
        pytest.param(None, (Exclusion.REGION, "undeclared"), id="undeclared"),
    ],
)
def test_a_permits_regions_leave_only_endpoints_that_declare_one_of_them(region, expected):
    scope = {"regions": frozenset({"eu-west", "eu-central"})}
    assert assessed(a_candidate("a", region=region), scope=scope) == expected


@pytest.mark.parametrize(
    ("prices", "limit_usd", "expected"),
    [
        pytest.param(Prices(1e-6, 1e-6), 1.0, (None, ""), id="below"),
        pytest.param(
            Prices(1e-3, 1e-3), 0.5, (Exclusion.MAX_COST, "about 0.612000 USD, limit 0.500000"), id="above"
        ),
        pytest.param(Prices(None, None), 9.0, (Exclusion.MAX_COST, "unknown cost"), id="unknown"),
    ],
)
def test_a_permits_cost_cap_leaves_only_endpoints_known_to_cost_less(prices, limit_usd, expected):
    scope = {"max_cost_usd": limit_usd}
    assert assessed(a_candidate("a", prices=prices), scope=scope) == expected


def test_a_cap_is_held_against_all_answers_although_few_providers_give_so_many():
    candidate = a_candidate("a", prices=Prices(0.0, 1e-6))
    request = a_request(output_count=10_000, max_output_tokens=100)
    (assessment,) = assess([candidate], request, a_scope(max_cost_usd=0.9))
    assert assessment.exclusion is Exclusion.MAX_COST
    assert assessment.expected_cost_usd == pytest.approx(0.0128)


def test_a_cap_is_held_against_the_full_price_although_a_part_may_be_cached():
    candidate = a_candidate("a", prices=Prices(1e-6, 0.0, cached_input_usd=0.0))
    (assessment,) = assess(
        [candidate], a_request(), a_scope(max_cost_usd=5e-5), affinity=Affinity(warm_tokens={"a-1": 100})
    )
    assert assessment.exclusion is Exclusion.MAX_COST
    assert assessment.expected_cost_usd == 0.0
