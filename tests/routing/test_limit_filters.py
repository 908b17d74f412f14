"""The filters of limits: whom a provider's limit or a quota keeps out for now."""

from __future__ import annotations

import pytest
from routing_cases import a_candidate, a_request, a_scope

from litellm_plugin.routing import EndpointStatistics, Exclusion, Prices, StatisticsSnapshot, assess
from litellm_plugin.routing.cost import route_of
from litellm_plugin.routing.health import BreakerState, EndpointHealth

UNPRICED = Prices(None, None)


def assessed(health, *, output_tokens=None, candidate=None, **request):
    facts, scope = a_request(**request), a_scope()
    statistics = StatisticsSnapshot(
        {"a-1": EndpointStatistics()},
        taken_at_s=0.0,
        output_tokens={} if output_tokens is None else {route_of(facts, scope): output_tokens},
        health={"a-1": health},
    )
    candidate = a_candidate("a", **candidate or {})
    (assessment,) = assess([candidate], facts, scope, tried=frozenset(), statistics=statistics)
    return assessment.exclusion, assessment.detail


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        pytest.param({}, (None, ""), id="no limits"),
        pytest.param({"requests_left": 1, "tokens_left": 150}, (None, ""), id="fits exactly"),
        pytest.param({"requests_left": 0}, (Exclusion.QUOTA, "no requests left"), id="requests"),
        pytest.param({"tokens_left": 149}, (Exclusion.QUOTA, "about 150 tokens, 149 left"), id="tokens"),
        pytest.param(
            {"waits": "Retry-After", "requests_left": 0},
            (Exclusion.RATE_LIMITED, "Retry-After"),
            id="C25 the provider's wish comes first",
        ),
        pytest.param(
            {"breaker": BreakerState.OPEN, "cause": "errors", "waits": "Retry-After"},
            (Exclusion.BREAKER_OPEN, "errors"),
            id="an open breaker comes first",
        ),
    ],
)
def test_a_limit_keeps_out_for_now(health, expected):
    assert assessed(EndpointHealth(**health), max_output_tokens=50) == expected


@pytest.mark.parametrize("prices", [UNPRICED, Prices(1e-6, 1e-6)], ids=["unknown price", "known price"])
def test_the_expected_answer_counts_whatever_the_price(prices):
    health = EndpointHealth(tokens_left=399)
    candidate = {"prices": prices}
    assert assessed(health, output_tokens=299, candidate=candidate) == (None, "")
    assert assessed(health, output_tokens=300, candidate=candidate)[0] is Exclusion.QUOTA


def test_an_answer_is_not_expected_longer_than_the_endpoint_gives():
    health = EndpointHealth(tokens_left=110)
    assert assessed(health, output_tokens=300, candidate={"max_output_tokens": 10}) == (None, "")


@pytest.mark.parametrize("exclusion", [Exclusion.RATE_LIMITED, Exclusion.QUOTA])
def test_a_limit_passes_by_itself(exclusion):
    assert exclusion.is_health
