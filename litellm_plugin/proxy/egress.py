"""Egress: the places beside the endpoints that LiteLLM sends what callers write to, and what each may receive."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from litellm_plugin.errors import Reason, Verdict
from litellm_plugin.proxy.content_urls import CONTENT_URLS
from litellm_plugin.settings.explanation import BLOCK, unknown

if TYPE_CHECKING:
    from litellm_plugin.settings import PolicySnapshot

_OWN: Final = "litellm_plugin.permit_router"
_CALLBACK_SETTINGS: Final = ("callbacks", "success_callback", "failure_callback", "input_callback")
_TEAM_CALLBACK_SETTINGS: Final = ("success_callback", "failure_callback")
# Read in LiteLLM 1.106: these export counts, prices and durations, or change the request in the process.
CONTENT_FREE: Final = frozenset(
    {
        _OWN,
        "prometheus",
        "datadog_metrics",
        "datadog_cost_management",
        "dynamic_rate_limiter",
        "dynamic_rate_limiter_v3",
        "anthropic_cache_control_hook",
        "smtp_email",
        "resend_email",
        "sendgrid_email",
    }
)
"""Callbacks that receive nothing of what callers write; they need no entry."""

# StandardCallbackDynamicParams and _supported_callback_params of LiteLLM 1.101 to 1.109.
DESTINATIONS: Final = frozenset(
    {
        "arize_api_key",
        "arize_otlp_protocol",
        "arize_space_id",
        "arize_space_key",
        "braintrust_api_key",
        "braintrust_host",
        "braintrust_project",
        "dd_agent_host",
        "dd_agent_port",
        "dd_api_key",
        "dd_site",
        "gcs_bucket_name",
        "gcs_path_service_account",
        "humanloop_api_key",
        "langfuse_environment",
        "langfuse_host",
        "langfuse_public_key",
        "langfuse_secret",
        "langfuse_secret_key",
        "langfuse_span_scope",
        "langsmith_api_key",
        "langsmith_base_url",
        "langsmith_project",
        "langsmith_tenant_id",
        "lunary_public_key",
        "newrelic_api_key",
        "newrelic_region",
        "posthog_api_key",
        "posthog_api_url",
        "posthog_host",
        "signoz_ingestion_endpoint",
        "signoz_ingestion_key",
        "slack_webhook_url",
        "wandb_api_key",
        "weave_project_id",
    }
)
"""Parameters of a callback that say where it sends to, or with whose credentials."""

SWITCHES: Final = frozenset(
    {
        "arize_error_sampling_rate",
        "arize_success_sampling_rate",
        "langfuse_prompt_version",
        "langsmith_sampling_rate",
        "litellm_disabled_callbacks",
        "turn_off_message_logging",
    }
)
"""Parameters of a callback that only say whether and what it sends; every other one is taken for a destination."""

# litellm_logging.Logging.pre_call hands these the request before anything asks whether they may run.
_TOLD_BEFORE: Final = frozenset({"sentry", "supabase"})


class Kind(enum.StrEnum):
    """What an egress is to LiteLLM."""

    CALLBACK = "callback"
    ALERTING = "alerting"
    GUARDRAIL = "guardrail"
    VECTOR_STORE = "vector store"
    SEARCH_TOOL = "search tool"
    MCP_SERVER = "MCP server"
    CACHE_EMBEDDER = "cache embedder"


@dataclass(frozen=True, slots=True)
class Egress:
    """One configured place.

    Attributes:
        kind: What it is to LiteLLM.
        name: Its name in LiteLLM's configuration.
        where: The setting that configures it.
        runs_always: Whether it gets every request and LiteLLM has no switch, so that requests are refused.
        settings: What LiteLLM's configuration says of it.
    """

    kind: Kind
    name: str
    where: str
    runs_always: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class EgressTable:
    """Which configured places may receive which classification.

    Attributes:
        places: What LiteLLM's configuration names.
        cleared: The classifications that each name may receive; none for a name without an entry.
        classifications: Every declared classification.
    """

    places: tuple[Egress, ...] = ()
    cleared: Mapping[str, frozenset[str]] = field(default_factory=dict)
    classifications: frozenset[str] = frozenset()

    @cached_property
    def names(self) -> frozenset[str]:
        """Every configured name."""
        return frozenset(place.name for place in self.places)

    @cached_property
    def restricted(self) -> frozenset[str]:
        """The names that may not receive everything; what no request is known for is held back from them."""
        return frozenset().union(*(self.held(each) for each in self.classifications))

    def held(self, classification: str) -> frozenset[str]:
        """The names that may not receive this classification."""
        return self._held.get(classification, self.names)

    @cached_property
    def _held(self) -> Mapping[str, frozenset[str]]:
        return {
            each: frozenset(name for name in self.names if each not in self.cleared.get(name, ()))
            for each in self.classifications
        }

    def vector_store(self, store_id: object) -> Egress | None:
        """The configured vector store of this id."""
        stores = self.named(Kind.VECTOR_STORE)
        return next((each for each in stores if each.settings.get("vector_store_id") == store_id), None)

    def searched(self, call: Mapping[str, Any]) -> frozenset[str]:
        """The names of the configured places that this search may be of; none when it goes elsewhere."""
        if "vector_store_id" in call:
            store = self.vector_store(call["vector_store_id"])
            places = (store,) if store is not None else ()
            return frozenset(each.name for each in places if _goes_to(each, call, "custom_llm_provider"))
        tools = self.named(Kind.SEARCH_TOOL)
        return frozenset(each.name for each in tools if _goes_to(each, call, "search_provider"))

    def named(self, kind: Kind) -> tuple[Egress, ...]:
        """The places of one kind."""
        return tuple(place for place in self.places if place.kind is kind)

    @cached_property
    def unavoidable(self) -> frozenset[str]:
        """The names that get every request."""
        return frozenset(place.name for place in self.places if place.runs_always)

    @cached_property
    def embedders(self) -> frozenset[str]:
        """The names of semantic caches' embedders."""
        return frozenset(place.name for place in self.named(Kind.CACHE_EMBEDDER))


def _goes_to(place: Egress, call: Mapping[str, Any], provider: str) -> bool:
    return all(call.get(name) == place.settings.get(name) for name in (provider, "api_base"))


def not_cleared(name: str, classification: str) -> Verdict:
    """The verdict for a request that could not be served without sending it to this place."""
    return Verdict(
        Reason.EGRESS_NOT_CLEARED,
        f"Requests of classification {classification!r} pass {name[:80]!r} here, which may not receive them; "
        "nothing was sent. Ask the operator of this proxy.",
    )


def egress_table(config: Mapping[str, Any], policy: PolicySnapshot) -> EgressTable:
    """Joins what LiteLLM's configuration names with what the policy block clears."""
    return EgressTable(tuple(configured(config)), policy.egress, policy.claims.classifications)


def egress_findings(config: Mapping[str, Any], policy: PolicySnapshot) -> Iterator[str]:
    """Says what is configured and not listed, listed and not configured, or embeds past the endpoints."""
    places = list(configured(config))
    for place in places:
        if place.name not in policy.egress:
            yield (
                f"{place.where}: the {place.kind} {place.name!r} may receive what callers write, and egress does "
                f"not list it; write {BLOCK}.egress: {{{place.name}: [...]}} with the classifications it may receive"
            )
    known = sorted({place.name for place in places} | CONTENT_FREE | {CONTENT_URLS})
    for name in policy.egress:
        if name not in known:
            yield f"{BLOCK}.egress: {unknown('egress', name, known)}; LiteLLM's configuration does not name it"
    yield from _foreign_embedders(config, places)
    yield from _team_destinations(config)


def _team_destinations(config: Mapping[str, Any]) -> Iterator[str]:
    teams = _mapping(config.get("litellm_settings")).get("default_team_settings")
    for position, team in enumerate(_mappings(teams)):
        # litellm_pre_call_utils.add_team_based_callbacks_from_config
        said = _mapping(team.get("callback_vars", team))
        for name in sorted(DESTINATIONS & said.keys()):
            yield (
                f"litellm_settings.default_team_settings[{position}]: {name} would send a team's requests to a place "
                "of its own under a name that egress clears; remove it: where a callback sends to stands in the "
                "environment, for everybody"
            )


def _foreign_embedders(config: Mapping[str, Any], places: list[Egress]) -> Iterator[str]:
    groups = {entry.get("model_name") for entry in _mappings(config.get("model_list"))}
    for place in places:
        if place.kind is Kind.CACHE_EMBEDDER and place.name not in groups:
            yield (
                f"{place.where} {place.name!r} is no model group of model_list: prompts would be embedded at an "
                "endpoint that no permit can name; declare it there"
            )


def configured(config: Mapping[str, Any]) -> Iterator[Egress]:
    """Every place that LiteLLM's configuration names, each name of a kind once."""
    seen = set()
    for place in _all(config):
        if (place.kind, place.name) not in seen:
            seen.add((place.kind, place.name))
            yield place


def _all(config: Mapping[str, Any]) -> Iterator[Egress]:
    litellm_settings = _mapping(config.get("litellm_settings"))
    general_settings = _mapping(config.get("general_settings"))
    yield from _callbacks(config)
    yield from _alerting(config)
    yield from _guardrails(config, litellm_settings)
    for kind, where, label, entries in (
        (
            Kind.VECTOR_STORE,
            "vector_store_registry",
            "vector_store_name",
            config.get("vector_store_registry"),
        ),
        (Kind.SEARCH_TOOL, "search_tools", "search_tool_name", config.get("search_tools")),
        (
            Kind.SEARCH_TOOL,
            "general_settings.search_tools",
            "search_tool_name",
            general_settings.get("search_tools"),
        ),
    ):
        yield from _named(kind, where, label, entries)
    for name in _mapping(config.get("mcp_servers")):
        yield Egress(Kind.MCP_SERVER, str(name), f"mcp_servers.{name}")
    yield from _embedders(litellm_settings)


def listed_callbacks(config: Mapping[str, Any], setting: str = "callbacks") -> tuple[str, ...]:
    """The entries of one of LiteLLM's callback settings, in its order."""
    return _listed(_mapping(config.get("litellm_settings")).get(setting))


def _listed(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(map(str, value)) if isinstance(value, list | tuple) else ()


def _callbacks(config: Mapping[str, Any]) -> Iterator[Egress]:
    settings = _mapping(config.get("litellm_settings"))
    for setting in _CALLBACK_SETTINGS:
        for name in listed_callbacks(config, setting):
            if name not in CONTENT_FREE:
                always = name in _TOLD_BEFORE or setting == "input_callback"
                yield Egress(Kind.CALLBACK, name, f"litellm_settings.{setting}", runs_always=always)
    for position, team in enumerate(_mappings(settings.get("default_team_settings"))):
        where = f"litellm_settings.default_team_settings[{position}]"
        for setting in _TEAM_CALLBACK_SETTINGS:
            for name in _listed(team.get(setting)):
                if name not in CONTENT_FREE:
                    yield Egress(Kind.CALLBACK, name, where, runs_always=name in _TOLD_BEFORE)
    for setting in ("post_call_rules", "pre_call_rules"):
        if isinstance(settings.get(setting), str):
            yield Egress(Kind.CALLBACK, settings[setting], f"litellm_settings.{setting}", runs_always=True)


def _alerting(config: Mapping[str, Any]) -> Iterator[Egress]:
    for name in _mapping(config.get("general_settings")).get("alerting") or ():
        yield Egress(Kind.ALERTING, str(name), "general_settings.alerting")
    if _mapping(config.get("router_settings")).get("alerting_config"):
        yield Egress(Kind.ALERTING, "slack", "router_settings.alerting_config")


def _guardrails(config: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[Egress]:
    for entry in _mappings(config.get("guardrails")):
        params = _mapping(entry.get("litellm_params"))
        yield Egress(
            Kind.GUARDRAIL,
            str(entry.get("guardrail_name")),
            "guardrails",
            runs_always=bool(params.get("default_on")),
            settings=params,
        )
    for entry in _mappings(settings.get("guardrails")):  # the form before `guardrails`
        for name, item in entry.items():
            # It starts callbacks that do not know its name, so nothing can tell when it runs.
            yield Egress(Kind.GUARDRAIL, str(name), "litellm_settings.guardrails", True, _mapping(item))


def _named(kind: Kind, where: str, label: str, entries: object) -> Iterator[Egress]:
    for position, entry in enumerate(_mappings(entries)):
        params = _mapping(entry.get("litellm_params"))
        name = str(entry.get(label) or params.get("vector_store_id") or "")
        yield Egress(kind, name, f"{where}[{position}]", settings=params)


def _embedders(settings: Mapping[str, Any]) -> Iterator[Egress]:
    params = _mapping(settings.get("cache_params"))
    kind = str(params.get("type") or "")
    if not settings.get("cache") or not kind.endswith("-semantic"):
        return
    setting = f"{kind.replace('-', '_')}_cache_embedding_model"
    # litellm.Cache.__init__: every semantic cache has this default.
    name = str(params.get(setting) or "text-embedding-ada-002")
    yield Egress(Kind.CACHE_EMBEDDER, name, f"litellm_settings.cache_params.{setting}")


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []
