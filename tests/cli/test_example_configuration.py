from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from litellm_plugin.cli.demo.configuration import read_configuration
from litellm_plugin.proxy.deployments import candidate
from litellm_plugin.proxy.selfcheck import check_configuration, declared_endpoints
from litellm_plugin.settings import Flags, check_endpoints, load_policy

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"


def resolved(value: Any, environment: dict[str, str]) -> Any:
    """The value as LiteLLM hands it on: with each `os.environ/NAME` replaced."""
    if isinstance(value, dict):
        return {key: resolved(inner, environment) for key, inner in value.items()}
    if isinstance(value, list):
        return [resolved(inner, environment) for inner in value]
    if isinstance(value, str) and value.startswith("os.environ/"):
        return environment[value.removeprefix("os.environ/")]
    return value


@pytest.fixture
def config(monkeypatch):
    for name in ("PERMIT_ROUTER_POLICY", "PERMIT_ROUTER_LOG", "PERMIT_ROUTER_ENABLED"):
        monkeypatch.delenv(name, raising=False)
    configuration = read_configuration(EXAMPLE)
    urls = {name: f"http://127.0.0.1:1/{name}" for name in configuration.endpoints}
    environment = configuration.environment(urls, "http://127.0.0.1:1/jwks")
    return resolved(yaml.safe_load(EXAMPLE.read_text()), environment | {"LITELLM_MASTER_KEY": "sk-x"})


@pytest.fixture
def candidates(config):
    return [candidate(entry) for entry in config["model_list"]]


def test_it_passes_every_check_of_the_start(config):
    policy = load_policy(config["litellm_settings"]["permit_router"], Flags(), base=EXAMPLE.parent)
    check_configuration(config, policy)
    check_endpoints(policy, declared_endpoints(config))


def test_it_covers_four_providers_and_three_regions(config, candidates):
    providers = {entry["litellm_params"]["model"].partition("/")[0] for entry in config["model_list"]}
    assert providers == {"openai", "azure", "anthropic", "hosted_vllm"}
    assert {each.region for each in candidates} == {"us-east", "eu-west", "eu-central"}


def test_every_deployment_has_prices_and_a_window(candidates):
    for each in candidates:
        assert each.prices.input_usd is not None, each.deployment_id
        assert each.prices.output_usd is not None, each.deployment_id
        assert each.max_input_tokens is not None, each.deployment_id


def test_every_deployment_states_its_facts(candidates):
    assert all(each.attributes and each.region and each.tier for each in candidates)
