"""Retries by class of failure: what follows, where, for how long and for how much; judged at the providers."""

from __future__ import annotations

import time

import pytest
from fleet import Fleet

from litellm_plugin.testing import Fault

pytestmark = pytest.mark.proxy

TOO_LONG = Fault.status(
    400,
    body={
        "error": {
            "message": "This model's maximum context length is 8192 tokens.",
            "type": "invalid_request_error",
            "code": "context_length_exceeded",
        }
    },
)
FILTERED = Fault.status(
    400,
    body={
        "error": {
            "message": "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
            "type": "invalid_request_error",
            "code": "invalid_prompt",
        }
    },
)
EVERY = ["us-b", "us-a", "eu-b", "eu-a"]


@pytest.fixture(scope="module")
def strict_module_fleet():
    resilience = {
        "attempts": 3,
        "deadline_ms": 6000,
        "max_chain_cost_usd": 0.001,
        "retry": {"content_filter": "next", "provider_auth": "stop"},
    }
    with Fleet(policy={"resilience": resilience}) as fleet:
        yield fleet.ready()


@pytest.fixture
def strict_fleet(strict_module_fleet):
    strict_module_fleet.clear()
    yield strict_module_fleet
    assert strict_module_fleet.out_of_set() == []


class TestStreamsBeforeTheFirstByte:
    @pytest.mark.parametrize("call", ["chat", "completions", "responses"])
    def test_a_stream_that_breaks_before_its_first_byte_walks_the_plan(self, fleet, call):
        fleet.providers["us-b"].always(Fault.cut(after_chunks=0))
        fleet.providers["us-a"].always(Fault.cut(after_chunks=0))

        answer = fleet.send(call, ["us-b", "us-a", "eu-b"], stream=True)

        assert answer.status_code == 200, answer.text
        assert "eu-b" in answer.text
        assert fleet.calls() == {"us-b": 1, "us-a": 1, "eu-b": 1}
        assert answer.headers["x-permit-endpoint"] == "eu-b"

    def test_a_streamed_message_walks_the_plan(self, fleet):
        fleet.providers["claude-us"].always(Fault.cut(after_chunks=0))

        answer = fleet.send("messages", ["claude-us", "claude-eu"], stream=True)

        assert answer.status_code == 200, answer.text
        assert fleet.calls() == {"claude-us": 1, "claude-eu": 1}

    def test_one_that_breaks_everywhere_is_503(self, fleet):
        for name in ("us-b", "us-a"):
            fleet.providers[name].always(Fault.cut(after_chunks=0))

        answer = fleet.send("chat", ["us-b", "us-a"], stream=True)

        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "chain_exhausted")
        assert fleet.calls() == {"us-b": 1, "us-a": 1}

    def test_the_plan_comes_before_a_fallback_group(self, fleet):
        """`default_fallbacks` of this fleet would take the group `claude`."""
        fleet.providers["us-b"].always(Fault.cut(after_chunks=0))

        answer = fleet.send("chat", ["us-b", "us-a", "claude-us"], stream=True)

        assert answer.status_code == 200, answer.text
        assert fleet.calls() == {"us-b": 1, "us-a": 1}

    def test_a_fallback_group_comes_when_the_plan_is_used_up(self, fleet):
        fleet.providers["us-b"].always(Fault.cut(after_chunks=0))

        answer = fleet.send("chat", ["us-b", "claude-us"], stream=True)

        assert answer.status_code == 200, answer.text
        assert fleet.calls() == {"us-b": 1, "claude-us": 1}


class TestWhatTheRequestSays:
    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
    def test_a_prompt_that_is_too_long_goes_to_a_larger_window(self, fleet, stream):
        fleet.providers["us-b"].always(TOO_LONG)

        answer = fleet.send("chat", ["us-b", "us-a", "eu-a"], stream=stream)

        assert answer.status_code == 200, answer.text
        assert fleet.calls() == {"us-b": 1, "eu-a": 1}

    def test_also_to_one_that_the_first_plan_had_no_room_for(self, fleet):
        fleet.providers["us-b"].always(TOO_LONG)

        answer = fleet.send("chat", EVERY)

        assert answer.status_code == 200, answer.text
        assert fleet.calls() == {"us-b": 1, "eu-a": 1}
        decided = [r for r in fleet.records_of(answer, attempts=2) if r["type"] == "decision"]
        assert [r["plan"] for r in decided] == [["us-b-1", "us-a-1", "eu-b-1"], ["eu-a-1"]]

    def test_without_a_larger_window_the_providers_word_stands(self, fleet):
        fleet.providers["us-b"].always(TOO_LONG)

        answer = fleet.send("chat", ["us-b", "us-a"])

        assert answer.status_code == 400
        assert "maximum context length" in answer.text
        assert fleet.calls() == {"us-b": 1}
        (attempt,) = [r for r in fleet.records_of(answer) if r["type"] == "attempt"]
        assert (attempt["status"], attempt["is_final"]) == ("context_window", True)

    def test_what_a_content_filter_refused_is_not_tried_elsewhere(self, fleet):
        fleet.providers["us-b"].always(FILTERED)

        answer = fleet.send("chat", ["us-b", "us-a", "claude-us"])

        assert answer.status_code == 400
        assert fleet.calls() == {"us-b": 1}
        (attempt,) = [r for r in fleet.records_of(answer) if r["type"] == "attempt"]
        assert attempt["status"] == "content_filter"

    def test_it_is_where_the_policy_says_so(self, strict_fleet):
        strict_fleet.providers["us-b"].always(FILTERED)

        answer = strict_fleet.send("chat", ["us-b", "us-a"])

        assert answer.status_code == 200, answer.text
        assert strict_fleet.calls() == {"us-b": 1, "us-a": 1}

    def test_the_callers_own_fault_takes_no_fallback_group(self, fleet):
        fleet.providers["us-b"].always(Fault.status(400))

        answer = fleet.send("chat", ["us-b", "claude-us"])

        assert answer.status_code == 400
        assert fleet.calls() == {"us-b": 1}

    def test_a_model_that_is_not_there_is_looked_for_at_the_next_endpoint(self, fleet):
        fleet.providers["us-b"].always(Fault.status(404))

        answer = fleet.send("chat", ["us-b", "us-a"])

        assert answer.status_code == 200, answer.text
        assert fleet.calls() == {"us-b": 1, "us-a": 1}


def test_a_class_that_the_policy_stops_at_is_tried_nowhere_else(strict_fleet):
    strict_fleet.providers["us-b"].always(Fault.status(401))

    answer = strict_fleet.send("chat", ["us-b", "us-a"])

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert "after provider_auth the policy tries no other" in answer.json()["error"]["message"]
    assert strict_fleet.calls() == {"us-b": 1}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_one_deadline_holds_for_all_attempts(strict_fleet, stream):
    for provider in strict_fleet.providers.values():
        provider.always(Fault.hang(20))

    started_s = time.monotonic()
    answer = strict_fleet.send("chat", ["us-b", "us-a"], stream=stream)

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable"), answer.text
    assert "its time of 6000 ms is up" in answer.json()["error"]["message"]
    assert time.monotonic() - started_s < 15
    assert strict_fleet.calls() == {"us-b": 1}
    (attempt,) = [r for r in strict_fleet.records_of(answer) if r["type"] == "attempt"]
    assert (attempt["status"], attempt["is_final"]) == ("timeout", True)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_deadline_leaves_the_connections_to_a_provider_open(strict_fleet, stream):
    """LiteLLM keeps a client, and with it its connections, for each timeout that it is told."""
    for _ in range(6):
        assert strict_fleet.send("chat", ["us-b"], stream=stream).status_code == 200

    arrivals = [each for each in strict_fleet.providers["us-b"].requests if each.method == "POST"]
    assert len(arrivals) == 6
    assert len({each.connection for each in arrivals}) <= 2, [each.connection for each in arrivals]


def test_one_cost_cap_holds_for_all_attempts(strict_fleet):
    """512 expected tokens at 0.5, 1 and 2 USD a million: the third attempt would go past 0.001 USD."""
    for name in ("us-b", "us-a"):
        strict_fleet.providers[name].always(Fault.status(500))

    unheard_of = {"x-workload": "one-cost-cap"}
    answer = strict_fleet.send("chat", ["us-b", "us-a", "eu-b"], headers=unheard_of)

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert "could cost more than the request may" in answer.json()["error"]["message"]
    assert strict_fleet.calls() == {"us-b": 1, "us-a": 1}


def test_a_permits_cost_limit_is_the_whole_requests(fleet):
    fleet.providers["us-b"].always(Fault.status(500))

    # A workload of its own: the expected length of an answer follows the earlier answers of its route.
    unheard_of = {"x-workload": "cost-limit"}
    answer = fleet.send("chat", ["us-b", "us-a"], permit={"max_cost_usd": 0.0006}, headers=unheard_of)

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert fleet.calls() == {"us-b": 1}


def test_what_a_provider_refused_costs_nothing(fleet):
    fleet.providers["us-b"].always(Fault.status(429))

    unheard_of = {"x-workload": "cost-limit-after-429"}
    answer = fleet.send("chat", ["us-b", "us-a"], permit={"max_cost_usd": 0.0006}, headers=unheard_of)

    assert answer.status_code == 200, answer.text
    assert fleet.calls() == {"us-b": 1, "us-a": 1}


def test_the_shortest_wait_that_a_provider_asked_for_is_the_clients(fleet):
    fleet.providers["us-b"].always(Fault.status(429, retry_after=12))
    fleet.providers["us-a"].always(Fault.status(429, retry_after=40))

    answer = fleet.send("chat", ["us-b", "us-a"])

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "12")


def test_an_endpoint_that_asked_to_wait_is_not_tried_in_a_fallback_group(fleet):
    """Group `gemini` falls back to `claude` and then to `gpt`, in which both of its endpoints stand again."""
    for name in ("us-a", "eu-a"):
        fleet.providers[name].always(Fault.status(429, retry_after=30))

    answer = fleet.send("gemini", ["us-a", "eu-a"], path="/v1beta/models/gemini:generateContent")

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30"), answer.text
    assert fleet.calls() == {"us-a": 1, "eu-a": 1}
