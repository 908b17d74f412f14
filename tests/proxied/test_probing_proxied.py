"""Probing in a real proxy: quiet deployments are asked with one constant prompt, and come back by themselves."""

from __future__ import annotations

import time

import pytest
from jsonschema import Draft202012Validator
from probed_fleet import EVERY_S, PROBING, ProbedFleet

from litellm_plugin.proxy.synthetic import PROMPT
from litellm_plugin.records import PROBE_SCHEMA, schemas
from litellm_plugin.testing import Fault

pytestmark = pytest.mark.proxy

BREAKER = {"consecutive_failures": 2, "open_seconds": 1, "probes_to_close": 2}
# Not what is under test: the end of a wait that never ends.
PATIENT_S = 90.0
# What LiteLLM's client for OpenAI sends of itself, and what the HTTP client adds.
OWN_HEADERS = ("x-stainless-", "content-", "accept")


@pytest.fixture(scope="module")
def off():
    """The control: the same proxy, whose policy does not ask for it."""
    with ProbedFleet(policy={"resilience": {"probing": None}}) as fleet:
        yield fleet.ready()


@pytest.fixture(scope="module")
def started(off):
    with ProbedFleet(policy={"resilience": {"breaker": BREAKER}}) as fleet:
        yield fleet.ready()


@pytest.fixture
def fleet(started):
    """What arrived before a test counts in the next: each wait is one of `EVERY_S`."""
    yield started
    started.providers["eu-a"].always(None)


def until(holds):
    deadline_s = time.monotonic() + PATIENT_S
    while not (found := holds()) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    return found


def ended(fleet, deployment_id):
    """How the last probe of this deployment ended; None before the first."""
    return fleet.probing()["last"].get(deployment_id, {}).get("ended")


def both_asked(fleet):
    return until(lambda: set(fleet.probes()) >= {"eu-a", "us-a"})


def test_quiet_endpoints_that_allow_it_are_asked_and_no_others(fleet):
    assert both_asked(fleet)
    silent = set(fleet.providers) - {"eu-a", "us-a"}
    arrived = [each for name in silent for each in fleet.providers[name].requests]
    assert not [each for each in arrived if PROMPT.encode() in each.body]


def test_the_provider_sees_the_constant_prompt_and_nothing_of_a_caller(fleet):
    fleet.send("chat", ["us-b"], headers={"x-secret": "caller"}, user="caller", metadata={"who": "caller"})
    assert both_asked(fleet)
    first = fleet.probes()["eu-a"][-1]
    assert first.json == {
        "model": "gpt-test",
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": 16,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert first.headers["authorization"] == "Bearer key-of-eu-a"
    sent = {name for name in first.headers if not name.startswith(OWN_HEADERS)}
    assert sent == {"authorization", "connection", "host", "user-agent"}
    arrived = [each for provider in fleet.probes().values() for each in provider]
    assert not any("caller" in str(each.headers) or b"caller" in each.body for each in arrived)


def test_what_was_measured_is_what_a_decision_reads(fleet):
    assert until(lambda: ended(fleet, "eu-a-1") == "success")
    answer = fleet.send("chat", ["eu-a", "us-b"])
    (decision,) = [each for each in fleet.records_of(answer) if each["type"] == "decision"]
    known = {each["deployment_id"]: each["statistics"] for each in decision["candidates"]}
    assert known["eu-a-1"]["attempts"] >= 1
    assert known["eu-a-1"]["first_token_p50_ms"] > 0


def test_the_health_page_tells_who_was_asked_and_what_is_left(fleet):
    assert both_asked(fleet)

    def answered(page):
        return [each["ended"] for each in page["last"].values()] == ["success"] * 2

    probing = until(lambda: page if answered(page := fleet.probing()) else None)
    assert probing["deployments"] == ["eu-a-1", "us-a-1"]
    assert all(each["total_ms"] >= each["first_token_ms"] > 0 for each in probing["last"].values())
    assert probing["requests_left"] < PROBING["requests_per_hour"]
    assert 0 <= probing["next_in_s"] <= EVERY_S


def test_each_call_leaves_two_records_and_no_attempt(fleet):
    assert both_asked(fleet)
    assert until(lambda: "success" in {ended(fleet, "eu-a-1"), ended(fleet, "us-a-1")})
    told = [each for each in fleet.records() if each["type"] == "probe"]
    validator = Draft202012Validator(schemas()[PROBE_SCHEMA])
    for record in told:
        validator.validate(record)
    calls = {each["decision_id"] for each in told if each["event"] == "ended"}
    assert calls <= {each["decision_id"] for each in told if each["event"] == "asked"}
    assert not [each for each in fleet.records() if each["type"] == "attempt" and each["request_id"] is None]
    answered = next(each for each in told if each["status"] == "success")
    assert answered["input_tokens"] > 0
    assert answered["cost_usd"] > 0


def test_no_other_callback_is_told(fleet):
    assert both_asked(fleet)
    fleet.send("chat", ["us-b"])
    assert until(fleet.logged)
    assert PROMPT not in str(fleet.logged())


def test_an_open_breaker_of_a_quiet_deployment_closes_by_itself(fleet):
    def breaker():
        return fleet.health()["shared_state"]["breakers"]["deployments"].get("eu-a-1")

    def callers():
        return sum(PROMPT.encode() not in each.body for each in fleet.providers["eu-a"].requests)

    before = fleet.probing()["asked"].get("half_open", 0)
    fleet.providers["eu-a"].always(Fault.status(500))
    for _ in range(2):
        fleet.send("chat", ["eu-a"])
    assert until(breaker)
    requests = callers()
    fleet.providers["eu-a"].always(None)
    assert until(lambda: breaker() is None)
    assert callers() == requests
    assert fleet.probing()["asked"]["half_open"] - before >= BREAKER["probes_to_close"]


def test_a_provider_that_hangs_holds_up_no_request(fleet):
    fleet.providers["eu-a"].always(Fault.hang(60))
    before = len(fleet.probes().get("eu-a", ()))
    assert until(lambda: len(fleet.probes().get("eu-a", ())) > before)
    assert fleet.send("chat", ["us-b"]).status_code == 200
    assert until(lambda: ended(fleet, "eu-a-1") == "timeout")


def test_without_the_block_nobody_is_asked(off, fleet):
    assert both_asked(fleet)
    assert off.health()["shared_state"]["probing"] is None
    assert off.calls() == {}


def test_two_workers_keep_the_hours_number_together(valkey):
    number = 2
    policy = {"resilience": {"probing": {**PROBING, "requests_per_hour": number}}}
    env = {"PERMIT_ROUTER_REDIS_URL": valkey.url}
    with ProbedFleet(policy=policy, env=env, workers=2) as fleet:
        fleet.ready()
        assert until(lambda: sum(map(len, fleet.probes().values())) >= number)
        assert until(lambda: fleet.probing()["requests_left"] == 0)
        rests_until_s = time.monotonic() + 1.5 * EVERY_S
        until(lambda: time.monotonic() > rests_until_s)
        assert sum(map(len, fleet.probes().values())) == number


def test_a_value_that_is_not_true_stops_the_start():
    class Misspelt(ProbedFleet):
        def config(self):
            config = super().config()
            config["model_list"][0]["model_info"]["synthetic_prompts"] = "yes"
            return config

    with Misspelt() as fleet:
        assert fleet.proxy.wait_exit() != 0
        assert "synthetic_prompts is 'yes'; true or false is expected" in fleet.proxy.log_text()
