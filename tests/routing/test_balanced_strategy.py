from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategy_cases import TIERS, a_context, an_input, bands, seen, terms

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.routing import Balanced

CHEAP_AND_SLOW = an_input("a", cost=0.001, statistics=seen(total_p95_ms=4000.0), tier="small")
DEAR_AND_FAST = an_input("b", cost=0.004, statistics=seen(total_p95_ms=500.0), tier="large")


def ranked(given_inputs, weights, **options):
    return Balanced(weights, TIERS, **options).rank(given_inputs, a_context())


@pytest.mark.parametrize(
    ("weights", "first"),
    [
        pytest.param({"cost": 1}, "a-1", id="cost"),
        pytest.param({"latency": 1}, "b-1", id="latency"),
        pytest.param({"quality": 1}, "b-1", id="quality by tier"),
        pytest.param({"cost": 0.8, "latency": 0.2}, "a-1", id="mostly cost"),
        pytest.param(
            {"cost": 0.5, "latency": 0.5}, "b-1", id="8 times slower weighs more than 4 times dearer"
        ),
    ],
)
def test_the_weights_decide(weights, first):
    assert bands(ranked([CHEAP_AND_SLOW, DEAR_AND_FAST], weights))[0] == [first]


def test_only_the_proportions_of_the_weights_matter():
    small, large = ({"cost": 1, "latency": 3}, {"cost": 250, "latency": 750})
    assert ranked([CHEAP_AND_SLOW, DEAR_AND_FAST], small) == ranked([CHEAP_AND_SLOW, DEAR_AND_FAST], large)


def test_each_weighted_term_and_the_score_are_in_the_record():
    found = terms(ranked([CHEAP_AND_SLOW, DEAR_AND_FAST], {"cost": 0.5, "latency": 0.5, "load": 0}))
    assert found["a-1"] == {"score": pytest.approx(math.sqrt(8)), "cost_ratio": 1.0, "latency_ratio": 8.0}
    assert found["b-1"] == {"score": pytest.approx(2.0), "cost_ratio": 4.0, "latency_ratio": 1.0}


def test_failures_and_load_count():
    failing = an_input("a", statistics=seen(99, 90))
    busy = an_input("b", statistics=seen(99), in_flight=3)
    found = terms(ranked([failing, busy], {"reliability": 1, "load": 1}))
    assert found["a-1"]["reliability_ratio"] == 10.0
    assert found["b-1"]["load_ratio"] == 4.0


def test_an_unknown_price_counts_as_the_median_of_the_known():
    given_inputs = [
        an_input(name, cost=cost) for name, cost in zip("abcd", (1.0, 2.0, 9.0, None), strict=True)
    ]
    assert bands(ranked(given_inputs, {"cost": 1})) == [["a-1"], ["b-1", "d-1"], ["c-1"]]


def test_where_no_candidate_tells_a_term_it_decides_nothing():
    assert bands(ranked([an_input("a", cost=1.0), an_input("b", cost=2.0)], {"quality": 9, "cost": 1})) == [
        ["a-1"],
        ["b-1"],
    ]


def test_a_free_endpoint_counts_as_a_millionth_of_a_dollar():
    found = terms(ranked([an_input("a", cost=0.0), an_input("b", cost=2e-6)], {"cost": 1}))
    assert found["b-1"]["cost_ratio"] == pytest.approx(2.0)


def test_a_declared_quality_counts_before_a_tier():
    given_inputs = [an_input("a", tier="large", quality=0.2), an_input("b", tier="small")]
    assert bands(ranked(given_inputs, {"quality": 1})) == [["b-1"], ["a-1"]]


measures = st.tuples(st.floats(1e-5, 1.0), st.floats(10, 1e5), st.floats(0.1, 1.0))


@given(st.tuples(measures, measures, measures))
def test_a_candidate_that_comes_or_goes_turns_no_others_round(measured):
    one, other, third = (
        an_input(name, cost=cost, statistics=seen(total_p95_ms=ms), quality=quality)
        for name, (cost, ms, quality) in zip("abc", measured, strict=True)
    )
    weights = {"cost": 0.5, "latency": 0.3, "quality": 0.2}
    before = {key: value["score"] for key, value in terms(ranked([one, other], weights)).items()}
    after = {key: value["score"] for key, value in terms(ranked([one, other, third], weights)).items()}
    assert before["a-1"] / before["b-1"] == pytest.approx(after["a-1"] / after["b-1"])


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        pytest.param(
            {"price": 1}, "expected cost, latency, quality, reliability, load; got 'price'", id="name"
        ),
        pytest.param({"cost": -1}, "weights: cost: expected 0 or more, got -1", id="negative"),
        pytest.param({"cost": math.inf}, "expected 0 or more, got inf", id="infinite"),
        pytest.param({"cost": 0}, "expected one above 0", id="zero"),
        pytest.param({}, "expected one above 0", id="none"),
    ],
)
def test_weights_that_cannot_be_meant_are_refused(weights, said):
    with pytest.raises(ConfigurationError, match=said):
        Balanced(weights)
