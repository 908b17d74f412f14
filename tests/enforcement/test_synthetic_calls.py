"""Synthetic calls: they go where their deployment is configured and nowhere else, and no caller can pass for one."""

from __future__ import annotations

import json

import pytest
from fleet import SETTINGS
from probed_fleet import ProbedFleet

from litellm_plugin.proxy.synthetic import PROMPT
from litellm_plugin.testing import Fault

pytestmark = pytest.mark.proxy

MESSAGES = [{"role": "user", "content": PROMPT}]
MARKS = [
    pytest.param({}, {}, id="prompt"),
    pytest.param({"no-log": True, "num_retries": 0, "disable_fallbacks": True}, {}, id="options"),
    pytest.param({"metadata": {"tags": ["litellm-internal-health-check"]}}, {}, id="health-tag"),
    pytest.param({"metadata": {"synthetic": True, "permit_router": {"probe": True}}}, {}, id="metadata"),
    pytest.param({"litellm_metadata": {"synthetic_call": True}}, {}, id="litellm-metadata"),
    pytest.param({"model_info": {"id": "us-a-1", "synthetic_prompts": True}}, {}, id="model-info"),
    pytest.param({}, {"x-permit-probe": "1", "x-litellm-tags": "permit-router-probes"}, id="headers"),
]


class Diverted(ProbedFleet):
    """Whatever LiteLLM can do with a call that failed leads to other endpoints."""

    def config(self):
        config = super().config()
        for entry in config["model_list"]:
            if entry["model_info"]["id"] == "us-a-1":
                entry["litellm_params"] |= {"num_retries": 3, "fallbacks": ["claude", "openai/gpt-test"]}
        config["router_settings"]["num_retries"] = 3
        config["router_settings"]["fallbacks"] = [{"gpt": ["claude"]}, {"us-a-1": ["us-b-1", "claude"]}]
        return config


@pytest.fixture(scope="module")
def started():
    with Diverted(settings=SETTINGS) as fleet:
        yield fleet.ready()


@pytest.fixture
def fleet(started):
    started.clear()
    return started


def bare(fleet, extra, headers, model="us-a-1"):
    body = {"model": model, "messages": MESSAGES, "max_tokens": 16, "stream": True, **extra}
    return fleet.post("/v1/chat/completions", json.dumps(body).encode(), headers)


@pytest.mark.parametrize(("extra", "headers"), MARKS)
def test_a_caller_who_copies_a_probe_is_refused_without_a_permit(fleet, extra, headers):
    answers = [bare(fleet, extra, headers, model) for model in ("us-a-1", "us-b-1", "gpt")]
    assert {each.json()["error"]["code"] for each in answers} == {"permit_missing"}
    arrived, asked = fleet.probes_ever()
    assert arrived <= asked
    assert set(fleet.probes()) <= {"eu-a", "us-a"}


@pytest.mark.parametrize(("extra", "headers"), MARKS)
def test_a_caller_who_copies_a_probe_stays_inside_the_permit(fleet, extra, headers):
    body = {"model": "us-b-1", "messages": MESSAGES, "max_tokens": 16, **extra}
    raw = json.dumps(body).encode()
    token = fleet.issuer.mint(["eu-b"], body=raw)
    answer = fleet.post("/v1/chat/completions", raw, {"x-llm-permit": token, **headers})
    assert answer.status_code == 403, answer.text
    assert set(fleet.calls()) <= {"eu-a", "us-a"}


def ended(fleet, deployment_id, how):
    """Waits until a probe of this deployment ended so."""

    def has_ended():
        last = fleet.probing()["last"].get(deployment_id)
        return last is not None and last["ended"] == how

    fleet.wait_for(has_ended)
    return has_ended()


def asked_of(fleet, endpoint):
    records = [each for each in fleet.records() if each["type"] == "probe" and each["endpoint"] == endpoint]
    return sum(each["event"] == "asked" for each in records)


def test_a_probe_that_fails_is_sent_once_and_to_no_other_endpoint(fleet):
    fleet.providers["us-a"].always(Fault.status(500))
    assert ended(fleet, "us-a-1", "server_error")
    asked = asked_of(fleet, "us-a")
    assert ended(fleet, "us-a-1", "server_error")
    fleet.wait_for(lambda: asked_of(fleet, "us-a") > asked)
    assert len(fleet.probes()["us-a"]) <= asked_of(fleet, "us-a")
    assert set(fleet.calls()) <= {"eu-a", "us-a"}


def test_a_probe_follows_no_redirect(fleet):
    for name, code in (("eu-a", 307), ("us-a", 308)):
        fleet.providers[name].always(Fault.redirect(fleet.urls["us-b"], code))
    fleet.wait_for(lambda: set(fleet.probes()) >= {"eu-a", "us-a"})
    assert ended(fleet, "eu-a-1", "misconfigured")
    assert ended(fleet, "us-a-1", "misconfigured")
    assert set(fleet.calls()) <= {"eu-a", "us-a"}


def test_no_call_without_a_context_was_made(fleet):
    assert fleet.health()["no_context_calls"] == 0
