"""The reference gateway: a small policy gateway that decides, mints a permit and forwards."""

from __future__ import annotations

import contextlib
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, StreamingResponse

from litellm_plugin.testing.server import drop_connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.datastructures import Headers
    from starlette.types import Receive, Scope, Send

    from litellm_plugin.testing.issuer import PermitIssuer

CLASSIFICATION_HEADER = "x-data-classification"

# RFC 9110 section 7.6.1, and the older names that implementations still send.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
    }
)
# The server in front of the gateway writes these itself.
_OWN = frozenset({"date", "server"})
# Every header that LiteLLM or a provider reads a key from; only the gateway's own key goes on.
_CREDENTIALS = frozenset(
    {"authorization", "x-api-key", "api-key", "x-goog-api-key", "x-litellm-api-key", "x-litellm-key"}
)
# Made anew for the upstream connection.
_REMADE = frozenset({"host", "content-length", "expect"})

_TIMEOUT = httpx.Timeout(600.0, connect=5.0)
_LIMITS = httpx.Limits(max_connections=1_000, max_keepalive_connections=100)


@dataclass(frozen=True, slots=True)
class GatewayRule:
    """What the policy decides for one API key.

    Attributes:
        endpoints: The authorized endpoints.
        tenant: The tenant's name.
        tenant_tier: The tenant's tier.
        data_classification: The classification where the caller declares none.
        latency_class: The latency class.
        may_classify: The other classifications that the caller may declare.
    """

    endpoints: tuple[str, ...]
    tenant: str = "acme"
    tenant_tier: str = "pro"
    data_classification: str = "internal"
    latency_class: str = "interactive"
    may_classify: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """The gateway's own record of one decision.

    Attributes:
        request_id: The gateway's id of the request, the permit's `request_id`.
        jti: The permit's id.
        tenant: Who asked.
        endpoints: The authorized endpoints.
        classification: The classification decided.
        policy_version: The version of the policy that decided.
        at: When, in seconds since the epoch.
    """

    request_id: str
    jti: str
    tenant: str
    endpoints: tuple[str, ...]
    classification: str
    policy_version: str
    at: float


class ReferenceGateway:
    """An ASGI reverse proxy that authorizes every request with a body-bound permit.

    The caller's key comes as `Authorization: Bearer KEY` or `x-api-key: KEY`. An unknown key is a 401, a
    classification that the rule does not list a 403, an upstream that cannot be reached a 502.

    Args:
        upstream_url: LiteLLM's base URL.
        issuer: Who signs the permits.
        policies: The rule for each API key.
        upstream_key: LiteLLM's own key.
        permit_header: The header that carries the permit.
        policy_version: The version that permits and audit records name.
    """

    def __init__(
        self,
        upstream_url: str,
        issuer: PermitIssuer,
        policies: Mapping[str, GatewayRule],
        upstream_key: str,
        permit_header: str = "x-llm-permit",
        *,
        policy_version: str = "42",
    ) -> None:
        self._upstream_url = upstream_url.rstrip("/")
        self._issuer = issuer
        self._policies = dict(policies)
        self._upstream_key = upstream_key
        self._permit_header = permit_header.lower()
        self._policy_version = policy_version
        self._audit: list[AuditRecord] = []
        self._client: httpx.AsyncClient | None = None

    @property
    def audit(self) -> list[AuditRecord]:
        """The audit records until now; a copy."""
        return list(self._audit)

    async def aclose(self) -> None:
        """Close the upstream connections; the next request opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or a server's lifespan (ASGI 3)."""
        match scope["type"]:
            case "http":
                # A caller that leaves before its body is complete wants no answer.
                with contextlib.suppress(ClientDisconnect):
                    await self._serve(scope, receive, send)
            case "lifespan":
                await self._live(receive, send)
            case _:
                await send({"type": "websocket.close", "code": 1003, "reason": "http only"})

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        # RFC 9112 section 3.2: other request targets name a host, and this gateway has one upstream.
        if not scope["raw_path"].startswith(b"/"):
            await _error(400, "invalid_target", "expected a path")(scope, receive, send)
            return
        rule = self._policies.get(_api_key(request.headers))
        if rule is None:
            await _error(401, "unknown_api_key", "expected a known API key")(scope, receive, send)
            return
        classification = request.headers.get(CLASSIFICATION_HEADER, rule.data_classification)
        if classification not in (rule.data_classification, *rule.may_classify):
            refusal = _error(403, "classification_not_allowed", "this key may not send such data")
            await refusal(scope, receive, send)
            return
        body = await request.body()
        permit = self._authorize(rule, classification, body or _request_line(scope))
        try:
            upstream = await self._forward(request, body, permit)
        except httpx.TransportError:
            await _error(502, "upstream_unavailable", "the upstream did not answer")(scope, receive, send)
            return
        async with contextlib.aclosing(upstream):
            await _passed_on(upstream, scope)(scope, receive, send)

    def _authorize(self, rule: GatewayRule, classification: str, bound: bytes) -> str:
        record = AuditRecord(
            request_id=str(uuid.uuid4()),
            jti=str(uuid.uuid4()),
            tenant=rule.tenant,
            endpoints=rule.endpoints,
            classification=classification,
            policy_version=self._policy_version,
            at=time.time(),
        )
        self._audit.append(record)
        return self._issuer.mint(
            rule.endpoints,
            body=bound,
            request_id=record.request_id,
            jti=record.jti,
            tenant=rule.tenant,
            tenant_tier=rule.tenant_tier,
            data_classification=classification,
            latency_class=rule.latency_class,
            policy_version=self._policy_version,
        )

    async def _forward(self, request: Request, body: bytes, permit: str) -> httpx.Response:
        dropped = _CREDENTIALS | _REMADE | {self._permit_header, CLASSIFICATION_HEADER}
        headers = [
            *_end_to_end(request.headers.raw, dropped),
            (b"authorization", f"Bearer {self._upstream_key}".encode()),
            (self._permit_header.encode(), permit.encode()),
        ]
        # A bare Request: the client's own would add Accept-Encoding and User-Agent for the caller.
        forwarded = httpx.Request(request.method, self._target(request.scope), headers=headers, content=body)
        return await self._connections().send(forwarded, stream=True)

    def _target(self, scope: Scope) -> str:
        path = scope["raw_path"].decode("ascii")
        query = scope["query_string"].decode("ascii")
        return f"{self._upstream_url}{path}?{query}" if query else f"{self._upstream_url}{path}"

    def _connections(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=_TIMEOUT, limits=_LIMITS, trust_env=False)
        return self._client


def _request_line(scope: Scope) -> bytes:
    """What a permit binds of a request without a body; the upstream's root path is taken to be empty."""
    query: bytes = scope["query_string"]
    line = f"{scope['method']} {scope['path']}".encode()
    return line + b"?" + query if query else line


def _api_key(headers: Headers) -> str:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    return headers.get("x-api-key", "")


def _end_to_end(
    headers: list[tuple[bytes, bytes]], dropped: frozenset[str] = frozenset()
) -> list[tuple[bytes, bytes]]:
    """Leave out the headers of one connection: the fixed ones and those that Connection names."""
    listed = ",".join(value.decode("latin-1") for name, value in headers if name.lower() == b"connection")
    named = {name.strip().lower() for name in listed.split(",")}
    kept = []
    for name, value in headers:
        lower = name.decode("latin-1").lower()
        if lower not in _HOP_BY_HOP and lower not in named and lower not in dropped:
            kept.append((lower.encode("latin-1"), value))
    return kept


def _passed_on(upstream: httpx.Response, scope: Scope) -> StreamingResponse:
    response = StreamingResponse(_until_cut(upstream, scope), status_code=upstream.status_code)
    # aiter_raw leaves the body encoded as it came, so Content-Encoding and Content-Length stay true.
    response.raw_headers = _end_to_end(upstream.headers.raw, _OWN)
    return response


async def _until_cut(upstream: httpx.Response, scope: Scope) -> AsyncIterator[bytes]:
    try:
        async for chunk in upstream.aiter_raw():
            yield chunk
    except httpx.TransportError:
        # The caller must see a broken answer as broken, not as complete.
        await drop_connection(scope)


def _error(status: int, code: str, message: str) -> JSONResponse:
    body: dict[str, Any] = {"error": {"message": message, "type": "gateway_error", "code": code}}
    return JSONResponse(body, status_code=status)
