"""Observe mode: everything is computed and recorded, nothing is refused and nothing goes elsewhere.

The operator's flag at the start is all that leads here. LiteLLM gets every request as it came, without the permit and
without the fields that say where a call goes; what enforcement would have done of it is rehearsed on copies.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from litellm_plugin.errors import Reason, RequestDenied, Verdict
from litellm_plugin.proxy.answer import Answer
from litellm_plugin.proxy.context import Administrative, Attempt, Permitted, Spared, current_state, enter
from litellm_plugin.proxy.deployments import deployment_id
from litellm_plugin.proxy.egress import DESTINATIONS
from litellm_plugin.proxy.enforcement import begin_attempt, next_attempt
from litellm_plugin.proxy.fields import DESTINATION
from litellm_plugin.proxy.payload import Disconnected
from litellm_plugin.proxy.scope import TRACE_HEADER, without_permit
from litellm_plugin.proxy.websocket import Socket
from litellm_plugin.routing import Candidate

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from starlette.types import Message, Receive, Scope, Send

    from litellm_plugin.proxy.admission import Admission
    from litellm_plugin.proxy.context import RoutedGroup
    from litellm_plugin.proxy.enforcement import Enforcement
    from litellm_plugin.proxy.in_force import InForce
    from litellm_plugin.proxy.paths import Route
    from litellm_plugin.proxy.runtime import Runtime

MODE_HEADER: Final = "x-permit-mode"
OBSERVING: Final = (
    "PERMIT_ROUTER_MODE is observe: NOTHING IS ENFORCED. Requests without a valid permit pass, LiteLLM routes as it "
    "likes, and prompts may reach any endpoint; the decision log tells what would have been refused"
)
_MODE_LINE: Final = (MODE_HEADER.encode(), b"observe")
# What of a request says where a call goes, with whose account, or what stands in a deployment's place.
_STEERING: Final = frozenset(DESTINATION) | {
    "client",
    "custom_llm_provider",
    "litellm_params",
    "model_info",
    "model_list",
    "router_settings_override",
    "specific_deployment",
    "user_config",
}
# A team's own callbacks stand in LiteLLM's request object too; in a body they are a caller's.
_STEERING_OF_A_BODY: Final = _STEERING | DESTINATIONS
_LARGEST_BODY_BYTES: Final = 32 * 1024 * 1024
_INTERNAL: Final = Verdict(
    Reason.INTERNAL_ERROR, "The permit router failed; in mode enforce nothing would be sent."
)


class Observation:
    """Admission where nothing is enforced: judges a request, and lets it pass whatever came of that.

    Args:
        admission: Judges as it does where it enforces.
        enforcement: Decides on pass-throughs.
        runtime: What this worker knows.
    """

    def __init__(self, admission: Admission, enforcement: Enforcement, runtime: Runtime) -> None:
        self._admission = admission
        self._enforcement = enforcement
        self._runtime = runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one HTTP request or websocket."""
        current = self._runtime.in_force
        heard = Heard(receive)
        try:
            state = await self._judged(scope, heard, current)
            body = None if scope["type"] == "websocket" else await _unsteered(scope, state, heard)
        except Disconnected:
            return
        enter(state)
        scope = without_permit(scope, current)
        if not isinstance(state, Permitted):
            await self._admission.app(scope, heard.replay(body), _marked(send))
            return
        self._runtime.count_admitted(state)
        scope = _traced(scope, state)
        if scope["type"] == "websocket":
            await ObservedSocket(state, {}, receive, send, self._runtime).run(self._admission.app, scope)
            return
        await self._forward(state, scope, heard.replay(body), send)

    async def _judged(
        self, scope: Scope, heard: Heard, current: InForce | None
    ) -> Permitted | Administrative | Spared:
        route: Route | None = None
        try:
            route = self._admission.classify(scope, current)
            state, _ = await self._admission.admit(scope, route, heard, current)
        except Disconnected:
            raise
        except Exception as error:  # noqa: BLE001 - the outer guard of the request path: here it spares
            verdict, permit = self._admission.verdict_of(error)
            config_hash = current.policy.config_hash if current else None
            self._runtime.recorder.refusal(scope, route, verdict, permit, config_hash)
            return Spared()
        return state

    async def _forward(self, state: Permitted, scope: Scope, receive: Receive, send: Send) -> None:
        answer = ObservedAnswer(state, send, self._runtime)
        try:
            try:
                self._enforcement.open(state)
            except Exception as error:  # noqa: BLE001 - as above
                spare(self._runtime, state, error)
            await self._admission.app(scope, receive, answer)
        finally:
            if answer.completed:
                self._runtime.passed(state, answer.status)
            self._runtime.close(state, answered=answer.completed, used=answer.is_use)


class Heard:
    """What came of a request so far, which is told again to LiteLLM."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.messages: list[Message] = []

    async def __call__(self) -> Message:
        """Receives the next event."""
        message = await self._receive()
        self.messages.append(message)
        return message

    async def body(self, limit_bytes: int) -> bytes | None:
        """The whole body; None where it is longer than the limit.

        Raises:
            Disconnected: The client went away.
        """
        size = sum(len(each.get("body", b"")) for each in self.messages)
        while not self.messages or self.messages[-1].get("more_body", False):
            message = await self()
            if message["type"] != "http.request":
                raise Disconnected
            size += len(message.get("body", b""))
            if size > limit_bytes:
                return None
        return b"".join(each.get("body", b"") for each in self.messages)

    def replay(self, body: bytes | None) -> Receive:
        """A receive that begins with what came, or with this body in its place."""
        whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        pending = iter(self.messages if body is None else whole)

        async def replay() -> Message:
            message = next(pending, None)
            return message if message is not None else await self._receive()

        return replay


class ObservedAnswer(Answer):
    """LiteLLM's own answer, with headers that say what was computed; no verdict takes its place."""

    async def __call__(self, message: Message) -> None:
        """Sends one message of LiteLLM's answer."""
        if message["type"] == "http.response.start":
            message = {**message, "headers": self.begin(message)}
        elif message["type"] == "http.response.body":
            self.go_on(message)
        await self._send(message)

    def _headers(
        self, decision_id: str | None = None, reason: str | None = None
    ) -> list[tuple[bytes, bytes]]:
        spared = self._state.spared
        if spared is not None:
            decision_id, reason = self._state.denial_id, str(spared.reason)
        return [*super()._headers(decision_id, reason), _MODE_LINE]


class ObservedSocket(Socket):
    """A websocket whose frames are judged and pass as they came."""

    async def receive(self) -> Message:
        """Gives LiteLLM the client's next event."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._close_code = self._close_code or 1005
        elif message["type"] == "websocket.receive" and self._state.spared is None:
            try:
                await self._judged(message)
            except Exception as error:  # noqa: BLE001 - the outer guard of the request path: here it spares
                spare(self._runtime, self._state, RequestDenied(self._verdict_of(error)))
        return message

    async def send(self, message: Message) -> None:
        """Sends one event of LiteLLM."""
        if message["type"] == "websocket.accept":
            self._accepted = True
            message = {**message, "headers": [*message.get("headers", []), _MODE_LINE]}
        elif message["type"] == "websocket.close":
            self._close_code = message.get("code", 1000)
        elif message["type"] == "websocket.send":
            self._note(message.get("text") or "")
        await self._send(message)

    async def run(self, app: Any, scope: Scope) -> None:
        """Runs LiteLLM on this socket until either side ends it."""
        try:
            await app(scope, self.receive, self.send)
        finally:
            self._close()


class ObservedCalls:
    """The hooks where nothing is enforced: what enforcement would have done, rehearsed on copies.

    Args:
        runtime: What this worker knows.
        enforcement: Decides as it does where it enforces.
    """

    def __init__(self, runtime: Runtime, enforcement: Enforcement) -> None:
        self._runtime = runtime
        self._enforcement = enforcement

    def prepare(self, data: MutableMapping[str, Any], team: str | None) -> None:
        """Takes the fields that say where a call goes out of `data`, and plans on a copy of it."""
        for name in data.keys() & _STEERING:
            del data[name]
        state = self._state()
        if state is None:
            return
        copy = _copied(data)
        try:
            self._enforcement.prepare(copy, team)
        except Exception as error:  # noqa: BLE001 - the outer guard of the request path: here it spares
            spare(self._runtime, state, error)

    def select(self, group: str, offered: list[Any]) -> None:
        """Notes which deployment would have been called next."""
        state = self._state()
        if state is None:
            return
        state.wanted = None
        try:
            chosen = self._enforcement.select(group, offered)
        except Exception as error:  # noqa: BLE001 - as above
            spare(self._runtime, state, error)
            return
        planned = (each for routed in state.groups.values() for each in routed.decision.plan)
        state.wanted = next((each for each in planned if each.deployment_id == chosen), None)

    def check(self, call: Mapping[str, Any]) -> None:
        """Begins the attempt that LiteLLM makes, and notes where another would have been made."""
        state = self._state(spared=True)
        called = deployment_id(call)
        if state is None or state.open_attempt(called) is not None:
            return
        wanted = state.wanted
        if state.spared is None and (wanted is None or wanted.deployment_id == called):
            try:
                self._enforcement.check(call)
            except Exception as error:  # noqa: BLE001 - as above
                spare(self._runtime, state, error)
            else:
                return
        elsewhere = wanted if state.spared is None else None
        if elsewhere is not None and not any(each.would_have for each in state.attempts):
            self._runtime.counters.would_reroute += 1
        self._begin(state, called, elsewhere)

    def check_search(self, call: Mapping[str, Any]) -> None:
        """Notes a search that would have been refused."""
        state = self._state()
        if state is None:
            return
        try:
            self._enforcement.check_search(call)
        except Exception as error:  # noqa: BLE001 - as above
            spare(self._runtime, state, error)

    def _begin(self, state: Permitted, called: str, would_have: Candidate | None) -> None:
        found = self._runtime.deployments.single(called)
        candidate = found[0] if found else Candidate(called, called)
        last = next(reversed(state.groups.values()), None)
        decision_id = state.denial_id or (last.decision_id if last else None)
        if decision_id is None:
            return
        started_s = self._runtime.clock.monotonic()
        routed = _assessing(state, called)
        attempt = (
            replace(next_attempt(state, routed, candidate, started_s), decision_id=decision_id)
            if routed is not None
            else Attempt(
                number=len(state.attempts) + 1,
                decision_id=decision_id,
                candidate=candidate,
                started_s=started_s,
                model_group=self._group_of(called),
            )
        )
        attempt.would_have = would_have
        begin_attempt(self._runtime, state, attempt, routed.decision if routed else None)

    def _group_of(self, called: str) -> str:
        """The model group that LiteLLM's configuration puts a deployment in."""
        entry = self._runtime.deployments.configured(called) or {}
        return str(entry.get("model_name") or "")

    def _state(self, *, spared: bool = False) -> Permitted | None:
        """The request that is judged here; None where there is nothing more to judge."""
        state = current_state()
        if isinstance(state, Permitted) and not state.closed:
            return state if spared or state.spared is None else None
        if not isinstance(state, Spared):
            self._runtime.count_no_context()
        return None


def _assessing(state: Permitted, called: str) -> RoutedGroup | None:
    """The last decision that weighed this deployment; None for one of a group that nothing was decided on."""
    groups = reversed(state.groups.values())
    return next((each for each in groups if each.decision.assessment_of(called) is not None), None)


def spare(runtime: Runtime, state: Permitted, error: Exception) -> None:
    """Counts and records, once, how this request would have ended."""
    verdict = error.verdict if isinstance(error, RequestDenied) else _INTERNAL
    if not isinstance(error, RequestDenied):
        runtime.log.error("A hook failed; in mode enforce the request would be denied", exc_info=error)
    if state.spared is None:
        state.spared = verdict
        runtime.recorder.denial(state, verdict)


async def _unsteered(scope: Scope, state: object, heard: Heard) -> bytes | None:
    """The body without the fields that say where a call goes; None where it has none, or is no JSON object."""
    kinds = [value for name, value in scope["headers"] if name.lower() == b"content-type"]
    # LiteLLM takes every body for JSON whose type does not speak of a form.
    if (
        isinstance(state, Administrative)
        or scope["method"] != "POST"
        or any(b"form" in kind for kind in kinds)
    ):
        return None
    body = await heard.body(_LARGEST_BODY_BYTES)
    try:
        document = json.loads(body or b"null")
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.keys().isdisjoint(_STEERING_OF_A_BODY):
        return None
    kept = {name: value for name, value in document.items() if name not in _STEERING_OF_A_BODY}
    return json.dumps(kept).encode()


def _traced(scope: Scope, state: Permitted) -> dict[str, Any]:
    headers = [line for line in scope["headers"] if line[0].lower() != TRACE_HEADER]
    return {**scope, "headers": [*headers, (TRACE_HEADER, state.permit.request_id.encode())]}


def _marked(send: Send) -> Send:
    """A send that adds the mode to what LiteLLM answers."""

    async def marked(message: Message) -> None:
        if message["type"] in {"http.response.start", "websocket.accept"}:
            message = {**message, "headers": [*message.get("headers", []), _MODE_LINE]}
        await send(message)

    return marked


def _copied(data: Mapping[str, Any]) -> dict[str, Any]:
    """The request object with metadata of its own, so that a rehearsal writes into nothing of LiteLLM's."""
    copy = dict(data)
    for slot in ("metadata", "litellm_metadata"):
        if isinstance(copy.get(slot), dict):
            copy[slot] = dict(copy[slot])
    return copy
