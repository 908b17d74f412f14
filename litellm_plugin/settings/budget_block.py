"""Budgets as they stand in YAML, and as routing reads them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator, model_validator

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.routing import (
    Budget,
    BudgetPer,
    BudgetPeriod,
    WhenExceeded,
    compared_texts,
    compile_condition,
)
from litellm_plugin.settings.explanation import BLOCK, unknown
from litellm_plugin.settings.model import Name, StrictModel

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME_HASH_CHARS = 8


class DegradeBlock(StrictModel):
    """Which quality tier answers what a budget does not cover."""

    tier: Name
    """A tier of `quality_tiers`; where no eligible endpoint has it, the request is refused."""


class BudgetBlock(StrictModel):
    """How much may be spent in a period, by whom or where."""

    name: Name | None = None
    """What records and messages call it; made of `per`, `period` and a hash of `where` if it is left out. What was spent is kept under this name."""
    per: Literal["tenant", "tenant_tier", "route", "endpoint", "provider"]
    """What each has a budget of its own: a tenant, a tenant tier, a [route](routing.md#expected-cost), an endpoint or a provider."""
    where: str | None = Field(default=None, min_length=1)
    """A CEL expression over `request.*` and `permit.*`: the requests that count. All do without it."""
    limit_usd: float = Field(gt=0, le=100_000_000, allow_inf_nan=False)
    """How much each may spend in a period, in USD; above 0."""
    period: Literal["day", "week", "month"]
    """For how long it counts, in UTC; a week begins on Monday."""
    when_exceeded: Literal["refuse", "cheapest"] | DegradeBlock | None = None
    """What becomes of a request that it does not cover: `refuse` (the default) answers 403 `budget_exceeded`, `cheapest` takes the cheapest eligible endpoint, `{tier: small}` one of that tier. Not with `endpoint` and `provider`, whose others serve."""

    @field_validator("when_exceeded", mode="before")
    @classmethod
    def _is_one_of_three(cls, value: object) -> object:
        if value in (None, "refuse", "cheapest") or isinstance(value, DegradeBlock):
            return value
        if isinstance(value, Mapping) and set(value) == {"tier"}:
            return value
        raise ValueError("expected `refuse`, `cheapest` or `{tier: NAME}`")

    @model_validator(mode="after")
    def _others_serve(self) -> BudgetBlock:
        if self.when_exceeded is not None and BudgetPer(self.per).is_of_candidates:
            raise ValueError(
                f"`when_exceeded` does not go with `per: {self.per}`: that {self.per} is passed over and others serve"
            )
        return self

    @property
    def full_name(self) -> str:
        """Its name, or one that is made of what it is for and does not change with its limit."""
        if self.name is not None:
            return self.name
        if self.where is None:
            return f"{self.per}-{self.period}"
        condition = hashlib.sha256(self.where.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{self.per}-{self.period}-{condition[:_NAME_HASH_CHARS]}"


def build_budgets(
    blocks: Sequence[BudgetBlock], declared: Mapping[str, Sequence[str]], tiers: Sequence[str]
) -> tuple[Budget, ...]:
    """Compiles the budgets.

    Args:
        blocks: The budgets in their order.
        declared: The values that permits may carry, by the fact's name.
        tiers: Every quality tier.

    Raises:
        ConfigurationError: Names the budget and what is wrong with it.
    """
    return tuple(_budget(block, declared, tiers) for block in blocks)


def _budget(block: BudgetBlock, declared: Mapping[str, Sequence[str]], tiers: Sequence[str]) -> Budget:
    name = block.full_name
    try:
        _check_values(block.where or "", declared)
        return Budget(
            name=name,
            per=BudgetPer(block.per),
            limit_usd=block.limit_usd,
            period=BudgetPeriod(block.period),
            where=compile_condition(block.where) if block.where is not None else None,
            when_exceeded=_when_exceeded(block),
            tier=_tier(block, tiers),
        )
    except ConfigurationError as error:
        raise ConfigurationError(f"{BLOCK}.budgets: budget {name!r}: {error}") from error


def _when_exceeded(block: BudgetBlock) -> WhenExceeded:
    if isinstance(block.when_exceeded, DegradeBlock):
        return WhenExceeded.TIER
    return WhenExceeded(block.when_exceeded or "refuse")


def _tier(block: BudgetBlock, tiers: Sequence[str]) -> str | None:
    if not isinstance(block.when_exceeded, DegradeBlock):
        return None
    tier = block.when_exceeded.tier
    if tier not in tiers:
        raise ConfigurationError(unknown("quality tier", tier, tiers))
    return tier


def _check_values(source: str, declared: Mapping[str, Sequence[str]]) -> None:
    """Makes sure that permits can carry what a condition compares: it would never be true otherwise."""
    for fact, text in compared_texts(source):
        if text not in declared.get(fact, [text]):
            raise ConfigurationError(unknown(fact.removeprefix("permit."), text, declared[fact]))
