"""Call hooks: one callback for every `litellm.Router` with a strategy of ours in this process.

LiteLLM's callbacks are global, so this one asks which call it runs in. Calls that are not a guarded
router's pass untouched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import litellm
from litellm.integrations.custom_logger import CustomLogger

from litellm_plugin.proxy.calls import CallDenied, current_call
from litellm_plugin.proxy.hooks import PermitRouter

if TYPE_CHECKING:
    from litellm_plugin.errors import Verdict
    from litellm_plugin.proxy.denial import Denial


class CallGuard(PermitRouter):
    """The proxy's hooks for one strategy; a denial is an error that the caller of the router can read."""

    def _denial(self, verdict: Verdict) -> Denial:
        return CallDenied(verdict)


class CallHooks(CustomLogger):  # type: ignore[misc] # LiteLLM's classes are untyped here
    """Hands each hook to the strategy whose call runs here."""

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: list[Any],
        messages: Any,
        request_kwargs: dict[str, Any] | None = None,
        parent_otel_span: Any = None,
    ) -> list[Any]:
        """Narrows a guarded router's list to the deployment of this attempt."""
        hooks = _hooks()
        if hooks is None:
            return healthy_deployments
        return await hooks.async_filter_deployments(
            model, healthy_deployments, messages, request_kwargs, parent_otel_span
        )

    async def async_pre_call_deployment_hook(
        self, kwargs: dict[str, Any], call_type: Any
    ) -> dict[str, Any] | None:
        """Holds the call that is about to be made against the permit."""
        hooks = _hooks()
        return None if hooks is None else await hooks.async_pre_call_deployment_hook(kwargs, call_type)

    async def async_post_call_failure_deployment_hook(
        self, request_data: Any, exception: Exception, call_type: Any, fallback_depth: int | None = None
    ) -> None:
        """Records a failed attempt."""
        hooks = _hooks()
        if hooks is not None:
            await hooks.async_post_call_failure_deployment_hook(
                request_data, exception, call_type, fallback_depth
            )

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Records a successful attempt."""
        hooks = _hooks()
        if hooks is not None:
            await hooks.async_log_success_event(kwargs, response_obj, start_time, end_time)

    async def async_log_failure_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Records a stream that broke."""
        hooks = _hooks()
        if hooks is not None:
            await hooks.async_log_failure_event(kwargs, response_obj, start_time, end_time)


_HOOKS: Final = CallHooks()


def register() -> None:
    """Puts the callback into LiteLLM's list, where an application may have overwritten it."""
    if not any(callback is _HOOKS for callback in litellm.callbacks):
        litellm.callbacks.append(_HOOKS)


def _hooks() -> PermitRouter | None:
    call = current_call()
    return call.hooks if call is not None else None
