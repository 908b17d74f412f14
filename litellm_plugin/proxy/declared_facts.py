"""Declared facts: what a deployment's `model_info` says, held against what can be read there."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from litellm_plugin.proxy.prices import is_price_key, price_of
from litellm_plugin.proxy.quota_facts import LIMITS, is_limit, limit_parameter
from litellm_plugin.routing.facts import Capability

if TYPE_CHECKING:
    from litellm_plugin.settings import PolicySnapshot

# What this plugin reads of `model_info`, beside prices.
FACTS: Final = (
    "endpoint",
    "attributes",
    "clearances",
    "latency_classes",
    "capabilities",
    "languages",
    "region",
    "quality_tier",
    "quality",
    "max_input_tokens",
    "max_output_tokens",
    "cache_lifetime_seconds",
    "prices",
    "synthetic_prompts",
)
ASKED_MODES: Final = ("chat", "embedding")
"""What deployments are asked, by LiteLLM's `mode` of their model."""

_CAPABILITIES: Final = tuple(str(each) for each in Capability)
_LANGUAGE_CHARS: Final = 2
_REFERENCE: Final = "os.environ/"


def allows_synthetic_prompts(entry: Mapping[str, Any]) -> bool:
    """Whether a deployment declares that it may be asked with the plugin's own prompt: `true`, and nothing like it.

    Args:
        entry: An entry of LiteLLM's model list.
    """
    info = entry.get("model_info")
    return isinstance(info, Mapping) and info.get("synthetic_prompts") is True


def why_not_asked(params: Mapping[str, Any], mode: object) -> str | None:
    """Why a deployment is not asked whatever it declares; None where it is.

    Args:
        params: Its `litellm_params`.
        mode: What LiteLLM says that its model does; None stands for chat.
    """
    if "*" in str(params.get("model") or ""):
        return "a wildcard names no model to ask"
    if mode is not None and mode not in ASKED_MODES:
        return f"its mode is {_shown(mode)}, and only {' and '.join(ASKED_MODES)} are asked"
    return None


def fact_findings(
    where: str, info: Mapping[str, Any], params: Mapping[str, Any], policy: PolicySnapshot | None
) -> Iterator[str]:
    """What of a deployment's facts would be ignored or misread, and what to write instead.

    Args:
        where: Names the deployment.
        info: Its `model_info`.
        params: Its `litellm_params`.
        policy: What the operator declares; None leaves out what is held against that.
    """
    yield from _misspelt(where, info)
    if info.get("tier") not in {None, "free", "paid"}:
        # litellm/types/router.py, ModelInfo: the router drops such a deployment with a log line.
        yield (
            f"{where}: model_info.tier is LiteLLM's own and takes only 'free' or 'paid', {info['tier']!r} stands "
            "there; a quality tier is model_info.quality_tier"
        )
    for key, (is_right, expected) in _SHAPES.items():
        value = info.get(key)
        if value is not None and not is_right(value):
            yield f"{where}: model_info.{key} is {_shown(value)}; {expected} is expected"
    yield from _unknown_capabilities(where, info)
    unasked = why_not_asked(params, info.get("mode")) if info.get("synthetic_prompts") is True else None
    if unasked is not None:
        yield f"{where}: model_info.synthetic_prompts is true, but {unasked}; remove it"
    yield from _undeclared(where, info, policy)
    yield from _unreadable_limits(f"{where}: model_info", {name: info.get(name) for name in LIMITS})
    yield from _unreadable_limits(
        f"{where}: litellm_params", {name: limit_parameter(params.get(name)) for name in LIMITS}
    )
    for place, values in (("model_info", info), ("litellm_params", params)):
        yield from _unreadable_prices(f"{where}: {place}", values)
    yield from _tier_prices(f"{where}: model_info.prices", info.get("prices"), policy)


def _misspelt(where: str, info: Mapping[str, Any]) -> Iterator[str]:
    """Finds keys that are almost ours: `clearences` would be ignored, and with it the restriction."""
    for key in info:
        if key in FACTS:
            continue
        nearest = difflib.get_close_matches(str(key), FACTS, n=1, cutoff=0.8)
        if nearest:
            yield f"{where}: model_info.{key} is not known; did you mean {nearest[0]!r}?"


def _unknown_capabilities(where: str, info: Mapping[str, Any]) -> Iterator[str]:
    declared = info.get("capabilities")
    for name in declared if isinstance(declared, list) else ():
        if name not in _CAPABILITIES:
            nearest = difflib.get_close_matches(str(name), _CAPABILITIES, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known are {', '.join(_CAPABILITIES)}"
            yield f"{where}: model_info.capabilities names {_shown(name)}, which is not known; {hint}"


def _undeclared(where: str, info: Mapping[str, Any], policy: PolicySnapshot | None) -> Iterator[str]:
    if policy is None:
        return
    for key, known in (
        ("clearances", policy.claims.classifications),
        ("latency_classes", policy.claims.latency_classes),
    ):
        value = info.get(key)
        for unknown in sorted({str(each) for each in value} - known) if isinstance(value, list) else ():
            yield f"{where}: model_info.{key} names {unknown!r}, which the policy block does not declare"
    tier = info.get("quality_tier")
    if policy.quality_tiers and isinstance(tier, str) and tier not in policy.quality_tiers:
        yield (
            f"{where}: model_info.quality_tier is {_shown(tier)}, which `quality_tiers` of the policy block does not "
            f"declare; known are {', '.join(policy.quality_tiers)}"
        )


def limit_warnings(where: str, info: Mapping[str, Any], params: Mapping[str, Any]) -> Iterator[str]:
    """Which limits keep a deployment from every request.

    Args:
        where: Names the deployment.
        info: Its `model_info`.
        params: Its `litellm_params`.
    """
    for place, values in (("model_info", info), ("litellm_params", params)):
        for name in LIMITS:
            limit = limit_parameter(values.get(name))
            if is_limit(limit) and limit == 0:
                yield f"{where}: {place}.{name} is 0, so nothing is sent there; write a whole number of 1 or more"


def _unreadable_limits(where: str, limits: Mapping[str, object]) -> Iterator[str]:
    for name, value in limits.items():
        if value is None or is_limit(value) or (isinstance(value, str) and value.startswith(_REFERENCE)):
            continue
        yield f"{where}.{name} is {_shown(value)}; a whole number of 1 or more is expected"


def _unreadable_prices(where: str, values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        if value is None or not is_price_key(str(key)) or price_of(value) is not None:
            continue
        if isinstance(value, str) and value.startswith(_REFERENCE):
            continue
        yield f"{where}.{key} is {_shown(value)}; a price in USD, 0 or more, is expected"


def _tier_prices(where: str, tiers: object, policy: PolicySnapshot | None) -> Iterator[str]:
    for tier, prices in tiers.items() if isinstance(tiers, Mapping) else ():
        if policy is not None and tier not in policy.claims.tenant_tiers:
            yield f"{where} names {str(tier)!r}, which `tenant_tiers` of the policy block does not declare"
        if not isinstance(prices, Mapping):
            yield f"{where}.{tier} is {_shown(prices)}; prices by LiteLLM's names are expected"
            continue
        for key in prices:
            if not is_price_key(str(key)):
                yield f"{where}.{tier}.{key} is no price; prices are named as LiteLLM names them (input_cost_per_token, …)"
        yield from _unreadable_prices(f"{where}.{tier}", prices)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"  # noqa: PLR2004 - a line of a log


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _are_languages(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, str) and len(each.partition("-")[0]) == _LANGUAGE_CHARS for each in value
    )


_SHAPES: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "attributes": (_is_list, "a list"),
    "clearances": (_is_list, "a list"),
    "latency_classes": (_is_list, "a list"),
    "capabilities": (_is_list, "a list"),
    "languages": (_are_languages, "a list of ISO 639-1 codes such as [en, de]"),
    "region": (_is_text, "a name"),
    "quality_tier": (_is_text, "a name"),
    "quality": (lambda value: _is_number(value) and 0 <= value <= 1, "a number from 0 to 1"),
    "max_input_tokens": (_is_whole, "a whole number above 0"),
    "max_output_tokens": (_is_whole, "a whole number above 0"),
    "cache_lifetime_seconds": (
        lambda value: _is_number(value) and 0 < value < float("inf"),
        "a number of seconds above 0",
    ),
    "prices": (lambda value: isinstance(value, Mapping), "a table of prices by tenant tier"),
    "synthetic_prompts": (lambda value: isinstance(value, bool), "true or false"),
}
