from __future__ import annotations

import copy

import pytest
from proxy_cases import POLICY_BLOCK

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.proxy.selfcheck import check_configuration, declared_endpoints
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


def test_a_configuration_without_side_doors_passes(tmp_path):
    check_configuration(CONFIG, load_policy(POLICY_BLOCK, Flags(), base=tmp_path))


@pytest.mark.parametrize(
    "strategy", ["simple-shuffle", "least-busy", "latency-based-routing", "usage-based-routing-v2"]
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
