"""The connection to the server that replicas share."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from litellm_plugin.errors import ConfigurationError

TIMEOUT_S: Final = 0.05
# A command takes well under 1 ms: more connections only make a burst slower, and the server poorer.
MOST_CONNECTIONS: Final = 16
CLIENT_NAME: Final = "permit-router"

_FLAG: Final = "PERMIT_ROUTER_REDIS_URL"
# Not the client's other options: a URL that sets timeouts or retries would undo the bounds below.
_OPTIONS: Final = frozenset(
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


def connect(url: str, timeout_s: float = TIMEOUT_S, max_connections: int = MOST_CONNECTIONS) -> Redis:
    """Makes a client with bounded connections and waits, and without retries; opens nothing yet.

    Close it with `aclose()`.

    Args:
        url: `redis://`, `rediss://` (TLS) or `unix://`; the query may hold the user, the database and TLS
            options under redis-py's names.
        timeout_s: The longest wait for a free connection, for a new one, and for each reply, in seconds.
        max_connections: How many connections this client opens.

    Raises:
        ConfigurationError: The URL is not one of these; the message repeats nothing that may be secret.
    """
    _check(url)
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=max_connections,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            client_name=CLIENT_NAME,
        )
        # The pool reads its options only at the first command; a connection that stays shut reads them now.
        pool.connection_class(**pool.connection_kwargs)
    except (RedisError, OSError, TypeError, ValueError):
        raise _wrong("an option in its query is not usable") from None
    return Redis.from_pool(pool)


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
        query = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        # Not chained: the parser's message quotes a password with an unescaped slash as the "port".
        raise _wrong("it cannot be parsed; a password's special characters must be percent-encoded") from None
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise _wrong("its scheme is another")
    if parts.scheme == "unix":
        if not parts.path:
            raise _wrong("it has no path")
    elif not parts.hostname or port == 0:
        raise _wrong("it has no host, or port 0")
    elif not _names_database(parts.path):
        raise _wrong("its path is not the number of a database")
    if parts.fragment:
        raise _wrong("it has a '#'; a password's special characters must be percent-encoded")
    if not query.keys() <= _OPTIONS:
        raise _wrong(f"its query may hold only {', '.join(sorted(_OPTIONS))}")


def _names_database(path: str) -> bool:
    name = path.removeprefix("/")
    return not name or (name.isascii() and name.isdigit())


def _wrong(found: str) -> ConfigurationError:
    return ConfigurationError(f"{_FLAG}: expected redis://host:port/database, rediss:// or unix://; {found}")
