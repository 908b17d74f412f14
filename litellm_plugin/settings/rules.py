"""Rules and strategies, built from their blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.routing import Cost, Rule, RuleSet, Static, compile_condition, row_condition
from litellm_plugin.settings.explanation import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from litellm_plugin.routing import Strategy
    from litellm_plugin.settings.policy_block import PolicyBlock
    from litellm_plugin.settings.rule_block import RowBlock, RuleBlock, StrategyBlock


def rule_set(block: PolicyBlock) -> RuleSet:
    """Compiles the rules and builds their strategies.

    Raises:
        ConfigurationError: Names the rule and what is wrong with it.
    """
    return RuleSet(
        rules=tuple(rule for each in block.rules for rule in _rules(each)),
        default=Rule(name="default", condition=None, strategy=_strategy(block.default)),
    )


def _rules(block: RuleBlock) -> Iterator[Rule]:
    """The rule, or a rule for each row of its table."""
    if block.table is None and block.when is not None and block.use is not None:
        yield _rule(block.name, block.when, block.use)
    for number, row in enumerate(block.table or (), 1):
        name = f"{block.name}/{row.name or number}"
        yield _rule(name, _row_condition(name, row), row.use)


def _rule(name: str, when: str, use: StrategyBlock) -> Rule:
    try:
        return Rule(name=name, condition=compile_condition(when), strategy=_strategy(use))
    except ConfigurationError as error:
        raise ConfigurationError(f"{BLOCK}.rules: rule {name!r}: {error}") from error


def _row_condition(name: str, row: RowBlock) -> str:
    try:
        return row_condition(row.when)
    except ConfigurationError as error:
        raise ConfigurationError(f"{BLOCK}.rules: row {name!r}: {error}") from error


def _strategy(use: StrategyBlock) -> Strategy:
    match use.strategy:
        case "static":
            return Static(endpoints=tuple(use.endpoints or ()))
        case "cost":
            return Cost()
        case _:
            assert_never(use.strategy)
