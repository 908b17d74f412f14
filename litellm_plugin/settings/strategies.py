"""Strategies, built from their blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

from litellm_plugin.routing import (
    AssignedBy,
    Attested,
    Balanced,
    Composed,
    Cost,
    Fallback,
    Latency,
    Quality,
    Static,
    Table,
    Weighted,
)
from litellm_plugin.settings.custom_class import load_strategy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from litellm_plugin.routing import Strategy
    from litellm_plugin.settings.rule_block import StrategyBlock


def build_strategy(use: StrategyBlock, *, salt: str, tiers: Sequence[str]) -> Strategy:
    """Builds a strategy with all that stands inside it.

    Args:
        use: Its block.
        salt: What makes its random assignments independent of those of others.
        tiers: Every quality tier, the lowest first.

    Raises:
        ConfigurationError: A tier is not declared, or a custom class cannot be loaded.
    """
    first = _single(use, salt=salt, tiers=tuple(tiers))
    if use.then is not None:
        return Composed(first, build_strategy(use.then, salt=f"{salt}/then", tiers=tiers))
    # Candidates of one tier are equal to `quality`: what costs more than another of its tier buys nothing.
    return Composed(first, Cost()) if isinstance(first, Quality) else first


def _single(  # noqa: C901, PLR0911 - a case for each strategy
    use: StrategyBlock, *, salt: str, tiers: tuple[str, ...]
) -> Strategy:
    match use.strategy:
        case "static" if use.table is not None:
            return _table(use, use.table, salt=salt, tiers=tiers)
        case "static":
            return Static(tuple(use.endpoints or ()), are_equal=use.are_equal)
        case "attested":
            return Attested(use.endpoint or "", use.model or "")
        case "cost":
            return Cost(**_options(use, "tolerance"))
        case "quality":
            return Quality(tiers, use.tier, use.floor, use.minimum_quality)
        case "latency":
            return Latency(**_options(use, "tolerance", "minimum_samples"))
        case "balanced":
            return Balanced(use.weights or {}, tiers, **_options(use, "tolerance"))
        case "weighted":
            by = AssignedBy.REQUEST_ID if use.by is None else AssignedBy(use.by)
            return Weighted(use.weights or {}, by, salt, use.assigned_only)
        case "fallback":
            return Fallback(tuple(use.chain or ()), others_last=use.others_last)
        case "custom":
            return load_strategy(use.class_path or "", use.options)
        case _:
            assert_never(use.strategy)


def _table(
    use: StrategyBlock, table: Mapping[str, Sequence[str]], *, salt: str, tiers: tuple[str, ...]
) -> Table:
    rows = {value: Static(tuple(endpoints), are_equal=use.are_equal) for value, endpoints in table.items()}
    inner = use.otherwise
    otherwise = None if inner is None else build_strategy(inner, salt=f"{salt}/else", tiers=tiers)
    return Table(use.by or "", rows, otherwise)


def _options(use: StrategyBlock, *names: str) -> dict[str, Any]:
    """The options that are given; the strategy itself knows the defaults of the others."""
    return {name: getattr(use, name) for name in names if getattr(use, name) is not None}
