"""Presence: what happens when the plugin is not whole, and that a wrong configuration stops the start."""

from __future__ import annotations

import json

import pytest
import yaml
from fleet import POLICY, Fleet

pytestmark = pytest.mark.proxy


@pytest.fixture(scope="module")
def unregistered():
    """The start-up hook is set, but the callback's line was deleted from the YAML."""
    with Fleet(registered=False) as fleet:
        yield fleet.ready()


@pytest.fixture(scope="module")
def keyless():
    """The issuer's keys cannot be loaded."""
    issuers = [
        {
            "issuer": "https://policy.example.test",
            "jwks_url": "http://127.0.0.1:9/jwks",
            "algorithms": ["RS256"],
        }
    ]
    with Fleet(policy={"permit": {"issuers": issuers}}) as fleet:
        # Not `ready`, which waits for keys.
        fleet.proxy.wait_ready()
        yield fleet


@pytest.mark.parametrize("call", ["chat", "completions", "embeddings", "messages", "responses"])
def test_without_the_callback_line_governed_paths_answer_503(unregistered, call):
    unregistered.clear()

    answer = unregistered.send(call, ["eu-a", "claude-eu"])

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
    assert "retry-after" in answer.headers
    assert unregistered.calls() == {}


def test_without_the_callback_line_readiness_is_red_and_says_why(unregistered):
    for path in ("/health/readiness", "/permit-router/v1/health"):
        answer = unregistered.client.get(path)
        assert (answer.status_code, answer.json()["status"]) == (503, "red")
        assert "callbacks" in answer.json()["faults"][0]["message"]
    assert unregistered.client.get("/health/liveliness").status_code == 200


def test_without_keys_requests_get_503_and_health_is_red(keyless):
    keyless.clear()

    answer = keyless.send("chat", ["eu-a"])

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "keys_unavailable")
    assert keyless.client.get("/health/readiness").status_code == 503
    assert keyless.calls() == {}


def test_a_whole_plugin_is_green(fleet):
    answer = fleet.client.get("/permit-router/v1/health")

    assert (answer.status_code, answer.json()["status"]) == (200, "green")
    assert fleet.client.get("/health/readiness").status_code == 200


def test_an_inert_plugin_says_so_loudly(inert_fleet):
    assert "INERT" in inert_fleet.proxy.log_text()
    assert inert_fleet.client.get("/permit-router/v1/health").json()["status"] == "inert"


BROKEN = [
    pytest.param({"policy": {"permit": {"bindng": "body"}}}, "did you mean 'binding'", id="unknown-key"),
    pytest.param(
        {"policy": {"default": {"strategy": "static", "endpoints": ["eu-aa"]}}},
        "did you mean 'eu-a'",
        id="endpoint",
    ),
    pytest.param(
        {"settings": {"general_settings": {"allow_client_side_credentials": True}}},
        "allow_client_side_credentials",
        id="client-side-credentials",
    ),
]


@pytest.mark.parametrize(("settings", "said"), BROKEN)
def test_a_wrong_configuration_stops_the_start_and_names_the_fault(settings, said):
    with Fleet(**settings) as fleet:
        assert fleet.proxy.wait_exit() != 0
        assert said in fleet.proxy.log_text()


def test_the_block_may_be_a_file(tmp_path, shared_fleet):
    issuer = {
        "issuer": "https://policy.example.test",
        "jwks_file": str(tmp_path / "jwks.json"),
        "algorithms": ["RS256"],
    }
    (tmp_path / "jwks.json").write_text(json.dumps(shared_fleet.issuer.jwks()))
    policy = {**POLICY, "permit": {**POLICY["permit"], "issuers": [issuer]}}
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy))
    with Fleet(env={"PERMIT_ROUTER_POLICY": str(tmp_path / "policy.yaml")}, startup_hook=False) as fleet:
        fleet.ready().clear()
        fleet.issuer = shared_fleet.issuer

        answer = fleet.send("chat", ["eu-a"])

        assert answer.status_code == 200, answer.text
        assert fleet.calls() == {"eu-a": 1}
