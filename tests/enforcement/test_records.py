"""Records: what each request leaves behind, joined to the gateway's and to LiteLLM's own by its ids."""

from __future__ import annotations

import time

import jsonschema
import pytest
from fleet import CALLS

from litellm_plugin.records import schemas
from litellm_plugin.testing import Fault

pytestmark = pytest.mark.proxy


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("call", CALLS)
def test_a_request_leaves_a_decision_and_an_attempt(fleet, call, stream):
    if stream and call == "embeddings":
        stream = False
    group = ["claude-eu", "claude-us"] if call == "messages" else ["eu-a", "us-a"]

    answer = fleet.send(call, group, **({"stream": True} if stream else {}))

    decision, attempt = fleet.records_of(answer)
    for record in (decision, attempt):
        jsonschema.validate(record, schemas()[record["schema"]])
    assert decision["outcome"] == "routed"
    assert decision["decision_id"] == attempt["decision_id"] == answer.headers["x-permit-decision-id"]
    assert decision["authorized_endpoints"] == sorted(group)
    assert decision["chosen"]["endpoint"] == attempt["endpoint"] == answer.headers["x-permit-endpoint"]
    assert attempt["status"] == "success"
    assert attempt["total_ms"] > 0
    assert (attempt["first_token_ms"] is not None) is stream
    # A text-completion stream tells its usage only where the caller asked for it; LiteLLM 1.109 counts itself.
    assert attempt["input_tokens"] is not None or (stream and call == "completions")
    excluded = {c["endpoint"]: c["exclusion"] for c in decision["candidates"]}
    assert all(excluded[name] is None for name in group)
    assert all(excluded[name] == "not_authorized" for name in excluded if name not in group)


def test_the_decision_is_written_before_the_request_is_sent(fleet):
    fleet.providers["eu-a"].latency_s = 1.0
    written = {}

    def answer_and_look(_):
        written["lines"] = len(fleet.records())
        return "seen"

    before = len(fleet.records())
    fleet.providers["eu-a"].answer = answer_and_look
    try:
        fleet.send("chat", ["eu-a"])
    finally:
        fleet.providers["eu-a"].answer = "answer from eu-a"
        fleet.providers["eu-a"].latency_s = 0.0
    assert written["lines"] == before + 1


def test_litellms_own_trace_id_is_the_permits_request_id(fleet):
    answer = fleet.send(
        "chat", ["eu-a"], headers={"x-litellm-trace-id": "spoofed"}, litellm_trace_id="spoofed"
    )

    decision, attempt = fleet.records_of(answer)
    assert decision["litellm_trace_id"] == attempt["litellm_trace_id"] == decision["request_id"]
    assert decision["litellm_call_id"] == answer.headers["x-litellm-call-id"]


@pytest.mark.parametrize("call", CALLS)
def test_other_loggers_learn_the_decision_and_no_permit(fleet, call):
    endpoint = "claude-eu" if call == "messages" else "eu-a"
    answer = fleet.send(call, [endpoint])
    request_id = answer.headers["x-permit-request-id"]
    fleet.records_of(answer)

    deadline = time.monotonic() + 45
    while not (logged := [each for each in fleet.logged() if each["trace_id"] == request_id]):
        assert time.monotonic() < deadline, "LiteLLM told its other logger nothing"
        time.sleep(0.05)

    told = logged[0]["metadata"]["spend_logs_metadata"]["permit_router"]
    assert told["request_id"] == request_id
    assert told["decision_id"] == answer.headers["x-permit-decision-id"]
    assert told["plan"] == [endpoint]
    assert "eyJ" not in str(logged[0])


def test_latency_is_in_the_next_decisions_record(fleet):
    first = fleet.send("chat", ["eu-b"])
    fleet.records_of(first)
    time.sleep(0.2)

    second = fleet.send("chat", ["eu-b"])

    decision, *_ = fleet.records_of(second)
    statistics = next(c["statistics"] for c in decision["candidates"] if c["endpoint"] == "eu-b")
    assert statistics["attempts"] >= 1
    assert statistics["total_p95_ms"] > 0


def test_failed_attempts_are_recorded_one_by_one(fleet):
    fleet.providers["us-b"].always(Fault.status(429, retry_after=1))

    answer = fleet.send("chat", ["us-a", "us-b"])

    decision, first, second = fleet.records_of(answer, attempts=2)
    assert decision["plan"] == ["us-b-1", "us-a-1"]
    assert (first["attempt"], first["status"], first["http_status"]) == (1, "rate_limited", 429)
    assert (second["attempt"], second["status"], second["is_final"]) == (2, "success", True)


def test_no_record_holds_a_prompt_an_answer_a_key_or_a_permit(fleet):
    mark, _ = fleet.body("chat")
    fleet.ledger.allow(mark, ["eu-a"])
    answer = fleet.send("chat", ["eu-a"], messages=[{"role": "user", "content": f"the secret prompt {mark}"}])
    fleet.records_of(answer)

    text = fleet.log_path.read_text()
    for secret in ("the secret prompt", "answer from", "key-of-", fleet.proxy.master_key, "eyJ"):
        assert secret not in text


def test_the_proxys_log_holds_no_permit(fleet):
    fleet.send("chat", ["eu-a"])
    fleet.send("chat", ["claude-eu"])

    assert "eyJ" not in fleet.proxy.log_text()
