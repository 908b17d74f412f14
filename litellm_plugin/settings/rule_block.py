"""Rules and strategies as they stand in YAML."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from litellm_plugin.settings.model import Name, StrictModel


class StrategyBlock(StrictModel):
    """Which strategy ranks the eligible endpoints."""

    strategy: Literal["static", "cost"]
    endpoints: list[Name] | None = None

    @model_validator(mode="after")
    def _is_complete(self) -> StrategyBlock:
        if self.strategy == "static" and not self.endpoints:
            raise ValueError("strategy 'static' needs `endpoints`, a list of endpoint names")
        if self.strategy != "static" and self.endpoints is not None:
            raise ValueError(f"strategy {self.strategy!r} takes no `endpoints`; only 'static' does")
        return self


class RuleBlock(StrictModel):
    """One rule: the first whose condition is true picks the strategy."""

    name: Name
    when: str = Field(min_length=1, max_length=4_096)
    use: StrategyBlock
