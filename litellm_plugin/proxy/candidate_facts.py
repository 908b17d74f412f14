"""Candidate facts: what is known of a deployment, and where each fact comes from."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from litellm_plugin.proxy.cost_map import is_known, known_model, resolved
from litellm_plugin.proxy.declared_facts import allows_synthetic_prompts, why_not_asked
from litellm_plugin.proxy.prices import DECLARED, PARAMS, price_list
from litellm_plugin.routing.candidates import Candidate
from litellm_plugin.routing.facts import Capability

if TYPE_CHECKING:
    from collections.abc import Mapping

_Fact = TypeVar("_Fact")

DEFAULT: Final = "default"

# How long a provider keeps a prefix that nobody reads, at least, in seconds. Others do not say.
# https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching: five minutes, and again at each use.
# https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html: five minutes, and again at each use.
# https://platform.openai.com/docs/guides/prompt-caching: five to ten minutes without use.
# https://learn.microsoft.com/azure/ai-services/openai/how-to/prompt-caching: five to ten minutes without use.
_CACHE_LIFETIMES_S: Final = {
    "anthropic": 300.0,
    "azure": 300.0,
    "bedrock": 300.0,
    "bedrock_converse": 300.0,
    "openai": 300.0,
}


@dataclass(frozen=True, slots=True)
class CandidateFacts:
    """What is known of one deployment.

    Attributes:
        candidate: The facts.
        sources: Where each known fact stands, by its name in `Candidate` or, as `prices.input_usd`, in its
            prices: `declared` (in `model_info`), `litellm_params`, `cost map NAME` or `default`.
        takes_synthetic_prompts: Whether it may be asked with the plugin's own prompt, and its model is one that is.
    """

    candidate: Candidate
    sources: Mapping[str, str]
    takes_synthetic_prompts: bool = False


def deployment_id(entry: Mapping[str, Any]) -> str:
    """LiteLLM's id of a deployment; empty when it has none."""
    info = entry.get("model_info") or {}
    return str(info.get("id") or "")


def endpoint_name(entry: Mapping[str, Any]) -> str:
    """The name that a permit authorizes: `model_info.endpoint`, else the deployment's id."""
    info = entry.get("model_info") or {}
    return str(info.get("endpoint") or info.get("id") or "")


def identity(entry: Mapping[str, Any]) -> Candidate:
    """A deployment as far as it decides who may reach it: neither what it costs nor what it can."""
    info: Mapping[str, Any] = entry.get("model_info") or {}
    return Candidate(
        deployment_id=deployment_id(entry),
        endpoint=endpoint_name(entry),
        clearances=_names(info.get("clearances")),
        attributes=_names(info.get("attributes")) or frozenset(),
        region=_text(info.get("region")),
    )


def candidate(entry: Mapping[str, Any]) -> Candidate:
    """Reads one deployment: declared facts first, then LiteLLM's cost map."""
    return candidate_facts(entry).candidate


def candidate_facts(entry: Mapping[str, Any]) -> CandidateFacts:
    """Reads one deployment, with the source of each fact; what cannot be read is unknown and never raised."""
    info: Mapping[str, Any] = entry.get("model_info") or {}
    params: Mapping[str, Any] = entry.get("litellm_params") or {}
    _, provider = resolved(str(params.get("model") or ""), _text(params.get("custom_llm_provider")))
    known_name, known = known_model(info, params, provider)
    known_as = f"cost map {known_name}"
    found = _Found()
    prices = price_list(info, params, known, known_as=known_as, provider=provider)
    named = str(info.get("endpoint") or "") or None
    read = Candidate(
        deployment_id=deployment_id(entry),
        endpoint=found.first("endpoint", (DECLARED, named), (DEFAULT, endpoint_name(entry) or None)) or "",
        model=found.first("model", (PARAMS, _text(params.get("model")))),
        provider=provider if is_known(provider) else None,
        clearances=found.first("clearances", (DECLARED, _names(info.get("clearances")))),
        attributes=found.first("attributes", (DECLARED, _names(info.get("attributes")))) or frozenset(),
        latency_classes=found.first("latency_classes", (DECLARED, _names(info.get("latency_classes")))),
        capabilities=_capabilities(info, known, known_as, found),
        languages=found.first("languages", (DECLARED, _languages(info.get("languages")))),
        max_input_tokens=found.first(
            "max_input_tokens",
            (DECLARED, _whole(info.get("max_input_tokens"))),
            (known_as, _whole(known.get("max_input_tokens"))),
        ),
        max_output_tokens=found.first(
            "max_output_tokens",
            (DECLARED, _whole(info.get("max_output_tokens"))),
            (known_as, _whole(known.get("max_output_tokens"))),
        ),
        prices=prices.prices,
        tier_prices=found.first(
            "tier_prices", (DECLARED, MappingProxyType(prices.by_tier) if prices.by_tier else None)
        )
        or {},
        region=found.first("region", (DECLARED, _text(info.get("region")))),
        tier=found.first("tier", (DECLARED, _text(info.get("quality_tier")))),
        quality=found.first("quality", (DECLARED, _quality(info.get("quality")))),
        cache_lifetime_s=found.first(
            "cache_lifetime_s",
            (DECLARED, _seconds(info.get("cache_lifetime_seconds"))),
            (DEFAULT, _default_lifetime_s(known, provider)),
        ),
    )
    of_prices = {f"prices.{member}": source for member, source in prices.sources.items()}
    unasked = why_not_asked(params, info.get("mode") or known.get("mode"))
    is_asked = allows_synthetic_prompts(entry) and unasked is None
    return CandidateFacts(read, {**found.sources, **of_prices}, is_asked)


class _Found:
    """Remembers where each fact was found."""

    def __init__(self) -> None:
        self.sources: dict[str, str] = {}

    def first(self, name: str, *places: tuple[str, _Fact | None]) -> _Fact | None:
        """The first of the places that knows the fact."""
        for source, value in places:
            if value is not None:
                self.sources[name] = source
                return value
        return None


def _capabilities(
    info: Mapping[str, Any], known: Mapping[str, Any], known_as: str, found: _Found
) -> frozenset[Capability]:
    declared = _names(info.get("capabilities")) or frozenset()
    supported = set()
    for capability in Capability:
        key = f"supports_{capability}"
        own = True if capability in declared else info.get(key)
        is_supported = known.get(key) is True if own is None else own is True
        if is_supported:
            found.sources[f"capabilities.{capability}"] = known_as if own is None else DECLARED
            supported.add(capability)
    return frozenset(supported)


def _default_lifetime_s(known: Mapping[str, Any], provider: str) -> float | None:
    if known.get("supports_prompt_caching") is not True:
        return None
    return _CACHE_LIFETIMES_S.get(provider)


def _names(value: object) -> frozenset[str] | None:
    """Declared names; None when nothing is declared. What is no list declares nothing that could be allowed."""
    if value is None:
        return None
    if not isinstance(value, list | tuple | set | frozenset):
        return frozenset()
    return frozenset(str(entry) for entry in value)


def _languages(value: object) -> frozenset[str] | None:
    """Declared languages in ISO 639-1; a regional tag such as `pt-BR` declares its language."""
    names = _names(value)
    return None if names is None else frozenset(name.lower().partition("-")[0] for name in names)


def _text(value: object) -> str | None:
    return str(value) if isinstance(value, str) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _quality(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return None
    return float(value)


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        return None
    return float(value)
