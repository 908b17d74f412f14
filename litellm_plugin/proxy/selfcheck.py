"""The self-check: settings of LiteLLM that would lead past the permit, found before the start."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.proxy.fields import CONTROL_FIELDS
from litellm_plugin.proxy.opened import forbidden

if TYPE_CHECKING:
    from litellm_plugin.settings import PolicySnapshot

# Strategies whose selection is asynchronous; the others pick without asking our hook.
_ASYNC_STRATEGIES: Final = frozenset(
    {"simple-shuffle", "least-busy", "latency-based-routing", "cost-based-routing", "usage-based-routing-v2"}
)


# What this plugin reads of `model_info`.
_FACTS: Final = (
    "endpoint",
    "attributes",
    "clearances",
    "latency_classes",
    "capabilities",
    "region",
    "quality_tier",
    "max_input_tokens",
)


def check_configuration(config: Mapping[str, Any], policy: PolicySnapshot) -> None:
    """Refuses a configuration that opens a way round the permit.

    Args:
        config: LiteLLM's whole configuration, environment references resolved.
        policy: The policy that goes with it.

    Raises:
        ConfigurationError: Names each setting, what it would open and what to write instead.
    """
    findings = [
        *_opened(policy),
        *forbidden(policy.paths, config),
        *_general(config),
        *_router(config),
        *_deployments(config, policy),
    ]
    if findings:
        raise ConfigurationError("\n".join(findings))


def declared_endpoints(config: Mapping[str, Any]) -> list[str]:
    """The endpoint names of LiteLLM's model list, in its order."""
    names = (str(info.get("endpoint") or info.get("id") or "") for info in _infos(config))
    return list(dict.fromkeys(filter(None, names)))


def deployment_ids(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The ids of LiteLLM's model list, in its order."""
    return tuple(str(info["id"]) for info in _infos(config) if info.get("id"))


def _opened(policy: PolicySnapshot) -> Iterator[str]:
    for name in sorted(policy.body_fields & CONTROL_FIELDS):
        yield (
            f"litellm_settings.permit_router.body_fields: {name!r} steers where a request goes or what is kept of it; "
            "remove it"
        )


def _general(config: Mapping[str, Any]) -> Iterator[str]:
    general = config.get("general_settings") or {}
    for name, opens in (
        ("allow_client_side_credentials", "lets a caller name the host and key of a call"),
        ("pass_through_all_models", "sends models that no deployment names to the provider"),
    ):
        if general.get(name):
            yield f"general_settings.{name} {opens}; remove it or write false"


def _router(config: Mapping[str, Any]) -> Iterator[str]:
    router = config.get("router_settings") or {}
    strategy = router.get("routing_strategy", "simple-shuffle")
    if strategy not in _ASYNC_STRATEGIES:
        yield (
            f"router_settings.routing_strategy {strategy!r} picks a deployment without asking the permit router; "
            "write simple-shuffle"
        )
    if router.get("enable_pre_call_checks"):
        yield (
            "router_settings.enable_pre_call_checks drops the deployment that the permit router chose and costs "
            "about 12 ms a request; remove it: windows and capabilities are checked here"
        )
    if router.get("disable_cooldowns") is not True:
        yield (
            "router_settings.disable_cooldowns is not true: LiteLLM's cooldowns would hide authorized endpoints; "
            "write disable_cooldowns: true"
        )


def _deployments(config: Mapping[str, Any], policy: PolicySnapshot) -> Iterator[str]:
    entries = _model_list(config)
    seen: set[str] = set()
    for position, entry in enumerate(entries):
        where = f"model_list[{position}] ({str(entry.get('model_name'))[:80]!r})"
        info = entry.get("model_info") or {}
        if not isinstance(info, Mapping):
            yield f"{where}: model_info is {type(info).__name__}; a mapping is expected"
            continue
        name = info.get("id")
        if not isinstance(name, str) or not name:
            yield f"{where} has no model_info.id; a permit cannot name it: write an id"
        elif name in seen:
            yield f"{where}: model_info.id {name!r} is taken by another deployment; ids are unique"
        else:
            seen.add(name)
        params = entry.get("litellm_params") or {}
        if params.get("configurable_clientside_auth_params"):
            yield f"{where}: configurable_clientside_auth_params lets a caller name host and key; remove it"
        if params.get("silent_model"):
            yield f"{where}: litellm_params.silent_model sends each prompt to a second model; remove it"
        yield from _misspelt(where, info)
        yield from _facts(where, info, policy)


def _misspelt(where: str, info: Mapping[str, Any]) -> Iterator[str]:
    """Finds keys that are almost ours: `clearences` would be ignored, and with it the restriction."""
    for key in info:
        if key in _FACTS:
            continue
        nearest = difflib.get_close_matches(str(key), _FACTS, n=1, cutoff=0.8)
        if nearest:
            yield f"{where}: model_info.{key} is not known; did you mean {nearest[0]!r}?"


def _facts(where: str, info: Mapping[str, Any], policy: PolicySnapshot) -> Iterator[str]:
    for key, known in (
        ("clearances", policy.claims.classifications),
        ("latency_classes", policy.claims.latency_classes),
    ):
        value = info.get(key)
        if value is None:
            continue
        if not isinstance(value, list):
            yield f"{where}: model_info.{key} is {value!r}; a list is expected"
            continue
        for unknown in sorted({str(each) for each in value} - known):
            yield f"{where}: model_info.{key} names {unknown!r}, which the policy block does not declare"
    if info.get("tier") not in {None, "free", "paid"}:
        # litellm/types/router.py, ModelInfo: the router drops such a deployment with a log line.
        yield (
            f"{where}: model_info.tier is LiteLLM's own and takes only 'free' or 'paid', {info['tier']!r} stands "
            "there; a quality tier is model_info.quality_tier"
        )
    if info.get("attributes") is not None and not isinstance(info["attributes"], list):
        yield f"{where}: model_info.attributes is {info['attributes']!r}; a list is expected"


def _model_list(config: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    entries = config.get("model_list") or []
    return [entry for entry in entries if isinstance(entry, Mapping)]


def _infos(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    infos = (entry.get("model_info") for entry in _model_list(config))
    return [info for info in infos if isinstance(info, Mapping)]
