"""Rules and strategies as they stand in YAML."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from litellm_plugin.settings.model import Name, StrictModel


class StrategyBlock(StrictModel):
    """Which strategy ranks the eligible endpoints."""

    strategy: Literal["static", "cost"]
    """Its name, see [routing.md](routing.md#strategies)."""
    endpoints: list[Name] | None = None
    """With `static`: endpoint names, the preferred one first."""

    @model_validator(mode="after")
    def _is_complete(self) -> StrategyBlock:
        if self.strategy == "static" and not self.endpoints:
            raise ValueError("strategy 'static' needs `endpoints`, a list of endpoint names")
        if self.strategy != "static" and self.endpoints is not None:
            raise ValueError(f"strategy {self.strategy!r} takes no `endpoints`; only 'static' does")
        return self


class RowBlock(StrictModel):
    """One row of a decision table: what each fact must be, and the strategy of the requests for which all hold."""

    name: Name | None = None
    """What the record calls the row, behind the rule's name; its number when it has none."""
    when: dict[str, bool | int | float | str | list[bool | int | float | str]] = Field(max_length=64)
    """What each fact must be, see [decision tables](routing.md#decision-tables)."""
    use: StrategyBlock
    """The strategy of the requests for which all of them hold."""


class RuleBlock(StrictModel):
    """One rule: the first whose condition is true picks the strategy; a table is a rule for each of its rows."""

    name: Name
    """What the record calls the rule."""
    when: str | None = Field(default=None, min_length=1, max_length=4_096)
    """A CEL expression over `request.*` and `permit.*`."""
    use: StrategyBlock | None = None
    """The strategy of the requests for which it is true."""
    table: list[RowBlock] | None = Field(default=None, min_length=1, max_length=1_000)
    """Instead of `when` and `use`: a decision table, as a list of rows or the name of a CSV or YAML file beside LiteLLM's configuration. See [decision tables](routing.md#decision-tables)."""

    @model_validator(mode="after")
    def _is_one_of_two(self) -> RuleBlock:
        if self.table is None and (self.when is None or self.use is None):
            raise ValueError("`when` and `use` are expected, or `table`")
        if self.table is not None and (self.when is not None or self.use is not None):
            raise ValueError("`table` stands instead of `when` and `use`: its rows say both")
        return self
