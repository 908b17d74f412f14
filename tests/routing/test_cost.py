from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing_cases import a_candidate, a_request, a_scope, prices, requests

from litellm_plugin.routing import (
    Affinity,
    CallType,
    Exclusion,
    Prices,
    PriceStep,
    StatisticsSnapshot,
    assess,
    expected_cost,
    route_of,
)
from litellm_plugin.routing.cost import DEFAULT_AUDIO_S, MOST_ANSWERS, expected_output_tokens

LONG = Prices(1e-6, 2e-6, cached_input_usd=1e-7, steps=(PriceStep(200, 3e-6, 5e-6), PriceStep(500, 9e-6)))


def cost(given_prices, *, tenant_tier="", warm_tokens=0, answer_tokens=None, candidate=None, **facts):
    return expected_cost(
        a_candidate("a", prices=given_prices, **(candidate or {})),
        a_request(**facts),
        tenant_tier=tenant_tier,
        warm_tokens=warm_tokens,
        answer_tokens=answer_tokens,
    )


def route(scope=None, **facts):
    return route_of(a_request(**facts), scope or a_scope())


@pytest.mark.parametrize(
    ("given_prices", "facts", "expected"),
    [
        pytest.param(Prices(1e-6, 2e-6), {}, 100e-6 + 1024e-6, id="default output"),
        pytest.param(Prices(1e-6, 2e-6), {"max_output_tokens": 10}, 120e-6, id="limit caps output"),
        pytest.param(Prices(1e-6, 2e-6), {"max_output_tokens": 9999}, 1124e-6, id="limit is no expectation"),
        pytest.param(Prices(1e-6, 2e-6), {"max_output_tokens": -5}, 100e-6, id="negative limit"),
        pytest.param(Prices(0.0, 2e-6), {"output_count": 3}, 3072e-6, id="several answers"),
        pytest.param(Prices(0.0, 0.0, 0.5), {}, 0.5, id="per request"),
        pytest.param(Prices(0.0, 0.0, None), {}, None, id="per request unknown"),
        pytest.param(Prices(0.0, 0.0), {}, 0.0, id="declared free"),
        pytest.param(Prices(None, 1.0), {}, None, id="input unknown"),
        pytest.param(Prices(1.0, None), {}, None, id="output unknown"),
        pytest.param(Prices(1e-6, None), {"call_type": CallType.EMBEDDING}, 100e-6, id="embedding"),
        pytest.param(Prices(-1.0, 1.0), {}, None, id="negative"),
        pytest.param(Prices(math.nan, 1.0), {}, None, id="not a number"),
        pytest.param(Prices(1.0, math.inf), {}, None, id="infinite"),
        pytest.param(Prices(1.0, 1.0, -1.0), {}, None, id="negative per request"),
        pytest.param(Prices(1e308, 1e308), {}, None, id="overflow"),
        pytest.param(LONG, {"input_tokens": 200, "max_output_tokens": 1}, 202e-6, id="at a step"),
        pytest.param(LONG, {"input_tokens": 201, "max_output_tokens": 1}, 608e-6, id="above a step"),
        pytest.param(LONG, {"input_tokens": 501, "max_output_tokens": 1}, 4514e-6, id="above both steps"),
    ],
)
def test_text_costs_its_tokens(given_prices, facts, expected):
    found = cost(given_prices, **facts)
    assert (found.total_usd if found else None) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("call_type", "given_prices", "facts", "expected"),
    [
        pytest.param(
            "image_generation", Prices(image_output_usd=0.04), {"output_count": 2}, 0.08, id="images"
        ),
        pytest.param(
            "image_generation",
            Prices(image_output_usd=0.5),
            {"output_count": 9_999},
            64.0,
            id="too many images",
        ),
        pytest.param("image_edit", Prices(1e-6, image_output_usd=0.04), {}, 0.0401, id="image and prompt"),
        pytest.param("image_generation", Prices(1e-6, 1e-6), {}, None, id="image unknown"),
        pytest.param("speech", Prices(character_usd=1e-5), {"spoken_characters": 440}, 440e-5, id="speech"),
        pytest.param("speech", Prices(1e-6, 1e-6), {"spoken_characters": 440}, None, id="speech unknown"),
        pytest.param(
            "transcription",
            Prices(audio_input_usd=1e-4),
            {"input_tokens": 0},
            DEFAULT_AUDIO_S * 1e-4,
            id="audio",
        ),
        pytest.param("transcription", Prices(1e-6), {}, 100e-6, id="transcription by tokens"),
        pytest.param("transcription", Prices(), {}, None, id="transcription unknown"),
        pytest.param("rerank", Prices(query_usd=0.002), {}, 0.002, id="ranking"),
        pytest.param("rerank", Prices(1e-6), {}, 100e-6, id="ranking by tokens"),
        pytest.param("rerank", Prices(), {}, None, id="ranking unknown"),
        pytest.param(
            "embedding",
            Prices(1e-6, image_input_usd=0.1),
            {"image_count": 2},
            0.2001,
            id="images in an embedding",
        ),
        pytest.param(
            "chat",
            Prices(0.0, 0.0, audio_input_usd=0.01),
            {"audio_count": 1},
            DEFAULT_AUDIO_S * 0.01,
            id="audio in a chat",
        ),
        pytest.param("chat", Prices(0.0, 0.0), {"image_count": 5}, 0.0, id="images among the tokens"),
    ],
)
def test_other_units_have_prices_of_their_own(call_type, given_prices, facts, expected):
    found = cost(given_prices, call_type=CallType(call_type), **facts)
    assert (found.total_usd if found else None) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("warm_tokens", "cached_usd", "expected"),
    [
        pytest.param(0, 1e-7, {"input": 100e-6}, id="cold"),
        pytest.param(60, 1e-7, {"input": 40e-6, "cached_input": 6e-6}, id="warm"),
        pytest.param(999, 1e-7, {"cached_input": 10e-6}, id="warmer than the prompt is long"),
        pytest.param(60, None, {"input": 100e-6}, id="no price of cached tokens"),
        pytest.param(-5, 1e-7, {"input": 100e-6}, id="negative"),
    ],
)
def test_a_warm_prefix_costs_what_cached_tokens_cost(warm_tokens, cached_usd, expected):
    found = cost(
        Prices(1e-6, 0.0, cached_input_usd=cached_usd), warm_tokens=warm_tokens, call_type=CallType.EMBEDDING
    )
    assert found.terms == pytest.approx(expected)


def test_the_terms_say_what_the_sum_is_made_of():
    found = cost(Prices(1e-6, 2e-6, 0.5), max_output_tokens=10)
    assert found.terms == pytest.approx({"input": 100e-6, "output": 20e-6, "request": 0.5})
    assert found.total_usd == pytest.approx(sum(found.terms.values()))
    assert found.output_tokens == 10


def test_a_tenants_tier_has_its_own_prices():
    theirs = {"tier_prices": {"enterprise": Prices(5e-7, 0.0)}}
    found = [
        cost(Prices(1e-6, 0.0), tenant_tier=tier, candidate=theirs).total_usd
        for tier in ("enterprise", "free")
    ]
    assert found == pytest.approx([50e-6, 100e-6])


class TestAnswers:
    @pytest.mark.parametrize(
        ("answer_tokens", "limit", "longest", "expected"),
        [
            pytest.param(None, None, None, 512, id="nothing known"),
            pytest.param(80.5, None, None, 80.5, id="history"),
            pytest.param(900.0, 100, None, 100, id="the request's limit"),
            pytest.param(900.0, None, 200, 200, id="the endpoint's limit"),
            pytest.param(900.0, 300, 200, 200, id="both"),
            pytest.param(900.0, 0, None, 0, id="no answer wanted"),
        ],
    )
    def test_the_history_is_capped_by_both_limits(self, answer_tokens, limit, longest, expected):
        assert expected_output_tokens(a_request(max_output_tokens=limit), answer_tokens, longest) == expected

    def test_each_of_several_answers_is_capped(self):
        facts = a_request(max_output_tokens=100, output_count=4)
        assert expected_output_tokens(facts, 900.0) == 400

    def test_no_more_answers_are_expected_than_a_provider_gives(self):
        facts = a_request(max_output_tokens=100, output_count=10_000)
        assert expected_output_tokens(facts, 900.0) == 100 * MOST_ANSWERS

    def test_what_generates_no_text_has_no_length(self):
        assert expected_output_tokens(a_request(call_type=CallType.EMBEDDING), 80.0) is None

    def test_a_route_is_what_makes_answers_alike(self):
        facts = {
            "model_group": "gpt",
            "call_type": CallType.CHAT,
            "workload": "support",
            "reasoning_effort": "high",
        }
        others = [
            {**facts, "model_group": "other"},
            {**facts, "call_type": CallType.MESSAGES},
            {**facts, "workload": None},
            {**facts, "reasoning_effort": None},
        ]
        assert route(**facts) == route(**facts, input_tokens=9, stream=True)
        assert len({route(**each) for each in [facts, *others]}) == 5

    def test_no_scope_tells_another_how_long_answers_are(self):
        scopes = ({}, {"tenant": "other"}, {"data_classification": "public"})
        assert len({route(scope=a_scope(**each)) for each in scopes}) == 3
        assert route(scope=a_scope(tenant_tier="free", endpoints=frozenset("z"))) == route()


class TestAssessments:
    CANDIDATE = a_candidate(
        "a", prices=Prices(0.0, 1e-3, cached_input_usd=0.0), tier_prices={"free": Prices(0.0, 1.0)}
    )

    def assess(self, scope=None, affinity=None, **statistics):
        snapshot = StatisticsSnapshot({}, 0.0, **statistics)
        options = {} if affinity is None else {"affinity": affinity}
        (found,) = assess([self.CANDIDATE], a_request(), scope or a_scope(), statistics=snapshot, **options)
        return found

    def test_the_routes_history_is_what_an_answer_costs(self):
        found = self.assess(output_tokens={route(): 20.0})
        assert (found.expected_cost_usd, found.expected_output_tokens) == (pytest.approx(0.02), 20.0)
        assert found.cost_terms == {"output": pytest.approx(0.02)}

    def test_another_routes_history_is_not(self):
        found = self.assess(output_tokens={route(workload="other"): 20.0})
        assert found.expected_output_tokens == 512

    def test_nor_is_that_of_another_tenant(self):
        found = self.assess(output_tokens={route(scope=a_scope(tenant="other")): 20.0})
        assert found.expected_output_tokens == 512

    def test_the_cost_cap_holds_the_same_figure(self):
        output_tokens = {route(): 20.0}
        found = [
            self.assess(a_scope(max_cost_usd=limit), output_tokens=output_tokens).exclusion
            for limit in (0.0201, 0.0199)
        ]
        assert found == [None, Exclusion.MAX_COST]

    def test_the_permits_tier_decides_on_the_prices(self):
        assert self.assess(a_scope(tenant_tier="free")).expected_cost_usd == pytest.approx(512)

    def test_warm_tokens_are_those_of_the_candidate(self):
        assert self.assess(affinity=Affinity(warm_tokens={"b-1": 50})).cost_terms.get("cached_input") is None
        priced = a_candidate("a", prices=Prices(1e-6, 0.0, cached_input_usd=1e-7))
        (found,) = assess([priced], a_request(), a_scope(), affinity=Affinity(warm_tokens={"a-1": 50}))
        assert found.cost_terms == pytest.approx({"input": 50e-6, "cached_input": 5e-6})


@given(
    st.builds(Prices, prices, prices, prices, prices, prices, prices, prices, prices, prices),
    requests,
    st.integers(-5, 500),
    st.none() | st.floats(0, 1e6),
)
def test_a_known_cost_is_finite_and_the_sum_of_its_terms(given_prices, facts, warm_tokens, answer_tokens):
    found = expected_cost(
        a_candidate("a", prices=given_prices), facts, warm_tokens=warm_tokens, answer_tokens=answer_tokens
    )
    if found is None:
        return
    assert math.isfinite(found.total_usd)
    assert found.total_usd >= 0
    assert found.total_usd == pytest.approx(sum(found.terms.values()))


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 300), requests)
def test_a_warm_prefix_never_costs_more_where_cached_tokens_are_cheaper(
    input_usd, factor, warm_tokens, facts
):
    given_prices = Prices(
        input_usd, 0.0, cached_input_usd=input_usd * factor, image_output_usd=0.0, character_usd=0.0
    )
    cold = expected_cost(a_candidate("a", prices=given_prices), facts)
    warm = expected_cost(a_candidate("a", prices=given_prices), facts, warm_tokens=warm_tokens)
    assert warm.total_usd <= cold.total_usd + 1e-9
