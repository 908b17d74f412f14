"""Redirects: a provider's 3xx must not carry a prompt to another host.

The clients that LiteLLM and the providers' SDKs use follow redirects, and a 307 or 308 repeats the body.
The final check sees only the configured address, so the clients themselves are told not to follow while
they work for a request that stands under a permit.
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.proxy.context import current_state

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class _Seam:
    """The method of a client that every request of it passes, and its option for redirects."""

    library: str
    client: str
    method: str
    option: str
    is_async: bool = False


_SEAMS: Final = (
    _Seam("httpx", "AsyncClient", "send", "follow_redirects", is_async=True),
    _Seam("httpx", "Client", "send", "follow_redirects"),
    # httpx' successor, which newer SDKs bring along.
    _Seam("httpx2", "AsyncClient", "send", "follow_redirects", is_async=True),
    _Seam("httpx2", "Client", "send", "follow_redirects"),
    # get, post and ws_connect too end here; LiteLLM's own aiohttp handler posts to `aiohttp_openai/` with it.
    _Seam("aiohttp", "ClientSession", "_request", "allow_redirects", is_async=True),
    _Seam("requests", "Session", "send", "allow_redirects"),
)
_FOLLOW: Final = "process_redirect"
_MARK: Final = "_permit_router_guarded"
_guarded: Final[list[tuple[Any, str]]] = []


def forbid_redirects() -> None:
    """Makes every HTTP client refuse to follow redirects inside a request; safe to call again."""
    for seam in _SEAMS:
        try:
            library = importlib.import_module(seam.library)
        except ImportError:
            continue
        _guard(getattr(library, seam.client), seam)
    _guard_sockets()


def are_forbidden() -> bool:
    """Whether every client that was guarded still is; a wrapper round the guard passes its mark on."""
    return all(getattr(getattr(client, method), _MARK, False) for client, method in _guarded)


def _guard_sockets() -> None:
    """Makes a websocket's handshake stay where it was sent; websockets follows ten redirects, to other hosts too.

    Raises:
        ConfigurationError: The library follows redirects in a way that is not known here.
    """
    try:
        from websockets.asyncio.client import connect  # noqa: PLC0415 - LiteLLM may do without
    except ImportError:
        return
    follow = getattr(connect, _FOLLOW, None)
    if follow is None:
        raise ConfigurationError(
            "websockets.asyncio.client.connect has no process_redirect: this version may send a session on to another "
            "host; install websockets 15"
        )
    if not getattr(follow, _MARK, False):

        @functools.wraps(follow)
        def stay(self: Any, exc: Exception) -> Exception | str:
            return exc if current_state() is not None else follow(self, exc)

        setattr(stay, _MARK, True)
        setattr(connect, _FOLLOW, stay)
    if (connect, _FOLLOW) not in _guarded:
        _guarded.append((connect, _FOLLOW))


def _guard(client: Any, seam: _Seam) -> None:
    send = getattr(client, seam.method)
    if not getattr(send, _MARK, False):
        guarded = (_async if seam.is_async else _sync)(send, seam.option)
        setattr(guarded, _MARK, True)
        setattr(client, seam.method, guarded)
    if (client, seam.method) not in _guarded:
        _guarded.append((client, seam.method))


def _async(send: Callable[..., Any], option: str) -> Callable[..., Any]:
    @functools.wraps(send)
    async def guarded(self: Any, *request: Any, **options: Any) -> Any:
        return await send(self, *request, **_without_redirects(options, option))

    return guarded


def _sync(send: Callable[..., Any], option: str) -> Callable[..., Any]:
    @functools.wraps(send)
    def guarded(self: Any, *request: Any, **options: Any) -> Any:
        return send(self, *request, **_without_redirects(options, option))

    return guarded


def _without_redirects(options: dict[str, Any], option: str) -> dict[str, Any]:
    return options if current_state() is None else {**options, option: False}
