"""Redirects: a provider's 3xx must not carry a prompt to another host.

The clients that LiteLLM and the providers' SDKs use follow redirects, and a 307 or 308 repeats the body.
The final check sees only the configured address, so the clients themselves are told not to follow while
they work for a request that stands under a permit.
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any, Final

from litellm_plugin.proxy.context import current_state

if TYPE_CHECKING:
    from collections.abc import Callable

# httpx, and its successor that newer SDKs bring along.
_LIBRARIES: Final = ("httpx", "httpx2")
_MARK: Final = "_permit_router_guarded"
_guarded_clients: Final[list[Any]] = []


def forbid_redirects() -> None:
    """Makes every httpx client refuse to follow redirects inside a request; safe to call again."""
    for name in _LIBRARIES:
        try:
            library = importlib.import_module(name)
        except ImportError:
            continue
        _guard(library.AsyncClient, _async_send)
        _guard(library.Client, _sync_send)


def are_forbidden() -> bool:
    """Whether every client that was guarded still is; a wrapper round the guard passes its mark on."""
    return all(getattr(client.send, _MARK, False) for client in _guarded_clients)


def _guard(client: Any, wrap: Callable[[Any], Any]) -> None:
    if not getattr(client.send, _MARK, False):
        guarded = wrap(client.send)
        setattr(guarded, _MARK, True)
        client.send = guarded
        if client not in _guarded_clients:
            _guarded_clients.append(client)


def _async_send(send: Any) -> Any:
    @functools.wraps(send)
    async def guarded(self: Any, request: Any, **options: Any) -> Any:
        return await send(self, request, **_without_redirects(options))

    return guarded


def _sync_send(send: Any) -> Any:
    @functools.wraps(send)
    def guarded(self: Any, request: Any, **options: Any) -> Any:
        return send(self, request, **_without_redirects(options))

    return guarded


def _without_redirects(options: dict[str, Any]) -> dict[str, Any]:
    return options if current_state() is None else {**options, "follow_redirects": False}
