"""The control path: `POST /permit-router/v1/reload`, for whoever holds LiteLLM's master key."""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING, Final

from litellm.proxy import proxy_server
from starlette._utils import get_route_path

from litellm_plugin.proxy.reload import ReloadResult

if TYPE_CHECKING:
    from starlette.types import Scope, Send

    from litellm_plugin.proxy.runtime import Runtime

RELOAD_PATH: Final = "/permit-router/v1/reload"
_KEY_HEADERS: Final = (b"x-litellm-api-key", b"authorization")
_STATUSES: Final = {ReloadResult.REFUSED: 422}


def is_reload(scope: Scope) -> bool:
    """Whether a request asks for a reload of the policy."""
    return scope["type"] == "http" and scope["method"] == "POST" and get_route_path(scope) == RELOAD_PATH


async def send_reload(scope: Scope, send: Send, runtime: Runtime) -> None:
    """Reloads the policy in this worker and answers with what came of it.

    200 where it was swapped or is unchanged, 422 where it was refused, 401 without a key, 403 with another than
    LiteLLM's master key, 503 where no policy can be reloaded.
    """
    given = _key(scope)
    if given is None:
        await _send(send, 401, {"error": "LiteLLM's master key is expected in 'Authorization: Bearer …'"})
    elif not _is_master(given):
        await _send(send, 403, {"error": "the key is not LiteLLM's master key"})
    elif runtime.reload is None or runtime.is_inert:
        await _send(send, 503, {"error": "no policy is in force that could be reloaded"})
    else:
        report = await runtime.reload.run()
        answer: dict[str, object] = {
            "result": str(report.result),
            "config_hash_before": report.before,
            "config_hash": report.after,
            "error": report.error,
            "instance": runtime.instance,
            "others": f"every other worker looks at the same files, and follows within about {runtime.period_s:g} s",
        }
        await _send(send, _STATUSES.get(report.result, 200), answer)


def _key(scope: Scope) -> bytes | None:
    """The key that came, without its scheme; None without one, or with two in one header."""
    for header in _KEY_HEADERS:
        values = [value for name, value in scope["headers"] if name.lower() == header]
        if len(values) == 1:
            scheme, _, rest = values[0].partition(b" ")
            return bytes(rest.strip() if scheme.lower() == b"bearer" else values[0])
    return None


def _is_master(given: bytes) -> bool:
    """Whether it is LiteLLM's master key, in a time that tells nothing of it; without one nobody holds it."""
    master = proxy_server.master_key
    return isinstance(master, str) and bool(master) and hmac.compare_digest(given, master.encode())


async def _send(send: Send, status: int, document: dict[str, object]) -> None:
    payload = json.dumps(document).encode()
    lines = [(b"content-type", b"application/json"), (b"content-length", str(len(payload)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": payload})
