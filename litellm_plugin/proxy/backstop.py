"""The backstop: the innermost layer of LiteLLM's app, where nothing passes that admission did not see.

Middleware stacks can be built again without admission; each of them ends in the app's router, which holds this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette._utils import get_route_path

from litellm_plugin.errors import Reason, Verdict
from litellm_plugin.proxy import denial
from litellm_plugin.proxy.context import Denied, current_state, enter
from litellm_plugin.proxy.health import READINESS_PATH, is_health, send_health

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from litellm_plugin.proxy.runtime import Runtime

_VERDICT = Verdict(Reason.NOT_READY, "The permit router is not in its place; nothing was sent.")


class Backstop:
    """Passes requests that have a state, and refuses the others.

    Args:
        app: What the app's router ran.
        runtime: What this worker knows.
    """

    def __init__(self, app: ASGIApp, runtime: Runtime) -> None:
        self.app = app
        self._runtime = runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one HTTP request or websocket; any other event passes."""
        is_request = scope["type"] in {"http", "websocket"}
        if not is_request or self._runtime.is_inert or current_state() is not None:
            await self.app(scope, receive, send)
        elif self._runtime.observes:
            self._runtime.recorder.refusal(scope, None, _VERDICT, None)
            await self.app(scope, receive, send)
        elif is_health(scope) or _is_readiness(scope):
            await send_health(send, self._runtime)
        else:
            await self._refuse(scope, send)

    async def _refuse(self, scope: Scope, send: Send) -> None:
        enter(Denied())
        decision_id = self._runtime.recorder.refusal(scope, None, _VERDICT, None)
        if scope["type"] == "websocket":
            await denial.close_websocket(send, _VERDICT)
            return
        payload = denial.body(
            _VERDICT,
            request_id=None,
            policy_version=None,
            decision_id=decision_id,
            template=get_route_path(scope),
        )
        lines = [
            *denial.headers(_VERDICT),
            (b"x-permit-decision-id", decision_id.encode()),
            (b"x-permit-reason", str(_VERDICT.reason).encode()),
        ]
        await denial.send_http(send, _VERDICT, payload, lines)


def _is_readiness(scope: Scope) -> bool:
    return scope["type"] == "http" and get_route_path(scope) == READINESS_PATH
