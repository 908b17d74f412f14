"""The recording provider: one endpoint's provider that writes down every request and then answers it."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from starlette.requests import ClientDisconnect, HTTPConnection, Request

from litellm_plugin.testing import _anthropic, _gemini, _media, _openai, _socket
from litellm_plugin.testing._wire import Reply, estimated_tokens, json_bytes, prompt_text
from litellm_plugin.testing.faults import Fault, FaultKind
from litellm_plugin.testing.server import drop_connection

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

Answer: TypeAlias = str | Callable[[Any], str]

_CUT_DELAY_S = 1.0
_JSON = "application/json"
_SSE = "text/event-stream; charset=utf-8"
_AUDIO = "audio/mpeg"

_STORED_PATH = re.compile(r"/responses/(?P<id>resp_[^/]+)(?:/(?P<part>[a-z_]+))?$")
_STORED_CALLS = frozenset({("GET", None), ("DELETE", None), ("POST", "cancel"), ("GET", "input_items")})

_FORMS = ("/images/edits", "/audio/transcriptions")


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One request as it reached a provider.

    Attributes:
        endpoint: The name of the provider that it reached.
        method: The HTTP method; `WEBSOCKET` for a frame of a websocket.
        path: The decoded path, without the query.
        headers: The headers by lower-case name; the last one wins.
        body: The raw body, as far as it arrived.
        json: The body parsed as JSON, None where it is none.
        at: When it had arrived, on `time.monotonic`.
        connection: The sender's end, `host:port`: requests over one connection share it.
    """

    endpoint: str
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    json: Any | None
    at: float
    connection: str = ""


@dataclass(frozen=True, slots=True)
class _Outgoing:
    status: int
    content_type: str
    chunks: Iterable[bytes]
    retry_after: float | str | None = None
    location: str | None = None

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        headers = [(b"content-type", self.content_type.encode())]
        if self.retry_after is not None:
            headers.append((b"retry-after", str(self.retry_after).encode()))
        if self.location is not None:
            headers.append((b"location", self.location.encode()))
        if isinstance(self.chunks, list):
            headers.append((b"content-length", str(sum(map(len, self.chunks))).encode()))
        return headers


class RecordingProvider:
    """An ASGI app that speaks OpenAI's, Anthropic's, Gemini's and Cohere's dialects under any path prefix.

    Answers POST */chat/completions, */completions, */responses and */messages, streamed where the body says
    so, */embeddings, */images/generations, */images/edits, */audio/speech, */audio/transcriptions,
    */moderations, */rerank, *:generateContent and *:streamGenerateContent, GET */models, and GET, DELETE,
    POST …/cancel and GET …/input_items on */responses/{id}, whatever the id. Everything else is a 404. Every request is recorded before anything else happens to it.

    Speaks the Responses and the realtime API over websockets too, at */responses and */realtime: each frame of a
    client is recorded as a request with the method `WEBSOCKET`. A standing or queued status fault refuses the handshake,
    a redirect sends it on.

    Args:
        name: The endpoint that this provider stands for.
        price_usd: What it charges per token, input and output; None leaves it to LiteLLM's cost map.

    Attributes:
        latency_s: How long it waits before the headers of every answer.
        answer: The text of every answer, or a function of the request's JSON that makes it.
        prompt_tokens: The prompt tokens of every answer; None estimates them from the request.
        completion_tokens: The completion tokens of every answer; None estimates them from the text.
        handshakes: How many websockets were asked for, refused ones included.
    """

    def __init__(self, name: str, *, price_usd: tuple[float, float] | None = None) -> None:
        self.name = name
        self.price_usd = price_usd
        self.latency_s = 0.0
        self.answer: Answer = f"answer from {name}"
        self.prompt_tokens: int | None = None
        self.completion_tokens: int | None = None
        self.handshakes = 0
        self._lock = threading.Lock()
        self._requests: list[RecordedRequest] = []
        self._faults: deque[Fault] = deque()
        self._standing_fault: Fault | None = None

    def deployment(
        self, model_group: str, url: str, *, model: str = "openai/gpt-test", **model_info: object
    ) -> dict[str, Any]:
        """Gives the entry of LiteLLM's `model_list` that sends a model group's calls here.

        Args:
            model_group: LiteLLM's `model_name`.
            url: Where this provider is served, without a path.
            model: LiteLLM's model, whose prefix picks the dialect: `openai/…`, `anthropic/…`, `gemini/…`, `cohere/…`.
            model_info: Facts for routing; `id` and `endpoint` are made from the name.
        """
        is_openai = model.startswith("openai/")
        params: dict[str, object] = {
            "model": model,
            "api_base": f"{url}/v1" if is_openai else url,
            "api_key": f"key-of-{self.name}",
        }
        if self.price_usd is not None:
            params["input_cost_per_token"], params["output_cost_per_token"] = self.price_usd
        return {
            "model_name": model_group,
            "litellm_params": params,
            "model_info": {"id": f"{self.name}-1", "endpoint": self.name, **model_info},
        }

    @property
    def requests(self) -> list[RecordedRequest]:
        """What was recorded until now, in order of arrival; a copy, safe to read from any thread."""
        with self._lock:
            return list(self._requests)

    @property
    def calls(self) -> int:
        """How many requests were recorded."""
        with self._lock:
            return len(self._requests)

    def clear(self) -> None:
        """Forget the recorded requests; faults and settings stay."""
        with self._lock:
            self._requests.clear()
            self.handshakes = 0

    def fail(self, *faults: Fault) -> None:
        """Let the next requests fail, one after the other; the queue goes before `always`."""
        with self._lock:
            self._faults.extend(faults)

    def always(self, fault: Fault | None) -> None:
        """Let every request fail until told otherwise; None ends it and empties the queue of `fail`."""
        with self._lock:
            self._standing_fault = fault
            if fault is None:
                self._faults.clear()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or websocket (ASGI 3)."""
        if scope["type"] == "websocket":
            await self._serve_socket(scope, receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"expected an http or websocket scope, got {scope['type']!r}")
        request = Request(scope, receive)
        recorded = await self._record(request)
        fault = self._next_fault()
        if await self._has_left_within(receive, self._wait_s(fault)):
            return
        outgoing = self._outgoing(recorded, fault)
        await send({"type": "http.response.start", "status": outgoing.status, "headers": outgoing.headers})
        await self._send_body(outgoing, fault, scope, send)

    async def _serve_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._lock:
            self.handshakes += 1
        fault = self._next_fault()
        next_hop = None if fault is None else _next_hop(scope["path"], fault)
        if fault is not None and next_hop is not None:
            await _socket.send_on(receive, send, fault.code, next_hop.replace("http", "ws", 1))
            return
        if fault is not None or not scope["path"].endswith(_socket.PATHS):
            await _socket.refuse(receive, send)
            return

        def record(raw: bytes) -> Any:
            return self._recorded(HTTPConnection(scope), "WEBSOCKET", raw).json

        await _socket.serve(scope, receive, send, record=record, reply=self._reply)

    async def _record(self, request: Request) -> RecordedRequest:
        return self._recorded(request, request.method, await _body_as_far_as_sent(request))

    def _recorded(self, connection: HTTPConnection, method: str, body: bytes) -> RecordedRequest:
        recorded = RecordedRequest(
            endpoint=self.name,
            method=method,
            path=connection.scope["path"],
            headers=dict(connection.headers.items()),
            body=body,
            json=_parsed(body),
            at=time.monotonic(),
            connection=":".join(map(str, connection.client or ())),
        )
        with self._lock:
            self._requests.append(recorded)
        return recorded

    def _next_fault(self) -> Fault | None:
        with self._lock:
            return self._faults.popleft() if self._faults else self._standing_fault

    def _wait_s(self, fault: Fault | None) -> float:
        if fault is not None and fault.kind is FaultKind.HANG:
            return self.latency_s + fault.seconds
        return self.latency_s

    async def _has_left_within(self, receive: Receive, wait_s: float) -> bool:
        if wait_s <= 0:
            return False
        try:
            async with asyncio.timeout(wait_s):
                while (await receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            return False
        return True

    def _outgoing(self, request: RecordedRequest, fault: Fault | None) -> _Outgoing:
        if fault is not None and fault.kind is FaultKind.STATUS:
            return replace(_failure(request.path, fault), location=_next_hop(request.path, fault))
        if request.method == "GET" and request.path.endswith("/models"):
            return _whole(_openai.models(self.name))
        stored = _STORED_PATH.search(request.path)
        if stored is not None and (request.method, stored["part"]) in _STORED_CALLS:
            return _whole(self._stored(request.method, stored["id"], stored["part"]))
        if request.method == "POST":
            return self._answered(request)
        return _not_found(request)

    def _stored(self, method: str, response_id: str, part: str | None) -> dict[str, Any]:
        reply = self._reply({})
        if method == "DELETE":
            return _openai.deleted(response_id)
        if part:
            return _openai.input_items() if part == "input_items" else _openai.cancelled(reply, response_id)
        return {**_openai.response(reply), "id": response_id}

    def _answered(self, request: RecordedRequest) -> _Outgoing:
        payload = {} if request.json is None and request.path.endswith(_FORMS) else request.json
        reader = next((read for suffix, read in _READERS if request.path.endswith(suffix)), None)
        if reader is None:
            return _not_found(request)
        if not isinstance(payload, dict):
            return _failure(request.path, Fault.status(400), "expected a JSON object")
        return reader(self._reply(payload))

    def _reply(self, payload: Mapping[str, Any]) -> Reply:
        text = self.answer if isinstance(self.answer, str) else self.answer(payload)
        prompt_tokens, completion_tokens = self.prompt_tokens, self.completion_tokens
        return Reply(
            request=payload,
            text=text,
            prompt_tokens=estimated_tokens(prompt_text(payload)) if prompt_tokens is None else prompt_tokens,
            completion_tokens=estimated_tokens(text) if completion_tokens is None else completion_tokens,
        )

    async def _send_body(self, outgoing: _Outgoing, fault: Fault | None, scope: Scope, send: Send) -> None:
        chunks = list(outgoing.chunks)
        kind = None if fault is None else fault.kind
        if fault is not None and kind is FaultKind.CUT:
            chunks = chunks[: min(fault.after_chunks, len(chunks) - 1)]
        for chunk in chunks:
            if fault is not None and kind is FaultKind.DRIP:
                await asyncio.sleep(fault.seconds)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if kind is FaultKind.CUT:
            # A reset discards what the peer has not read yet; the chunks before the cut shall arrive.
            await asyncio.sleep(_CUT_DELAY_S)
            await drop_connection(scope)
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _body_as_far_as_sent(request: Request) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
    except ClientDisconnect:
        pass
    return bytes(body)


def _parsed(body: bytes) -> Any | None:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _whole(value: Any) -> _Outgoing:
    return _Outgoing(200, _JSON, _halves(json_bytes(value)))


def _streamed(events: Iterator[bytes]) -> _Outgoing:
    return _Outgoing(200, _SSE, events)


def _whole_or_streamed(
    whole: Callable[[Reply], dict[str, Any]], streamed: Callable[[Reply], Iterator[bytes]]
) -> Callable[[Reply], _Outgoing]:
    def answer(reply: Reply) -> _Outgoing:
        return _streamed(streamed(reply)) if reply.request.get("stream") is True else _whole(whole(reply))

    return answer


def _next_hop(path: str, fault: Fault) -> str | None:
    return None if fault.location is None else f"{fault.location}{path}"


def _halves(body: bytes) -> list[bytes]:
    """Cut a body in two, so that there is a middle to cut it at."""
    middle = len(body) // 2
    return [body[:middle], body[middle:]]


def _not_found(request: RecordedRequest) -> _Outgoing:
    return _failure(request.path, Fault.status(404), f"no such route: {request.method} {request.path}")


def _failure(path: str, fault: Fault, message: str = "simulated failure") -> _Outgoing:
    dialect = _anthropic if path.endswith("/messages") else _openai
    body = dialect.error(fault.code, message) if fault.body is None else fault.body
    raw = body if isinstance(body, bytes) else json_bytes(body)
    return _Outgoing(fault.code, _JSON, _halves(raw), fault.retry_after)


# The first suffix that fits wins: a chat path ends in "/completions" too.
_READERS: tuple[tuple[str, Callable[[Reply], _Outgoing]], ...] = (
    ("/chat/completions", _whole_or_streamed(_openai.chat, _openai.chat_stream)),
    ("/completions", _whole_or_streamed(_openai.completion, _openai.completion_stream)),
    ("/responses", _whole_or_streamed(_openai.response, _openai.response_stream)),
    ("/messages", _whole_or_streamed(_anthropic.message, _anthropic.message_stream)),
    ("/embeddings", lambda reply: _whole(_openai.embeddings(reply))),
    ("/images/generations", lambda reply: _whole(_media.image(reply))),
    ("/images/edits", lambda reply: _whole(_media.image(reply))),
    ("/audio/speech", lambda reply: _Outgoing(200, _AUDIO, _halves(_media.speech(reply)))),
    ("/audio/transcriptions", lambda reply: _whole(_media.transcription(reply))),
    ("/moderations", lambda reply: _whole(_media.moderation(reply))),
    ("/rerank", lambda reply: _whole(_media.rerank(reply))),
    (":generateContent", lambda reply: _whole(_gemini.content(reply))),
    (":streamGenerateContent", lambda reply: _streamed(_gemini.content_stream(reply))),
)
