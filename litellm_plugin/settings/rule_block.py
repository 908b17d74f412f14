"""Rules and strategies as they stand in YAML."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field, JsonValue, ValidationInfo, field_validator, model_validator

from litellm_plugin.routing import BALANCED_TERMS, KNOWN_NAMES, AssignedBy
from litellm_plugin.settings.explanation import unknown
from litellm_plugin.settings.model import Name, StrictModel

StrategyName: TypeAlias = Literal[
    "static", "attested", "cost", "quality", "latency", "balanced", "weighted", "fallback", "custom"
]

MOST_STRATEGIES_IN_A_ROW: Final = 4

# The options that each strategy takes beside `then`, by the names that YAML uses.
STRATEGY_OPTIONS: Final[dict[StrategyName, tuple[str, ...]]] = {
    "static": ("endpoints", "by", "table", "else", "are_equal"),
    "attested": ("endpoint", "model"),
    "cost": ("tolerance",),
    "quality": ("tier", "floor", "minimum_quality"),
    "latency": ("tolerance", "minimum_samples"),
    "balanced": ("weights", "tolerance"),
    "weighted": ("weights", "by", "assigned_only"),
    "fallback": ("chain", "others_last"),
    "custom": ("class", "options"),
}
_NEEDED: Final[dict[str, tuple[str, str]]] = {
    "balanced": ("weights", f"what each term counts: {', '.join(BALANCED_TERMS)}"),
    "weighted": ("weights", "a share for each endpoint"),
    "fallback": ("chain", "a list of endpoint names"),
    "custom": ("class", "the dotted path of a class, such as my_package.routing.Cheapest"),
}

_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Names = Annotated[list[Name], Field(min_length=1)]


class StrategyBlock(StrictModel):
    """Which strategy ranks the eligible endpoints, and what ranks those that are equal to it."""

    strategy: StrategyName
    """Its name, see [routing.md](routing.md#strategies)."""
    then: StrategyBlock | None = None
    """The strategy among those that are equal to this one; its name alone is enough where it needs no options."""
    endpoints: _Names | None = None
    """With `static`: endpoint names, the preferred one first."""
    endpoint: Name | None = None
    """With `attested`: the one endpoint."""
    model: str | None = Field(default=None, min_length=1, max_length=256)
    """With `attested`: the model that it must be configured with, as `litellm_params.model` says."""
    by: str | None = None
    """With `static`: the fact whose value picks the row of `table`. With `weighted`: what keeps its endpoint, `session`, `request_id` (the default) or `permit.tenant`."""
    table: dict[Name, _Names] | None = Field(default=None, min_length=1)
    """With `static`: endpoint names for each value of the fact `by`."""
    otherwise: StrategyBlock | None = Field(default=None, alias="else")
    """With `static`: what ranks where `table` has no row: a list of endpoint names, or a strategy. Without it nothing is taken then."""
    are_equal: bool = False
    """With `static`: whether the listed endpoints are equal, so that load or `then` chooses among them."""
    tolerance: _Share | None = None
    """With `cost` (0.01), `latency` (0.1) and `balanced` (0.05): how far from the best still counts as equal to it, as a share of it."""
    tier: Name | None = None
    """With `quality`: the wanted tier, one of `quality_tiers`."""
    floor: Name | None = None
    """With `quality`: the lowest tier that may serve."""
    minimum_quality: _Share | None = None
    """With `quality`: the lowest declared `quality` that may serve."""
    minimum_samples: int | None = Field(default=None, ge=1, le=1_000_000)
    """With `latency`: how many attempts must have been seen before a measured latency counts; 20."""
    weights: dict[Name, _Weight] | None = Field(default=None, min_length=1)
    """With `balanced`: what each term counts. With `weighted`: the share of each endpoint. Only the proportions matter."""
    assigned_only: bool = False
    """With `weighted`: whether nobody takes over when the assigned endpoint cannot serve."""
    chain: _Names | None = None
    """With `fallback`: endpoint names, the first one to be tried first."""
    others_last: bool = False
    """With `fallback`: whether the endpoints outside the chain come after it; else they are left out."""
    class_path: str | None = Field(
        default=None, alias="class", pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$", max_length=256
    )
    """With `custom`: the dotted path of a class."""
    options: dict[str, JsonValue] = {}
    """With `custom`: the keyword arguments of the class."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        """`cost` means `{strategy: cost}`."""
        return {"strategy": value} if isinstance(value, str) else value

    @field_validator("strategy", mode="before")
    @classmethod
    def _is_known(cls, value: object) -> object:
        if isinstance(value, str) and value not in STRATEGY_OPTIONS:
            raise ValueError(unknown("strategy", value, tuple(STRATEGY_OPTIONS)))
        return value

    @field_validator("then", "otherwise", mode="before")
    @classmethod
    def _short_forms(cls, value: object, info: ValidationInfo) -> object:
        """`then: cost` means `then: {strategy: cost}`, and `else: [a]` a static list."""
        if isinstance(value, str):
            return {"strategy": value}
        if isinstance(value, list) and info.field_name == "otherwise":
            return {"strategy": "static", "endpoints": value}
        return value

    @model_validator(mode="after")
    def _is_complete(self) -> StrategyBlock:
        self._check_options()
        key, meaning = _NEEDED.get(self.strategy, ("", ""))
        if key and self._given(key) is None:
            raise ValueError(f"strategy {self.strategy!r} needs `{key}`, {meaning}")
        match self.strategy:
            case "static":
                self._check_static()
            case "quality" if self.tier is None and self.floor is None and self.minimum_quality is None:
                raise ValueError(
                    "strategy 'quality' needs `tier`, the wanted one, `floor`, the lowest one, or `minimum_quality`"
                )
            case "balanced":
                self._check_terms()
            case "weighted" if self.by is not None and self.by not in tuple(AssignedBy):
                raise ValueError(f"by: {unknown('key', self.by, [str(each) for each in AssignedBy])}")
            case _:
                pass
        if self.weights is not None and not any(self.weights.values()):
            raise ValueError("weights: one of them must be above 0")
        if self.depth > MOST_STRATEGIES_IN_A_ROW:
            raise ValueError(
                f"{self.depth} strategies stand inside each other; {MOST_STRATEGIES_IN_A_ROW} are the most"
            )
        return self

    @model_validator(mode="after")
    def _stands_alone(self) -> StrategyBlock:
        inner = [each.strategy for each in (self.then, self.otherwise) if each is not None]
        if "attested" in inner or (self.strategy == "attested" and inner):
            raise ValueError(
                "strategy 'attested' stands alone: a rule of its own says which requests it is for"
            )
        if self.strategy == "attested" and (self.endpoint is None or self.model is None):
            raise ValueError(
                "strategy 'attested' needs `endpoint` and `model`, the one of each that may serve"
            )
        return self

    @property
    def depth(self) -> int:
        """How many strategies stand inside each other, this one included."""
        inner = [block.depth for block in (self.then, self.otherwise) if block is not None]
        return 1 + max(inner, default=0)

    @property
    def strategies(self) -> frozenset[str]:
        """The names of this strategy and of those inside it."""
        inner = (block.strategies for block in (self.then, self.otherwise) if block is not None)
        return frozenset({self.strategy}).union(*inner)

    def _given(self, key: str) -> Any:
        return getattr(self, _field(key))

    def _check_options(self) -> None:
        taken = STRATEGY_OPTIONS[self.strategy]
        for name in sorted(self.model_fields_set - {"strategy", "then"}):
            key = type(self).model_fields[name].alias or name
            if key not in taken:
                takers = [repr(other) for other, options in STRATEGY_OPTIONS.items() if key in options]
                raise ValueError(
                    f"strategy {self.strategy!r} takes no `{key}`; only {' and '.join(takers)} "
                    f"{'do' if len(takers) > 1 else 'does'}. It takes {', '.join((*taken, 'then'))}"
                )

    def _check_static(self) -> None:
        if self.table is None and self.by is None and self.otherwise is None:
            if self.endpoints is None:
                raise ValueError(
                    "strategy 'static' needs `endpoints`, a list of endpoint names, or `by` and `table`"
                )
            return
        if self.endpoints is not None:
            raise ValueError("strategy 'static' takes either `endpoints` or a table, not both")
        if self.table is None or self.by is None:
            raise ValueError("a table needs `by`, the fact that picks a row, and `table`, its rows")
        if self.by not in KNOWN_NAMES:
            raise ValueError(f"by: {unknown('fact', self.by, KNOWN_NAMES)}")

    def _check_terms(self) -> None:
        for term in self.weights or ():
            if term not in BALANCED_TERMS:
                raise ValueError(f"weights: {unknown('term', term, BALANCED_TERMS)}")


def _field(key: str) -> str:
    return {"class": "class_path", "else": "otherwise"}.get(key, key)


class RowBlock(StrictModel):
    """One row of a decision table: what each fact must be, and the strategy of the requests for which all hold."""

    name: Name | None = None
    """What the record calls the row, behind the rule's name; its number when it has none. Required with `weighted`, whose draws are salted with it."""
    when: dict[str, bool | int | float | str | list[bool | int | float | str]] = Field(max_length=64)
    """What each fact must be, see [decision tables](routing.md#decision-tables)."""
    use: StrategyBlock
    """The strategy of the requests for which all of them hold."""

    @model_validator(mode="after")
    def _keeps_its_draws(self) -> RowBlock:
        if self.name is None and "weighted" in self.use.strategies:
            raise ValueError(
                "a row with strategy 'weighted' needs `name`: its draws are salted with it, and its number would "
                "change with every row above it"
            )
        return self


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
