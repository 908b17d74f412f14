"""Prices: what a deployment costs, out of what is stated for it, in LiteLLM's order of precedence.

LiteLLM bills a deployment that states rates of its own by those alone, `litellm_params` before `model_info`,
and with the cost map's price of cached tokens where it states none; any other deployment by the cost map.
Images are billed by the deployment's own price where it has one, whatever else it states.
Source: `Router._deployment_model_cost_payload`, `select_model_name_for_cost_calc` and
`default_image_cost_calculator`, LiteLLM 1.106. Where LiteLLM bills a rate that nobody stated at 0, it is unknown here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from litellm_plugin.routing.candidates import Prices, PriceStep

DECLARED: Final = "declared"
PARAMS: Final = "litellm_params"

INPUT: Final = "input_cost_per_token"
OUTPUT: Final = "output_cost_per_token"
CACHED: Final = "cache_read_input_token_cost"
PER_REQUEST: Final = "input_cost_per_request"

# litellm/cost_calculator.py, `_cost_map_entry_prices_anything`: with one of these a deployment has rates of its own.
_RATES: Final = frozenset(
    {
        "cost_per_second",
        "input_cost_per_second",
        "output_cost_per_second",
        "input_cost_per_query",
        "tiered_pricing",
    }
)
# litellm/router.py, `_inherit_builtin_cache_pricing`.
_INHERITED: Final = (CACHED, f"{CACHED}_above_200k_tokens")
_IMAGE_KEYS: Final = ("input_cost_per_image", "output_cost_per_image", "input_cost_per_pixel")
_APART: Final = frozenset({*_IMAGE_KEYS, PER_REQUEST})
_LONG: Final = re.compile(rf"({INPUT}|{OUTPUT}|{CACHED})_above_(\d+)(k?)_tokens")
# litellm/litellm_core_utils/llm_cost_calc/utils.py: these bill the higher price at the limit itself.
_INCLUSIVE: Final = frozenset({"xai"})
# The size of an image that nobody chose: `default_image_cost_calculator`.
_PIXELS: Final = 1024 * 1024
# https://platform.openai.com/docs/guides/image-generation#cost-and-latency: 1024x1024 at medium quality.
_IMAGE_TOKENS: Final = 1056
# https://ai.google.dev/gemini-api/docs/audio and https://platform.openai.com/docs/guides/realtime-costs
_AUDIO_TOKENS_PER_S: Final = {"gemini": 32, "vertex_ai": 32}
_OTHER_AUDIO_TOKENS_PER_S: Final = 10
_TEXT_CHARS: Final = 32

PRICE_KEYS: Final = frozenset(
    {
        INPUT,
        OUTPUT,
        CACHED,
        PER_REQUEST,
        *_IMAGE_KEYS,
        "input_cost_per_second",
        "input_cost_per_audio_per_second",
        "input_cost_per_audio_token",
        "input_cost_per_character",
        "input_cost_per_query",
        "output_cost_per_image_token",
    }
)
"""The names that a price may have in a deployment, beside `…_above_200k_tokens` of the first three."""

Stated: TypeAlias = Mapping[str, tuple[object, str]]
"""What is stated, by LiteLLM's name of it: the value as it stands there, and where it stands."""


@dataclass(frozen=True, slots=True)
class PriceList:
    """The prices of a deployment.

    Attributes:
        prices: For tenants whose tier has none of its own.
        by_tier: For the tenants of a tier.
        sources: Where each known price stands, by the member of `Prices`.
    """

    prices: Prices
    by_tier: Mapping[str, Prices]
    sources: Mapping[str, str]


def price_of(value: object) -> float | None:
    """A price in USD; None for what is none. YAML 1.1 reads `3e-6` as text, and it is a price all the same."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and len(value) > _TEXT_CHARS:
        return None
    try:
        price = float(value)
    except (ValueError, OverflowError):
        return None
    return price if math.isfinite(price) and price >= 0 else None


def is_price_key(key: str) -> bool:
    """Whether a deployment may state a price under this name."""
    return key in PRICE_KEYS or _LONG.fullmatch(key) is not None


def price_list(
    info: Mapping[str, object],
    params: Mapping[str, object],
    known: Mapping[str, object],
    *,
    known_as: str,
    provider: str,
) -> PriceList:
    """Reads the prices of one deployment; what nobody states is unknown, never 0.

    Args:
        info: Its `model_info`.
        params: Its `litellm_params`.
        known: LiteLLM's cost map's entry for it; empty when there is none.
        known_as: What to call that entry as a source.
        provider: LiteLLM's name of its provider.
    """
    stated = _stated(info, params, _marked(known, known_as))
    prices, sources = _read(stated, provider)
    own = info.get("prices")
    tiers = own.items() if isinstance(own, Mapping) else ()
    by_tier = {
        str(tier): _read({**stated, **_marked(changes, DECLARED)}, provider)[0]
        for tier, changes in tiers
        if isinstance(changes, Mapping)
    }
    return PriceList(prices, by_tier, sources)


def _marked(values: Mapping[str, object], source: str) -> dict[str, tuple[object, str]]:
    return {
        name: (value, source)
        for name, value in values.items()
        if value is not None and (is_price_key(name) or _is_rate(name))
    }


def _is_rate(name: str) -> bool:
    return name in _RATES or ("cost_per" in name and "token" in name)


def _stated(info: Mapping[str, object], params: Mapping[str, object], known: Stated) -> Stated:
    own = {**_marked(info, DECLARED), **_marked(params, PARAMS)}
    apart = {name: own[name] for name in own if name in _APART}
    if not any(_is_rate(name) for name in own):
        # An own price of an image stands in the place of all of the cost map's.
        images = _IMAGE_KEYS if any(name in own for name in _IMAGE_KEYS) else ()
        return {**own, **{name: known[name] for name in known if name not in images}, **apart}
    if INPUT not in own:
        return own
    return {**{name: known[name] for name in _INHERITED if name in known}, **own}


def _read(stated: Stated, provider: str) -> tuple[Prices, dict[str, str]]:
    sources: dict[str, str] = {}

    def first(member: str, *keys: tuple[str, float]) -> float | None:
        """The first of the keys that is stated, times what one unit of it is of ours."""
        for key, units in keys:
            if key in stated:
                value, source = stated[key]
                sources[member] = source
                price = price_of(value)
                return None if price is None else price * units
        return None

    audio_tokens = _AUDIO_TOKENS_PER_S.get(provider, _OTHER_AUDIO_TOKENS_PER_S)
    flat = Prices(
        input_usd=first("input_usd", (INPUT, 1)),
        output_usd=first("output_usd", (OUTPUT, 1)),
        request_usd=first("request_usd", (PER_REQUEST, 1)) if PER_REQUEST in stated else 0.0,
        cached_input_usd=first("cached_input_usd", (CACHED, 1)),
        image_input_usd=first("image_input_usd", ("input_cost_per_image", 1)),
        image_output_usd=first(
            "image_output_usd",
            ("input_cost_per_image", 1),
            ("output_cost_per_image", 1),
            ("input_cost_per_pixel", _PIXELS),
            ("output_cost_per_image_token", _IMAGE_TOKENS),
        ),
        audio_input_usd=first(
            "audio_input_usd",
            ("input_cost_per_audio_per_second", 1),
            ("input_cost_per_second", 1),
            ("input_cost_per_audio_token", audio_tokens),
        ),
        character_usd=first("character_usd", ("input_cost_per_character", 1)),
        query_usd=first("query_usd", ("input_cost_per_query", 1)),
    )
    prices = _stepped(flat, stated, sources, is_inclusive=provider in _INCLUSIVE)
    return prices, sources


def _stepped(flat: Prices, stated: Stated, sources: dict[str, str], *, is_inclusive: bool) -> Prices:
    tiers, source = stated.get("tiered_pricing", (None, ""))
    ranges = _ranges(tiers)
    if ranges:
        sources.update(dict.fromkeys(("input_usd", "output_usd", "cached_input_usd", "steps"), source))
        return _tiered(flat, ranges)
    steps = _steps(stated, is_inclusive=is_inclusive)
    if steps:
        sources["steps"] = next(source for name, (_, source) in stated.items() if _LONG.fullmatch(name))
    return replace(flat, steps=steps)


def _steps(stated: Stated, *, is_inclusive: bool) -> tuple[PriceStep, ...]:
    """The prices above a limit: `input_cost_per_token_above_200k_tokens` and its like."""
    found: dict[int, dict[str, float]] = {}
    for name, (value, _) in stated.items():
        match = _LONG.fullmatch(name)
        price = price_of(value) if match else None
        if match is None or price is None:
            continue
        limit = int(match[2]) * (1000 if match[3] else 1) - is_inclusive
        found.setdefault(limit, {})[_STEP_MEMBERS[match[1]]] = price
    return tuple(PriceStep(limit, **found[limit]) for limit in sorted(found))


_STEP_MEMBERS: Final = {INPUT: "input_usd", OUTPUT: "output_usd", CACHED: "cached_input_usd"}


def _ranges(tiers: object) -> list[tuple[int, Mapping[str, object]]]:
    """LiteLLM's `tiered_pricing`, as the tokens above which each range holds; empty where it is none."""
    if not isinstance(tiers, list):
        return []
    found = []
    for tier in tiers:
        bounds = tier.get("range") if isinstance(tier, Mapping) else None
        if isinstance(bounds, list) and len(bounds) == 2 and price_of(bounds[0]) is not None:  # noqa: PLR2004 - from, to
            found.append((int(float(bounds[0])), tier))
    return sorted(found, key=lambda each: each[0])


def _tiered(flat: Prices, ranges: Iterable[tuple[int, Mapping[str, object]]]) -> Prices:
    """Every token of a request costs what the range of its prompt's length says; `_get_tiered_base_costs`."""
    first, *others = (_step(above, tier, flat) for above, tier in ranges)
    return replace(
        flat,
        input_usd=first.input_usd,
        output_usd=first.output_usd,
        cached_input_usd=first.cached_input_usd,
        steps=tuple(others),
    )


def _step(above_tokens: int, tier: Mapping[str, object], flat: Prices) -> PriceStep:
    input_usd = price_of(tier.get(INPUT))
    output_usd = price_of(tier[OUTPUT]) if OUTPUT in tier else flat.output_usd
    return PriceStep(above_tokens, input_usd, output_usd, price_of(tier.get(CACHED, tier.get(INPUT))))
