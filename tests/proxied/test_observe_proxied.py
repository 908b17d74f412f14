"""Observe mode in a real proxy: everything arrives, and all that would have been refused is recorded."""

from __future__ import annotations

import json

import pytest
from fleet import CALLS, PATHS, SETTINGS, Fleet

from litellm_plugin.testing import RecordingProvider, ServerThread

pytestmark = pytest.mark.proxy

OBSERVE = {"PERMIT_ROUTER_MODE": "observe"}


@pytest.fixture(scope="module")
def observed():
    # As a proxy is that nobody hardened yet: LiteLLM's cooldowns are on.
    settings = {**SETTINGS, "router_settings": {"num_retries": 0, "disable_cooldowns": False}}
    with Fleet(settings=settings, env=OBSERVE) as fleet:
        yield fleet.ready()


@pytest.fixture
def fleet(observed):
    observed.clear()
    return observed


@pytest.fixture(scope="module")
def plain():
    with Fleet() as fleet:
        yield fleet.ready()


def decision_of(fleet, answer):
    decision_id = answer.headers["x-permit-decision-id"]
    fleet.wait_for(lambda: any(each["decision_id"] == decision_id for each in fleet.records()))
    return next(each for each in fleet.records() if each["decision_id"] == decision_id)


def last_refusal(fleet):
    return [each for each in fleet.records() if each["type"] == "decision" and each["outcome"] == "denied"][
        -1
    ]


def counted(fleet):
    return fleet.health()["observed"]


def bare(fleet, call="chat", headers=None, **extra):
    """Sends a request without a permit."""
    _, body = fleet.body(call, **extra)
    return fleet.post(PATHS[call], json.dumps(body).encode(), headers or {})


class TestStart:
    def test_it_says_loudly_that_nothing_is_enforced(self, fleet):
        assert fleet.proxy.log_text().count("NOTHING IS ENFORCED") == 1

    def test_health_says_so(self, fleet):
        health = fleet.health()
        assert (health["mode"], health["status"]) == ("observe", "green")

    def test_settings_that_would_stop_the_start_are_warned_of(self, fleet):
        assert "would stop the start: router_settings.disable_cooldowns" in fleet.proxy.log_text()

    def test_an_unknown_mode_stops_it(self):
        with Fleet(env={"PERMIT_ROUTER_MODE": "audit"}) as fleet:
            assert fleet.proxy.wait_exit() != 0
            assert "PERMIT_ROUTER_MODE: Input should be 'enforce' or 'observe'" in fleet.proxy.log_text()

    def test_a_wrong_policy_stops_it(self):
        with Fleet(env=OBSERVE, policy={"default": {"strategy": "no-such"}}) as fleet:
            assert fleet.proxy.wait_exit() != 0


class TestDoors:
    """What enforcement refuses arrives, and is recorded as what would have been refused."""

    @pytest.mark.parametrize("call", CALLS)
    def test_a_request_without_a_permit_arrives(self, fleet, call):
        before = counted(fleet)["would_deny"].get("permit_missing", 0)
        answer = bare(fleet, call)
        assert (answer.status_code, sum(fleet.calls().values())) == (200, 1)
        assert answer.headers["x-permit-mode"] == "observe"
        record = last_refusal(fleet)
        assert (record["mode"], record["outcome"], record["reason"]) == (
            "observe",
            "denied",
            "permit_missing",
        )
        assert counted(fleet)["would_deny"]["permit_missing"] == before + 1

    def test_a_stream_without_a_permit_arrives(self, fleet):
        answer = bare(fleet, stream=True)
        assert answer.status_code == 200
        assert "[DONE]" in answer.text

    @pytest.mark.parametrize(
        ("claims", "reason"),
        [
            pytest.param({"exp": 1}, "expired", id="expired"),
            pytest.param({"aud": "somebody"}, "aud_mismatch", id="audience"),
            pytest.param({"body_sha256": "0" * 64}, "binding_mismatch", id="body"),
        ],
    )
    def test_a_bad_permit_arrives(self, fleet, claims, reason):
        answer = fleet.send("chat", ["eu-a"], permit=claims)
        assert (answer.status_code, sum(fleet.calls().values())) == (200, 1)
        assert last_refusal(fleet)["reason"] == reason

    def test_a_group_that_is_not_authorized_arrives(self, fleet):
        answer = fleet.send("chat", ["eu-a"], model="claude")
        assert (answer.status_code, sum(fleet.calls().values())) == (200, 1)
        assert answer.headers["x-permit-reason"] == "not_authorized"
        record = decision_of(fleet, answer)
        assert (record["mode"], record["outcome"], record["reason"]) == (
            "observe",
            "denied",
            "not_authorized",
        )
        attempts = [each for each in fleet.records_of(answer) if each["type"] == "attempt"]
        assert [each["status"] for each in attempts] == ["success"]
        assert fleet.calls() == {attempts[0]["endpoint"]: 1}

    def test_a_deployment_id_outside_the_set_arrives(self, fleet):
        answer = fleet.send("chat", ["eu-a"], model="us-b-1")
        assert (answer.status_code, fleet.calls()) == (200, {"us-b": 1})
        assert answer.headers["x-permit-reason"] == "not_authorized"

    def test_a_request_counts_once_whatever_it_tries(self, fleet):
        before = counted(fleet)["would_deny"].get("not_authorized", 0)
        for provider in fleet.providers.values():
            provider.always(500)
        fleet.send("chat", ["eu-a"], model="claude")
        assert counted(fleet)["would_deny"]["not_authorized"] == before + 1

    def test_a_path_that_is_not_open_is_litellms_own(self, fleet):
        headers = {"authorization": f"Bearer {fleet.proxy.master_key}"}
        answer = fleet.client.get("/routes", headers=headers)
        assert answer.status_code == 200
        assert last_refusal(fleet)["reason"] == "path_not_permitted"

    def test_a_body_that_is_not_published_is_litellms_to_judge(self, fleet):
        answer = fleet.send("chat", ["us-b"], previous_response_id="resp_1", n=1)
        assert answer.headers["x-permit-mode"] == "observe"


class TestRouting:
    def test_a_deployment_that_would_not_have_been_chosen_is_told_with_the_one_that_would(self, fleet):
        """The cheapest of the group is us-b; LiteLLM shuffles, so that most of a dozen go elsewhere."""
        before = counted(fleet)["would_reroute"]
        answers = [fleet.send("chat", ["eu-a", "eu-b", "us-a", "us-b"]) for _ in range(12)]
        assert {answer.status_code for answer in answers} == {200}
        attempts = [
            each for answer in answers for each in fleet.records_of(answer) if each["type"] == "attempt"
        ]
        elsewhere = [each for each in attempts if each["would_have"] is not None]
        assert {each["would_have"]["endpoint"] for each in elsewhere} == {"us-b"}
        assert all((each["endpoint"] == "us-b") is (each["would_have"] is None) for each in attempts)
        assert len(elsewhere) == 12 - fleet.calls().get("us-b", 0)
        assert counted(fleet)["would_reroute"] == before + len(elsewhere)

    def test_litellms_own_retries_and_fallbacks_stay(self, fleet):
        for name in ("eu-a", "eu-b", "us-a", "us-b"):
            fleet.providers[name].always(500)
        answer = fleet.send("chat", ["eu-a"])
        assert answer.status_code == 200
        assert set(fleet.calls()) & {"claude-eu", "claude-us"}


class TestScrubbing:
    def test_a_permit_reaches_neither_provider_nor_logger(self, fleet):
        answer = fleet.send("chat", ["us-b"])
        token = answer.request.headers["x-llm-permit"]
        arrived = [each for provider in fleet.providers.values() for each in provider.requests]
        assert not any(token in str(each.headers) or token.encode() in each.body for each in arrived)
        fleet.wait_for(fleet.logged)
        assert token not in json.dumps(fleet.logged())

    @pytest.mark.parametrize("permitted", [True, False])
    def test_a_destination_of_a_callers_own_is_left_out(self, fleet, permitted):
        evil = RecordingProvider("evil")
        servers = ServerThread()
        url = servers.add(evil)
        with servers:
            fields = {"api_base": f"{url}/v1", "base_url": f"{url}/v1", "custom_llm_provider": "openai"}
            answer = fleet.send("chat", ["us-b"], **fields) if permitted else bare(fleet, **fields)
            assert answer.status_code == 200
            assert evil.requests == []


class TestReadiness:
    def test_it_is_litellms_own(self, fleet):
        assert fleet.client.get("/health/readiness").status_code == 200


class TestNobodyElseSaysSo:
    """In mode enforce nothing that a caller says leads to observe mode."""

    @pytest.mark.parametrize(
        "headers",
        [{"x-permit-mode": "observe"}, {"permit-router-mode": "observe"}, {"PERMIT_ROUTER_MODE": "observe"}],
    )
    def test_no_header_does(self, plain, headers):
        plain.clear()
        answer = bare(plain, headers=headers)
        assert answer.json()["error"]["code"] == "permit_missing"
        assert plain.calls() == {}

    def test_no_field_does(self, plain):
        plain.clear()
        answer = bare(plain, mode="observe", PERMIT_ROUTER_MODE="observe", metadata={"mode": "observe"})
        assert answer.json()["error"]["code"] == "permit_missing"

    def test_no_key_of_the_block_does(self):
        with Fleet(policy={"mode": "observe"}) as fleet:
            assert fleet.proxy.wait_exit() != 0
            assert "mode" in fleet.proxy.log_text()
