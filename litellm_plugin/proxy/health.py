"""The health answer: whether governed requests are served, and why not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from starlette._utils import get_route_path

if TYPE_CHECKING:
    from starlette.types import Scope, Send

    from litellm_plugin.proxy.runtime import Runtime

HEALTH_PATH: Final = "/permit-router/v1/health"
READINESS_PATH: Final = "/health/readiness"


def is_health(scope: Scope) -> bool:
    """Whether a request asks for this plugin's own health."""
    return scope["type"] == "http" and scope["method"] == "GET" and get_route_path(scope) == HEALTH_PATH


async def send_health(send: Send, runtime: Runtime) -> None:
    """Answers 503 with the faults while requests are refused, else 200."""
    health = runtime.health()
    payload = json.dumps(health).encode()
    status = 503 if health["status"] == "red" else 200
    lines = [(b"content-type", b"application/json"), (b"content-length", str(len(payload)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": payload})
