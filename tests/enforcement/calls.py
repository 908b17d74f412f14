"""The calls: every way to call a model on a governed path, beside the five that `fleet.PATHS` names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fleet import PATHS

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
GOVERNED = [
    *(
        Call(kind, path, kind, model="claude" if kind == "messages" else "gpt")
        for kind, path in PATHS.items()
    ),
    *CALLS,
]


def under(fleet, call, endpoints, **permit):
    """Sends a call, whatever its shape, under a permit that says this."""
    if call.form:
        return fleet.send_form(call.path, endpoints, {"model": call.model, **call.says}, call.form, **permit)
    return call.send(fleet, endpoints, permit=permit)
