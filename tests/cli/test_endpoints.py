from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

from litellm_plugin.cli import app

DEPLOYMENT = {
    "model_name": "gpt",
    "litellm_params": {
        "model": "openai/gpt-4o-mini",
        "api_base": "https://secret-host.test",
        "api_key": "sk-secret-key",
        "output_cost_per_token": "2e-6",
    },
    "model_info": {
        "id": "eu-1",
        "endpoint": "eu",
        "region": "eu-west",
        "quality": 0.7,
        "languages": ["en", "de"],
        "attributes": ["baa"],
        "clearances": [],
        "input_cost_per_token": 1e-6,
        "input_cost_per_token_above_200k_tokens": 4e-6,
        "prices": {"enterprise": {"input_cost_per_token": 5e-7}},
    },
}


@pytest.fixture
def endpoints(tmp_path):
    def run(config, *options):
        path = tmp_path / "config.yaml"
        path.write_text(config if isinstance(config, str) else yaml.safe_dump(config))
        return CliRunner().invoke(app, ["endpoints", str(path), *options])

    return run


@pytest.fixture
def facts(endpoints):
    def run(**info):
        deployment = {**DEPLOYMENT, "model_info": {**DEPLOYMENT["model_info"], **info}}
        result = endpoints({"model_list": [deployment]}, "--json")
        (record,) = json.loads(result.stdout)
        return {each["name"]: (each["value"], each["source"]) for each in record["facts"]}

    return run


def test_each_fact_has_its_value_and_its_source(facts):
    found = facts()
    assert found["endpoint"] == ("eu", "declared")
    assert found["model"] == ("openai/gpt-4o-mini", "litellm_params")
    assert found["input_usd per million"] == (1.0, "declared")
    assert found["output_usd per million"] == (2.0, "litellm_params")
    assert found["cached_input_usd per million"] == (0.075, "cost map gpt-4o-mini")
    assert found["input_usd per million above 200000 tokens"] == (4.0, "declared")
    assert found["input_usd per million for enterprise"] == (0.5, "declared")
    assert found["max_input_tokens"] == (128000, "cost map gpt-4o-mini")
    assert found["cache_lifetime_s"] == (300.0, "default")
    assert found["languages"] == (["de", "en"], "declared")
    assert found["clearances"] == ([], "declared")
    assert found["latency_classes"] == (None, "")
    assert found["quality"] == (0.7, "declared")
    assert found["capability vision"] == (True, "cost map gpt-4o-mini")


@pytest.mark.parametrize(
    ("info", "told"),
    [({}, (False, "")), ({"synthetic_prompts": True}, (True, "declared"))],
)
def test_whether_it_may_be_asked_is_told(facts, info, told):
    assert facts(**info)["synthetic_prompts"] == told


def test_the_table_is_for_people(endpoints):
    lines = endpoints({"model_list": [DEPLOYMENT]}).stdout.splitlines()
    assert lines[0] == "eu-1 of group gpt"
    rows = [line.split() for line in lines[1:]]
    assert ["region", "eu-west", "declared"] in rows
    assert ["latency_classes", "undeclared"] in rows
    assert ["clearances", "none", "declared"] in rows
    assert ["capability", "vision", "yes", "cost", "map", "gpt-4o-mini"] in rows


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_no_key_and_no_address_is_printed(endpoints, options):
    output = endpoints({"model_list": [DEPLOYMENT]}, *options).output
    assert "secret" not in output


def test_a_variable_is_not_resolved(endpoints, monkeypatch):
    monkeypatch.setenv("MODEL_OF_EU", "secret-model")
    deployment = {**DEPLOYMENT, "litellm_params": {"model": "os.environ/MODEL_OF_EU"}}
    output = endpoints({"model_list": [deployment]}).output
    assert "os.environ/MODEL_OF_EU" in output
    assert "secret" not in output


def test_a_deployment_without_anything_is_shown_as_unknown(endpoints):
    result = endpoints({"model_list": [{"model_name": "gpt"}]})
    assert result.exit_code == 0
    assert "(no id) of group gpt" in result.stdout


@pytest.mark.parametrize(
    ("config", "told"),
    [
        pytest.param("[", "cannot be read as YAML", id="no YAML"),
        pytest.param({}, "model_list: expected a list of deployments, got none", id="no deployments"),
        pytest.param({"model_list": "x"}, "model_list: expected a list of deployments", id="no list"),
        pytest.param({"model_list": [5]}, "model_list[0]: expected a mapping, int", id="no deployment"),
        pytest.param(
            {"model_list": [{"model_info": "x"}]},
            "model_list[0].model_info: expected a mapping, str",
            id="no facts",
        ),
    ],
)
def test_a_configuration_that_cannot_be_read_is_an_error(endpoints, config, told):
    result = endpoints(config)
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_missing_file_is_an_error(tmp_path):
    result = CliRunner().invoke(app, ["endpoints", str(tmp_path / "none.yaml")])
    assert result.exit_code == 2


def test_facts_that_cannot_be_read_are_named(endpoints):
    deployment = {**DEPLOYMENT, "model_info": {"id": "eu-1", "quality": "high"}}
    result = endpoints({"model_list": [deployment]})
    assert result.exit_code == 1
    assert "wrong: model_list[0] ('gpt'): model_info.quality is 'high'" in result.stderr
    assert "eu-1 of group gpt" in result.stdout


def test_nothing_is_fetched(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"model_list": [DEPLOYMENT]}))
    blocked = (
        "import socket, sys\n"
        "def refuse(*_): raise AssertionError('a connection was tried')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from litellm_plugin.cli import app\n"
        f"app(['endpoints', {str(path)!r}])\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "LITELLM_LOCAL_MODEL_COST_MAP"}
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-W", "ignore", "-c", blocked],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert (done.returncode, "a connection was tried" in done.stderr) == (0, False)
