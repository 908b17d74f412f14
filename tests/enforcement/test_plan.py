"""Plans: attempts ride on LiteLLM's retry loop, inside the set, and stop where the plan ends."""

from __future__ import annotations

import time

import pytest
from fleet import CALLS

from litellm_plugin.testing import Fault

pytestmark = pytest.mark.proxy


def attempts_of(fleet, answer):
    """The attempt records of the request behind an answer, once LiteLLM has reported the last one."""
    request_id = answer.headers["x-permit-request-id"]
    deadline = time.monotonic() + 45
    while time.monotonic() < deadline:
        found = [r for r in fleet.records() if r["type"] == "attempt" and r["request_id"] == request_id]
        if found and found[-1]["is_final"]:
            return found
        time.sleep(0.05)
    return found


@pytest.mark.parametrize("call", [call for call in CALLS if call != "messages"])
def test_three_attempts_walk_the_plan_although_the_router_retries_nothing(fleet, call):
    fleet.providers["us-b"].always(Fault.status(500))
    fleet.providers["us-a"].always(Fault.status(500))

    answer = fleet.send(call, ["eu-b", "us-a", "us-b"])

    assert answer.status_code == 200, answer.text
    assert fleet.calls() == {"us-b": 1, "us-a": 1, "eu-b": 1}
    assert [(a["endpoint"], a["status"]) for a in attempts_of(fleet, answer)] == [
        ("us-b", "server_error"), ("us-a", "server_error"), ("eu-b", "success"),
    ]  # fmt: skip
    assert answer.headers["x-permit-endpoint"] == "eu-b"
    assert answer.headers["x-permit-reason"] == "failover"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_message_fails_over_inside_the_set(fleet, stream):
    fleet.providers["claude-us"].always(Fault.status(500))

    answer = fleet.send("messages", ["claude-eu", "claude-us"], stream=stream)

    assert answer.status_code == 200, answer.text
    assert fleet.calls() == {"claude-us": 1, "claude-eu": 1}


def test_a_stream_fails_over_before_its_first_byte(fleet):
    fleet.providers["us-b"].always(Fault.status(503))

    answer = fleet.send("chat", ["us-a", "us-b"], stream=True)

    assert answer.status_code == 200, answer.text
    assert fleet.calls() == {"us-b": 1, "us-a": 1}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("fault", "status"),
    [
        pytest.param(Fault.status(500), "server_error", id="500"),
        pytest.param(Fault.status(429, retry_after=20), "rate_limited", id="429"),
        pytest.param(Fault.status(401), "provider_auth", id="401"),
    ],
)
def test_an_exhausted_chain_is_503_and_nothing_outside_was_tried(fleet, call, fault, status):
    group = ["claude-eu"] if call == "messages" else ["eu-a", "eu-b"]
    for provider in fleet.providers.values():
        provider.always(fault)

    answer = fleet.send(call, group)

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "chain_exhausted"), answer.text
    assert fleet.calls() == dict.fromkeys(group, 1)
    assert {a["status"] for a in attempts_of(fleet, answer)} == {status}
    assert int(answer.headers["retry-after"]) == (20 if status == "rate_limited" else 1)
    (denial,) = [r for r in fleet.records() if r["decision_id"] == answer.headers["x-permit-decision-id"]]
    assert (denial["outcome"], denial["reason"]) == ("denied", "chain_exhausted")


def test_a_single_endpoint_that_asks_to_wait_is_not_waited_for(fleet):
    fleet.providers["eu-b"].always(Fault.status(429, retry_after=30))

    answer = fleet.send("chat", ["eu-b"], model="eu-only")

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "chain_exhausted")
    assert answer.elapsed.total_seconds() < 5


def test_the_callers_own_fault_is_neither_retried_nor_hidden(fleet):
    for provider in fleet.providers.values():
        provider.always(Fault.status(400))

    answer = fleet.send("chat", ["eu-a", "eu-b"])

    assert answer.status_code == 400
    assert fleet.calls() == {"eu-b": 1}


@pytest.mark.parametrize("call", CALLS)
def test_a_callers_retry_count_changes_nothing(fleet, call):
    group = ["claude-us", "claude-eu"] if call == "messages" else ["us-a", "us-b"]
    for provider in fleet.providers.values():
        provider.always(Fault.status(500))

    answer = fleet.send(call, group, num_retries=25, max_retries=25)

    assert answer.status_code == 503
    assert fleet.calls() == dict.fromkeys(group, 1)


def test_a_callers_retry_header_changes_nothing(fleet):
    for provider in fleet.providers.values():
        provider.always(Fault.status(500))

    fleet.send("chat", ["us-a"], headers={"x-litellm-num-retries": "25"})

    assert fleet.calls() == {"us-a": 1}


def test_a_configured_fallback_outside_the_set_is_not_taken(fleet):
    fleet.providers["eu-b"].always(Fault.status(500))

    answer = fleet.send("chat", ["eu-b"], model="eu-only")

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "chain_exhausted")
    assert fleet.calls() == {"eu-b": 1}


def test_a_configured_fallback_inside_the_set_is_taken(fleet):
    fleet.providers["eu-b"].always(Fault.status(500))

    answer = fleet.send("chat", ["eu-b", "claude-us"], model="eu-only")

    assert answer.status_code == 200, answer.text
    assert fleet.calls() == {"eu-b": 1, "claude-us": 1}
    assert answer.headers["x-permit-endpoint"] == "claude-us"


@pytest.mark.parametrize("fault", [Fault.status(500), Fault.status(429)], ids=["500", "429"])
def test_a_streamed_text_completion_walks_the_plan_too(fleet, fault):
    """LiteLLM sends its request with the stream's first item, after its retry loop would be over."""
    fleet.providers["us-b"].always(fault)

    answer = fleet.send("completions", ["us-b", "us-a"], stream=True)

    assert answer.status_code == 200, answer.text
    assert fleet.calls() == {"us-b": 1, "us-a": 1}


@pytest.mark.parametrize("fault", [Fault.status(500), Fault.status(429)], ids=["500", "429"])
def test_a_streamed_text_completion_that_failed_everywhere_is_503(fleet, fault):
    fleet.providers["us-b"].always(fault)

    answer = fleet.send("completions", ["us-b"], stream=True)

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "chain_exhausted"), answer.text
    assert fleet.calls() == {"us-b": 1}


def test_a_stream_that_broke_is_not_continued_elsewhere(fleet):
    fleet.providers["us-b"].always(Fault.cut(after_chunks=4))

    answer = fleet.send("chat", ["us-a", "us-b"], stream=True)

    assert answer.status_code == 200
    assert fleet.calls() == {"us-b": 1}
    assert attempts_of(fleet, answer)[0]["status"] != "success"


def test_without_the_plugin_the_configured_fallback_leaves_the_set(inert_fleet):
    """The control: LiteLLM itself would take the fallback to another group."""
    inert_fleet.providers["eu-b"].always(Fault.status(500))

    inert_fleet.send("chat", ["eu-b"], model="eu-only")

    assert {"claude-eu", "claude-us"} & set(inert_fleet.calls())
