"""The connection to the server, or servers, that replicas share."""

from __future__ import annotations

import enum
import importlib
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.state.bounded_clients import BoundedCluster, BoundedSentinelPool

if TYPE_CHECKING:
    from litellm_plugin.state.conversation import Client

TIMEOUT_S: Final = 0.05
# For a new connection, where one server is named: nobody else could be asked meanwhile, and a burst of claims on a
# machine whose processors are all taken opens several at once.
CONNECT_TIMEOUT_S: Final = 0.25
# A command takes well under 1 ms: more connections only make a burst slower, and the server poorer.
MOST_CONNECTIONS: Final = 16
CLIENT_NAME: Final = "permit-router"
FLAG: Final = "PERMIT_ROUTER_REDIS_URL"

# Not the client's other options: a URL that sets timeouts or retries would undo the bounds below.
OPTIONS: Final = frozenset(
    {
        "db",
        "password",
        "protocol",
        "ssl_ca_certs",
        "ssl_ca_path",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_check_hostname",
        "ssl_keyfile",
        "ssl_password",
        "username",
    }
)
# Sentinels are servers of their own, with their own users.
SENTINEL_OPTIONS: Final = frozenset({"sentinel_username", "sentinel_password"})

_EXPECTED: Final = (
    "redis://host:port/database, rediss://, unix://, redis+sentinel://host:port,host:port/service "
    "or redis+cluster://host:port,host:port"
)
_SENTINEL_PORT: Final = 26379
_CLUSTER_PORT: Final = 6379


class StoreKind(enum.StrEnum):
    """What keeps the state: the worker's own memory, one server, what Sentinels name, or a Cluster."""

    MEMORY = "memory"
    REDIS = "redis"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


def store_kind(url: str | None) -> StoreKind:
    """What a URL that `connect` takes names; memory without one."""
    if url is None:
        return StoreKind.MEMORY
    match urlsplit(url).scheme.partition("+")[2]:
        case "sentinel":
            return StoreKind.SENTINEL
        case "cluster":
            return StoreKind.CLUSTER
        case _:
            return StoreKind.REDIS


def connect(
    url: str, timeout_s: float = TIMEOUT_S, max_connections: int = MOST_CONNECTIONS, *, source: str = FLAG
) -> Client:
    """Makes a client with bounded connections and waits, and without retries; opens nothing yet.

    Close it with `aclose()`.

    Args:
        url: One of these, where `rediss` in place of `redis` means TLS; the query may hold the user, the database
            and TLS options under redis-py's names, and for Sentinel `sentinel_username` and `sentinel_password`:
            `redis://user:password@host:port/database`, `unix://path`,
            `redis+sentinel://user:password@host:port,host:port/service/database`,
            `redis+cluster://user:password@host:port,host:port`.
        timeout_s: The longest wait for a free connection, for a new one, and for each reply, in seconds; for a new one
            a quarter of a second at least, where the URL names one server.
        max_connections: How many connections this client opens; with a Cluster, about as many a node.
        source: Where the URL stands, for the message of an error.

    Raises:
        ConfigurationError: The URL is not one of these; the message repeats nothing that may be secret.
    """
    bounds = _Bounds(timeout_s, max_connections)
    try:
        match urlsplit(url).scheme:
            case "redis+sentinel" | "rediss+sentinel":
                return _sentinel_client(_Servers.of(url, _SENTINEL_PORT), bounds)
            case "redis+cluster" | "rediss+cluster":
                return _cluster_client(_Servers.of(url, _CLUSTER_PORT), bounds)
            case _:
                return _server_client(url, bounds)
    except _Wrong as wrong:
        found = str(wrong)
    except ValueError:
        found = "it cannot be parsed"
    raise ConfigurationError(f"{source}: expected {_EXPECTED}; {found}")


@dataclass(frozen=True, slots=True)
class _Bounds:
    """How long waits are, and how many connections there are."""

    timeout_s: float
    max_connections: int

    @property
    def options(self) -> dict[str, Any]:
        """What every connection is made with."""
        return {
            "socket_timeout": self.timeout_s,
            "socket_connect_timeout": self.timeout_s,
            "retry": Retry(NoBackoff(), 0),
            **_without_notifications(),
        }


def _without_notifications() -> dict[str, Any]:
    """Switches off what a server says unasked, where redis-py knows of that.

    With it redis-py (8.1) takes a reply that nobody read for such a notice, and every later reply on that connection is
    the one before it: a permit that was used would look new. It would also wait longer than it was told, and go
    where a notice points.
    """
    if "maint_notifications_config" not in inspect.signature(AbstractConnection.__init__).parameters:
        return {}
    config = importlib.import_module("redis.maint_notifications").MaintNotificationsConfig(enabled=False)
    return {"maint_notifications_config": config}


@dataclass(frozen=True, slots=True)
class _Servers:
    """What a URL of several servers names.

    Attributes:
        nodes: Host and port of each.
        path: What stands behind them.
        options: What a connection to the data is made with.
        sentinel_options: What a connection to a Sentinel is made with besides TLS.
        is_encrypted: Whether connections are made with TLS.
    """

    nodes: tuple[tuple[str, int], ...]
    path: str
    options: dict[str, Any]
    sentinel_options: dict[str, str]
    is_encrypted: bool

    @classmethod
    def of(cls, url: str, default_port: int) -> _Servers:
        """Reads a URL; each node is looked at as if it stood in a URL of its own.

        Raises:
            ValueError: It is none; for a `_Wrong` the message may be shown.
        """
        parts = urlsplit(url)
        user, at, hosts = parts.netloc.rpartition("@")
        query = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        sentinel = {name: query.pop(name)[0] for name in SENTINEL_OPTIONS & query.keys()}
        scheme = parts.scheme.partition("+")[0]
        fragment = "#" if "#" in url else ""
        nodes: list[tuple[str, int]] = []
        for host in hosts.split(","):
            each = f"{scheme}://{user}{at}{host}?{urlencode(query, doseq=True)}".rstrip("?") + fragment
            _check(each)
            options: dict[str, Any] = dict(parse_url(each))
            nodes.append((options.pop("host"), options.pop("port", default_port)))
        is_encrypted = options.pop("connection_class", None) is not None
        names = {name.removeprefix("sentinel_"): value for name, value in sentinel.items()}
        return cls(tuple(nodes), parts.path, options, names, is_encrypted)


class _Wrong(ValueError):  # noqa: N818 - never leaves this module
    """Says what is wrong with a URL, without its secrets."""


def _server_client(url: str, bounds: _Bounds) -> Redis:
    _check(url)
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=bounds.max_connections,
            timeout=bounds.timeout_s,
            client_name=CLIENT_NAME,
            **bounds.options | {"socket_connect_timeout": max(bounds.timeout_s, CONNECT_TIMEOUT_S)},
        )
        _read_options(pool)
    except (RedisError, OSError, TypeError, ValueError):
        raise _Wrong("an option in its query is not usable") from None
    return Redis.from_pool(pool)


def _sentinel_client(servers: _Servers, bounds: _Bounds) -> Redis:
    service, _, database = servers.path.removeprefix("/").partition("/")
    if not service or not _names_database(database):
        raise _Wrong("its path is not the name of a service and the number of a database")
    tls = {name: value for name, value in servers.options.items() if name.startswith("ssl_")}
    try:
        manager = Sentinel(  # type: ignore[no-untyped-call]
            servers.nodes,
            sentinel_kwargs={
                **tls,
                **servers.sentinel_options,
                **bounds.options,
                "ssl": servers.is_encrypted,
            },
        )
        pool = BoundedSentinelPool(  # type: ignore[no-untyped-call]
            service,
            manager,
            ssl=servers.is_encrypted,
            max_connections=bounds.max_connections,
            timeout=bounds.timeout_s,
            client_name=CLIENT_NAME,
            **{"db": int(database or 0), **servers.options},
            **bounds.options,
        )
        _read_options(pool)
    except (RedisError, OSError, TypeError, ValueError):
        raise _Wrong("an option in its query is not usable") from None
    return Redis.from_pool(pool)


def _cluster_client(servers: _Servers, bounds: _Bounds) -> BoundedCluster:
    if servers.path not in {"", "/", "/0"} or servers.options.get("db") or servers.sentinel_options:
        raise _Wrong("a Cluster has database 0 only, and no Sentinels")
    options = {name: value for name, value in servers.options.items() if name != "db"}
    if not servers.is_encrypted and any(name.startswith("ssl_") for name in options):
        raise _Wrong("an option in its query is not usable")
    try:
        client = BoundedCluster(
            [ClusterNode(host, port) for host, port in servers.nodes],
            wait_s=bounds.timeout_s,
            max_connections=bounds.max_connections,
            client_name=CLIENT_NAME,
            **options,
            **bounds.options,
            **({"ssl": True} if servers.is_encrypted else {}),
        )
        for node in client.nodes_manager.startup_nodes.values():
            node.release(node.acquire_connection())
    except (RedisError, OSError, TypeError, ValueError):
        raise _Wrong("an option in its query is not usable") from None
    return client


def _read_options(pool: BlockingConnectionPool | BoundedSentinelPool) -> None:
    """The pool reads its options only at the first command; a connection that stays shut reads them now."""
    pool.connection_class(**pool.connection_kwargs)


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
        query = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        # Not chained: the parser's message quotes a password with an unescaped slash as the "port".
        raise _Wrong("it cannot be parsed; a password's special characters must be percent-encoded") from None
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise _Wrong("its scheme is another")
    if parts.scheme == "unix":
        if not parts.path:
            raise _Wrong("it has no path")
    elif not parts.hostname or port == 0:
        raise _Wrong("it has no host, or port 0")
    elif not _names_database(parts.path):
        raise _Wrong("its path is not the number of a database")
    if parts.fragment or url.endswith("#"):
        raise _Wrong("it has a '#'; a password's special characters must be percent-encoded")
    if not query.keys() <= OPTIONS:
        raise _Wrong(f"its query may hold only {', '.join(sorted(OPTIONS))}")


def _names_database(path: str) -> bool:
    name = path.removeprefix("/")
    return not name or (name.isascii() and name.isdigit())
