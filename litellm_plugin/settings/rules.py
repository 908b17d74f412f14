"""Rules, built from their blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.routing import Rule, RuleSet, compared_texts, compile_condition, row_condition
from litellm_plugin.settings.explanation import BLOCK, unknown
from litellm_plugin.settings.strategies import build_strategy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from litellm_plugin.settings.policy_block import PolicyBlock
    from litellm_plugin.settings.rule_block import RowBlock, RuleBlock, StrategyBlock


def rule_set(block: PolicyBlock) -> RuleSet:
    """Compiles the rules and builds their strategies.

    Raises:
        ConfigurationError: Names the rule and what is wrong with it.
    """
    tiers = block.quality_tiers
    try:
        default = build_strategy(block.default, salt="default", tiers=tiers)
    except ConfigurationError as error:
        raise ConfigurationError(f"{BLOCK}.default: {error}") from error
    declared = declared_values(block)
    return RuleSet(
        rules=tuple(_with_declared(rule, declared) for each in block.rules for rule in _rules(each, tiers)),
        default=Rule(name="default", condition=None, strategy=default),
    )


def declared_values(block: PolicyBlock) -> dict[str, Sequence[str]]:
    """The values that permits may carry, by the fact's name."""
    return {
        "permit.data_classification": list(block.classifications),
        "permit.tenant_tier": block.tenant_tiers,
        "permit.latency_class": list(block.latency_classes),
    }


def _rules(block: RuleBlock, tiers: Sequence[str]) -> Iterator[Rule]:
    """The rule, or a rule for each row of its table."""
    if block.table is None and block.when is not None and block.use is not None:
        yield _rule(block.name, block.when, block.use, tiers)
    for number, row in enumerate(block.table or (), 1):
        name = f"{block.name}/{row.name or number}"
        yield _rule(name, _row_condition(name, row), row.use, tiers)


def _rule(name: str, when: str, use: StrategyBlock, tiers: Sequence[str]) -> Rule:
    try:
        strategy = build_strategy(use, salt=name, tiers=tiers)
        return Rule(name=name, condition=compile_condition(when), strategy=strategy)
    except ConfigurationError as error:
        raise ConfigurationError(f"{BLOCK}.rules: rule {name!r}: {error}") from error


def _with_declared(rule: Rule, declared: Mapping[str, Sequence[str]]) -> Rule:
    """The rule; no permit carries a value that is not declared, so a rule that asks for one would never match."""
    source = rule.condition.source if rule.condition is not None else ""
    for name, text in compared_texts(source):
        if text not in declared.get(name, [text]):
            kind = name.removeprefix("permit.")
            raise ConfigurationError(
                f"{BLOCK}.rules: rule {rule.name!r}: {unknown(kind, text, declared[name])}"
            )
    return rule


def _row_condition(name: str, row: RowBlock) -> str:
    try:
        return row_condition(row.when)
    except ConfigurationError as error:
        raise ConfigurationError(f"{BLOCK}.rules: row {name!r}: {error}") from error
