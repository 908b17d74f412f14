"""Gemini's dialect: generateContent and streamGenerateContent.

Shapes follow https://ai.google.dev/api/generate-content.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litellm_plugin.testing._wire import Reply, data_event

if TYPE_CHECKING:
    from collections.abc import Iterator


def content(reply: Reply) -> dict[str, Any]:
    """Return a whole answer."""
    return _answer(reply, reply.text, finish="STOP")


def content_stream(reply: Reply) -> Iterator[bytes]:
    """Yield the events of a streamed answer."""
    *first, last = reply.pieces
    for piece in first:
        yield data_event(_answer(reply, piece, finish=None))
    yield data_event(_answer(reply, last, finish="STOP"))


def _answer(reply: Reply, text: str, *, finish: str | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    usage = {
        "promptTokenCount": reply.prompt_tokens,
        "candidatesTokenCount": reply.completion_tokens,
        "totalTokenCount": reply.total_tokens,
    }
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-test"}
