"""Images, audio, moderation, rerank, Gemini and paths that name the model: governed as the five others are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

pytestmark = pytest.mark.proxy

WAV = ("file", ("a.wav", b"RIFF", "audio/wav"))
PNG = ("image", ("a.png", b"\x89PNG", "image/png"))


@dataclass(frozen=True)
class Call:
    """One way to call: where, and with what."""

    name: str
    path: str
    kind: str
    model: str | None = "gpt"
    form: Any = None
    says: dict[str, Any] = field(default_factory=dict)
    is_stream: bool = False

    def send(self, fleet, endpoints, **extra):
        if self.form:
            return fleet.send_form(
                self.path, endpoints, {"model": self.model, **self.says, **extra}, self.form
            )
        return fleet.send(self.kind, endpoints, path=self.path, model=self.model, **self.says, **extra)


CALLS = [
    Call("image", "/v1/images/generations", "image"),
    Call("image-short", "/images/generations", "image"),
    Call("image-azure", "/openai/deployments/gpt/images/generations", "image"),
    Call("image-edit", "/v1/images/edits", "image", form=PNG, says={"prompt": "a hat"}),
    Call("speech", "/v1/audio/speech", "speech"),
    Call("transcription", "/v1/audio/transcriptions", "transcription", form=WAV),
    Call("moderation", "/v1/moderations", "moderation"),
    Call("rerank", "/v1/rerank", "rerank", model="ranker"),
    Call("rerank-v2", "/v2/rerank", "rerank", model="ranker"),
    Call("gemini", "/v1beta/models/gemini:generateContent", "gemini"),
    Call("gemini-short", "/models/gemini:generateContent", "gemini"),
    Call("gemini-stream", "/v1beta/models/gemini:streamGenerateContent", "gemini", is_stream=True),
    Call("gemini-on-openai", "/v1beta/models/gpt:generateContent", "gemini"),
    Call("engine-chat", "/engines/gpt/chat/completions", "chat"),
    Call(
        "engine-chat-stream", "/engines/gpt/chat/completions", "chat", says={"stream": True}, is_stream=True
    ),
    Call("engine-completion", "/engines/gpt/completions", "completions"),
    Call("engine-embedding", "/engines/gpt/embeddings", "embeddings"),
    Call("azure-chat", "/openai/deployments/gpt/chat/completions", "chat"),
    Call("azure-completion", "/openai/deployments/gpt/completions", "completions"),
    Call("azure-embedding", "/openai/deployments/gpt/embeddings", "embeddings"),
    Call("openai-responses", "/openai/v1/responses", "responses"),
]
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
