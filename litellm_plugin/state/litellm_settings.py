"""LiteLLM's own Redis settings, read as the URL that `connect` takes.

The names are those of `cache_params` and `router_settings` and of LiteLLM's environment variables, and what comes
first is what comes first there (litellm/_redis.py, litellm/caching/caching.py, 1.106): nodes of a Cluster, then a
URL, then Sentinels, then a host.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.state.connection import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_FROM_ENVIRONMENT: Final = "os.environ/"
_VARIABLES: Final = {
    "url": "REDIS_URL",
    "host": "REDIS_HOST",
    "port": "REDIS_PORT",
    "db": "REDIS_DB",
    "username": "REDIS_USERNAME",
    "password": "REDIS_PASSWORD",
    "ssl": "REDIS_SSL",
    "ssl_ca_certs": "REDIS_SSL_CA_CERTS",
    "ssl_cert_reqs": "REDIS_SSL_CERT_REQS",
    "ssl_certfile": "REDIS_SSL_CERTFILE",
    "ssl_check_hostname": "REDIS_SSL_CHECK_HOSTNAME",
    "ssl_keyfile": "REDIS_SSL_KEYFILE",
    "startup_nodes": "REDIS_CLUSTER_NODES",
    "sentinel_nodes": "REDIS_SENTINEL_NODES",
    "sentinel_password": "REDIS_SENTINEL_PASSWORD",
    "service_name": "REDIS_SERVICE_NAME",
}
_TARGETS: Final = ("host", "startup_nodes", "sentinel_nodes")
# LiteLLM logs in with tokens of a cloud there, which it renews itself.
_FOREIGN_LOGINS: Final = (
    "gcp_service_account",
    "azure_redis_ad_token",
    "aws_iam_auth",
    "credential_provider",
)


def litellm_redis_url(settings: Mapping[str, object], environment: Mapping[str, str]) -> str | None:
    """The URL of the server that LiteLLM uses; None where its settings name none.

    Args:
        settings: `cache_params` or `router_settings`, as they stand in LiteLLM's YAML.
        environment: The process's environment.

    Raises:
        ConfigurationError: The settings name a server that cannot be reached with a URL; the message repeats
            nothing that may be secret.
    """
    known = _resolved(settings, environment)
    for login in _FOREIGN_LOGINS:
        if known.get(login) and str(known[login]).lower() != "false":
            raise ConfigurationError(
                f"LiteLLM's Redis settings: {login} is not supported here; expected PERMIT_ROUTER_REDIS_URL "
                "with a user and a password"
            )
    if known.get("startup_nodes"):
        return _several("cluster", _cluster_nodes(known), known, path="")
    if known.get("url"):
        return _without_unknown_options(str(known["url"]))
    if known.get("sentinel_nodes") and known.get("service_name"):
        path = f"/{quote(str(known['service_name']), safe='')}/{known.get('db') or 0}"
        return _several("sentinel", _sentinel_nodes(known), known, path=path)
    if known.get("host"):
        node = _node(known["host"], known.get("port") or 6379)
        return f"{_scheme(known)}://{_login(known)}{node}/{known.get('db') or 0}{_query(known)}"
    return None


def _resolved(settings: Mapping[str, object], environment: Mapping[str, str]) -> dict[str, object]:
    """The settings under one name each; the environment fills what they leave open."""
    named = {name.removeprefix("redis_"): _value(value, environment) for name, value in settings.items()}
    found: dict[str, object] = {
        name: environment[variable] for name, variable in _VARIABLES.items() if environment.get(variable)
    }
    if any(named.get(name) is not None for name in _TARGETS) and named.get("url") is None:
        found.pop("url", None)
    return found | {name: value for name, value in named.items() if value is not None}


def _value(value: object, environment: Mapping[str, str]) -> object:
    if isinstance(value, str) and value.startswith(_FROM_ENVIRONMENT):
        return environment.get(value.removeprefix(_FROM_ENVIRONMENT))
    return value


def _cluster_nodes(known: Mapping[str, object]) -> list[tuple[object, object]]:
    """Nodes as LiteLLM takes them for a Cluster: `{host: …, port: …}`."""
    name = "startup_nodes"
    nodes = [(node.get("host"), node.get("port")) for node in _listed(known, name) if isinstance(node, dict)]
    return _complete(name, nodes)


def _sentinel_nodes(known: Mapping[str, object]) -> list[tuple[object, object]]:
    """Nodes as LiteLLM takes them for Sentinels: `[host, port]`."""
    name = "sentinel_nodes"
    nodes = [(node[0], node[-1]) for node in _listed(known, name) if isinstance(node, list | tuple) and node]
    return _complete(name, nodes)


def _listed(known: Mapping[str, object], name: str) -> list[object]:
    """A list, which may stand as JSON text; an empty one where it is none."""
    found = known[name]
    if isinstance(found, str):
        try:
            found = json.loads(found)
        except ValueError:
            return []
    return list(found) if isinstance(found, list | tuple) else []


def _complete(name: str, nodes: list[tuple[object, object]]) -> list[tuple[object, object]]:
    if nodes and all(host and str(port).isdigit() for host, port in nodes):
        return nodes
    raise ConfigurationError(f"LiteLLM's Redis settings: {name}: expected a list of hosts and ports")


def _several(
    kind: str, nodes: Sequence[tuple[object, object]], known: Mapping[str, object], path: str
) -> str:
    hosts = ",".join(_node(host, port) for host, port in nodes)
    return f"{_scheme(known)}+{kind}://{_login(known)}{hosts}{path}{_query(known)}"


def _node(host: object, port: object) -> str:
    name = str(host)
    return f"[{name}]:{port}" if ":" in name and not name.startswith("[") else f"{name}:{port}"


def _scheme(known: Mapping[str, object]) -> str:
    return "rediss" if _is_true(known.get("ssl")) else "redis"


def _is_true(value: object) -> bool:
    return str(value).strip().lower() in {"true", "1", "yes", "on"}


def _login(known: Mapping[str, object]) -> str:
    user, password = (quote(str(known.get(name) or ""), safe="") for name in ("username", "password"))
    return f"{user}:{password}@" if user or password else ""


def _query(known: Mapping[str, object]) -> str:
    options = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in known.items()
        if name.startswith("ssl_") and name in OPTIONS and _is_true(known.get("ssl"))
    }
    if known.get("sentinel_password") and known.get("service_name") and not known.get("startup_nodes"):
        options["sentinel_password"] = str(known["sentinel_password"])
    return f"?{urlencode(options)}" if options else ""


def _without_unknown_options(url: str) -> str:
    """LiteLLM's URL without what would undo our bounds, such as timeouts."""
    try:
        parts = urlsplit(url)
        options = [(name, value) for name, value in parse_qsl(parts.query) if name in OPTIONS]
    except ValueError:
        return url
    return urlunsplit(parts._replace(query=urlencode(options)))
