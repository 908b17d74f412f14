"""Paths: which route of LiteLLM's app a request will reach, and whether it may.

A request is classified by the (method, template) that the app's own router will match after root-path
stripping, never by a prefix of the raw path: encoded spellings (`%2f`, `%76%31`) reach handlers too.
"""

from __future__ import annotations

import enum
import re
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from fastapi.routing import iter_route_contexts
from starlette._utils import get_route_path
from starlette.routing import Mount, WebSocketRoute

from litellm_plugin.routing.facts import CallType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from starlette.types import Scope

# `/openai/deployments/{model}/…` is Azure's spelling; the model in the path wins over the body's.
_GOVERNED_PATHS: Final = {
    CallType.CHAT: (
        "/chat/completions",
        "/v1/chat/completions",
        "/engines/{model}/chat/completions",
        "/openai/deployments/{model}/chat/completions",
    ),
    CallType.COMPLETION: (
        "/completions",
        "/v1/completions",
        "/engines/{model}/completions",
        "/openai/deployments/{model}/completions",
    ),
    CallType.EMBEDDING: (
        "/embeddings",
        "/v1/embeddings",
        "/engines/{model}/embeddings",
        "/openai/deployments/{model}/embeddings",
    ),
    CallType.MESSAGES: ("/v1/messages",),
    CallType.RESPONSES: ("/responses", "/v1/responses", "/openai/v1/responses"),
    CallType.GENERATE_CONTENT: (
        "/models/{model_name}:generateContent",
        "/v1beta/models/{model_name}:generateContent",
        "/models/{model_name}:streamGenerateContent",
        "/v1beta/models/{model_name}:streamGenerateContent",
    ),
    CallType.IMAGE_GENERATION: (
        "/images/generations",
        "/v1/images/generations",
        "/openai/deployments/{model}/images/generations",
    ),
    CallType.IMAGE_EDIT: ("/images/edits", "/v1/images/edits", "/openai/deployments/{model}/images/edits"),
    CallType.SPEECH: ("/audio/speech", "/v1/audio/speech"),
    CallType.TRANSCRIPTION: ("/audio/transcriptions", "/v1/audio/transcriptions"),
    CallType.RERANK: ("/rerank", "/v1/rerank", "/v2/rerank"),
    CallType.MODERATION: ("/moderations", "/v1/moderations"),
}
_STORED: Final = (
    "/responses/{response_id}",
    "/v1/responses/{response_id}",
    "/openai/v1/responses/{response_id}",
)
_STORED_CALLS: Final = (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items"))

_GOVERNED_SOCKETS: Final = {
    CallType.RESPONSES_SOCKET: ("/responses", "/v1/responses"),
    CallType.REALTIME: ("/realtime", "/v1/realtime", "/openai/v1/realtime"),
}

GOVERNED: Final[Mapping[tuple[str, str], CallType]] = MappingProxyType(
    {
        (method, path): call_type
        for method, table in (("POST", _GOVERNED_PATHS), ("WEBSOCKET", _GOVERNED_SOCKETS))
        for call_type, paths in table.items()
        for path in paths
    }
    | {
        (method, f"{path}{suffix}"): CallType.STORED_RESPONSE
        for method, suffix in _STORED_CALLS
        for path in _STORED
    }
)
"""Routes that carry a prompt, or what a prompt left at a provider: a permit is needed."""

ADMINISTRATIVE: Final = frozenset(
    {
        ("GET", "/health/liveliness"),
        ("GET", "/health/liveness"),
        ("GET", "/health/readiness"),
        ("GET", "/models"),
        ("GET", "/v1/models"),
        ("GET", "/model/info"),
        ("GET", "/v1/model/info"),
        ("POST", "/key/generate"),
        ("POST", "/key/update"),
        ("POST", "/key/delete"),
        ("POST", "/key/block"),
        ("POST", "/key/unblock"),
        ("GET", "/key/info"),
        ("GET", "/key/list"),
        ("POST", "/team/new"),
        ("POST", "/team/update"),
        ("POST", "/team/delete"),
        ("GET", "/team/info"),
        ("GET", "/team/list"),
        ("POST", "/user/new"),
        ("POST", "/user/update"),
        ("POST", "/user/delete"),
        ("GET", "/user/info"),
        ("GET", "/user/list"),
    }
)
"""Routes that carry no prompt: LiteLLM's own authentication holds, and no model may be called."""

PASS_THROUGH_MODULES: Final = (
    "litellm.proxy.pass_through_endpoints.",
    "litellm.proxy.vertex_ai_endpoints.",
)
"""Where the handlers live that send a request on as it is, whatever path they were given."""

_SOCKET_METHOD: Final = "WEBSOCKET"
_PARAMETER: Final = re.compile(r"{[^{}]*}")
_ANY: Final = "\0"
_CACHE_SIZE: Final = 1024
_CACHED_PATH_CHARS: Final = 256


class PathKind(enum.StrEnum):
    """What a path is to this plugin."""

    GOVERNED = "governed"
    ADMINISTRATIVE = "administrative"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Route:
    """A classified request: the route it will reach, and what that means.

    Attributes:
        kind: What may happen with it.
        method: The HTTP method; `WEBSOCKET` for websockets.
        template: The matched route's template; None when no route matches.
        call_type: The kind of call, on governed paths.
    """

    kind: PathKind
    method: str
    template: str | None
    call_type: CallType | None = None


@dataclass(frozen=True, slots=True)
class _Entry:
    pattern: re.Pattern[str]
    template: str
    methods: frozenset[str] | None
    is_websocket: bool
    is_mount: bool
    module: str

    def serves(self, method: str, path: str) -> bool:
        if not self.is_mount:
            if self.is_websocket != (method == _SOCKET_METHOD):
                return False
            if self.methods is not None and method not in self.methods:
                return False
        return self.pattern.match(path) is not None


def is_litellms(module: str) -> bool:
    """Whether a handler of this module is LiteLLM's own and no pass-through."""
    return module.startswith("litellm.") and not module.startswith(PASS_THROUGH_MODULES)


class RouteTable:
    """The app's routes, flattened in matching order, with a bounded cache of answers.

    The flat scan gives what Starlette's nested one gives, since that one too takes the first full match in
    order. The table is built again when the app's list of routes changes: LiteLLM adds whole features
    at their first request.

    Args:
        router: The app's own router.
        is_own: Whether a handler of this module may serve a governed or an administrative path.
    """

    def __init__(self, router: Any, is_own: Callable[[str], bool] = is_litellms) -> None:
        self._router = router
        self._is_own = is_own
        self._version: tuple[int, ...] = ()
        self._entries: tuple[_Entry, ...] = ()
        self._handlers: Mapping[tuple[str, str], str] = MappingProxyType({})
        self._cache: OrderedDict[tuple[str, str], Route] = OrderedDict()
        self._read()  # FastAPI builds its models of the routes now, not in a request.

    def classify(self, scope: Scope) -> Route:
        """Says which route `scope` will reach and whether it is governed, administrative or refused."""
        self._read()
        key = (_method(scope), get_route_path(scope))
        known = self._cache.get(key)
        if known is not None:
            self._cache.move_to_end(key)
            return known
        return self._remember(key, self._scan(*key))

    def _read(self) -> None:
        version = tuple(map(id, self._router.routes))
        if version != self._version:
            self._entries = tuple(_entries(self._router.routes))
            self._handlers = MappingProxyType(
                {
                    (method, entry.template): entry.module
                    for entry in reversed(self._entries)
                    for method in entry.methods or ("*",)
                }
            )
            self._version = version
            self._cache.clear()

    def templates(self) -> frozenset[tuple[str, str]]:
        """Every (method, template) of the app."""
        return frozenset(self._handlers)

    def handlers(self) -> Mapping[tuple[str, str], str]:
        """The module of the handler of every (method, template); another object once the routes changed."""
        self._read()
        return self._handlers

    def _remember(self, key: tuple[str, str], route: Route) -> Route:
        if len(key[1]) > _CACHED_PATH_CHARS:
            return route
        self._cache[key] = route
        if len(self._cache) > _CACHE_SIZE:
            self._cache.popitem(last=False)
        return route

    def _scan(self, method: str, path: str) -> Route:
        entry = next((entry for entry in self._entries if entry.serves(method, path)), None)
        template = entry.template if entry is not None else None
        kind, call_type = classify_template(method, template)
        if entry is not None and not self._is_own(entry.module):
            # A pass-through may have any template; LiteLLM puts a lazy feature's own route behind it.
            kind, call_type = PathKind.REFUSED, None
        return Route(kind=kind, method=method, template=template, call_type=call_type)


def _method(scope: Scope) -> str:
    """The method; `WEBSOCKET` is nobody's but a websocket's, since HTTP lets a client send any word."""
    if scope["type"] == "websocket":
        return _SOCKET_METHOD
    method = str(scope["method"])
    return method if method != _SOCKET_METHOD else f"HTTP {method}"


def classify_template(method: str, template: str | None) -> tuple[PathKind, CallType | None]:
    """Looks a (method, template) up in the two short lists; everything else is refused."""
    if template is None:
        return PathKind.REFUSED, None
    call_type = GOVERNED.get((method, template))
    if call_type is not None:
        return PathKind.GOVERNED, call_type
    if (method, template) in ADMINISTRATIVE:
        return PathKind.ADMINISTRATIVE, None
    return PathKind.REFUSED, None


def covered(template: str) -> str | None:
    """The first governed or administrative template that shares a path with this one; None when none does."""
    listed = sorted({path for _, path in (*GOVERNED, *ADMINISTRATIVE)})
    return next(
        (path for path in listed if _meet(*(_PARAMETER.sub(_ANY, t) for t in (template, path)))), None
    )


@lru_cache(maxsize=4096)
def _meet(one: str, other: str) -> bool:
    """Whether some text matches both patterns; a parameter stands for any text, with slashes too."""
    if not one and not other:
        return True
    if one.startswith(_ANY):
        return _meet(one[1:], other) or (bool(other) and _meet(one, other[1:]))
    if other.startswith(_ANY):
        return _meet(other, one)
    return one[:1] == other[:1] and _meet(one[1:], other[1:])


def _entries(routes: Iterable[Any]) -> Iterator[_Entry]:
    for context in iter_route_contexts(list(routes)):
        pattern = getattr(context, "path_regex", None)
        if pattern is None:
            continue
        original = context.original_route
        is_mount = isinstance(original, Mount)
        methods = None if is_mount else getattr(context, "methods", None)
        template = f"{context.path}/*" if is_mount else str(context.path_format)
        yield _Entry(
            pattern=pattern,
            template=template,
            methods=frozenset(methods) if methods else None,
            is_websocket=isinstance(original, WebSocketRoute),
            is_mount=is_mount,
            module=str(getattr(getattr(original, "endpoint", None), "__module__", "")),
        )
