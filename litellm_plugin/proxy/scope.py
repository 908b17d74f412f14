"""The scope: what of a request's headers and query LiteLLM may see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.types import Scope

    from litellm_plugin.proxy.context import Permitted
    from litellm_plugin.proxy.in_force import InForce

# Every header that LiteLLM takes its key from.
KEY_HEADERS: Final = (
    b"x-litellm-api-key",
    b"authorization",
    b"api-key",
    b"x-api-key",
    b"x-goog-api-key",
    b"ocp-apim-subscription-key",
)
TRACE_HEADER: Final = b"x-litellm-trace-id"
# What a caller may still say to LiteLLM in its own headers; the others steer retries, tags, timeouts or caches.
_LITELLM_HEADERS: Final = frozenset(
    {
        b"x-litellm-api-key",
        b"x-litellm-customer-id",
        b"x-litellm-end-user-id",
        b"x-litellm-spend-logs-metadata",
    }
)


def scrubbed(scope: Scope, state: Permitted | None, current: InForce | None = None) -> Scope:
    """The scope as LiteLLM may see it: without permit, control headers and, for a governed path, query.

    Args:
        scope: As it came.
        state: The request's state on a governed path.
        current: What was in force when it came, on any other path.
    """
    if state is None:
        return without_permit(scope, current)
    permit_header = state.policy.permit.header.encode()
    headers = [
        (name, value)
        for name, value in scope["headers"]
        if name.lower() != permit_header and _may_pass(name.lower())
    ]
    headers.append((TRACE_HEADER, state.permit.request_id.encode()))
    if state.endpoint is not None:
        # The query is a part of the provider's own interface; which endpoint is called stands in the path.
        return {**scope, "headers": _with_one_key(headers)}
    # A query may name another model (`?model=`) and no permit binds it.
    return {**scope, "headers": headers, "query_string": b""}


def without_permit(scope: Scope, current: InForce | None) -> Scope:
    """The scope without the permit; its header is the default one until a policy says which."""
    permit_header = current.policy.permit.header.encode() if current else b"x-llm-permit"
    headers = [(name, value) for name, value in scope["headers"] if name.lower() != permit_header]
    return {**scope, "headers": headers}


def _may_pass(name: bytes) -> bool:
    return not name.startswith(b"x-litellm-") or name in _LITELLM_HEADERS


def _with_one_key(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Keeps of all keys the one that LiteLLM takes as its own: another could become the provider's on its way."""
    keys = [line for line in headers if line[0].lower() in KEY_HEADERS]
    own = min(keys, key=lambda line: KEY_HEADERS.index(line[0].lower()), default=None)
    others = [line for line in headers if line[0].lower() not in KEY_HEADERS]
    return others if own is None else [*others, own]
