"""Presence: whether the plugin is still in its place in LiteLLM, asked anew for every request.

LiteLLM 1.101 to 1.109 run the three hooks out of `litellm.callbacks` (proxy/utils.py, callback_capabilities;
router.py or router_python_core.py, async_callback_filter_deployments; utils.py, async_pre_call_deployment_hook).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import litellm
from litellm.proxy import proxy_server
from starlette.middleware.exceptions import ExceptionMiddleware

from litellm_plugin.proxy.admission import Admission
from litellm_plugin.proxy.backstop import Backstop
from litellm_plugin.proxy.hooks import PermitRouter
from litellm_plugin.proxy.openings import are_watched
from litellm_plugin.proxy.redirects import are_forbidden as redirects_are_forbidden
from litellm_plugin.proxy.repeats import are_forbidden as repeats_are_forbidden
from litellm_plugin.proxy.selfcheck import router_findings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_HOOKS: Final = (
    "async_pre_call_hook",
    "async_filter_deployments",
    "async_pre_call_deployment_hook",
    "async_post_call_failure_deployment_hook",
    "async_log_success_event",
    "async_log_failure_event",
)
_DEFINED: Final = tuple(vars(PermitRouter)[name] for name in _HOOKS)
_FINAL: Final = "async_pre_call_deployment_hook"
_TRUSTED: Final = frozenset({"litellm", "litellm_enterprise", "litellm_plugin"})
_PARTS: Final = ("runtime", "_enforcement", "_outcomes")
_SETTINGS: Final = ("routing_strategy", "enable_pre_call_checks", "disable_cooldowns")
# Each of these on the router itself stands before LiteLLM's own, which asks our hook: set_custom_routing_strategy.
_SELECTORS: Final = tuple(
    f"{prefix}{name}"
    for name in (
        "get_available_deployment",
        "async_get_available_deployment",
        "async_get_healthy_deployments",
        "async_callback_filter_deployments",
    )
    for prefix in ("", "_core_")
)


class Presence:
    """Knows how the plugin was put in place, and says what has changed since.

    Args:
        hooks: The callback that LiteLLM was given.
        app: LiteLLM's app, with admission installed.
        routes: Whether LiteLLM's configuration has deployments to route among.
    """

    def __init__(self, hooks: PermitRouter, app: Any, *, routes: bool) -> None:
        self._hooks = hooks
        self._app = app
        self._routes = routes
        self._parts = tuple(vars(hooks)[name] for name in _PARTS)

    def missing(self) -> list[str]:
        """What is no longer in its place; empty when all is. It takes a few microseconds."""
        self._drop_repeats()
        return [*self._hook_faults(), *self._order_faults(), *self._app_faults(), *self._router_faults()]

    def displaced(self) -> list[str]:
        """What is no longer where it sees requests; all that counts where nothing is enforced."""
        self._drop_repeats()
        return [*self._hook_faults(), *self._layer_faults()]

    def _drop_repeats(self) -> None:
        """Leaves the last registration of the hooks: LiteLLM would ask, and they would record, once for each."""
        callbacks = litellm.callbacks
        places = [place for place, each in enumerate(callbacks) if each is self._hooks]
        if len(places) > 1:
            # A list of its own: other requests wait within a loop over this one, and would miss a callback.
            # LiteLLM keeps no reference to it, and puts new ones in its place itself (1.106, router.py).
            gone = set(places[:-1])
            litellm.callbacks = [each for place, each in enumerate(callbacks) if place not in gone]

    def _hook_faults(self) -> Iterator[str]:
        if not any(each is self._hooks for each in litellm.callbacks):
            yield "litellm.callbacks does not hold the plugin's hooks"
            return
        own = vars(self._hooks)
        defined = tuple(map(vars(type(self._hooks)).get, _HOOKS))
        if defined != _DEFINED or not own.keys().isdisjoint(_HOOKS):
            yield "a hook of the plugin was replaced"
        if tuple(map(own.get, _PARTS)) != self._parts:
            yield "the hooks were taken off the plugin's runtime"

    def _order_faults(self) -> Iterator[str]:
        callbacks = litellm.callbacks
        place = next((place for place, each in enumerate(callbacks) if each is self._hooks), len(callbacks))
        yield from filter(None, map(_rewriter, callbacks[place + 1 :]))

    def _app_faults(self) -> Iterator[str]:
        yield from self._layer_faults()
        if not redirects_are_forbidden():
            yield "an HTTP client follows redirects again: its send method was replaced"
        if not repeats_are_forbidden():
            yield "the OpenAI client repeats requests by itself again: its get_max_retries was replaced"
        if not are_watched():
            yield "LiteLLM's router makes its attempts unseen: its make_call was replaced"

    def _layer_faults(self) -> Iterator[str]:
        outer = exception_middleware(self._app)
        if outer is None or not isinstance(outer.app, Admission):
            yield "admission is not in the app's middleware stack"
        if not isinstance(self._app.router.middleware_stack, Backstop):
            yield "the backstop is not in the app's router"

    def _router_faults(self) -> Iterator[str]:
        router = proxy_server.llm_router
        if router is None:
            if self._routes:
                yield "LiteLLM has no router"
            return
        yield from router_faults(router)


def _rewriter(callback: object) -> str | None:
    """Says that a callback may rewrite calls after the final check; LiteLLM runs these hooks in the list's order.

    LiteLLM's own that stand behind ours keep a call where it goes.
    """
    hook = getattr(callback, _FINAL, None)
    if hook is None or str(getattr(hook, "__module__", "")).partition(".")[0] in _TRUSTED:
        return None
    return (
        f"{type(callback).__module__}.{type(callback).__qualname__} may rewrite calls after the final check; list "
        "litellm_plugin.permit_router behind it in litellm_settings.callbacks"
    )


def router_faults(router: Any) -> Iterator[str]:
    """What of a router leads past the permit, by the settings that it has now."""
    # From 1.109 on the router is a facade; its core holds everything, under a prefix of its own.
    held: Mapping[str, Any] = vars(vars(router).get("_core", router))
    # A setting that LiteLLM no longer keeps here is None, and no good value.
    settings = {name: held.get(name, held.get(f"_core_{name}")) for name in _SETTINGS}
    yield from router_findings(settings)
    general = held.get("router_general_settings", held.get("_core_router_general_settings"))
    if getattr(general, "pass_through_all_models", False):
        yield "the router sends models that no deployment names to the provider: pass_through_all_models is on"
    if not held.keys().isdisjoint(_SELECTORS):
        replaced = ", ".join(name for name in _SELECTORS if name in held)
        yield f"the router's {replaced} was replaced: it picks a deployment without asking the permit router"


def exception_middleware(app: Any) -> Any | None:
    """The layer inside which admission sits; None when the app has none, or its stack is not built."""
    layer = app.middleware_stack
    while layer is not None and not isinstance(layer, ExceptionMiddleware):
        layer = getattr(layer, "app", None)
    return layer
