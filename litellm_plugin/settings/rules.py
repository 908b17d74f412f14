"""Rules and strategies, built from their blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.routing import Cost, Rule, RuleSet, Static, compile_condition
from litellm_plugin.settings.explanation import BLOCK

if TYPE_CHECKING:
    from litellm_plugin.routing import Condition, Strategy
    from litellm_plugin.settings.policy_block import PolicyBlock
    from litellm_plugin.settings.rule_block import RuleBlock, StrategyBlock


def rule_set(block: PolicyBlock) -> RuleSet:
    """Compiles the rules and builds their strategies.

    Raises:
        ConfigurationError: Names the rule and what is wrong with it.
    """
    return RuleSet(
        rules=tuple(
            Rule(name=rule.name, condition=_condition(rule), strategy=_strategy(rule.use))
            for rule in block.rules
        ),
        default=Rule(name="default", condition=None, strategy=_strategy(block.default)),
    )


def _condition(rule: RuleBlock) -> Condition:
    try:
        return compile_condition(rule.when)
    except ConfigurationError as error:
        raise ConfigurationError(f"{BLOCK}.rules: rule {rule.name!r}: {error}") from error


def _strategy(use: StrategyBlock) -> Strategy:
    match use.strategy:
        case "static":
            return Static(endpoints=tuple(use.endpoints or ()))
        case "cost":
            return Cost()
        case _:
            assert_never(use.strategy)
