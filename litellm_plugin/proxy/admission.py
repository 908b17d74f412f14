"""Admission: the ASGI layer that lets a request in with a valid permit, and writes how it ended.

It wraps what LiteLLM's ExceptionMiddleware wraps, so that CORS and root paths work on denials too.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from litellm_plugin.errors import KeysUnavailable, PermitRejected, Reason, RequestDenied, Verdict
from litellm_plugin.permit import ReplayStoreLost, check_api_key, check_body, check_request_id
from litellm_plugin.proxy import denial
from litellm_plugin.proxy.answer import Answer
from litellm_plugin.proxy.caller_facts import CallerFacts, said_in_body, said_in_headers
from litellm_plugin.proxy.content_urls import urls_refused
from litellm_plugin.proxy.context import Administrative, Denied, Permitted, enter
from litellm_plugin.proxy.enforcement import Enforcement
from litellm_plugin.proxy.health import READINESS_PATH, is_health, send_health
from litellm_plugin.proxy.meaning import body_reader
from litellm_plugin.proxy.paths import ADMINISTRATIVE, PathKind, Route, RouteTable, classify_template
from litellm_plugin.proxy.payload import Disconnected, Payload, publish, read_body
from litellm_plugin.proxy.request_line import check_path, request_line
from litellm_plugin.proxy.slots import metadata_slot
from litellm_plugin.proxy.websocket import Socket, socket_query
from litellm_plugin.routing import CallType, request_facts

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from litellm_plugin.permit import Claim, Permit
    from litellm_plugin.proxy.runtime import Runtime
    from litellm_plugin.settings import PolicySnapshot

# Every header that LiteLLM takes its key from.
_KEY_HEADERS: Final = (
    b"x-litellm-api-key",
    b"authorization",
    b"api-key",
    b"x-api-key",
    b"x-goog-api-key",
    b"ocp-apim-subscription-key",
)
# Reading a megabyte takes some 10 ms; a body of the largest size would hold every request of the worker up.
_LARGE_BODY_BYTES: Final = 1_000_000
_TRACE_HEADER: Final = b"x-litellm-trace-id"
# What a caller may still say to LiteLLM in its own headers; the others steer retries, tags, timeouts or caches.
_LITELLM_HEADERS: Final = frozenset(
    {
        b"x-litellm-api-key",
        b"x-litellm-customer-id",
        b"x-litellm-end-user-id",
        b"x-litellm-spend-logs-metadata",
    }
)


class Refused(Exception):  # noqa: N818 - carries a verdict inside this module
    """The request ends before LiteLLM sees it."""

    def __init__(self, verdict: Verdict, permit: Permit | None = None) -> None:
        super().__init__(verdict.message)
        self.verdict = verdict
        self.permit = permit


class Admission:
    """Admits requests to `app` and answers those that end here.

    Args:
        app: What LiteLLM's ExceptionMiddleware wrapped.
        routes: The app's own routes, which classify a request.
        runtime: What this worker knows.
    """

    def __init__(self, app: ASGIApp, routes: RouteTable, runtime: Runtime) -> None:
        self.app = app
        self.routes = routes
        self._runtime = runtime
        self._enforcement = Enforcement(runtime)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one HTTP request or websocket; any other event passes."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        if is_health(scope):
            await send_health(send, self._runtime)
            return
        if self._runtime.is_inert:
            await self.app(scope, receive, send)
            return
        route: Route | None = None
        try:
            route = self._opened(self.routes.classify(scope))
            state, receive = await self._admit(scope, route, receive)
        except Disconnected:
            return
        except Refused as refused:
            await self._refuse(send, scope, route, refused)
            return
        except Exception:
            self._runtime.log.exception("Admission failed; the request is denied")
            verdict = Verdict(
                Reason.INTERNAL_ERROR, "The permit router failed; nothing was sent to a provider."
            )
            await self._refuse(send, scope, route, Refused(verdict))
            return
        enter(state)
        if isinstance(state, Permitted):
            self._runtime.count_admitted(state)
            await self._forward(state, scope, receive, send)
        elif route.template == READINESS_PATH and self._runtime.faults():
            await send_health(send, self._runtime)
        else:
            await self.app(self._scrubbed(scope, None), receive, send)

    def _opened(self, route: Route) -> Route:
        """The route as the policy block opens it; a path that is open by itself stays what it is."""
        policy = self._runtime.policy
        key = (route.method, route.template or "")
        if policy is None or route.kind is not PathKind.REFUSED or key not in policy.paths:
            return route
        if classify_template(*key)[0] is not PathKind.REFUSED:  # a foreign handler on a path that is listed
            return route
        if policy.paths[key] is None:
            return replace(route, kind=PathKind.ADMINISTRATIVE)
        return replace(route, kind=PathKind.GOVERNED, call_type=CallType.PASS_THROUGH)

    async def _admit(
        self, scope: Scope, route: Route, receive: Receive
    ) -> tuple[Permitted | Administrative, Receive]:
        if route.kind is PathKind.ADMINISTRATIVE:
            if (route.method, route.template) not in ADMINISTRATIVE:
                self._policy()  # what the policy block opened stands behind the hooks, so they must be there
            return Administrative(), receive
        if route.kind is PathKind.REFUSED or route.call_type is None or route.template is None:
            raise Refused(
                Verdict(
                    Reason.PATH_NOT_PERMITTED,
                    "This path is not open behind the permit router; docs/enforcement.md lists the paths that are.",
                )
            )
        received_s = self._runtime.clock.monotonic()
        policy = self._policy()
        publish_body = _publisher(scope, route.call_type)
        permit = self._verify(scope, policy)
        verified_s = self._runtime.clock.monotonic()
        uncleared = self._runtime.holding.refusal(permit.data_classification)
        if uncleared is not None:
            raise Refused(uncleared, permit)
        payload, caller, claim = await self._bind(
            scope, receive, permit, policy, publish_body, call_type=route.call_type
        )
        bound_s = self._runtime.clock.monotonic()
        state = Permitted(
            policy=policy,
            permit=permit,
            scope=permit.scope(policy.requirements[permit.data_classification]),
            call_type=route.call_type,
            method=route.method,
            template=route.template,
            received_s=received_s,
            slot=metadata_slot(scope),
            endpoint=policy.paths[route.method, route.template]
            if route.call_type is CallType.PASS_THROUGH
            else None,
            caller=caller,
            claim=claim,
            held=self._runtime.egress.held(permit.data_classification),
            dropped_fields=payload.dropped if payload else (),
        )
        if state.endpoint is not None and payload is not None:
            model = payload.document.get("model")
            group = model if isinstance(model, str) else state.endpoint
            facts = request_facts(route.call_type, group, payload.document)
            state.facts = caller.added_to(facts, self._runtime.clock.wall())
        state.timings_ms["verify"] = (verified_s - received_s) * 1000
        state.timings_ms["bind"] = (bound_s - verified_s) * 1000
        return state, payload.replay(receive) if payload else receive

    def _policy(self) -> PolicySnapshot:
        faults = self._runtime.faults()
        policy = self._runtime.policy
        if policy is None or faults:
            reason = faults[0].reason if faults else Reason.NOT_READY
            raise Refused(
                Verdict(reason, "The permit router is not ready; nothing was sent. Try again shortly.")
            )
        return policy

    def _verify(self, scope: Scope, policy: PolicySnapshot) -> Permit:
        token = _permit_text(scope, policy.permit.header)
        try:
            return self._runtime.verifier.verify(
                token, now=self._runtime.clock.wall(), monotonic_s=self._runtime.clock.monotonic()
            )
        except PermitRejected as rejected:
            raise Refused(denial.verdict_of(rejected)) from rejected
        except KeysUnavailable as unavailable:
            raise Refused(
                Verdict(
                    Reason.KEYS_UNAVAILABLE, "The keys that verify permits are not loaded. Try again shortly."
                )
            ) from unavailable

    async def _bind(
        self,
        scope: Scope,
        receive: Receive,
        permit: Permit,
        policy: PolicySnapshot,
        publish_body: Callable[[bytes, frozenset[str]], Payload] | None,
        *,
        call_type: CallType,
    ) -> tuple[Payload | None, CallerFacts, Claim | None]:
        """Holds headers and raw body against the permit, and gives what of the body LiteLLM may read."""
        try:
            _check_headers(scope, permit, policy)
            caller = said_in_headers(scope["headers"], permit.tenant)
            if publish_body is None:  # the frames of a socket are held against the permit as they come
                if permit.body_sha256 is None:
                    check_body(permit, "", required=policy.permit.binding == "body")
                return None, caller, None
            body = await read_body(receive, policy.permit.max_body_bytes)
            digest = hashlib.sha256(body or request_line(scope)).hexdigest()
            check_body(permit, digest, required=policy.permit.binding == "body")
            publish_checked = partial(_published, publish_body, body, policy, permit)
            if len(body) > _LARGE_BODY_BYTES:
                payload = await asyncio.to_thread(publish_checked)
            else:
                payload = publish_checked()
            caller = caller.and_also(said_in_body(payload.sent, call_type, permit.tenant))
            claim = await self._runtime.claim(permit, digest)
        except PermitRejected as rejected:
            raise Refused(denial.verdict_of(rejected), permit) from rejected
        except ReplayStoreLost as lost:
            verdict = Verdict(
                Reason.UNAVAILABLE,
                "The store that knows which permits were used does not answer. Try again shortly.",
            )
            raise Refused(verdict, permit) from lost
        except RequestDenied as denied:
            raise Refused(denied.verdict, permit) from denied
        return payload, caller, claim

    async def _forward(self, state: Permitted, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            query = socket_query(scope, state.call_type)
            socket = Socket(state, query, receive, send, self._runtime)
            await socket.run(self.app, self._scrubbed(scope, state))
            return
        answer = Answer(state, send, self._runtime)
        try:
            self._enforcement.open(state)
            await self.app(self._scrubbed(scope, state), receive, answer)
        except RequestDenied as denied:
            await answer.deny(denied.verdict)
        except Exception:
            if answer.started:
                raise
            self._runtime.log.exception("LiteLLM failed on request %s", state.permit.request_id)
            await answer.deny(
                state.verdict
                or Verdict(
                    Reason.LITELLM_REFUSED, "LiteLLM failed on this request; its log says where and why."
                )
            )
        finally:
            if answer.completed:
                self._runtime.passed(state, answer.status)
            self._runtime.close(state, answered=answer.completed, used=answer.is_use)

    def _scrubbed(self, scope: Scope, state: Permitted | None) -> Scope:
        """The scope as LiteLLM may see it: without permit, control headers and, for a governed path, query."""
        request_id = state.permit.request_id if state is not None else None
        policy = self._runtime.policy
        permit_header = policy.permit.header.encode() if policy else b"x-llm-permit"
        headers = [
            (name, value)
            for name, value in scope["headers"]
            if name.lower() != permit_header and (request_id is None or _may_pass(name.lower()))
        ]
        if request_id is None:
            return {**scope, "headers": headers}
        headers.append((_TRACE_HEADER, request_id.encode()))
        if state is not None and state.endpoint is not None:
            # The query is a part of the provider's own interface; which endpoint is called stands in the path.
            return {**scope, "headers": _with_one_key(headers)}
        # A query may name another model (`?model=`) and no permit binds it.
        return {**scope, "headers": headers, "query_string": b""}

    async def _refuse(self, send: Send, scope: Scope, route: Route | None, refused: Refused) -> None:
        enter(Denied())
        verdict = refused.verdict
        decision_id = self._runtime.recorder.refusal(scope, route, verdict, refused.permit)
        if scope["type"] == "websocket":
            await denial.close_websocket(send, verdict)
            return
        request_id = refused.permit.request_id if refused.permit else None
        payload = denial.body(
            verdict,
            request_id=request_id,
            policy_version=refused.permit.policy_version if refused.permit else None,
            decision_id=decision_id,
            template=route.template if route else None,
        )
        lines = denial.headers(verdict)
        lines += [
            (b"x-permit-decision-id", decision_id.encode()),
            (b"x-permit-reason", str(verdict.reason).encode()),
        ]
        if request_id is not None:
            lines.append((b"x-permit-request-id", request_id.encode()))
        await denial.send_http(send, verdict, payload, lines)


def _publisher(scope: Scope, call_type: CallType) -> Callable[[bytes, frozenset[str]], Payload] | None:
    """What takes unpublished fields out of the body; None for a websocket, whose frames are read as they come.

    Raises:
        Refused: The headers, or a websocket's query, can be read in two ways.
    """
    try:
        if scope["type"] == "websocket":
            socket_query(scope, call_type)
            return None
        check_path(scope, call_type)
        return partial(publish, body_reader(scope["headers"], call_type), call_type)
    except RequestDenied as denied:
        raise Refused(denied.verdict) from denied


def _may_pass(name: bytes) -> bool:
    return not name.startswith(b"x-litellm-") or name in _LITELLM_HEADERS


def _with_one_key(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Keeps of all keys the one that LiteLLM takes as its own: another could become the provider's on its way."""
    keys = [line for line in headers if line[0].lower() in _KEY_HEADERS]
    own = min(keys, key=lambda line: _KEY_HEADERS.index(line[0].lower()), default=None)
    others = [line for line in headers if line[0].lower() not in _KEY_HEADERS]
    return others if own is None else [*others, own]


def _permit_text(scope: Scope, header: str) -> str:
    """The one permit header's text.

    Raises:
        Refused: There is none, or more than one, or an empty one.
    """
    wanted = header.encode()
    values: list[bytes] = [value for name, value in scope["headers"] if name.lower() == wanted]
    if not values or (len(values) == 1 and not values[0].strip()):
        raise Refused(Verdict(Reason.PERMIT_MISSING, f"A permit is expected in the header {header!r}."))
    if len(values) > 1:
        raise Refused(
            Verdict(
                Reason.PERMIT_MALFORMED, f"Exactly one header {header!r} is expected, {len(values)} came."
            )
        )
    text = values[0].decode("latin-1")
    if header == "authorization":
        scheme, _, text = text.partition(" ")
        if scheme.lower() != "bearer":
            raise Refused(Verdict(Reason.PERMIT_MISSING, "A permit is expected as a Bearer token."))
    return text


def _header(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


def _check_headers(scope: Scope, permit: Permit, policy: PolicySnapshot) -> None:
    """Holds what the permit says of the request's headers against them.

    Raises:
        PermitRejected: The permit is for another request, or for another LiteLLM key.
    """
    wanted = policy.permit.request_id_header
    if wanted is not None:
        values = _header(scope, wanted.encode())
        check_request_id(permit, values[0] if len(values) == 1 else None)
    if permit.api_key_hash is not None:
        permit_header = policy.permit.header.encode()
        names = (name for name in _KEY_HEADERS if name != permit_header)
        keys = {_bare(value) for name in names for value in _header(scope, name)}
        # With two keys it would be LiteLLM's choice which one counts.
        check_api_key(permit, keys.pop() if len(keys) == 1 else None)


def _published(
    publish_body: Callable[[bytes, frozenset[str]], Payload],
    body: bytes,
    policy: PolicySnapshot,
    permit: Permit,
) -> Payload:
    """What LiteLLM may read of a body.

    Addresses in content are looked for before LiteLLM sees them: it may fetch an image to count its tokens.

    Raises:
        RequestDenied: The body cannot be read, or its content names an address that is not cleared.
    """
    payload = publish_body(body, policy.body_fields)
    refused = urls_refused(payload.document, policy, permit.data_classification)
    if refused is not None:
        raise RequestDenied(refused)
    return payload


def _bare(value: str) -> str:
    scheme, _, rest = value.partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else value
