from __future__ import annotations

import pytest

from litellm_plugin.proxy.candidate_facts import candidate, candidate_facts, identity
from litellm_plugin.routing import Capability

KNOWN = "gpt-4o-mini"  # a model that LiteLLM's cost map has


def facts(model="openai/nobody-knows", info=None, **params):
    return candidate_facts(
        {
            "model_name": "gpt",
            "litellm_params": {"model": model, **params},
            "model_info": {"id": "eu-1", **(info or {})},
        }
    )


class TestDeclared:
    def test_each_fact_is_read(self):
        info = {
            "quality": 0.8,
            "languages": ["EN", "pt-BR"],
            "max_output_tokens": 100,
            "cache_lifetime_seconds": 60,
            "capabilities": ["parallel_function_calling"],
            "supports_reasoning": True,
        }
        found = facts(info=info).candidate
        assert (found.quality, found.languages) == (0.8, {"en", "pt"})
        assert (found.max_output_tokens, found.cache_lifetime_s) == (100, 60.0)
        assert found.capabilities == {Capability.PARALLEL_FUNCTION_CALLING, Capability.REASONING}
        assert found.model == "openai/nobody-knows"

    @pytest.mark.parametrize("quality", ["high", -0.1, 1.1, True, float("nan")])
    def test_a_quality_outside_of_0_to_1_is_unknown(self, quality):
        assert facts(info={"quality": quality}).candidate.quality is None

    def test_languages_that_are_no_list_cover_none(self):
        assert facts(info={"languages": "en"}).candidate.languages == frozenset()

    @pytest.mark.parametrize("value", ["5", 0, -1, True, float("inf"), float("nan")])
    def test_a_lifetime_that_is_none_is_unknown(self, value):
        assert facts(info={"cache_lifetime_seconds": value}).candidate.cache_lifetime_s is None

    def test_what_nobody_declares_is_unknown(self):
        found = facts().candidate
        assert (found.quality, found.languages, found.max_output_tokens, found.cache_lifetime_s) == (
            None,
        ) * 4

    @pytest.mark.parametrize("nothing", [{}, {"model_info": None, "litellm_params": None}])
    def test_an_empty_deployment_has_no_facts(self, nothing):
        assert candidate_facts(nothing).sources == {}


class TestCacheLifetimes:
    @pytest.mark.parametrize("model", ["anthropic/claude-sonnet-4-5", f"openai/{KNOWN}", "azure/gpt-4o-mini"])
    def test_a_provider_that_documents_one_has_it(self, model):
        assert facts(model).candidate.cache_lifetime_s == 300

    @pytest.mark.parametrize(
        "model",
        [
            pytest.param("gemini/gemini-2.5-flash", id="not documented"),
            pytest.param("openai/nobody-knows", id="model unknown"),
            pytest.param("openai/text-embedding-3-small", id="caches nothing"),
        ],
    )
    def test_others_have_none(self, model):
        assert facts(model).candidate.cache_lifetime_s is None


class TestSources:
    def test_each_known_fact_has_one(self):
        info = {"region": "eu", "max_input_tokens": 9, "input_cost_per_token": 1e-6, "supports_vision": True}
        found = facts(f"openai/{KNOWN}", info, output_cost_per_token=2e-6)
        assert found.sources == {
            "endpoint": "default",
            "model": "litellm_params",
            "region": "declared",
            "max_input_tokens": "declared",
            "max_output_tokens": f"cost map {KNOWN}",
            "cache_lifetime_s": "default",
            "capabilities.vision": "declared",
            "capabilities.function_calling": f"cost map {KNOWN}",
            "capabilities.parallel_function_calling": f"cost map {KNOWN}",
            "capabilities.response_schema": f"cost map {KNOWN}",
            "capabilities.pdf_input": f"cost map {KNOWN}",
            "prices.input_usd": "declared",
            "prices.output_usd": "litellm_params",
            "prices.cached_input_usd": f"cost map {KNOWN}",
        }


@pytest.mark.parametrize(
    "info",
    [
        {"endpoint": "eu", "clearances": ["phi"], "attributes": ["baa"], "region": "eu-west"},
        {"clearances": "phi", "attributes": None},
        {},
    ],
)
def test_an_identity_says_what_the_whole_candidate_says_of_who_may_reach_it(info):
    entry = {"litellm_params": {"model": "openai/nobody-knows"}, "model_info": {"id": "a", **info}}
    whole, part = candidate(entry), identity(entry)
    for name in ("deployment_id", "endpoint", "clearances", "attributes", "region"):
        assert getattr(part, name) == getattr(whole, name)
