"""The self-check: settings of LiteLLM that would lead past the permit, found before the start.

It knows LiteLLM's configuration, never its code: `permit-router check` runs it without importing LiteLLM.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.proxy.declared_facts import allows_synthetic_prompts, fact_findings, limit_warnings
from litellm_plugin.proxy.egress import egress_findings
from litellm_plugin.proxy.fields import CONTROL_FIELDS
from litellm_plugin.proxy.litellm_redis import with_litellm_redis
from litellm_plugin.settings import check_endpoints, load_policy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from litellm_plugin.settings import Flags, PolicySnapshot

INERT: Final = (
    "PERMIT_ROUTER_ENABLED is false: the permit router is INERT, no permit is checked and nothing is enforced"
)
UNREGISTERED: Final = "litellm_settings.callbacks does not list litellm_plugin.permit_router"

# Strategies whose selection is asynchronous; the others pick without asking our hook.
_ASYNC_STRATEGIES: Final = frozenset(
    {"simple-shuffle", "least-busy", "latency-based-routing", "cost-based-routing", "usage-based-routing-v2"}
)


# litellm/router_utils/auto_router_model_naming.py
_AUTO_ROUTER: Final = "auto_router/"
# Any of these says where a call goes.
_ADDRESSES: Final = ("api_base", "base_url", "aws_region_name", "vertex_location")

# Host or region follow from the model: bedrock's and sagemaker's regions and ARNs, baseten's host
# (llms/baseten/chat.py), the region of a Vertex AI model (`get_vertex_region`), Hugging Face's routes.
_PLACED_BY_MODEL: Final = frozenset(
    {"baseten", "huggingface", "strands_decider", "vertex_ai", "vertex_ai_beta"}
)
_PLACED_BY_MODEL_FAMILIES: Final = ("bedrock", "sagemaker")
# LiteLLM calls these at their own address, whatever api_base says: `get_complete_url` in llms/{replicate,bytez,sap}/,
# llms/chatgpt/chat/, llms/sagemaker/{chat,completion}/, llms/bedrock/chat/agentcore/, llms/vertex_ai/agent_engine/.
_DEAF_TO_ADDRESS: Final = (
    "bedrock/agentcore/",
    "bytez/",
    "chatgpt/",
    "replicate/",
    "sagemaker/",
    "sagemaker_chat/",
    "sagemaker_nova/",
    "sap/",
    "vertex_ai/agent_engine/",
)


def read_policy(
    config: Mapping[str, Any],
    flags: Flags,
    *,
    base: Path,
    forgive: Callable[[str], None] | None = None,
) -> PolicySnapshot:
    """Reads the policy block and holds LiteLLM's configuration against it.

    Args:
        config: LiteLLM's whole configuration, environment references resolved.
        flags: The environment flags.
        base: The folder that relative paths are taken from.
        forgive: Takes each fault of LiteLLM's own settings where nothing is enforced; None where they are errors.

    Raises:
        ConfigurationError: All faults of the block and of the configuration, a line each.
    """
    settings = _section(config, "litellm_settings")
    block = settings.get("permit_router")
    try:
        policy = load_policy(block, flags, base=base)
    except ConfigurationError as error:
        misspelt = difflib.get_close_matches("permit_router", [str(key) for key in settings], n=1, cutoff=0.8)
        hint = f" (litellm_settings.{misspelt[0]} stands there)" if block is None and misspelt else ""
        faults = [f"{error}{hint}", *([] if forgive else _findings(config, None))]
        raise ConfigurationError("\n".join(faults)) from error
    if forgive is None:
        check_configuration(config, policy)
    else:
        for finding in (*_opened(policy), *_findings(config, policy)):
            forgive(finding)
    check_endpoints(policy, declared_endpoints(config))
    return with_litellm_redis(policy, config, os.environ)


def read_shadow(
    policy: PolicySnapshot, config: Mapping[str, Any], flags: Flags, *, base: Path
) -> PolicySnapshot | None:
    """Reads the policy that is computed beside this one; None where it names none.

    Raises:
        ConfigurationError: The file cannot be read, or what stands in it is wrong.
    """
    if policy.shadow is None:
        return None
    own = flags.model_copy(update={"policy": None, "log": None})
    try:
        shadow = load_policy(policy.shadow, own, base=base)
        _check_is_last(shadow)
        check_endpoints(shadow, declared_endpoints(config))
    except ConfigurationError as error:
        raise ConfigurationError(
            f"litellm_settings.permit_router.shadow {policy.shadow!r}: {error}"
        ) from error
    return shadow


def _check_is_last(shadow: PolicySnapshot) -> None:
    if shadow.shadow is not None:
        raise ConfigurationError("a shadow has no shadow of its own; remove the key")


def check_configuration(config: Mapping[str, Any], policy: PolicySnapshot) -> None:
    """Refuses a configuration that opens a way round the permit.

    Args:
        config: LiteLLM's whole configuration, environment references resolved.
        policy: The policy that goes with it.

    Raises:
        ConfigurationError: Names each setting, what it would open and what to write instead.
    """
    findings = [*_opened(policy), *_findings(config, policy)]
    if findings:
        raise ConfigurationError("\n".join(findings))


def router_findings(settings: Mapping[str, Any]) -> Iterator[str]:
    """What of the router's settings leads past the permit; a router that runs is judged by the same.

    Args:
        settings: `router_settings` by name; what is missing is at LiteLLM's default.
    """
    strategy = settings.get("routing_strategy", "simple-shuffle")
    if not isinstance(strategy, str) or strategy not in _ASYNC_STRATEGIES:
        yield (
            f"router_settings.routing_strategy {strategy!r} picks a deployment without asking the permit router; "
            "write simple-shuffle"
        )
    if settings.get("enable_pre_call_checks"):
        yield (
            "router_settings.enable_pre_call_checks drops the deployment that the permit router chose and costs "
            "about 12 ms a request; remove it: windows and capabilities are checked here"
        )
    if settings.get("disable_cooldowns") is not True:
        yield (
            "router_settings.disable_cooldowns is not true: LiteLLM's cooldowns would hide authorized endpoints; "
            "write disable_cooldowns: true"
        )


def registration_findings(config: Mapping[str, Any]) -> Iterator[str]:
    """Whether LiteLLM will load the hooks at all; the start itself sees that at its first request."""
    callbacks = _section(config, "litellm_settings").get("callbacks") or []
    listed = [callbacks] if isinstance(callbacks, str) else callbacks
    if "litellm_plugin.permit_router" not in listed:
        yield f'{UNREGISTERED}: nothing would be enforced; write callbacks: ["litellm_plugin.permit_router"]'


def configuration_warnings(config: Mapping[str, Any]) -> Iterator[str]:
    """What is worth a second look, although it opens nothing."""
    for where, entry in _placed(config):
        params, info = entry.get("litellm_params"), entry.get("model_info")
        if not isinstance(params, Mapping) or not any(params.get(name) for name in _ADDRESSES):
            yield (
                f"{where} has no litellm_params.api_base: LiteLLM takes the address from the environment or from "
                "the provider's default; write it, so that this file says where prompts go"
            )
        if not isinstance(info, Mapping) or not info.get("region"):
            yield (
                f"{where} has no model_info.region: permits that are narrowed to regions exclude it; write its region"
            )
        yield from limit_warnings(where, _section(entry, "model_info"), _section(entry, "litellm_params"))


def policy_warnings(policy: PolicySnapshot) -> Iterator[str]:
    """What the operator gives up by what the policy says."""
    if policy.permit.binding == "none":
        yield "permit.binding is 'none': whoever holds a permit can send any body with it until it expires"
    if policy.permit.binding == "single_use" and policy.redis_url is None:
        yield (
            "permit.binding is 'single_use' without PERMIT_ROUTER_REDIS_URL: uses are known per worker only, "
            "and forgotten at a restart"
        )
    if policy.redis_fault:
        yield policy.redis_fault


def declared_endpoints(config: Mapping[str, Any]) -> list[str]:
    """The endpoint names of LiteLLM's model list, in its order."""
    names = (str(info.get("endpoint") or info.get("id") or "") for info in _infos(config))
    return list(dict.fromkeys(filter(None, names)))


def deployment_ids(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The ids of LiteLLM's model list, in its order."""
    return tuple(str(info["id"]) for info in _infos(config) if info.get("id"))


def declares_languages(config: Mapping[str, Any]) -> bool:
    """Whether a deployment of LiteLLM's model list declares the languages it covers."""
    return any(info.get("languages") is not None for info in _infos(config))


def synthetic_deployments(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The deployments of LiteLLM's model list that declare that they may be asked with the plugin's own prompt."""
    return [entry for entry in _model_list(config) if allows_synthetic_prompts(entry)]


def probing_warnings(config: Mapping[str, Any], policy: PolicySnapshot) -> Iterator[str]:
    """Where probing and what deployments declare of it do not go together.

    Args:
        config: LiteLLM's whole configuration, environment references resolved.
        policy: The policy that goes with it.
    """
    declared = [str(entry["model_info"].get("id")) for entry in synthetic_deployments(config)]
    if policy.probing is not None and not declared:
        yield "resilience.probing is on, but no deployment has model_info.synthetic_prompts: true; nothing is asked"
    if policy.probing is None and declared:
        yield (
            f"model_info.synthetic_prompts of {', '.join(declared)[:200]} has no effect: resilience.probing is off"
        )


def _opened(policy: PolicySnapshot) -> Iterator[str]:
    for name in sorted(policy.body_fields & CONTROL_FIELDS):
        yield (
            f"litellm_settings.permit_router.body_fields: {name!r} steers where a request goes or what is kept of it; "
            "remove it"
        )


def _findings(config: Mapping[str, Any], policy: PolicySnapshot | None) -> Iterator[str]:
    yield from _general(config)
    yield from _pass_throughs(config)
    yield from router_findings(_section(config, "router_settings"))
    yield from _deployments(config, policy)
    if policy is not None:
        yield from egress_findings(config, policy)
        yield from _opened_paths(config, policy)


def _opened_paths(config: Mapping[str, Any], policy: PolicySnapshot) -> Iterator[str]:
    if not policy.paths:
        return
    # LiteLLM's own lists of paths are asked; they take seconds to import, which no other check needs.
    from litellm_plugin.proxy.opened import forbidden  # noqa: PLC0415 - as said above

    yield from forbidden(policy.paths, config)


def _general(config: Mapping[str, Any]) -> Iterator[str]:
    general = _section(config, "general_settings")
    # litellm/proxy/route_llm_request.py reads the second one off the router.
    of_router = _section(_section(config, "router_settings"), "router_general_settings")
    for place, settings, name, opens in (
        (
            "general_settings",
            general,
            "allow_client_side_credentials",
            "lets a caller name the host and key of a call",
        ),
        (
            "general_settings",
            general,
            "pass_through_all_models",
            "sends models that no deployment names to the provider",
        ),
        (
            "router_settings.router_general_settings",
            of_router,
            "pass_through_all_models",
            "sends models that no deployment names to the provider",
        ),
    ):
        if settings.get(name):
            yield f"{place}.{name} {opens}; remove it or write false"
    for place in ("general_settings", "litellm_settings", "router_settings"):
        if _section(config, place).get("configurable_clientside_auth_params"):
            yield f"{place}.configurable_clientside_auth_params would let a caller name host and key; remove it"


def _pass_throughs(config: Mapping[str, Any]) -> Iterator[str]:
    entries = _section(config, "general_settings").get("pass_through_endpoints")
    if not isinstance(entries, list):
        return
    # The lists of paths stand with FastAPI's routes, which no other check needs.
    from litellm_plugin.proxy.paths import covered  # noqa: PLC0415 - as said above

    for position, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            continue
        path = str(entry.get("path") or "")
        own = covered(path) or (covered(f"{path}/{{subpath:path}}") if entry.get("include_subpath") else None)
        if own is not None:
            yield (
                f"general_settings.pass_through_endpoints[{position}]: path {path[:80]!r} lies over LiteLLM's own {own} "
                f"and would send its requests to {str(entry.get('target'))[:80]!r} without a decision; "
                "write a path of its own"
            )


def _deployments(config: Mapping[str, Any], policy: PolicySnapshot | None) -> Iterator[str]:
    seen: set[str] = set()
    for where, entry in _placed(config):
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
        params = _section(entry, "litellm_params")
        yield from _destinations(where, params)
        yield from fact_findings(where, info, params, policy)


def _destinations(where: str, params: Mapping[str, Any]) -> Iterator[str]:
    if params.get("configurable_clientside_auth_params"):
        yield f"{where}: configurable_clientside_auth_params lets a caller name host and key; remove it"
    if params.get("silent_model"):
        yield f"{where}: litellm_params.silent_model sends each prompt to a second model; remove it"
    model = str(params.get("model"))
    if model.startswith(_AUTO_ROUTER):
        yield (
            f"{where}: litellm_params.model {model[:80]!r} lets LiteLLM choose the model and shows each prompt to a "
            "classifier, some over a connection that no hook sees; remove it and write `rules`"
        )
    yield from _addresses(where, params, model)


def _addresses(where: str, params: Mapping[str, Any], model: str) -> Iterator[str]:
    """What a deployment's model says about where its calls go, against what is written."""
    named = params.get("custom_llm_provider")
    full = f"{named}/{model.removeprefix(f'{named}/')}" if isinstance(named, str) and named else model
    provider = full.partition("/")[0]
    if "*" in model and (provider in _PLACED_BY_MODEL or provider.startswith(_PLACED_BY_MODEL_FAMILIES)):
        yield (
            f"{where}: litellm_params.model {model[:80]!r} lets a caller choose the host or the region: with {provider} "
            "they follow from the model; write a deployment for each model"
        )
    written = next((name for name in ("api_base", "base_url") if params.get(name)), None)
    if written is not None and full.startswith(_DEAF_TO_ADDRESS):
        yield (
            f"{where}: litellm_params.{written} is not where calls go: LiteLLM takes no address for {full[:80]!r} and "
            f"calls the provider's own; remove {written}"
        )


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name)
    return section if isinstance(section, Mapping) else {}


def _placed(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for position, entry in enumerate(_model_list(config)):
        yield f"model_list[{position}] ({str(entry.get('model_name'))[:80]!r})", entry


def _model_list(config: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    entries = config.get("model_list")
    return [entry for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []


def _infos(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    infos = (entry.get("model_info") for entry in _model_list(config))
    return [info for info in infos if isinstance(info, Mapping)]
