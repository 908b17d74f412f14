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
from litellm_plugin.proxy.control import is_reload, send_reload
from litellm_plugin.proxy.enforcement import Enforcement
from litellm_plugin.proxy.health import READINESS_PATH, is_health, send_health
from litellm_plugin.proxy.meaning import body_reader
from litellm_plugin.proxy.observe import Observation
from litellm_plugin.proxy.paths import ADMINISTRATIVE, PathKind, Route, RouteTable, classify_template
from litellm_plugin.proxy.payload import Disconnected, Payload, publish, read_body
from litellm_plugin.proxy.request_line import check_path, request_line
from litellm_plugin.proxy.scope import KEY_HEADERS, scrubbed
from litellm_plugin.proxy.slots import metadata_slot
from litellm_plugin.proxy.websocket import Socket, socket_query
from litellm_plugin.routing import CallType, request_facts

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from litellm_plugin.permit import Claim, Permit
    from litellm_plugin.proxy.in_force import InForce
    from litellm_plugin.proxy.runtime import Runtime
    from litellm_plugin.settings import PolicySnapshot

# Reading a megabyte takes some 10 ms; a body of the largest size would hold every request of the worker up.
_LARGE_BODY_BYTES: Final = 1_000_000


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
        self._observation = Observation(self, self._enforcement, runtime)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one HTTP request or websocket; any other event passes."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
        elif is_health(scope):
            await send_health(send, self._runtime)
        elif is_reload(scope):
            await send_reload(scope, send, self._runtime)
        elif self._runtime.is_inert:
            await self.app(scope, receive, send)
        elif self._runtime.observes:
            await self._observation(scope, receive, send)
        else:
            await self._enforced(scope, receive, send)

    async def _enforced(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The one policy that all of this request is judged by, whatever is put in force meanwhile.
        current = self._runtime.in_force
        route: Route | None = None
        try:
            route = self.classify(scope, current)
            state, receive = await self.admit(scope, route, receive, current)
        except Disconnected:
            return
        except Refused as refused:
            await self._refuse(send, scope, route, refused, current)
            return
        except Exception as error:  # noqa: BLE001 - the outer guard of the request path: deny
            await self._refuse(send, scope, route, Refused(*self.verdict_of(error)), current)
            return
        enter(state)
        if isinstance(state, Permitted):
            self._runtime.count_admitted(state)
            await self._forward(state, scope, receive, send)
        elif route.template == READINESS_PATH and self._runtime.faults():
            await send_health(send, self._runtime)
        else:
            await self.app(scrubbed(scope, None, current), receive, send)

    def verdict_of(self, error: Exception) -> tuple[Verdict, Permit | None]:
        """How a request ends for this error of `admit`, and its permit if there was a valid one."""
        if isinstance(error, Refused):
            return error.verdict, error.permit
        self._runtime.log.error("Admission failed; the request is denied", exc_info=error)
        verdict = Verdict(Reason.INTERNAL_ERROR, "The permit router failed; nothing was sent to a provider.")
        return verdict, None

    def classify(self, scope: Scope, current: InForce | None) -> Route:
        """The route as the policy block opens it; a path that is open by itself stays what it is."""
        route = self.routes.classify(scope)
        policy = current.policy if current else None
        key = (route.method, route.template or "")
        if policy is None or route.kind is not PathKind.REFUSED or key not in policy.paths:
            return route
        if classify_template(*key)[0] is not PathKind.REFUSED:  # a foreign handler on a path that is listed
            return route
        if policy.paths[key] is None:
            return replace(route, kind=PathKind.ADMINISTRATIVE)
        return replace(route, kind=PathKind.GOVERNED, call_type=CallType.PASS_THROUGH)

    async def admit(
        self, scope: Scope, route: Route, receive: Receive, current: InForce | None
    ) -> tuple[Permitted | Administrative, Receive]:
        """The state of a request that may go in, and what LiteLLM receives of it.

        Raises:
            Refused: It may not.
            Disconnected: The client went away while its body was read.
        """
        if route.kind is PathKind.ADMINISTRATIVE:
            if (route.method, route.template) not in ADMINISTRATIVE:
                # What the policy block opened stands behind the hooks, so they must be there.
                self._whole(current)
            return Administrative(), receive
        if route.kind is PathKind.REFUSED or route.call_type is None or route.template is None:
            raise Refused(
                Verdict(
                    Reason.PATH_NOT_PERMITTED,
                    "This path is not open behind the permit router; docs/enforcement.md lists the paths that are.",
                )
            )
        received_s = self._runtime.clock.monotonic()
        await self._runtime.first_keys()
        current = self._whole(current)
        policy = current.policy
        publish_body = _publisher(scope, route.call_type)
        permit = self._verify(scope, current)
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
            shadow=current.shadow,
            slot=metadata_slot(scope),
            endpoint=policy.paths[route.method, route.template]
            if route.call_type is CallType.PASS_THROUGH
            else None,
            caller=caller,
            claim=claim,
            held=current.egress.held(permit.data_classification),
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

    def _whole(self, current: InForce | None) -> InForce:
        """What is in force, if the plugin is whole."""
        faults = self._runtime.faults()
        if current is None or faults:
            reason = faults[0].reason if faults else Reason.NOT_READY
            raise Refused(
                Verdict(reason, "The permit router is not ready; nothing was sent. Try again shortly.")
            )
        return current

    def _verify(self, scope: Scope, current: InForce) -> Permit:
        token = _permit_text(scope, current.policy.permit.header)
        try:
            return current.verifier.verify(
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
            claim = await self._runtime.claim(permit, digest, policy)
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
            await socket.run(self.app, scrubbed(scope, state))
            return
        answer = Answer(state, send, self._runtime)
        try:
            self._enforcement.open(state)
            await self.app(scrubbed(scope, state), receive, answer)
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

    async def _refuse(
        self, send: Send, scope: Scope, route: Route | None, refused: Refused, current: InForce | None
    ) -> None:
        enter(Denied())
        verdict = refused.verdict
        config_hash = current.policy.config_hash if current else None
        decision_id = self._runtime.recorder.refusal(scope, route, verdict, refused.permit, config_hash)
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
        names = (name for name in KEY_HEADERS if name != permit_header)
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
