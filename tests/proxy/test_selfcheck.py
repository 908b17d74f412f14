from __future__ import annotations

import copy

import pytest
from proxy_cases import POLICY_BLOCK

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.proxy.selfcheck import (
    check_configuration,
    configuration_warnings,
    declared_endpoints,
    declares_languages,
    policy_warnings,
    read_policy,
    registration_findings,
)
from litellm_plugin.settings import Flags, load_policy

CONFIG = {
    "model_list": [
        {
            "model_name": "gpt",
            "litellm_params": {"model": "openai/x"},
            "model_info": {"id": "eu-1", "endpoint": "eu"},
        },
        {"model_name": "gpt", "litellm_params": {"model": "openai/x"}, "model_info": {"id": "us-1"}},
    ],
    "router_settings": {"disable_cooldowns": True},
}


def findings(config, tmp_path):
    with pytest.raises(ConfigurationError) as caught:
        check_configuration(config, load_policy(POLICY_BLOCK, Flags(), base=tmp_path))
    return str(caught.value).splitlines()


def with_setting(section, name, value):
    config = copy.deepcopy(CONFIG)
    config[section] = {**config.get(section, {}), name: value}
    return config


def with_deployment(**changes):
    config = copy.deepcopy(CONFIG)
    config["model_list"][1].update(changes)
    return config


def test_a_misspelt_block_is_pointed_out(tmp_path):
    config = {**CONFIG, "litellm_settings": {"permit_routr": POLICY_BLOCK}}
    with pytest.raises(
        ConfigurationError, match=r"is missing: .* \(litellm_settings\.permit_routr stands there\)"
    ):
        read_policy(config, Flags(), base=tmp_path)


def test_a_configuration_without_side_doors_passes(tmp_path):
    check_configuration(CONFIG, load_policy(POLICY_BLOCK, Flags(), base=tmp_path))


@pytest.mark.parametrize(
    "strategy",
    [
        "simple-shuffle",
        "least-busy",
        "latency-based-routing",
        "cost-based-routing",
        "usage-based-routing-v2",
    ],
)
def test_a_strategy_with_an_asynchronous_selector_passes(tmp_path, strategy):
    config = with_setting("router_settings", "routing_strategy", strategy)
    check_configuration(config, load_policy(POLICY_BLOCK, Flags(), base=tmp_path))


@pytest.mark.parametrize(
    ("section", "name", "value", "opens", "instead"),
    [
        pytest.param(
            "general_settings",
            "allow_client_side_credentials",
            True,
            "lets a caller name the host and key",
            "remove it or write false",
            id="client-credentials",
        ),
        pytest.param(
            "general_settings",
            "pass_through_all_models",
            True,
            "sends models that no deployment names",
            "remove it or write false",
            id="pass-through",
        ),
        pytest.param(
            "router_settings",
            "routing_strategy",
            "usage-based-routing",
            "'usage-based-routing' picks a deployment without asking",
            "write simple-shuffle",
            id="strategy",
        ),
        *(
            pytest.param(
                "router_settings",
                "routing_strategy",
                value,
                "picks a deployment without asking",
                "write simple-shuffle",
                id=f"strategy-{value}",
            )
            for value in (None, "lar1", "provider-budget-routing", ["simple-shuffle"])
        ),
        *(
            pytest.param(
                section,
                "configurable_clientside_auth_params",
                ["api_base"],
                "would let a caller name host and key",
                "remove it",
                id=f"client-auth-{section}",
            )
            for section in ("general_settings", "litellm_settings", "router_settings")
        ),
        pytest.param(
            "router_settings",
            "enable_pre_call_checks",
            True,
            "drops the deployment that the permit router chose",
            "remove it",
            id="pre-call-checks",
        ),
        *(
            pytest.param(
                "router_settings",
                "disable_cooldowns",
                value,
                "would hide authorized endpoints",
                "write disable_cooldowns: true",
                id=f"cooldowns-{value}",
            )
            for value in (False, None, "true")
        ),
    ],
)
def test_a_setting_is_refused_with_what_it_opens_and_what_to_write(
    *, tmp_path, section, name, value, opens, instead
):
    (finding,) = findings(with_setting(section, name, value), tmp_path)
    assert finding.startswith(f"{section}.{name} ")
    assert opens in finding
    assert instead in finding


def test_cooldowns_left_at_their_default_are_refused(tmp_path):
    (finding,) = findings({**CONFIG, "router_settings": None}, tmp_path)
    assert "disable_cooldowns" in finding


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"model_info": {}}, "has no model_info.id", id="no-id"),
        pytest.param({"model_info": None}, "has no model_info.id", id="no-info"),
        pytest.param({"model_info": {"id": 7}}, "has no model_info.id", id="number-as-id"),
        pytest.param({"model_info": "us-1"}, "model_info is str; a mapping is expected", id="info-text"),
        pytest.param({"model_info": {"id": "eu-1"}}, "model_info.id 'eu-1' is taken", id="same-id"),
        pytest.param(
            {"litellm_params": {"configurable_clientside_auth_params": ["api_base"]}},
            "configurable_clientside_auth_params lets a caller name host and key; remove it",
            id="client-auth",
        ),
        pytest.param(
            {"litellm_params": {"model": "openai/x", "silent_model": "gpt-2"}},
            "litellm_params.silent_model sends each prompt to a second model; remove it",
            id="silent-model",
        ),
        *(
            pytest.param(
                {"litellm_params": {"model": model}},
                f"litellm_params.model {model!r} lets LiteLLM choose the model and shows each prompt to a classifier",
                id=model,
            )
            for model in ("auto_router/a", "auto_router/complexity_router", "auto_router/adaptive_router/x")
        ),
        *(
            pytest.param(
                {"litellm_params": params},
                f"litellm_params.model {params['model']!r} lets a caller choose the host or the region",
                id=f"wildcard-{params['model']}",
            )
            for params in (
                {"model": "bedrock/*"},
                {"model": "bedrock/converse/*"},
                {"model": "bedrock_mantle/*"},
                {"model": "sagemaker_chat/*"},
                {"model": "baseten/*"},
                {"model": "vertex_ai/*"},
                {"model": "huggingface/*"},
                {"model": "*", "custom_llm_provider": "bedrock"},
            )
        ),
        *(
            pytest.param(
                {"litellm_params": {"model": model, name: "https://eu.example"}},
                f"litellm_params.{name} is not where calls go",
                id=f"{name}-{model}",
            )
            for name, model in (
                ("api_base", "replicate/meta/x"),
                ("base_url", "replicate/meta/x"),
                ("api_base", "bytez/x"),
                ("api_base", "sagemaker/x"),
                ("api_base", "bedrock/agentcore/arn:aws:x"),
            )
        ),
        pytest.param(
            {"model_info": {"id": "x", "clearances": ["secret"]}},
            "model_info.clearances names 'secret', which the policy block does not declare",
            id="clearance",
        ),
        pytest.param(
            {"model_info": {"id": "x", "clearances": "phi"}},
            "model_info.clearances is 'phi'; a list is expected",
            id="clearance-text",
        ),
        pytest.param(
            {"model_info": {"id": "x", "latency_classes": ["slow"]}},
            "model_info.latency_classes names 'slow'",
            id="latency-class",
        ),
        pytest.param(
            {"model_info": {"id": "x", "tier": "large"}},
            "a quality tier is model_info.quality_tier",
            id="litellms-tier",
        ),
        pytest.param(
            {"model_info": {"id": "x", "attributes": "baa"}},
            "model_info.attributes is 'baa'; a list is expected",
            id="attributes-text",
        ),
    ],
)
def test_a_deployment_is_refused_by_its_place_and_group(tmp_path, changes, said):
    (finding,) = findings(with_deployment(**changes), tmp_path)
    assert finding.startswith("model_list[1] ('gpt')")
    assert said in finding


@pytest.mark.parametrize(
    "params",
    [
        {"model": "openai/*", "api_base": "https://eu.example"},
        {"model": "azure/*", "api_base": "https://eu.example"},
        {"model": "replicate/meta/x"},
        {"model": "bedrock/us-east-1/anthropic.claude-v2"},
        {"model": "bedrock/anthropic.claude-v2", "api_base": "https://eu.example"},
    ],
)
def test_a_deployment_whose_place_is_as_written_passes(tmp_path, params):
    config = with_deployment(litellm_params=params)
    check_configuration(config, load_policy(POLICY_BLOCK, Flags(), base=tmp_path))


@pytest.mark.parametrize(
    ("entry", "own"),
    [
        ({"path": "/v1/messages"}, "/v1/messages"),
        ({"path": "/v1/{anything}"}, "/v1/audio/speech"),
        ({"path": "/engines", "include_subpath": True}, "/engines/{model}/chat/completions"),
        ({"path": "/key/generate"}, "/key/generate"),
    ],
)
def test_a_pass_through_over_a_listed_path_is_refused(tmp_path, entry, own):
    through = {"target": "https://other.example/v1", **entry}
    config = with_setting("general_settings", "pass_through_endpoints", [{"path": "/search"}, through])
    (finding,) = findings(config, tmp_path)
    assert finding.startswith(
        f"general_settings.pass_through_endpoints[1]: path {entry['path']!r} lies over LiteLLM's own {own} "
    )
    assert "'https://other.example/v1'" in finding
    assert finding.endswith("write a path of its own")


@pytest.mark.parametrize(
    "value", [None, "x", ["x"], [{}], [{"path": "/engines"}], [{"path": "/search", "include_subpath": True}]]
)
def test_another_pass_through_passes(tmp_path, value):
    config = with_setting("general_settings", "pass_through_endpoints", value)
    check_configuration(config, load_policy(POLICY_BLOCK, Flags(), base=tmp_path))


def test_models_that_no_deployment_names_are_refused_where_the_router_reads_it(tmp_path):
    config = with_setting("router_settings", "router_general_settings", {"pass_through_all_models": True})
    (finding,) = findings(config, tmp_path)
    assert finding.startswith("router_settings.router_general_settings.pass_through_all_models ")


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"fallbacks": [{"gpt": ["other"]}], "default_fallbacks": ["other"]}, id="fallbacks"),
        pytest.param({"model_group_alias": {"a": "gpt"}}, id="alias"),
        pytest.param(
            {
                "routing_groups": [
                    {"group_name": "g", "models": ["gpt"], "routing_strategy": "usage-based-routing"}
                ]
            },
            id="routing-groups",
        ),
    ],
)
def test_what_selection_filters_anyway_passes(tmp_path, settings):
    # A group's strategy picks among what selection left: router.py, _async_get_available_deployment.
    config = {**CONFIG, "router_settings": {**CONFIG["router_settings"], **settings}}
    check_configuration(config, load_policy(POLICY_BLOCK, Flags(), base=tmp_path))


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("router_settings", ["x"]),
        ("general_settings", "x"),
        ("model_list", {"a": 1}),
        ("litellm_settings", 1),
    ],
)
def test_a_section_of_the_wrong_kind_is_no_crash(tmp_path, section, value):
    config = {**CONFIG, "router_settings": {}, section: value}
    assert "disable_cooldowns" in findings(config, tmp_path)[-1]


def test_an_unregistered_plugin_is_a_finding():
    (finding,) = registration_findings({"litellm_settings": {"callbacks": ["langfuse"]}})
    assert finding.startswith("litellm_settings.callbacks does not list litellm_plugin.permit_router")
    assert 'write callbacks: ["litellm_plugin.permit_router"]' in finding


@pytest.mark.parametrize("callbacks", ["litellm_plugin.permit_router", ["a", "litellm_plugin.permit_router"]])
def test_a_registered_plugin_is_none(callbacks):
    assert list(registration_findings({"litellm_settings": {"callbacks": callbacks}})) == []


@pytest.mark.parametrize(
    "params",
    [{"api_base": "https://a.test"}, {"base_url": "https://a.test"}, {"aws_region_name": "eu-west-1"}],
)
def test_a_deployment_that_says_where_it_is_gives_no_warning(params):
    config = {"model_list": [{"litellm_params": params, "model_info": {"region": "eu"}}]}
    assert list(configuration_warnings(config)) == []


def test_a_deployment_that_does_not_gives_two():
    address, region = configuration_warnings({"model_list": [{"model_name": "gpt", "litellm_params": None}]})
    assert address.startswith("model_list[0] ('gpt') has no litellm_params.api_base")
    assert region.startswith("model_list[0] ('gpt') has no model_info.region")


@pytest.mark.parametrize(
    ("binding", "said"), [("body", []), ("none", ["'none'"]), ("single_use", ["'single_use' without"])]
)
def test_a_binding_says_what_it_gives_up(tmp_path, binding, said):
    block = {**POLICY_BLOCK, "permit": {**POLICY_BLOCK["permit"], "binding": binding}}
    warnings = list(policy_warnings(load_policy(block, Flags(), base=tmp_path)))
    assert len(warnings) == len(said)
    assert all(part in text for part, text in zip(said, warnings, strict=True))


def test_a_wrong_block_hides_no_finding_of_the_configuration(tmp_path):
    config = {**CONFIG, "router_settings": {}, "litellm_settings": {"permit_router": {"permti": {}}}}
    with pytest.raises(ConfigurationError) as caught:
        read_policy(config, Flags(), base=tmp_path)
    assert "did you mean 'permit'" in str(caught.value)
    assert "disable_cooldowns" in str(caught.value)


def test_every_finding_has_its_line(tmp_path):
    config = with_setting("general_settings", "pass_through_all_models", True)
    config["model_list"][0]["model_info"] = {}
    config["router_settings"] = {}
    assert len(findings(config, tmp_path)) == 3


def test_endpoints_are_declared_names_then_ids_each_once():
    config = {"model_list": [*CONFIG["model_list"], CONFIG["model_list"][0], {"model_name": "x"}, "junk"]}
    assert declared_endpoints(config) == ["eu", "us-1"]


def test_no_model_list_declares_nothing():
    assert declared_endpoints({}) == []


@pytest.mark.parametrize(("info", "declares"), [({"languages": ["de"]}, True), ({"id": "x"}, False)])
def test_languages_are_declared_by_any_deployment(info, declares):
    config = {"model_list": [*CONFIG["model_list"], {"model_name": "x", "model_info": info}]}
    assert declares_languages(config) is declares


@pytest.mark.parametrize(
    ("info", "said"),
    [
        pytest.param(
            {"clearence": ["phi"]}, "clearence is not known; did you mean 'clearances'?", id="misspelt"
        ),
        pytest.param(
            {"language": ["en"]}, "language is not known; did you mean 'languages'?", id="one language"
        ),
        pytest.param(
            {"quality": "high"}, "quality is 'high'; a number from 0 to 1 is expected", id="quality text"
        ),
        pytest.param({"quality": 3}, "quality is 3; a number from 0 to 1 is expected", id="quality above 1"),
        pytest.param({"quality": True}, "quality is True; a number from 0 to 1", id="quality a truth value"),
        pytest.param(
            {"languages": "en"}, "languages is 'en'; a list of ISO 639-1 codes", id="languages text"
        ),
        pytest.param(
            {"languages": ["English"]}, "languages is ['English']; a list of ISO 639-1", id="no code"
        ),
        pytest.param(
            {"capabilities": "vision"}, "capabilities is 'vision'; a list is expected", id="capability text"
        ),
        pytest.param(
            {"capabilities": ["visoin"]},
            "names 'visoin', which is not known; did you mean 'vision'?",
            id="capability",
        ),
        pytest.param(
            {"capabilities": [5]},
            "names 5, which is not known; known are function_calling",
            id="no capability",
        ),
        pytest.param({"region": 5}, "region is 5; a name is expected", id="region"),
        pytest.param(
            {"synthetic_prompts": "yes"}, "synthetic_prompts is 'yes'; true or false", id="synthetic text"
        ),
        pytest.param(
            {"synthetic_prompts": 1}, "synthetic_prompts is 1; true or false", id="synthetic number"
        ),
        pytest.param(
            {"synthetic_prompt": True}, "did you mean 'synthetic_prompts'?", id="synthetic misspelt"
        ),
        pytest.param(
            {"synthetic_prompts": True, "mode": "image_generation"},
            "synthetic_prompts is true, but its mode is 'image_generation', and only chat and embedding are asked",
            id="synthetic image",
        ),
        pytest.param(
            {"rpm": "600/min"},
            "model_info.rpm is '600/min'; a whole number of 1 or more is expected",
            id="limit text",
        ),
        pytest.param({"rpm": "600"}, "model_info.rpm is '600'; a whole", id="limit that nothing reads"),
        pytest.param({"tpm": -5}, "model_info.tpm is -5; a whole", id="limit below 0"),
        pytest.param({"tpm": 1.5}, "model_info.tpm is 1.5; a whole", id="half a token"),
        pytest.param({"rpm": True}, "model_info.rpm is True; a whole", id="limit a truth value"),
        pytest.param(
            {"max_output_tokens": "4k"}, "max_output_tokens is '4k'; a whole number above 0", id="window text"
        ),
        pytest.param(
            {"max_input_tokens": 0}, "max_input_tokens is 0; a whole number above 0", id="no window"
        ),
        pytest.param(
            {"cache_lifetime_seconds": -5}, "cache_lifetime_seconds is -5; a number of seconds", id="lifetime"
        ),
        pytest.param(
            {"input_cost_per_token": "cheap"},
            "model_info.input_cost_per_token is 'cheap'; a price in USD",
            id="price",
        ),
        pytest.param(
            {"output_cost_per_token": -1e-6},
            "model_info.output_cost_per_token is -1e-06; a price",
            id="negative price",
        ),
        pytest.param(
            {"prices": [1]}, "prices is [1]; a table of prices by tenant tier is expected", id="no tiers"
        ),
        pytest.param(
            {"prices": {"pro": 1}},
            "model_info.prices.pro is 1; prices by LiteLLM's names",
            id="no tier's prices",
        ),
        pytest.param(
            {"prices": {"gold": {}}}, "names 'gold', which `tenant_tiers` of the policy block", id="no tier"
        ),
        pytest.param(
            {"prices": {"pro": {"input": 1}}}, "model_info.prices.pro.input is no price", id="no price's name"
        ),
        pytest.param(
            {"prices": {"pro": {"input_cost_per_token": "x"}}},
            "prices.pro.input_cost_per_token is 'x'; a price",
            id="tier's price",
        ),
    ],
)
def test_a_fact_that_cannot_be_read_is_refused_by_its_key(tmp_path, info, said):
    (finding,) = findings(with_deployment(model_info={"id": "x", **info}), tmp_path)
    assert finding.startswith("model_list[1] ('gpt')")
    assert said in finding


TIERED = {**POLICY_BLOCK, "quality_tiers": ["small", "large"]}


@pytest.mark.parametrize(
    ("block", "tier"),
    [
        pytest.param(TIERED, "large", id="declared"),
        pytest.param(POLICY_BLOCK, "lrage", id="no tiers are declared"),
        pytest.param(TIERED, None, id="none"),
    ],
)
def test_a_quality_tier_of_the_list_passes(tmp_path, block, tier):
    config = with_deployment(model_info={"id": "x", "quality_tier": tier})
    check_configuration(config, load_policy(block, Flags(), base=tmp_path))


def test_a_quality_tier_outside_the_list_is_refused(tmp_path):
    config = with_deployment(model_info={"id": "x", "quality_tier": "lrage"})
    with pytest.raises(ConfigurationError, match="does not declare; known are small, large") as caught:
        check_configuration(config, load_policy(TIERED, Flags(), base=tmp_path))
    assert str(caught.value).startswith("model_list[1] ('gpt'): model_info.quality_tier is 'lrage'")


def test_a_price_of_litellm_params_is_read_too(tmp_path):
    (finding,) = findings(
        with_deployment(litellm_params={"model": "openai/x", "input_cost_per_token": "x"}), tmp_path
    )
    assert "litellm_params.input_cost_per_token is 'x'; a price in USD, 0 or more, is expected" in finding


@pytest.mark.parametrize("limit", ["600/min", -5, "-5", 1.5, "", float("inf"), float("nan"), True, [600]])
def test_a_limit_of_litellm_params_is_read_too(tmp_path, limit):
    (finding,) = findings(with_deployment(litellm_params={"model": "openai/x", "rpm": limit}), tmp_path)
    assert finding.startswith("model_list[1] ('gpt'): litellm_params.rpm is ")
    assert finding.endswith("; a whole number of 1 or more is expected")


@pytest.mark.parametrize("limit", [600, 600.0, "600", 0, 10**18, None, "os.environ/RPM"])
def test_a_limit_that_litellm_takes_passes(tmp_path, limit):
    config = with_deployment(litellm_params={"model": "openai/x", "rpm": limit, "tpm": limit})
    check_configuration(config, load_policy(POLICY_BLOCK, Flags(), base=tmp_path))


@pytest.mark.parametrize("limit", [0, "0"])
def test_a_limit_of_nothing_is_warned_of(limit):
    params = {"api_base": "https://a.test", "rpm": limit, "tpm": 5}
    config = {"model_list": [{"litellm_params": params, "model_info": {"region": "eu"}}]}
    (warning,) = configuration_warnings(config)
    assert "litellm_params.rpm is 0, so nothing is sent there; write a whole number of 1 or more" in warning


@pytest.mark.parametrize(
    "info",
    [
        {"quality": 0, "languages": ["en", "pt-BR"], "capabilities": ["vision", "reasoning"], "region": "eu"},
        {
            "max_output_tokens": 9,
            "cache_lifetime_seconds": 0.5,
            "prices": {"pro": {"input_cost_per_token": "3e-6"}},
        },
        {
            "input_cost_per_token": "os.environ/PRICE",
            "output_cost_per_token": "2e-6",
            "input_cost_per_request": 0,
        },
        {"synthetic_prompts": True},
        {"synthetic_prompts": True, "mode": "embedding"},
        {"synthetic_prompts": False, "mode": "image_generation"},
        {"mode": "chat", "max_tokens": 5, "base_model": "x", "supports_vision": True, "team_id": "t"},
    ],
)
def test_facts_as_they_are_meant_pass(tmp_path, info):
    config = with_deployment(model_info={"id": "x", **info})
    check_configuration(config, load_policy(POLICY_BLOCK, Flags(), base=tmp_path))


def test_a_wildcard_cannot_be_asked(tmp_path):
    config = with_deployment(
        litellm_params={"model": "openai/*", "api_base": "https://x.test"},
        model_info={"id": "x", "synthetic_prompts": True},
    )
    (finding,) = findings(config, tmp_path)
    assert "synthetic_prompts is true, but a wildcard names no model to ask; remove it" in finding
