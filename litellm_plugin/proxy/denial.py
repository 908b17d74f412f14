"""Denials: the answer that a caller gets when a request ends here."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Final, TypeAlias

from fastapi import HTTPException

from litellm_plugin.errors import Reason, Verdict

if TYPE_CHECKING:
    from starlette.types import Send

    from litellm_plugin.errors import PermitRejected

_DEFAULT_RETRY_AFTER_S: Final = 1.0
_MAXIMUM_RETRY_AFTER_S: Final = 60.0
_MESSAGES_TEMPLATE: Final = "/v1/messages"


class Denial(HTTPException):
    """How a hook ends a request: LiteLLM neither retries this class nor falls back from it.

    A class of its own, so that LiteLLM's failure callbacks do not take it for a provider's failure.
    """

    def __init__(self, verdict: Verdict) -> None:
        detail = {"error": {"type": "permit_error", "code": str(verdict.reason), "message": verdict.message}}
        super().__init__(status_code=403, detail=detail)


Headers: TypeAlias = list[tuple[bytes, bytes]]


def verdict_of(rejected: PermitRejected) -> Verdict:
    """The verdict for a permit that is not valid for this request, with what would have been right."""
    if rejected.reason is Reason.INTERNAL_ERROR:
        return Verdict(rejected.reason, "The permit router failed; nothing was sent to a provider.")
    detail = f" ({rejected.detail})" if rejected.detail else ""
    expected = f": expected {rejected.expected}" if rejected.expected else ""
    return Verdict(
        rejected.reason,
        f"The permit is not valid here: {rejected.reason}{detail}{expected}. "
        "Ask the policy gateway for a new one.",
    )


def body(
    verdict: Verdict,
    *,
    request_id: str | None,
    policy_version: str | None,
    decision_id: str,
    template: str | None,
) -> bytes:
    """Gives the JSON body of a denial; Anthropic's path gets Anthropic's outer `type` as well."""
    document: dict[str, object] = {
        "error": {
            "type": "permit_error",
            "code": str(verdict.reason),
            "message": verdict.message,
            "request_id": request_id,
            "policy_version": policy_version,
            "decision_id": decision_id,
        }
    }
    if template == _MESSAGES_TEMPLATE:
        document = {"type": "error", **document}
    return json.dumps(document).encode()


def headers(verdict: Verdict, retry_after_s: float | None = None) -> Headers:
    """Gives the headers that tell official clients whether to try again.

    `x-should-retry` is obeyed by the OpenAI and Anthropic clients; `Retry-After` is RFC 9110 §10.2.3.
    """
    lines: Headers = [(b"content-type", b"application/json")]
    if verdict.reason.is_temporary:
        wait_s = _DEFAULT_RETRY_AFTER_S if retry_after_s is None else retry_after_s
        lines.append((b"retry-after", str(math.ceil(min(max(wait_s, 1.0), _MAXIMUM_RETRY_AFTER_S))).encode()))
    else:
        lines.append((b"x-should-retry", b"false"))
    if verdict.status == 401:  # noqa: PLR2004 - RFC 9110 §11.6.1 asks for a challenge with this status
        lines.append((b"www-authenticate", b'Permit error="invalid_permit"'))
    return lines


async def send_http(send: Send, verdict: Verdict, payload: bytes, lines: Headers) -> None:
    """Sends a whole denial over HTTP."""
    lines = [*lines, (b"content-length", str(len(payload)).encode())]
    await send({"type": "http.response.start", "status": verdict.status, "headers": lines})
    await send({"type": "http.response.body", "body": payload})


_CLOSE_CODES: Final = {401: 4401, 403: 4403, 503: 4503}


async def close_websocket(send: Send, verdict: Verdict) -> None:
    """Closes a websocket with the code that goes with the verdict's status."""
    await send({"type": "websocket.close", "code": close_code(verdict), "reason": str(verdict.reason)})


def close_code(verdict: Verdict) -> int:
    """The code of a verdict on a websocket: 4401, 4403 or 4503, out of the range that RFC 6455 §7.4.2 leaves free."""
    return _CLOSE_CODES.get(verdict.status, 4403)
