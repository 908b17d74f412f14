"""The plugin in this process: one runtime, installed into LiteLLM's app once."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from litellm.proxy import proxy_server
from starlette.middleware.cors import CORSMiddleware

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.proxy.admission import Admission
from litellm_plugin.proxy.answer import HEADER_NAMES
from litellm_plugin.proxy.backstop import Backstop
from litellm_plugin.proxy.egress import egress_table, listed_callbacks
from litellm_plugin.proxy.holding import Holding
from litellm_plugin.proxy.hooks import PermitRouter
from litellm_plugin.proxy.observe import MODE_HEADER, OBSERVING
from litellm_plugin.proxy.opened import OpenedPaths
from litellm_plugin.proxy.openings import watch_openings
from litellm_plugin.proxy.paths import RouteTable
from litellm_plugin.proxy.policy_loader import PolicyLoader
from litellm_plugin.proxy.presence import Presence, exception_middleware
from litellm_plugin.proxy.prober import Prober
from litellm_plugin.proxy.redirects import forbid_redirects
from litellm_plugin.proxy.reload import Reload
from litellm_plugin.proxy.repeats import forbid_repeats
from litellm_plugin.proxy.runtime import Runtime
from litellm_plugin.proxy.selfcheck import (
    INERT,
    configuration_warnings,
    declared_endpoints,
    declares_languages,
    deployment_ids,
    probing_warnings,
)
from litellm_plugin.proxy.shadow import Shadow
from litellm_plugin.settings import Flags

if TYPE_CHECKING:
    from collections.abc import Callable

    from litellm_plugin.settings import PolicySnapshot

_runtime: Final = Runtime()


def require() -> None:
    """Installs admission before LiteLLM loads its configuration; the production setting.

    Named in `LITELLM_WORKER_STARTUP_HOOKS=litellm_plugin:require`. If the configuration then fails to
    register the hooks, every governed path answers 503 `not_ready`.

    Raises:
        ConfigurationError: LiteLLM's app is not built as this plugin knows it.
    """
    flags = Flags()
    if not flags.enabled:
        _make_inert()
    else:
        _set_mode(flags)
    install(proxy_server.app, _runtime)


def build() -> PermitRouter:
    """Builds the callback that LiteLLM registers, from the configuration that it is loading.

    Raises:
        ConfigurationError: The policy block, a flag or one of LiteLLM's own settings is wrong.
    """
    flags = Flags()
    if not flags.enabled:
        _make_inert()
        install(proxy_server.app, _runtime)
        return PermitRouter(None)
    try:
        return _build(flags)
    except ConfigurationError as error:
        # Once by itself: LiteLLM prints it again under some hundred lines of traceback.
        _runtime.log.critical("The permit router refuses to start: %s", error)
        raise


def _build(flags: Flags) -> PermitRouter:
    config = proxy_server.proxy_config.get_config_state()
    _set_mode(flags)
    path = _config_path()
    loader = PolicyLoader(
        config,
        path=path,
        flags=flags,
        base=path.parent if path else Path.cwd(),
        environment=os.environ,
        forgive=_forgive if _runtime.observes else None,
    )
    loaded = loader.start()
    for warning in (*configuration_warnings(config), *probing_warnings(config, loaded.policy)):
        _runtime.log.warning("%s", warning)
    install(proxy_server.app, _runtime)
    router = PermitRouter(_runtime)
    _runtime.expected_deployments = deployment_ids(config)
    _runtime.deployments.declares_languages = declares_languages(config)
    _runtime.known_endpoints = frozenset(declared_endpoints(config))
    presence = Presence(router, proxy_server.app, routes=bool(_runtime.expected_deployments))
    routes = _admission().routes
    egress = partial(egress_table, config)
    _runtime.holding = Holding(
        egress(loaded.policy), router, listed_callbacks(config), enforced=not _runtime.observes
    )
    if not _runtime.observes:
        _runtime.probe = Prober(_runtime).run
    _runtime.load(
        loaded.policy,
        base=loader.base,
        presence=presence.displaced if _runtime.observes else presence.missing,
        egress=egress(loaded.policy),
        opened=_opened(routes, loaded.policy),
        shadow=Shadow(loaded.shadow) if loaded.shadow else None,
    )
    _runtime.holding.install()
    _runtime.reload = Reload(_runtime, loader, egress=egress, opened=partial(_opened, routes))
    _runtime.reload.listen()
    _runtime.start()
    return router


def _set_mode(flags: Flags) -> None:
    """Takes the mode from the operator's flag, once, and says loudly where nothing is enforced."""
    if flags.mode is _runtime.mode:
        return
    _runtime.work_in(flags.mode)
    _runtime.log.error("%s", OBSERVING)


def _forgive(finding: str) -> None:
    _runtime.log.warning("In mode enforce this would stop the start: %s", finding)


def _opened(routes: RouteTable, policy: PolicySnapshot) -> Callable[[], list[str]]:
    return OpenedPaths(policy.paths, routes).faults


def install(app: Any, runtime: Runtime) -> None:
    """Puts admission inside the app's ExceptionMiddleware and the backstop into its router, once.

    Browsers are shown our headers.

    Raises:
        ConfigurationError: The middleware stack is not built yet, or holds no ExceptionMiddleware; or the
            OpenAI client cannot be told not to repeat a request.
    """
    outer = exception_middleware(app)
    if outer is None:
        raise ConfigurationError(
            "LiteLLM's app has no ExceptionMiddleware in its middleware stack; this version cannot be guarded"
        )
    if isinstance(outer.app, Admission):
        return
    if not isinstance(app.router.middleware_stack, Backstop):
        app.router.middleware_stack = Backstop(app.router.middleware_stack, runtime)
    outer.app = Admission(outer.app, RouteTable(app.router), runtime)
    _expose_headers(app)
    if not runtime.is_inert and not runtime.observes:
        forbid_redirects()
        forbid_repeats()
        watch_openings()


def _admission() -> Admission:
    outer = exception_middleware(proxy_server.app)
    if outer is None or not isinstance(outer.app, Admission):
        raise ConfigurationError("admission is not in the app's middleware stack")
    return outer.app


def _expose_headers(app: Any) -> None:
    """Adds our headers to those that LiteLLM's CORS layer lets browsers read; it would overwrite ours."""
    layer = app.middleware_stack
    while layer is not None:
        if isinstance(layer, CORSMiddleware):
            shown = layer.simple_headers.get("Access-Control-Expose-Headers", "")
            layer.simple_headers["Access-Control-Expose-Headers"] = ", ".join(
                filter(None, (shown, *HEADER_NAMES, MODE_HEADER))
            )
            return
        layer = getattr(layer, "app", None)


def _config_path() -> Path | None:
    """LiteLLM's YAML; None where its configuration comes from elsewhere."""
    path = getattr(proxy_server, "user_config_file_path", None)
    return Path(path).absolute() if path else None


def _make_inert() -> None:
    """Leaves nothing but the health answer, which says so; the log says it once."""
    if _runtime.is_inert:
        return
    _runtime.is_inert = True
    _runtime.log.error("%s", INERT)
