from __future__ import annotations

import warnings

import litellm
import pytest
from pydantic import SecretStr

from litellm_plugin.proxy.deployments import Deployments, candidate, endpoint_name, mismatch
from litellm_plugin.routing.candidates import Prices
from litellm_plugin.routing.facts import Capability

KNOWN = "gpt-4o-mini"  # a model that LiteLLM's cost map has


def entry(model="openai/nobody-knows", info=None, **params):
    return {
        "model_name": "gpt",
        "litellm_params": {"model": model, **params},
        "model_info": {"id": "eu-1", **(info or {})},
    }


def a_router(model_list, **options):
    with warnings.catch_warnings():
        # LiteLLM builds pydantic models with the first Router.
        warnings.simplefilter("ignore")
        return litellm.Router(model_list=model_list, **options)


class TestNames:
    def test_the_declared_endpoint_is_the_name(self):
        assert endpoint_name(entry(info={"endpoint": "eu"})) == "eu"

    @pytest.mark.parametrize("endpoint", [None, ""])
    def test_without_one_the_id_is(self, endpoint):
        assert endpoint_name(entry(info={"endpoint": endpoint})) == "eu-1"

    @pytest.mark.parametrize("nothing", [{}, {"model_info": None}])
    def test_without_both_there_is_none(self, nothing):
        assert endpoint_name(nothing) == ""


class TestPrices:
    def test_the_deployments_own_price_is_first(self):
        deployment = entry(
            f"openai/{KNOWN}",
            {"input_cost_per_token": 2.0, "output_cost_per_token": 3.0},
            input_cost_per_token=1.0,
        )
        prices = candidate(deployment).prices
        assert (prices.input_usd, prices.output_usd) == (1.0, 3.0)

    def test_then_the_cost_map(self):
        known = litellm.model_cost[KNOWN]
        prices = candidate(entry(f"openai/{KNOWN}")).prices
        assert prices == Prices(
            known["input_cost_per_token"],
            known["output_cost_per_token"],
            cached_input_usd=known["cache_read_input_token_cost"],
        )

    def test_the_base_model_is_asked_before_the_model(self):
        base = candidate(entry("openai/gpt-4", {"base_model": KNOWN})).prices
        assert base == candidate(entry(KNOWN)).prices

    def test_a_declared_zero_is_free(self):
        deployment = entry(f"openai/{KNOWN}", input_cost_per_token=0, output_cost_per_token=0.0)
        prices = candidate(deployment).prices
        assert (prices.input_usd, prices.output_usd) == (0.0, 0.0)

    def test_a_price_that_yaml_read_as_text_is_a_price(self):
        assert candidate(entry(input_cost_per_token="3e-6")).prices.input_usd == 3e-6

    @pytest.mark.parametrize("value", [None, "cheap", True])
    def test_a_price_nobody_states_stays_unknown(self, value):
        assert candidate(entry(input_cost_per_token=value)).prices == Prices(None, None)

    def test_a_price_per_request_is_read(self):
        assert candidate(entry(input_cost_per_request=0.5)).prices.request_usd == 0.5


class TestFacts:
    def test_what_nobody_declares_is_unknown(self):
        facts = candidate(entry())
        assert (facts.clearances, facts.latency_classes, facts.max_input_tokens) == (None, None, None)
        assert (facts.attributes, facts.capabilities) == (frozenset(), frozenset())
        assert (facts.region, facts.tier, facts.is_available) == (None, None, True)

    @pytest.mark.parametrize("value", ["public", {"public": True}, 5, ""])
    def test_a_restriction_that_is_no_list_allows_nothing(self, value):
        facts = candidate(entry(info={"id": "a", "clearances": value, "latency_classes": value}))
        assert (facts.clearances, facts.latency_classes) == (frozenset(), frozenset())

    def test_what_is_declared_is_read(self):
        info = {
            "clearances": ["phi"],
            "attributes": ["baa"],
            "latency_classes": [],
            "max_input_tokens": 9,
            "region": "eu",
            "quality_tier": "large",
        }
        facts = candidate(entry(info=info))
        assert (facts.clearances, facts.attributes, facts.latency_classes) == ({"phi"}, {"baa"}, frozenset())
        assert (facts.max_input_tokens, facts.region, facts.tier) == (9, "eu", "large")

    def test_an_attribute_that_is_no_list_is_not_declared(self):
        assert candidate(entry(info={"attributes": "baa"})).attributes == frozenset()

    def test_the_cost_map_gives_capabilities_and_window(self):
        facts = candidate(entry(KNOWN))
        assert {Capability.FUNCTION_CALLING, Capability.VISION} <= facts.capabilities
        assert facts.max_input_tokens == litellm.model_cost[KNOWN]["max_input_tokens"]

    def test_a_capability_that_is_denied_is_absent(self):
        facts = candidate(entry(KNOWN, {"supports_vision": False}))
        assert Capability.VISION not in facts.capabilities

    def test_a_listed_capability_is_there(self):
        assert candidate(entry(info={"capabilities": ["vision"]})).capabilities == {Capability.VISION}


class TestRealRouter:
    """What LiteLLM's own router makes of a model list, read back as candidates."""

    @pytest.fixture
    def candidates(self):
        router = a_router(
            model_list=[
                entry("openai/unpriced-a", {"id": "unpriced"}, api_key="k"),
                entry("openai/shared-b", {"id": "priced"}, api_key="k", input_cost_per_token=1e-6),
                entry("openai/shared-b", {"id": "sibling"}, api_key="k"),
            ]
        )
        found = {
            each["model_info"]["id"]: candidate(each) for each in router.get_model_list(model_name="gpt")
        }
        yield found
        router.discard()

    def test_a_missing_price_is_not_read_as_free(self, candidates):
        assert candidates["unpriced"].prices == Prices(None, None)

    def test_a_price_is_not_taken_from_a_sibling_with_the_same_model(self, candidates):
        assert (candidates["priced"].prices.input_usd, candidates["sibling"].prices.input_usd) == (1e-6, None)


class TestReading:
    def test_a_deployment_is_read_once_until_litellms_objects_change(self):
        class OneGroup:
            def __init__(self, entries):
                self.entries = entries

            def get_model_list(self, **_):
                return self.entries

        router = OneGroup([entry(info={"id": f"d-{number}", "region": "eu"}) for number in range(1000)])
        deployments = Deployments(router)
        first = deployments.of_group("gpt")
        again = deployments.of_group("gpt")
        router.entries[7] = entry(info={"id": "d-7", "region": "us"})
        changed = deployments.of_group("gpt")
        assert all(one is other for one, other in zip(first, again, strict=True))
        assert [each.region for each in changed[6:9]] == ["eu", "us", "eu"]


CONFIGURED = entry(
    "openai/gpt-test",
    api_base="https://eu.example",
    api_key="key-eu",
    organization="org",
    region_name="eu",
    api_version="1",
)


def call(**changes):
    made = {**CONFIGURED["litellm_params"], "model_info": CONFIGURED["model_info"], "messages": [], **changes}
    return {name: value for name, value in made.items() if value != "<gone>"}


class TestMismatch:
    def test_a_call_as_configured_has_none(self):
        assert mismatch(call(), CONFIGURED) is None

    @pytest.mark.parametrize(
        "name",
        [
            "api_base",
            "base_url",
            "api_key",
            "api_version",
            "organization",
            "region_name",
            "litellm_credential_name",
            "prompt_id",
            "aws_region_name",
            "aws_bedrock_runtime_endpoint",
            "aws_access_key_id",
            "aws_role_name",
            "aws_profile_name",
            "vertex_project",
            "vertex_location",
            "vertex_credentials",
            "azure_ad_token",
            "tenant_id",
            "client_id",
            "watsonx_region_name",
            "extra_headers",
        ],
    )
    def test_another_destination_is_named(self, name):
        assert mismatch(call(**{name: "other"}), CONFIGURED) == name

    @pytest.mark.parametrize("name", ["api_base", "api_key", "organization", "region_name", "api_version"])
    def test_a_destination_that_is_gone_is_named(self, name):
        assert mismatch(call(**{name: "<gone>"}), CONFIGURED) == name

    @pytest.mark.parametrize("empty", [None, "", {}])
    def test_an_empty_value_is_absent(self, empty):
        assert mismatch(call(base_url=empty, extra_headers=empty), CONFIGURED) is None

    def test_a_wrapped_secret_is_compared_by_its_content(self):
        assert mismatch(call(api_key=SecretStr("key-eu")), CONFIGURED) is None
        assert mismatch(call(api_key=SecretStr("other")), CONFIGURED) == "api_key"

    @pytest.mark.parametrize(
        ("configured", "changes"),
        [
            pytest.param("openai/gpt-test", {"model": "openai/gpt-other"}, id="model"),
            pytest.param("openai/gpt-test", {"model": "anthropic/gpt-test"}, id="prefix"),
            pytest.param("openai/gpt-test", {"custom_llm_provider": "anthropic"}, id="provider-swap"),
            pytest.param("openai/gpt-test", {"model": ""}, id="no-model"),
            pytest.param("openai/*", {"model": "anthropic/claude-test"}, id="wildcard-provider"),
            pytest.param("*", {"model": "anthropic/claude-test"}, id="bare-wildcard"),
            pytest.param(
                "nobody-knows", {"model": "nobody-knows", "custom_llm_provider": "openai"}, id="unplaceable"
            ),
        ],
    )
    def test_another_model_or_provider_is_named(self, configured, changes):
        deployment = entry(configured)
        made = {**deployment["litellm_params"], **changes}
        assert mismatch(made, deployment) == "model"

    @pytest.mark.parametrize(
        ("configured", "changes"),
        [
            pytest.param("openai/gpt-test", {"custom_llm_provider": "openai"}, id="provider-said-again"),
            pytest.param(
                "openai/gpt-test", {"model": "gpt-test", "custom_llm_provider": "openai"}, id="resolved"
            ),
            pytest.param("openai/*", {"model": "openai/gpt-test"}, id="wildcard"),
        ],
    )
    def test_the_same_model_in_other_words_has_none(self, configured, changes):
        deployment = entry(configured)
        assert mismatch({**deployment["litellm_params"], **changes}, deployment) is None


class TestWildcards:
    """What stands for the star is a plain name: it cannot change where the call goes."""

    @pytest.mark.parametrize(
        ("configured", "model"),
        [
            ("openai/*", "openai/ft:gpt-4o:org::id"),
            ("openai/*", "openai/org/model"),
            ("openai/gpt-*", "openai/gpt-4o"),
            ("openrouter/*", "openrouter/anthropic/claude-3.5-sonnet:free"),
            ("hosted_vllm/*", "hosted_vllm/meta-llama/Llama-3"),
            ("azure/*", "azure/gpt-4o"),
            ("azure/responses/*", "azure/responses/gpt-4o"),
            ("gemini/*", "gemini/gemini-2.5-pro"),
            ("anthropic/claude-*-latest", "anthropic/claude-opus-latest"),
        ],
    )
    def test_a_plain_name_fills_it(self, configured, model):
        deployment = entry(configured)
        assert mismatch({"model": model}, deployment) is None

    @pytest.mark.parametrize(
        ("configured", "model"),
        [
            ("openai/gpt-*", "openai/o3"),
            ("openai/gpt-*", "openai/gpt-"),
            ("openai/*", "openai/*"),
            ("azure/*", "azure/x/../../../../us/openai/deployments/y"),
            ("azure/*", "azure/x/y"),
            ("azure_ai/*", "azure_ai/x/y"),
            ("gemini/*", "gemini/../other"),
            ("gemini/*", "gemini/.."),
            ("gemini/*", "gemini/tuned/other"),
            ("anthropic/*", "anthropic/a/b"),
            ("bedrock/*", "bedrock/us-east-1/anthropic.claude-v2"),
            ("bedrock/*", "bedrock/arn:aws:bedrock:us-east-1:1:inference-profile"),
            ("bedrock/*", "bedrock/agentcore/arn:aws:bedrock-agentcore:us-east-1:1:runtime/x"),
            ("openai/*", "openai/a/../b"),
            ("openai/*", "openai/a//b"),
            ("openai/*", "openai/a/"),
            ("openai/*", "openai/a..b"),
            ("openai/*", "openai/arn:aws:x"),
            ("openai/*", "openai/https://us.example/v1"),
            *(("openai/*", f"openai/a{mark}b") for mark in "?#%\\& \n\x00\u2025"),
            ("openai/*", "openai/a\n"),
            ("openai/*", "openai/" + "a" * 300),
        ],
    )
    def test_nothing_else_does(self, configured, model):
        deployment = entry(configured)
        assert mismatch({"model": model}, deployment) == "model"

    def test_a_model_that_is_configured_is_the_operators_own_matter(self):
        deployment = entry("bedrock/us-east-1/anthropic.claude-v2")
        assert mismatch({"model": "bedrock/us-east-1/anthropic.claude-v2"}, deployment) is None


class TestDeployments:
    def test_a_list_changes_with_what_is_in_it(self):
        router = a_router([entry(api_key="k")])
        deployments = Deployments(router)
        seen = [deployments.have_changed() for _ in range(2)]
        router.upsert_deployment(litellm.types.router.Deployment(**entry(api_key="k", rpm=3)))
        seen += [deployments.have_changed() for _ in range(2)]
        router.delete_deployment("eu-1")
        assert [*seen, deployments.have_changed()] == [True, False, True, False, True]

    def test_aliases_change_nothing(self):
        deployments = Deployments(a_router([entry(api_key="k")], model_group_alias={"other": "gpt"}))
        assert [deployments.have_changed() for _ in range(3)] == [True, False, False]

    @pytest.fixture
    def deployments(self, monkeypatch):
        from litellm.proxy import proxy_server  # noqa: PLC0415 - seconds to import

        router = a_router(
            model_list=[entry(info={"id": "eu-1"}, api_key="k"), entry(info={"id": "us-1"}, api_key="k")]
        )
        monkeypatch.setattr(proxy_server, "llm_router", router)
        yield Deployments()
        router.discard()

    def test_a_group_has_all_its_deployments(self, deployments):
        assert [each.deployment_id for each in deployments.of_group("gpt")] == ["eu-1", "us-1"]

    def test_a_deployment_id_stands_for_itself(self, deployments):
        assert [each.deployment_id for each in deployments.of_group("us-1")] == ["us-1"]

    @pytest.mark.parametrize("name", ["", "nobody"])
    def test_an_unknown_name_has_none(self, deployments, name):
        assert deployments.of_group(name) == ()
        assert deployments.single(name) == ()
        assert deployments.configured(name) is None

    def test_one_that_litellm_made_for_a_callers_address_is_not_configured(self):
        router = a_router([entry(info={"id": "made", "original_model_id": "eu-1"})])
        assert Deployments(router).of_group("gpt")
        assert Deployments(router).configured("made") is None

    def test_what_litellm_holds_back_is_unavailable(self, deployments):
        offered = [entry(info={"id": "us-1"})]
        found = {each.deployment_id: each.is_available for each in deployments.with_health("gpt", offered)}
        assert found == {"eu-1": False, "us-1": True}

    def test_what_is_offered_without_being_listed_comes_last(self, deployments):
        offered = [entry(info={"id": "us-1"}), entry(info={"id": "stranger"})]
        assert [each.deployment_id for each in deployments.with_health("eu-1", offered)] == ["eu-1", "us-1"]

    def test_facts_are_the_configured_ones_whatever_an_offer_says(self, deployments):
        relabelled = entry(info={"id": "us-1", "endpoint": "eu", "clearances": ["phi"]})
        for group in ("gpt", "eu-1"):
            found = {each.deployment_id: each for each in deployments.with_health(group, [relabelled])}
            assert (found["us-1"].endpoint, found["us-1"].clearances) == ("us-1", None)

    def test_without_a_router_there_is_nothing(self, deployments, monkeypatch):
        from litellm.proxy import proxy_server  # noqa: PLC0415 - seconds to import

        monkeypatch.setattr(proxy_server, "llm_router", None)
        assert deployments.of_group("gpt") == ()
