"""Prices against LiteLLM's own bills: what it charges for a usage is what the prices here come to."""

from __future__ import annotations

import warnings

import litellm
import pytest
from litellm.cost_calculator import response_cost_calculator
from litellm.litellm_core_utils.litellm_logging import use_custom_pricing_for_model

from litellm_plugin.proxy.candidate_facts import candidate_facts
from litellm_plugin.proxy.prices import price_of
from litellm_plugin.routing import CallType, Prices, PriceStep, RequestFacts, expected_cost

KNOWN = "gpt-4o-mini"  # a model that LiteLLM's cost map has, with a price of cached tokens
OWN = {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}


def entry(name, model, info=None, **params):
    return {
        "model_name": "gpt",
        "litellm_params": {"model": model, "api_key": "k", **params},
        "model_info": {"id": name, **(info or {})},
    }


def read(model, info=None, **params):
    return candidate_facts(entry("d", model, info, **params))


PRICED = [
    entry("cost-map", f"openai/{KNOWN}"),
    entry("bare-name", KNOWN),
    entry("provider-said-twice", "openai/openai/gpt-4o"),
    entry("params", f"openai/{KNOWN}", **OWN),
    entry("declared", f"openai/{KNOWN}", OWN),
    entry("params-before-declared", f"openai/{KNOWN}", OWN, input_cost_per_token=5e-6),
    entry("as-yaml-reads-it", f"openai/{KNOWN}", {name: str(value) for name, value in OWN.items()}),
    entry("free", f"openai/{KNOWN}", input_cost_per_token=0, output_cost_per_token=0),
    entry("own-cached", f"openai/{KNOWN}", **OWN, cache_read_input_token_cost=3e-7),
    entry("cached-alone-is-no-price", f"openai/{KNOWN}", cache_read_input_token_cost=3e-9),
    entry("own-of-an-unknown-model", "openai/internal-priced", **OWN),
    entry("base-model", "openai/internal-a", {"base_model": KNOWN}),
    entry("base-model-in-params", "openai/internal-b", base_model=KNOWN),
    entry("base-model-and-own", "azure/internal-c", {"base_model": "azure/gpt-4o-mini"}, **OWN),
    entry("own-long", f"openai/{KNOWN}", **OWN, input_cost_per_token_above_128k_tokens=9e-6),
    entry("anthropic", "anthropic/claude-sonnet-4-5"),
    entry("gemini-long", "gemini/gemini-2.5-pro"),
    entry("ranges", "dashscope/qwen-plus-latest"),
    entry("no-price-of-cached-tokens", "perplexity/sonar"),
]
UNPRICED = [
    entry("fine-tuned", "openai/ft:gpt-4o-mini-2024-07-18:acme::abc"),
    entry("unknown", "openai/internal-unknown"),
    entry("another-providers-model", "openai/claude-sonnet-4-5"),
    entry("input-alone", f"openai/{KNOWN}", input_cost_per_token=1e-6),
    entry("output-alone", f"openai/{KNOWN}", output_cost_per_token=1e-6),
    entry("per-second", f"openai/{KNOWN}", input_cost_per_second=0.01),
]
USAGES = {"short": (1000, 0, 100), "cached": (1000, 400, 100), "long": (300_000, 1000, 1000)}


@pytest.fixture(scope="module")
def router():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LiteLLM's own pydantic models
        found = litellm.Router(model_list=[*PRICED, *UNPRICED])
        litellm.ModelResponse(usage=litellm.Usage())
    yield found
    found.discard()


@pytest.fixture(scope="module")
def bill(router):
    """What LiteLLM charges for a usage at a deployment, found as its logging object finds it."""

    def charged(deployment, usage):
        prompt, cached, completion = USAGES[usage]
        info, params = deployment["model_info"], deployment["litellm_params"]
        model, provider, _, _ = litellm.get_llm_provider(params["model"])
        told = router.get_deployment(model_id=info["id"]).model_info.model_dump(exclude_none=True)
        answer = litellm.ModelResponse(
            model=model,
            usage=litellm.Usage(
                prompt_tokens=prompt,
                completion_tokens=completion,
                prompt_tokens_details={"cached_tokens": cached},
            ),
        )
        return response_cost_calculator(
            response_object=answer,
            model=model,
            custom_llm_provider=provider,
            call_type="acompletion",
            optional_params={},
            base_model=info.get("base_model") or params.get("base_model"),
            custom_pricing=use_custom_pricing_for_model({**params, "metadata": {"model_info": told}}),
            router_model_id=info["id"],
        )

    return charged


def expected(router, deployment, usage):
    """What is expected of the same usage: a prompt of that length, that much of it warm, that long an answer."""
    prompt, cached, completion = USAGES[usage]
    (configured,) = [
        each for each in router.get_model_list() if each["model_info"]["id"] == deployment["model_info"]["id"]
    ]
    facts = RequestFacts("gpt", CallType.CHAT, input_tokens=prompt)
    return expected_cost(
        candidate_facts(configured).candidate, facts, warm_tokens=cached, answer_tokens=completion
    )


@pytest.mark.parametrize("usage", USAGES)
@pytest.mark.parametrize("deployment", [pytest.param(each, id=each["model_info"]["id"]) for each in PRICED])
def test_the_expected_cost_of_a_known_usage_is_litellms_bill(router, bill, deployment, usage):
    assert expected(router, deployment, usage).total_usd == pytest.approx(bill(deployment, usage), rel=1e-9)


@pytest.mark.parametrize("deployment", [pytest.param(each, id=each["model_info"]["id"]) for each in UNPRICED])
def test_what_litellm_bills_at_0_for_want_of_a_price_is_unknown(router, deployment):
    assert expected(router, deployment, "short") is None


@pytest.mark.parametrize(
    ("value", "price"),
    [
        pytest.param(3e-6, 3e-6, id="number"),
        pytest.param(0, 0.0, id="free"),
        pytest.param("3e-6", 3e-6, id="YAML 1.1 reads it as text"),
        pytest.param("cheap", None, id="text"),
        pytest.param("os.environ/PRICE", None, id="a variable nobody resolved"),
        pytest.param(True, None, id="truth value"),
        pytest.param(-1e-6, None, id="negative"),
        pytest.param(float("nan"), None, id="not a number"),
        pytest.param("inf", None, id="infinite"),
        pytest.param(10**400, None, id="too large for a price"),
        pytest.param("1" * 5000, None, id="too long for a price"),
        pytest.param([1], None, id="list"),
        pytest.param(None, None, id="nothing"),
    ],
)
def test_a_price_is_a_number_of_dollars(value, price):
    assert price_of(value) == price


class TestUnits:
    @pytest.mark.parametrize(
        ("stated", "member", "price"),
        [
            ({"input_cost_per_image": 0.1}, "image_input_usd", 0.1),
            ({"output_cost_per_image": 0.1}, "image_output_usd", 0.1),
            ({"input_cost_per_image": 0.2, "output_cost_per_image": 0.1}, "image_output_usd", 0.2),
            ({"input_cost_per_pixel": 1e-8}, "image_output_usd", 1e-8 * 1024 * 1024),
            ({"input_cost_per_audio_per_second": 0.1}, "audio_input_usd", 0.1),
            ({"input_cost_per_second": 0.1}, "audio_input_usd", 0.1),
            ({"input_cost_per_audio_token": 0.1}, "audio_input_usd", 1.0),
            ({"input_cost_per_character": 0.1, "input_cost_per_token": 0}, "character_usd", 0.1),
            ({"input_cost_per_query": 0.1}, "query_usd", 0.1),
            ({"input_cost_per_request": 0.1}, "request_usd", 0.1),
        ],
    )
    def test_each_is_read(self, stated, member, price):
        prices = read("openai/nobody-knows", stated).candidate.prices
        assert getattr(prices, member) == pytest.approx(price)

    @pytest.mark.parametrize(
        ("model", "member"),
        [
            ("openai/whisper-1", "audio_input_usd"),
            ("openai/tts-1", "character_usd"),
            ("cohere/rerank-english-v3.0", "query_usd"),
            ("openai/gpt-image-1", "image_output_usd"),
        ],
    )
    def test_the_cost_map_knows_them_too(self, model, member):
        assert getattr(read(model).candidate.prices, member) > 0

    def test_an_own_price_of_images_stands_before_the_cost_maps(self):
        facts = read("openai/gpt-image-1", {"output_cost_per_image": 0.5})
        assert facts.candidate.prices.image_output_usd == 0.5
        assert facts.candidate.prices.input_usd == litellm.model_cost["gpt-image-1"]["input_cost_per_token"]

    def test_a_price_per_request_leaves_the_others_to_the_cost_map(self):
        prices = read(f"openai/{KNOWN}", {"input_cost_per_request": 0.5}).candidate.prices
        known = litellm.model_cost[KNOWN]["input_cost_per_token"]
        assert (prices.request_usd, prices.input_usd) == (0.5, known)

    def test_a_price_per_request_that_is_none_is_unknown(self):
        assert (
            read(f"openai/{KNOWN}", {"input_cost_per_request": "cheap"}).candidate.prices.request_usd is None
        )


class TestLongPrompts:
    def test_the_higher_price_begins_above_the_limit(self):
        prices = read(
            "openai/x",
            {
                **OWN,
                "input_cost_per_token_above_200k_tokens": 3e-6,
                "output_cost_per_token_above_128k_tokens": 4e-6,
                "cache_read_input_token_cost_above_500_tokens": 5e-6,
            },
        ).candidate.prices
        assert prices.steps == (
            PriceStep(500, cached_input_usd=5e-6),
            PriceStep(128_000, output_usd=4e-6),
            PriceStep(200_000, input_usd=3e-6),
        )

    def test_a_provider_that_counts_the_limit_in_begins_there(self):
        prices = read(
            "xai/nobody-knows", {**OWN, "input_cost_per_token_above_128k_tokens": 3e-6}
        ).candidate.prices
        assert [prices.at(tokens).input_usd for tokens in (127_999, 128_000)] == [1e-6, 3e-6]

    @pytest.mark.parametrize("tiers", [5, [], ["x"], [{}], [{"range": [0]}], [{"range": ["a", 1]}]], ids=str)
    def test_ranges_that_are_none_change_nothing(self, tiers):
        assert read("openai/x", {**OWN, "tiered_pricing": tiers}).candidate.prices == Prices(1e-6, 2e-6)


class TestTenantTiers:
    def test_what_a_tier_states_replaces_the_common_price_and_nothing_else(self):
        tiers = {"enterprise": {"input_cost_per_token": "5e-7"}, "free": {"output_cost_per_token": 0}}
        found = read("openai/x", {**OWN, "prices": tiers}).candidate
        assert found.prices == Prices(1e-6, 2e-6)
        assert found.prices_for("enterprise") == Prices(5e-7, 2e-6)
        assert found.prices_for("free") == Prices(1e-6, 0.0)
        assert found.prices_for("pro") == found.prices

    def test_a_tiers_price_that_is_none_is_unknown(self):
        found = read("openai/x", {**OWN, "prices": {"free": {"input_cost_per_token": "cheap"}}}).candidate
        assert found.prices_for("free") == Prices(None, 2e-6)

    @pytest.mark.parametrize("value", ["x", 5, [], {"free": 3}])
    def test_what_is_no_table_of_tiers_changes_nothing(self, value):
        assert read("openai/x", {**OWN, "prices": value}).candidate.tier_prices == {}

    def test_litellm_keeps_them(self, router):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            other = litellm.Router(
                model_list=[entry("t", "openai/x", {**OWN, "prices": {"free": {"input_cost_per_token": 0}}})]
            )
        (configured,) = other.get_model_list()
        other.discard()
        assert candidate_facts(configured).candidate.prices_for("free").input_usd == 0.0


def test_a_model_whose_provider_would_be_asked_is_not_looked_up():
    assert read("ollama/nobody-knows").candidate.prices == Prices()
