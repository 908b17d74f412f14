"""Anthropic's dialect: messages and errors.

Shapes follow https://docs.anthropic.com/en/api/messages and its page on streaming.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litellm_plugin.testing._wire import Reply, named_event

if TYPE_CHECKING:
    from collections.abc import Iterator

_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def error(code: int, message: str) -> dict[str, Any]:
    """Return the body of a failure."""
    kind = _ERROR_TYPES.get(code, "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}}


def message(reply: Reply) -> dict[str, Any]:
    """Return a finished message."""
    return {
        **_empty_message(reply),
        "content": [{"type": "text", "text": reply.text}],
        "stop_reason": "end_turn",
        "usage": _usage(reply.prompt_tokens, reply.completion_tokens),
    }


def message_stream(reply: Reply) -> Iterator[bytes]:
    """Yield the events of a streamed message."""
    for event in _events(reply):
        yield named_event(event)


def _events(reply: Reply) -> Iterator[dict[str, Any]]:
    block = {"type": "text", "text": ""}
    yield {"type": "message_start", "message": _empty_message(reply)}
    yield {"type": "content_block_start", "index": 0, "content_block": block}
    yield {"type": "ping"}
    for piece in reply.pieces:
        delta = {"type": "text_delta", "text": piece}
        yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": reply.completion_tokens},
    }
    yield {"type": "message_stop"}


def _empty_message(reply: Reply) -> dict[str, Any]:
    return {
        "id": f"msg_{reply.id}",
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _usage(reply.prompt_tokens, 0),
    }


def _usage(input_tokens: int, output_tokens: int) -> dict[str, int]:
    return {
        "input_tokens": input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output_tokens,
    }
