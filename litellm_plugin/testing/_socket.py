"""OpenAI's sockets: the Responses API over a websocket and the realtime API, as far as tests need them.

Shapes follow https://platform.openai.com/docs/guides/websocket-mode and
https://platform.openai.com/docs/api-reference/realtime-server-events.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from litellm_plugin.testing import _openai

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from starlette.types import Receive, Scope, Send

    from litellm_plugin.testing._wire import Reply

PATHS = ("/responses", "/realtime")


async def serve(
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    record: Callable[[bytes], Any],
    reply: Callable[[Mapping[str, Any]], Reply],
) -> None:
    """Serve one socket until the client leaves: every frame is recorded, each `response.create` answered.

    Args:
        scope: The handshake.
        receive: Where the client's events come from.
        send: Where the server's events go.
        record: Takes the raw bytes of each frame and gives their JSON.
        reply: Makes the answer to the fields of a request.
    """
    is_realtime = scope["path"].endswith("/realtime")
    await receive()
    await send({"type": "websocket.accept"})
    if is_realtime:
        await _tell(send, {"type": "session.created", "event_id": "event_0", "session": _session(scope)})
    while (message := await receive())["type"] == "websocket.receive":
        frame = record(message.get("bytes") or message["text"].encode())
        if not isinstance(frame, dict):
            await _tell(
                send, {"type": "error", "error": _openai.error(400, "expected a JSON object")["error"]}
            )
            continue
        for event in _realtime_events(frame, reply) if is_realtime else _response_events(frame, reply):
            await _tell(send, event)


async def refuse(receive: Receive, send: Send) -> None:
    """Refuse the handshake, which a server turns into HTTP 403."""
    await receive()
    await send({"type": "websocket.close", "code": 1000})


async def send_on(receive: Receive, send: Send, code: int, location: str) -> None:
    """Answer the handshake with a redirect, by ASGI's websocket denial response."""
    await receive()
    headers = [(b"location", location.encode()), (b"content-length", b"0")]
    await send({"type": "websocket.http.response.start", "status": code, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b""})


async def _tell(send: Send, event: Mapping[str, Any]) -> None:
    await send({"type": "websocket.send", "text": json.dumps(event)})


def _session(scope: Scope) -> dict[str, Any]:
    return {"type": "realtime", "object": "realtime.session", "id": "sess_1", "model": scope["path"]}


def _response_events(
    frame: Mapping[str, Any], reply: Callable[[Mapping[str, Any]], Reply]
) -> Iterator[dict[str, Any]]:
    if frame.get("type") == "response.create":
        nested = frame.get("response")
        yield from _openai.response_events(reply(nested if isinstance(nested, dict) else frame))


def _realtime_events(
    frame: Mapping[str, Any], reply: Callable[[Mapping[str, Any]], Reply]
) -> Iterator[dict[str, Any]]:
    match frame.get("type"):
        case "session.update":
            yield {"type": "session.updated", "event_id": "event_1", "session": frame.get("session")}
        case "conversation.item.create":
            item = {"id": "item_1", "object": "realtime.item", "status": "completed", **frame.get("item", {})}
            yield {"type": "conversation.item.created", "event_id": "event_2", "item": item}
        case "response.create":
            yield from _spoken(reply(frame.get("response") or {}))


def _spoken(reply: Reply) -> Iterator[dict[str, Any]]:
    response = {
        "id": f"resp_{reply.id}",
        "object": "realtime.response",
        "status": "in_progress",
        "output": [],
    }
    part = {
        "response_id": response["id"],
        "item_id": f"item_{reply.id}",
        "output_index": 0,
        "content_index": 0,
    }
    item = {
        "id": part["item_id"],
        "object": "realtime.item",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": reply.text}],
    }
    usage = {
        "input_tokens": reply.prompt_tokens,
        "output_tokens": reply.completion_tokens,
        "total_tokens": reply.total_tokens,
        "input_token_details": {"cached_tokens": 0, "text_tokens": reply.prompt_tokens, "audio_tokens": 0},
        "output_token_details": {"text_tokens": reply.completion_tokens, "audio_tokens": 0},
    }
    yield {"type": "response.created", "event_id": "event_3", "response": response}
    for piece in reply.pieces:
        yield {"type": "response.output_text.delta", "event_id": "event_4", **part, "delta": piece}
    yield {"type": "response.output_text.done", "event_id": "event_5", **part, "text": reply.text}
    done = {**response, "status": "completed", "output": [item], "usage": usage}
    yield {"type": "response.done", "event_id": "event_6", "response": done}
