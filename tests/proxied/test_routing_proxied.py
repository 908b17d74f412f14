"""Routing inside the set: what rules, budgets, tables, preferences and sessions do to real requests."""

from __future__ import annotations

import json

import pytest
from fleet import CALLS, Fleet

from litellm_plugin.testing import Fault

pytestmark = pytest.mark.proxy

RULES = [
    {
        "name": "reproducible",
        "when": 'request.workload == "evaluation"',
        "use": {"strategy": "attested", "endpoint": "us-a", "model": "openai/gpt-test"},
    },
    {
        "name": "unknown-model",
        "when": 'request.workload == "gone"',
        "use": {"strategy": "attested", "endpoint": "us-a", "model": "openai/gpt-gone"},
    },
    {
        "name": "tables",
        "table": [
            {
                "name": "pinned",
                "when": {"request.workload": "pinned", "permit.tenant_tier": "free, pro"},
                "use": {"strategy": "static", "endpoints": ["eu-a"]},
            },
            {
                "name": "split",
                "when": {"request.workload": "split"},
                "use": {"strategy": "weighted", "weights": {"us-a": 1, "us-b": 1}, "by": "session"},
            },
        ],
    },
]
POLICY = {
    "rules": RULES,
    "latency_classes": {
        "interactive": {"default_budget_ms": 1500},
        "batch": {"minimum_budget_ms": 10_000, "default_budget_ms": 60_000},
    },
}


@pytest.fixture(scope="module")
def shared_routed():
    with Fleet(policy=POLICY, settings={"router_settings": {"fallbacks": [{"gpt": ["claude"]}]}}) as fleet:
        yield fleet.ready()


@pytest.fixture
def routed(shared_routed):
    shared_routed.clear()
    yield shared_routed
    assert shared_routed.out_of_set() == []


def decision_of(fleet, answer):
    return next(each for each in fleet.records_of(answer) if each["type"] == "decision")


def served_by(answer):
    assert answer.status_code == 200, answer.text
    return answer.headers["x-permit-endpoint"]


EVALUATION = {"x-workload": "evaluation"}


class TestAttested:
    def test_one_model_answers_and_the_record_says_that_it_was_pinned(self, routed):
        answer = routed.send("chat", ["eu-a", "us-a", "us-b"], headers=EVALUATION)
        assert served_by(answer) == "us-a"
        decision = decision_of(routed, answer)
        assert (decision["rule"]["name"], decision["rule"]["strategy"]) == ("reproducible", "attested")
        assert decision["notes"] == [
            "attested: openai/gpt-test at us-a alone; no routing, no second attempt, no fallback"
        ]

    def test_its_failure_is_neither_repeated_nor_taken_elsewhere(self, routed):
        routed.providers["us-a"].always(Fault.status(500))
        answer = routed.send("chat", ["us-a", "us-b", "claude-us"], headers=EVALUATION)
        assert answer.status_code == 503, answer.text
        assert routed.calls() == {"us-a": 1}

    def test_another_model_behind_the_endpoint_is_not_taken(self, routed):
        answer = routed.send("chat", ["us-a", "us-b"], headers={"x-workload": "gone"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_eligible")
        assert routed.calls() == {}


class TestLatencyBudgets:
    def test_a_batch_caller_in_a_hurry_is_sent_back_to_the_gateway(self, routed):
        answer = routed.send(
            "chat", ["us-a"], headers={"x-latency-budget-ms": "500"}, permit={"latency_class": "batch"}
        )
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], routed.calls()) == (403, "latency_budget", {})
        assert answer.headers["x-permit-request-id"] in error["message"]
        assert "policy version 42" in error["message"]

    @pytest.mark.parametrize("call", CALLS)
    def test_a_budget_that_the_class_allows_is_served_and_recorded(self, routed, call):
        group = ["claude-eu"] if call == "messages" else ["us-a"]
        headers = {"x-latency-budget-ms": "12000"}
        answer = routed.send(call, group, headers=headers, permit={"latency_class": "batch"})
        assert served_by(answer) == group[0]
        assert decision_of(routed, answer)["request"]["latency_budget_ms"] == 12_000

    def test_a_class_gives_its_default(self, routed):
        answer = routed.send("chat", ["us-a"])
        assert decision_of(routed, answer)["request"]["latency_budget_ms"] == 1500


class TestRulesAndTables:
    def test_a_row_of_a_table_picks_and_the_record_explains_it(self, routed):
        answer = routed.send("chat", ["eu-a", "us-b"], headers={"x-workload": "pinned"})
        assert served_by(answer) == "eu-a"
        assert answer.headers["x-permit-rule"] == "tables/pinned"
        assert decision_of(routed, answer)["rule"]["explanation"] == (
            '(permit.tenant_tier (pro) == "free" || permit.tenant_tier (pro) == "pro")'
            ' && request.workload (pinned) == "pinned"'
        )

    def test_a_row_outside_the_permit_is_not_used(self, routed):
        answer = routed.send("chat", ["us-a", "us-b"], headers={"x-workload": "pinned"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_eligible")
        assert routed.calls() == {}

    def test_a_session_keeps_its_share_of_a_split(self, routed):
        headers = [{"x-workload": "split", "x-session-id": f"session-{number}"} for number in range(12)]
        first = [served_by(routed.send("chat", ["us-a", "us-b"], headers=each)) for each in headers]
        again = [served_by(routed.send("chat", ["us-a", "us-b"], headers=each)) for each in headers]
        assert first == again
        assert set(first) == {"us-a", "us-b"}


class TestPreferences:
    def test_a_permit_reorders_what_it_authorizes(self, routed):
        answer = routed.send("chat", ["eu-a", "us-b"], permit={"preferences": ["eu-a"]})
        assert served_by(answer) == "eu-a"

    def test_a_preference_outside_the_set_opens_nothing(self, routed):
        answer = routed.send("chat", ["eu-a", "us-b"], permit={"preferences": ["us-a", "eu-a"]})
        assert served_by(answer) == "eu-a"
        assert routed.calls() == {"eu-a": 1}


class TestSessions:
    """A conversation stays where it was answered, although another endpoint is cheaper again."""

    def begun(self, routed, headers, **permit):
        routed.providers["us-b"].always(Fault.status(500))
        assert served_by(routed.send("chat", ["us-a", "us-b"], headers=headers, permit=permit)) == "us-a"
        routed.providers["us-b"].always(None)

    def test_inside_a_tool_loop_it_stays(self, routed):
        headers = {"x-session-id": "tool-loop"}
        self.begun(routed, headers)
        mark, body = routed.body("chat")
        called = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        body["messages"] += [
            {"role": "assistant", "tool_calls": [called]},
            {"role": "tool", "tool_call_id": "1", "content": "42"},
        ]
        routed.ledger.allow(mark, ["us-a", "us-b"])
        raw = json.dumps(body).encode()
        token = routed.issuer.mint(["us-a", "us-b"], body=raw)
        answer = routed.post("/v1/chat/completions", raw, {"x-llm-permit": token, **headers})
        assert served_by(answer) == "us-a"
        assert decision_of(routed, answer)["notes"] == ["session kept at us-a-1: step 1 of a tool loop"]

    def test_it_is_left_where_moving_gains_enough(self, routed):
        headers = {"x-session-id": "gain"}
        self.begun(routed, headers)
        answer = routed.send("chat", ["us-a", "us-b"], headers=headers)
        assert served_by(answer) == "us-b"
        (note,) = decision_of(routed, answer)["notes"]
        assert note.startswith("session left us-a-1 for us-b-1: moving to us-b-1 would gain 0.5")

    def test_another_tenants_session_of_the_same_name_is_another_one(self, routed):
        headers = {"x-session-id": "shared-name"}
        self.begun(routed, headers, tenant="one")
        answer = routed.send("chat", ["us-a", "us-b"], headers=headers, permit={"tenant": "two"})
        assert served_by(answer) == "us-b"
        assert decision_of(routed, answer)["notes"] == []

    def test_it_is_left_when_its_endpoint_is_not_in_the_permit(self, routed):
        headers = {"x-session-id": "outside"}
        self.begun(routed, headers)
        answer = routed.send("chat", ["eu-a"], headers=headers)
        assert served_by(answer) == "eu-a"
