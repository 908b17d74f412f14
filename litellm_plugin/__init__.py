"""Permit-aware routing for LiteLLM Proxy.

`litellm_plugin.permit_router` is the callback to name in LiteLLM's YAML; it is built when LiteLLM asks for
it, from the configuration that LiteLLM is loading. `litellm_plugin:require` is the worker start-up hook.
`PermitRoutingStrategy` puts the same engine round a `litellm.Router` without the proxy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from litellm_plugin._version import __version__

if TYPE_CHECKING:
    from litellm_plugin.proxy.hooks import PermitRouter
    from litellm_plugin.proxy.strategy import PermitRoutingStrategy

    permit_router: PermitRouter

__all__ = ["PermitRoutingStrategy", "__version__", "permit_router", "require"]


def require() -> None:
    """Installs admission in this worker before LiteLLM loads its configuration.

    Raises:
        litellm_plugin.errors.ConfigurationError: LiteLLM's app is not built as this plugin knows it.
    """
    from litellm_plugin.proxy import plugin  # noqa: PLC0415 - LiteLLM takes seconds to import

    plugin.require()


def __getattr__(name: str) -> object:
    value: object
    # LiteLLM takes seconds to import, so each name brings it along only when it is asked for.
    match name:
        case "permit_router":
            from litellm_plugin.proxy import plugin  # noqa: PLC0415 - LiteLLM takes seconds to import

            value = plugin.build()
        case "PermitRoutingStrategy":
            from litellm_plugin.proxy import strategy  # noqa: PLC0415 - LiteLLM takes seconds to import

            value = strategy.PermitRoutingStrategy
        case _:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value
