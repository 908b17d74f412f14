"""Images, audio, moderation, rerank, Gemini and paths that name the model: governed as the five others are."""

from __future__ import annotations

import pytest
from calls import CALLS

pytestmark = pytest.mark.proxy

every_call = pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)


@every_call
def test_the_authorized_endpoint_serves(fleet, call):
    answer = call.send(fleet, ["eu-a"])

    assert answer.status_code == 200, answer.text
    assert fleet.calls() == {"eu-a": 1}
    assert answer.headers["x-permit-endpoint"] == "eu-a"


@every_call
def test_a_group_without_an_authorized_endpoint_is_refused(fleet, call):
    answer = call.send(fleet, ["claude-eu"])

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_authorized")
    assert fleet.calls() == {}


@every_call
def test_each_call_leaves_its_records(fleet, call):
    answer = call.send(fleet, ["eu-a"])

    found = [(record["type"], record.get("status")) for record in fleet.records_of(answer)]
    assert found == [("decision", None), ("attempt", "success")]


@every_call
def test_without_the_plugin_the_same_request_leaves_the_set(inert_fleet, call):
    for _ in range(20):
        call.send(inert_fleet, ["us-a"])
        if inert_fleet.out_of_set():
            return
    pytest.fail("20 requests and none left the permit's set although nothing is enforced")


@pytest.mark.parametrize("call", [each for each in CALLS if not each.form], ids=lambda call: call.name)
def test_a_field_that_is_not_published_is_dropped(fleet, call):
    answer = call.send(fleet, ["eu-a"], success_callback=["opik"], custom_llm_provider="anthropic")

    assert answer.status_code == 200, answer.text
    assert fleet.calls() == {"eu-a": 1}


@pytest.mark.parametrize("call", [each for each in CALLS if each.form], ids=lambda call: call.name)
def test_a_form_with_such_a_field_is_refused(fleet, call):
    answer = call.send(fleet, ["eu-a"], **{"success_callback[]": "opik"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "body_invalid")
    assert fleet.calls() == {}


def test_the_model_in_the_path_wins(fleet):
    answer = fleet.send("chat", ["eu-a"], path="/engines/gpt/chat/completions", model="claude")

    assert answer.status_code == 200, answer.text
    assert fleet.calls() == {"eu-a": 1}


def test_a_word_in_the_path_moves_no_metadata_past_the_scrub(fleet):
    """LiteLLM keeps its metadata elsewhere when a path holds `files`, in a model's name too."""
    control = {"model_group": "claude", "fallbacks": ["claude"]}
    answer = fleet.send(
        "chat",
        ["eu-a"],
        path="/engines/files-alias/chat/completions",
        metadata={**control, "own": "x"},
        litellm_metadata=control,
    )

    assert answer.status_code == 200, answer.text
    assert fleet.calls() == {"eu-a": 1}
    decision, _ = fleet.records_of(answer)
    assert {"litellm_metadata", "metadata.fallbacks", "metadata.model_group"} <= set(
        decision["dropped_fields"]
    )
