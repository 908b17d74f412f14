"""Rules: which strategy a request gets, by the first condition that is true."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.routing.decision import RuleMatch
from litellm_plugin.routing.strategies import looked_up

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litellm_plugin.routing.expressions import Condition
    from litellm_plugin.routing.facts import FactValue
    from litellm_plugin.routing.strategies import Strategy


@dataclass(frozen=True, slots=True)
class Rule:
    """A condition and the strategy of the requests that meet it.

    Attributes:
        name: Unique among the rules; records and messages use it.
        condition: When it applies; None for always.
        strategy: How it ranks.
    """

    name: str
    condition: Condition | None
    strategy: Strategy

    def applies(self, facts: Mapping[str, FactValue]) -> bool:
        """Whether the condition is true of these facts."""
        return self.condition is None or self.condition.evaluate(facts)

    def absent(self, facts: Mapping[str, FactValue]) -> tuple[str, ...]:
        """The facts that the condition reads and that are not there."""
        return () if self.condition is None else self.condition.absent(facts)

    def values(self, facts: Mapping[str, FactValue]) -> dict[str, FactValue]:
        """The facts that the condition reads, with their values."""
        return {} if self.condition is None else self.condition.values(facts)


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Rules in order, the first match wins, and the rule for all else.

    Attributes:
        rules: In the order in which they are tried.
        default: What applies when none of them does; its condition is not looked at.

    Raises:
        ConfigurationError: Two rules, or a rule and the default, have one name.
    """

    rules: tuple[Rule, ...]
    default: Rule
    _names: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = Counter(rule.name for rule in (*self.rules, self.default))
        repeated = sorted(name for name, times in names.items() if times > 1)
        if repeated:
            raise ConfigurationError(f"rules: expected unique names, got more than one {repeated[0]!r}")
        conditions = (rule.condition for rule in self.rules if rule.condition)
        read = {name for condition in conditions for name in condition.names}
        for rule in (*self.rules, self.default):
            read.update(looked_up(rule.strategy))
        object.__setattr__(self, "_names", frozenset(read))

    def reads(self, name: str) -> bool:
        """Whether any rule reads the fact of this name, in its condition or in its strategy."""
        return name in self._names

    def match(self, facts: Mapping[str, FactValue]) -> tuple[Rule, RuleMatch]:
        """Finds the first rule whose condition is true.

        A rule that is passed over and reads an absent fact is listed in the match with these facts.
        """
        absent: dict[str, tuple[str, ...]] = {}
        for rule in self.rules:
            if rule.applies(facts):
                return rule, _matched(rule, rule.values(facts), absent)
            missing = rule.absent(facts)
            if missing:
                absent[rule.name] = missing
        return self.default, _matched(self.default, {}, absent)


def _matched(rule: Rule, values: Mapping[str, FactValue], absent: Mapping[str, tuple[str, ...]]) -> RuleMatch:
    template = () if rule.condition is None else rule.condition.template
    return RuleMatch(
        name=rule.name, strategy=rule.strategy.name, values=values, absent=absent, template=template
    )
