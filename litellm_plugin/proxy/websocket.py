"""The websocket: one permit, one state and one model for as long as it is open, and every client frame judged.

A permit that was good at the handshake does not cover what is said an hour later, and a handshake has no body:
what the permit binds, and what uses it up, is decided as frames come.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import deque
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode

from litellm_plugin.errors import PermitRejected, Reason, RequestDenied, Verdict
from litellm_plugin.permit import ReplayStoreLost, check_body, recheck
from litellm_plugin.proxy import denial
from litellm_plugin.proxy.content_urls import CONTENT_URLS, uncleared
from litellm_plugin.proxy.frames import Frame, read_frame
from litellm_plugin.proxy.planning import unserved
from litellm_plugin.routing.attempts import AttemptStatus
from litellm_plugin.routing.facts import CallType

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from litellm_plugin.proxy.context import Permitted
    from litellm_plugin.proxy.runtime import Runtime

_PROTOCOLS: Final = b"sec-websocket-protocol"
# LiteLLM takes its key from a sub-protocol of this name where no header has one.
_KEY_PROTOCOL: Final = b"openai-insecure-api-key."
_MOST_OWN: Final = 64
# RFC 6455 §7.4.1: a normal end, and one without a status.
_ENDED_WELL: Final = frozenset({1000, 1001, 1005})


def socket_query(scope: Scope, call_type: CallType) -> dict[str, str]:
    """What of a handshake's query LiteLLM may read: the model group, and a realtime session's intent.

    Raises:
        RequestDenied: One of them is there twice, or a realtime session names no model.
    """
    pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    names = ("model", "intent") if call_type is CallType.REALTIME else ("model",)
    kept: dict[str, str] = {}
    for name in names:
        values = [value for key, value in pairs if key == name]
        if len(values) > 1:
            raise RequestDenied(
                Verdict(
                    Reason.BODY_INVALID, f"The query must hold {name!r} once, it came {len(values)} times."
                )
            )
        if values and values[0]:
            kept[name] = values[0]
    if kept.get("intent") != "transcription":
        kept.pop("intent", None)
    if call_type is CallType.REALTIME and "model" not in kept:
        raise RequestDenied(Verdict(Reason.BODY_INVALID, "The query must name one model group: '?model=…'."))
    return kept


class Socket:
    """One governed websocket, between the server and LiteLLM.

    Args:
        state: The state of its whole life.
        query: What LiteLLM reads of the handshake's query.
        receive, send: The server's side.
        runtime: What this worker knows.
    """

    def __init__(
        self, state: Permitted, query: dict[str, str], receive: Receive, send: Send, runtime: Runtime
    ) -> None:
        self._state = state
        self._query = query
        self._receive = receive
        self._send = send
        self._runtime = runtime
        self._model = query.get("model")
        self._is_bound = state.permit.body_sha256 is not None
        self._is_single = self._is_bound or state.policy.permit.binding == "single_use"
        # Responses of this socket, which a frame may build on: they are where the socket goes.
        self._own: deque[str] = deque(maxlen=_MOST_OWN)
        self._frames = 0
        self._responses = 0
        self._heard = False
        self._accepted = False
        self._close_code: int | None = None
        self._denied = False

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Runs LiteLLM on this socket until either side ends it."""
        try:
            await app(_narrowed(scope, self._query), self.receive, self.send)
        except Exception:
            if self._close_code is not None:
                raise
            request_id = self._state.permit.request_id
            self._runtime.log.exception("LiteLLM failed on websocket %s", request_id)
            message = "LiteLLM failed on this websocket; its log says where and why."
            await self._deny(self._state.verdict or Verdict(Reason.LITELLM_REFUSED, message))
        finally:
            self._close()

    async def receive(self) -> Message:
        """Gives LiteLLM the client's next event, or the end of the socket where the event may not pass."""
        if self._denied:
            return {"type": "websocket.disconnect", "code": self._close_code or 1005}
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._close_code = self._close_code or 1005
        if message["type"] != "websocket.receive":
            return message
        try:
            return {"type": "websocket.receive", "text": await self._judged(message)}
        except Exception as error:  # noqa: BLE001 - the outer guard of the request path: deny
            return await self._deny(self._verdict_of(error))

    async def send(self, message: Message) -> None:
        """Sends one event of LiteLLM, or the verdict's close in its place."""
        if self._denied:
            return
        if self._state.verdict is not None:
            await self._deny(self._state.verdict)
            return
        if message["type"] == "websocket.accept":
            self._accepted = True
            lines = [
                line for line in message.get("headers", []) if not line[0].lower().startswith(b"x-permit-")
            ]
            lines.append((b"x-permit-request-id", self._state.permit.request_id.encode()))
            message = {**message, "headers": lines}
        elif message["type"] == "websocket.close":
            if self._never_answered(message.get("code", 1000)):
                self._state.unreported = AttemptStatus.CONNECTION_ERROR
                await self._deny(unserved(self._runtime, self._state))
                return
            self._close_code = message.get("code", 1000)
            if not self._accepted:
                self._refused()
        elif message["type"] == "websocket.send":
            self._note(message.get("text") or "")
        await self._send(message)

    def _never_answered(self, code: int) -> bool:
        """Whether LiteLLM gives up an endpoint that was called and said nothing of its own."""
        return (
            self._accepted and not self._heard and code not in _ENDED_WELL and self._state.current is not None
        )

    def _verdict_of(self, error: Exception) -> Verdict:
        match error:
            case PermitRejected():
                return denial.verdict_of(error)
            case RequestDenied():
                return error.verdict
            case ReplayStoreLost():
                return Verdict(
                    Reason.UNAVAILABLE,
                    "The store that knows which permits were used does not answer. Try again shortly.",
                )
        self._runtime.log.error("A frame was not judged; its websocket is closed", exc_info=error)
        return Verdict(
            Reason.INTERNAL_ERROR, "The permit router failed; the frame was not sent to a provider."
        )

    async def _judged(self, message: Message) -> str:
        """Holds a frame against the permit, and gives what of it LiteLLM may read."""
        raw = _raw(message, self._state.policy.permit.max_body_bytes)
        frame = read_frame(
            raw,
            self._state.call_type,
            model=self._model,
            extra=self._state.policy.body_fields,
            own=self._own,
            any_model=self._state.permit.models is None,
        )
        if not frame.takes_back:
            recheck(self._state.permit, self._runtime.claims, self._runtime.clock.wall())
        self._check_urls(frame)
        text = await self._bound(frame, raw)
        self._model = frame.model
        if self._frames == 0:
            self._state.opening = frame.body
            self._state.dropped_fields = frame.dropped
        self._frames += 1
        self._responses += frame.starts_response
        return text

    def _check_urls(self, frame: Frame) -> None:
        state = self._state
        refused = uncleared(state.policy, state.scope.data_classification) if frame.names_url else None
        if refused is not None:
            state.held |= {CONTENT_URLS}
            raise RequestDenied(refused)

    async def _bound(self, frame: Frame, raw: bytes) -> str:
        """Lets a permit that is for one body, or for one use, send no more than that.

        Raises:
            PermitRejected: The frame is not the one that the permit binds, or would be a second use.
            ReplayStoreLost: Nobody can tell, and the operator wants a refusal then.
        """
        state = self._state
        digest = hashlib.sha256(raw).hexdigest()
        if self._is_bound and self._frames == 0:
            check_body(state.permit, digest, required=True)
        elif self._is_bound and (not frame.is_bare or (frame.starts_response and self._responses)):
            raise PermitRejected(
                Reason.BINDING_MISMATCH,
                "a frame after the one it binds",
                "one response, and after the first frame events without content alone",
            )
        elif self._is_single and self._responses and not frame.takes_back:
            raise PermitRejected(Reason.REPLAYED, "jti", "one response on this websocket")
        if state.claim is None and not frame.takes_back:
            state.claim = await self._runtime.claim(state.permit, digest, state.policy)
        # What stands beside the type of a bare event was not bound.
        return json.dumps({"type": frame.event}) if self._is_bound and self._frames else frame.text

    def _note(self, text: str) -> None:
        """Notes that there was an answer, and which response began; with voice detection no frame asks for one."""
        is_start = '"response.created"' in text
        if not is_start and (self._heard or not self._frames):
            return
        event = _event(text)
        self._heard = self._heard or (self._frames > 0 and event.get("type") != "error")
        if event.get("type") == "response.created":
            # One that a frame asked for is counted twice; whether there was any is all that matters.
            self._responses += 1
            response = event.get("response")
            if isinstance(response, dict) and isinstance(response.get("id"), str):
                self._own.append(response["id"])

    def _refused(self) -> None:
        """Records that LiteLLM ended the socket by itself, before there was anything to decide."""
        verdict = Verdict(Reason.LITELLM_REFUSED, "LiteLLM refused the websocket before it was routed.")
        self._runtime.recorder.denial(self._state, verdict)

    async def _deny(self, verdict: Verdict) -> Message:
        """Closes the socket with the verdict's code, and gives the event that tells LiteLLM so."""
        if not self._denied:
            self._denied = True
            # What LiteLLM still does for this socket may call nothing any more.
            self._state.closed = True
            self._close_code = denial.close_code(verdict)
            self._runtime.recorder.denial(self._state, verdict)
            with contextlib.suppress(OSError):  # the client may be gone
                await denial.close_websocket(self._send, verdict)
        return {"type": "websocket.disconnect", "code": self._close_code or 1005}

    def _close(self) -> None:
        """Ends the state: an attempt that LiteLLM reports nothing of ended as the socket did."""
        ended_well = self._denied or self._close_code in _ENDED_WELL
        if self._state.unreported is AttemptStatus.CONNECTION_ERROR:
            ended_well = False
        else:
            self._state.unreported = self._ending(ended_well=ended_well)
        self._runtime.close(self._state, answered=ended_well, used=self._heard)

    def _ending(self, *, ended_well: bool) -> AttemptStatus:
        if not ended_well and self._close_code is not None:
            return AttemptStatus.SERVER_ERROR if self._heard else AttemptStatus.CONNECTION_ERROR
        if ended_well and (self._heard or not self._frames):
            return AttemptStatus.SUCCESS
        return AttemptStatus.ABANDONED


def _event(text: str) -> dict[str, Any]:
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}


def _raw(message: Message, limit_bytes: int) -> bytes:
    text = message.get("text")
    if not isinstance(text, str):
        raise RequestDenied(
            Verdict(Reason.BODY_INVALID, "Text frames are expected; audio travels in events.")
        )
    raw = text.encode()
    if len(raw) > limit_bytes:
        raise RequestDenied(
            Verdict(Reason.BODY_TOO_LARGE, f"A frame of at most {limit_bytes} bytes is expected.")
        )
    return raw


def _narrowed(scope: Scope, query: dict[str, str]) -> dict[str, Any]:
    """The handshake with this query, and without keys among its sub-protocols: no permit header is bound to those."""
    headers = [
        (name, _without_keys(value) if name.lower() == _PROTOCOLS else value)
        for name, value in scope["headers"]
    ]
    return {**scope, "query_string": urlencode(query).encode(), "headers": headers}


def _without_keys(value: bytes) -> bytes:
    return b", ".join(
        each.strip() for each in value.split(b",") if not each.strip().startswith(_KEY_PROTOCOL)
    )
