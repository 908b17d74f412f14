"""OpenAI's dialect: chat completions, completions, embeddings, responses, models and errors.

Shapes follow https://platform.openai.com/docs/api-reference.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from litellm_plugin.testing._wire import Reply, data_event, named_event

if TYPE_CHECKING:
    from collections.abc import Iterator

DONE = b"data: [DONE]\n\n"

_DIMENSIONS = 8
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def error(code: int, message: str) -> dict[str, Any]:
    """Return the body of a failure."""
    kind = _ERROR_TYPES.get(code, "server_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def models(name: str) -> dict[str, Any]:
    """Return a list of one model."""
    return {"object": "list", "data": [{"id": name, "object": "model", "created": 0, "owned_by": name}]}


def chat(reply: Reply) -> dict[str, Any]:
    """Return a chat completion."""
    message = {"role": "assistant", "content": reply.text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {**_envelope(reply, "chat.completion"), "choices": [choice], "usage": _usage(reply)}


def chat_stream(reply: Reply) -> Iterator[bytes]:
    """Yield the events of a streamed chat completion."""
    deltas: list[tuple[dict[str, Any], str | None]] = [
        ({"role": "assistant", "content": ""}, None),
        *(({"content": piece}, None) for piece in reply.pieces),
        ({}, "stop"),
    ]
    choices = [
        {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish} for delta, finish in deltas
    ]
    yield from _chunks(_envelope(reply, "chat.completion.chunk"), choices, reply)


def completion(reply: Reply) -> dict[str, Any]:
    """Return a text completion."""
    choice = {"index": 0, "text": reply.text, "logprobs": None, "finish_reason": "stop"}
    return {**_envelope(reply, "text_completion"), "choices": [choice], "usage": _usage(reply)}


def completion_stream(reply: Reply) -> Iterator[bytes]:
    """Yield the events of a streamed text completion."""
    texts = [*((piece, None) for piece in reply.pieces), ("", "stop")]
    choices = [
        {"index": 0, "text": text, "logprobs": None, "finish_reason": finish} for text, finish in texts
    ]
    yield from _chunks(_envelope(reply, "text_completion"), choices, reply)


def embeddings(reply: Reply) -> dict[str, Any]:
    """Return one vector for each input; equal inputs get equal vectors."""
    payload = reply.request
    inputs = _embedding_inputs(payload.get("input"))
    dimensions = payload.get("dimensions") or _DIMENSIONS
    vectors = [_vector(text, dimensions) for text in inputs]
    is_base64 = payload.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if is_base64 else vector}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": reply.prompt_tokens, "total_tokens": reply.prompt_tokens}
    return {"object": "list", "data": data, "model": payload.get("model", ""), "usage": usage}


def response(reply: Reply) -> dict[str, Any]:
    """Return a finished response object."""
    return {
        **_response(reply, "completed"),
        "output": [_message(reply, "completed", [_text_part(reply.text)])],
        "usage": {
            "input_tokens": reply.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": reply.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": reply.total_tokens,
        },
    }


def cancelled(reply: Reply, response_id: str) -> dict[str, Any]:
    """Return a response whose work in the background was ended."""
    return {**_response(reply, "cancelled"), "id": response_id, "background": True}


def deleted(response_id: str) -> dict[str, Any]:
    """Return the confirmation that a response is gone."""
    return {"id": response_id, "object": "response", "deleted": True}


def input_items() -> dict[str, Any]:
    """Return a response's list of input items: one message."""
    part = {"type": "input_text", "text": "what was asked"}
    item = {"type": "message", "id": "msg_1", "status": "completed", "role": "user", "content": [part]}
    return {"object": "list", "data": [item], "first_id": "msg_1", "last_id": "msg_1", "has_more": False}


def response_stream(reply: Reply) -> Iterator[bytes]:
    """Yield the events of a streamed response, numbered from 0."""
    yield from map(named_event, response_events(reply))


def response_events(reply: Reply) -> Iterator[dict[str, Any]]:
    """Yield the events of a response, as a stream and a websocket carry them, numbered from 0."""
    for number, event in enumerate(_response_events(reply)):
        yield {**event, "sequence_number": number}


def _response_events(reply: Reply) -> Iterator[dict[str, Any]]:
    item = {"item_id": f"msg_{reply.id}", "output_index": 0}
    part = {**item, "content_index": 0}
    started = _response(reply, "in_progress")
    opened = _message(reply, "in_progress", [])
    closed = _message(reply, "completed", [_text_part(reply.text)])
    yield {"type": "response.created", "response": started}
    yield {"type": "response.in_progress", "response": started}
    yield {"type": "response.output_item.added", "output_index": 0, "item": opened}
    yield {"type": "response.content_part.added", **part, "part": _text_part("")}
    for piece in reply.pieces:
        yield {"type": "response.output_text.delta", **part, "delta": piece, "logprobs": []}
    yield {"type": "response.output_text.done", **part, "text": reply.text, "logprobs": []}
    yield {"type": "response.content_part.done", **part, "part": _text_part(reply.text)}
    yield {"type": "response.output_item.done", "output_index": 0, "item": closed}
    yield {"type": "response.completed", "response": response(reply)}


def _response(reply: Reply, status: str) -> dict[str, Any]:
    request = reply.request
    return {
        "id": f"resp_{reply.id}",
        "object": "response",
        "created_at": reply.created,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": request.get("instructions"),
        "max_output_tokens": request.get("max_output_tokens"),
        "model": reply.model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": request.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "store": request.get("store", True),
        "temperature": request.get("temperature", 1.0),
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": request.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": None,
        "user": None,
        "metadata": request.get("metadata") or {},
    }


def _message(reply: Reply, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": f"msg_{reply.id}",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _envelope(reply: Reply, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{reply.id}", "object": kind, "created": reply.created, "model": reply.model}


def _usage(reply: Reply) -> dict[str, int]:
    return {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "total_tokens": reply.total_tokens,
    }


def _chunks(envelope: Mapping[str, Any], choices: list[dict[str, Any]], reply: Reply) -> Iterator[bytes]:
    options = reply.request.get("stream_options")
    has_usage = isinstance(options, Mapping) and bool(options.get("include_usage"))
    # With include_usage every chunk before the last carries a null usage.
    pending = {"usage": None} if has_usage else {}
    for choice in choices:
        yield data_event({**envelope, "choices": [choice], **pending})
    if has_usage:
        yield data_event({**envelope, "choices": [], "usage": _usage(reply)})
    yield DONE


def _embedding_inputs(value: Any) -> list[str]:
    if isinstance(value, list) and not all(isinstance(token, int) for token in value):
        return [str(text) for text in value]
    return [str(value)]


def _vector(text: str, dimensions: int) -> list[float]:
    digest = hashlib.shake_128(text.encode()).digest(dimensions)
    return [(byte - 127.5) / 127.5 for byte in digest]


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
