"""The command `permit-router endpoints`: what is known of each deployment, and where each fact comes from."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.proxy.config_file import read_config
from litellm_plugin.proxy.declared_facts import fact_findings

if TYPE_CHECKING:
    from litellm_plugin.proxy.candidate_facts import CandidateFacts
    from litellm_plugin.routing import Candidate, Prices

_WRONG: Final = 1
_UNREADABLE: Final = 2
_DECLARED_ALONE: Final = frozenset(
    {"attributes", "clearances", "latency_classes", "languages", "region", "tier", "quality"}
)
_MILLION: Final = 1_000_000
_TOKEN_PRICES: Final = ("input_usd", "cached_input_usd", "output_usd")
_UNIT_PRICES: Final = (
    "request_usd",
    "image_input_usd",
    "image_output_usd",
    "audio_input_usd",
    "character_usd",
    "query_usd",
)


def endpoints(
    config: Annotated[Path, typer.Argument(help="LiteLLM's configuration, as `litellm --config` takes it.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array instead of tables.")] = False,
) -> None:
    """Shows what routing knows of each deployment, and where each fact comes from.

    Nothing is started, fetched or sent, and no key or address is printed. A source is `declared` (in
    model_info), `litellm_params`, `cost map NAME` (LiteLLM's own, as installed here) or `default`. Exit code 0:
    every fact was read; 1: some are not what is expected; 2: the configuration cannot be read.
    """
    try:
        entries = _entries(read_config(config))
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(_UNREADABLE) from error
    # LiteLLM's import would fetch prices.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    from litellm_plugin.proxy.candidate_facts import candidate_facts  # noqa: PLC0415 - LiteLLM takes seconds to import

    read = [(str(entry.get("model_name") or ""), candidate_facts(entry)) for _, entry in entries]
    if as_json:
        print(json.dumps([_record(group, facts) for group, facts in read], indent=2))
    else:
        print("\n\n".join("\n".join(_table(group, facts)) for group, facts in read))
    findings = [finding for where, entry in entries for finding in _findings(where, entry)]
    for finding in findings:
        print(f"wrong: {finding}", file=sys.stderr)
    if findings:
        raise typer.Exit(_WRONG)


def _entries(config: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    listed = config.get("model_list")
    if not isinstance(listed, list) or not listed:
        raise ConfigurationError("model_list: expected a list of deployments, got none")
    return [(f"model_list[{position}]", _entry(position, entry)) for position, entry in enumerate(listed)]


def _entry(position: int, entry: object) -> Mapping[str, Any]:
    if not isinstance(entry, Mapping):
        raise ConfigurationError(
            f"model_list[{position}]: expected a mapping, {type(entry).__name__} stands there"
        )
    for name in ("litellm_params", "model_info"):
        if entry.get(name) is not None and not isinstance(entry[name], Mapping):
            raise ConfigurationError(
                f"model_list[{position}].{name}: expected a mapping, {type(entry[name]).__name__} stands there"
            )
    return entry


def _findings(where: str, entry: Mapping[str, Any]) -> Iterator[str]:
    info, params = entry.get("model_info") or {}, entry.get("litellm_params") or {}
    named = f"{where} ({str(entry.get('model_name'))[:80]!r})"
    yield from fact_findings(named, info, params, None)


def _record(group: str, facts: CandidateFacts) -> dict[str, Any]:
    return {
        "deployment_id": facts.candidate.deployment_id,
        "group": group,
        "facts": [{"name": name, "value": value, "source": source} for name, value, source in _facts(facts)],
    }


def _table(group: str, facts: CandidateFacts) -> Iterator[str]:
    yield f"{facts.candidate.deployment_id or '(no id)'} of group {group or '(none)'}"
    rows = [(name, _text(name, value), source) for name, value, source in _facts(facts)]
    names, values = (max(len(row[column]) for row in rows) for column in (0, 1))
    for name, value, source in rows:
        yield f"  {name:{names}}  {value:{values}}  {source}".rstrip()


def _facts(facts: CandidateFacts) -> Iterator[tuple[str, Any, str]]:
    """Name, value and source of each fact; None is unknown or undeclared."""
    candidate, sources = facts.candidate, facts.sources
    yield "endpoint", candidate.endpoint or None, sources.get("endpoint", "")
    yield "model", candidate.model, sources.get("model", "")
    for member in (*_TOKEN_PRICES, *_UNIT_PRICES):
        source = sources.get(f"prices.{member}", "")
        if source or member in _TOKEN_PRICES:
            yield _price_name(member), _priced(candidate.prices, member), source
    yield from _further_prices(candidate, sources)
    for name, value in _others(candidate):
        yield name, value, sources.get(name, "")
    yield (
        "synthetic_prompts",
        facts.takes_synthetic_prompts,
        "declared" if facts.takes_synthetic_prompts else "",
    )
    for capability in sorted(candidate.capabilities):
        yield f"capability {capability}", True, sources.get(f"capabilities.{capability}", "")


def _further_prices(candidate: Candidate, sources: Mapping[str, str]) -> Iterator[tuple[str, Any, str]]:
    """The prices of long prompts, and those of tenant tiers where they differ."""
    for step in candidate.prices.steps:
        for member in _TOKEN_PRICES:
            price = getattr(step, member)
            if price is not None:
                name = f"{_price_name(member)} above {step.above_tokens} tokens"
                yield name, _per_million(price), sources.get("prices.steps", "")
    for tier, prices in candidate.tier_prices.items():
        for member in (*_TOKEN_PRICES, *_UNIT_PRICES):
            if getattr(prices, member) != getattr(candidate.prices, member):
                yield f"{_price_name(member)} for {tier}", _priced(prices, member), sources["tier_prices"]


def _others(candidate: Candidate) -> Iterator[tuple[str, Any]]:
    yield "max_input_tokens", candidate.max_input_tokens
    yield "max_output_tokens", candidate.max_output_tokens
    yield "cache_lifetime_s", candidate.cache_lifetime_s
    for name in ("attributes", "clearances", "latency_classes", "languages"):
        declared = getattr(candidate, name)
        yield name, sorted(declared) if declared is not None else None
    yield "region", candidate.region
    yield "tier", candidate.tier
    yield "quality", candidate.quality


def _price_name(member: str) -> str:
    unit = " per million" if member in _TOKEN_PRICES else ""
    return f"{member}{unit}"


def _priced(prices: Prices, member: str) -> float | None:
    price: float | None = getattr(prices, member)
    return _per_million(price) if member in _TOKEN_PRICES else price


def _per_million(price_usd: float | None) -> float | None:
    return None if price_usd is None else round(price_usd * _MILLION, 6)


def _text(name: str, value: object) -> str:
    match value:
        case None:
            return "undeclared" if name in _DECLARED_ALONE else "unknown"
        case True:
            return "yes"
        case False:
            return "no"
        case list():
            return ", ".join(map(str, value)) or "none"
        case float():
            return f"{value:g}"
        case _:
            return str(value)
