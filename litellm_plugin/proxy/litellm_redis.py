"""LiteLLM's own Redis: where workers share state when no flag says otherwise."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.state import connect, litellm_redis_url

if TYPE_CHECKING:
    from litellm_plugin.settings import PolicySnapshot

SOURCE: Final = "LiteLLM's Redis settings"

_PREFIX_FLAG: Final = "PERMIT_ROUTER_REDIS_PREFIX"
_FROM_ENVIRONMENT: Final = "os.environ/"
# What the flag may hold, beside the prefix of all and a colon.
_PLAIN_NAMESPACE: Final = re.compile(r"[A-Za-z0-9:._-]{1,49}")


def with_litellm_redis(
    policy: PolicySnapshot, config: Mapping[str, Any], environment: Mapping[str, str]
) -> PolicySnapshot:
    """The policy with the server of LiteLLM's cache, or of its router, where the flag names none.

    A namespace of LiteLLM's cache, which keeps two proxies apart on one server, keeps the plugin's keys apart too,
    unless the flag says what they begin with.

    Settings that cannot be used here are told as a warning: LiteLLM itself can log in where this plugin cannot.

    Args:
        policy: The policy; its own URL wins.
        config: LiteLLM's configuration, environment references resolved.
        environment: The process's environment, which fills what LiteLLM's settings leave open.
    """
    settings = None if policy.redis_url is not None else _settings(config)
    if settings is None:
        return policy
    try:
        url = litellm_redis_url(settings, environment)
        if url is not None:
            connect(url, source=SOURCE)  # opens nothing
    except ConfigurationError as error:
        return replace(policy, redis_fault=str(error))
    namespace = "" if url is None else _namespace(settings, environment)
    prefix = policy.redis_prefix if not namespace else f"permit-router:{namespace}:"
    return replace(policy, redis_url=url, redis_source=SOURCE, redis_prefix=prefix)


def _namespace(settings: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """The namespace for keys, hashed where a key cannot hold it; empty where there is none, or the flag is set."""
    said = settings.get("namespace")
    if isinstance(said, str) and said.startswith(_FROM_ENVIRONMENT):
        said = environment.get(said.removeprefix(_FROM_ENVIRONMENT))
    if not said or environment.get(_PREFIX_FLAG, "").strip():
        return ""
    text = str(said)
    # Characters that are replaced would make one of two namespaces.
    return text if _PLAIN_NAMESPACE.fullmatch(text) else hashlib.sha256(text.encode()).hexdigest()[:32]


def _settings(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What names a server: `cache_params` of a cache that is on, else `router_settings`; None where nothing does."""
    section = _mapping(config.get("litellm_settings"))
    cache = _mapping(section.get("cache_params"))
    # A cache of no type is one of Redis (litellm/proxy/proxy_server.py).
    if section.get("cache") is True and cache.get("type", "redis") == "redis":
        return cache
    router = _mapping(config.get("router_settings"))
    # Both, as LiteLLM's router asks for them.
    is_named = router.get("redis_url") or (router.get("redis_host") and router.get("redis_port"))
    return {name: router.get(name) for name in _ROUTER if name in router} if is_named else None


_ROUTER: Final = ("redis_url", "redis_host", "redis_port", "redis_password", "redis_db")


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
