"""The policy block as it stands in YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from litellm_plugin.settings.budget_block import BudgetBlock
from litellm_plugin.settings.explanation import unknown
from litellm_plugin.settings.model import Name, StrictModel
from litellm_plugin.settings.permit_block import PermitBlock
from litellm_plugin.settings.resilience_block import ResilienceBlock
from litellm_plugin.settings.rule_block import RuleBlock, StrategyBlock
from litellm_plugin.settings.service_block import EligibilityBlock, LatencyClassBlock, StickinessBlock

# LiteLLM's own names for callbacks, guardrails and stores: any text on one line.
EgressName = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,256}$")]


class ClassificationBlock(StrictModel):
    """What a data classification demands of an endpoint."""

    require: list[Name] = []
    """Attributes that an endpoint must declare to receive data of this classification."""


class PathBlock(StrictModel):
    """A path of LiteLLM that is opened beside those that are open by themselves."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    """The HTTP method."""
    path: str = Field(pattern=r"^/[^\s?#]{0,255}$")
    """The path's template in LiteLLM's app, as `GET /routes` and its OpenAPI page show it, without `:path`."""
    kind: Literal["administrative"] | None = None
    """`administrative`: no permit is asked for, LiteLLM's own authentication holds, no model may be called."""
    endpoint: Name | None = None
    """The declared endpoint that a pass-through stands for; a permit that names it is needed."""

    @field_validator("path")
    @classmethod
    def _is_a_template(cls, value: str) -> str:
        if "*" in value or ":path}" in value or (len(value) > 1 and value.endswith("/")):
            raise ValueError(
                "a path as LiteLLM's app has it is expected: its parameters in braces without a type, no *, no / at the end"
            )
        return value

    @model_validator(mode="after")
    def _is_one_of_two(self) -> PathBlock:
        if (self.kind is None) == (self.endpoint is None):
            raise ValueError(
                "either `kind: administrative` or `endpoint`, the endpoint that a pass-through stands for, is expected"
            )
        return self


class DecisionLogBlock(StrictModel):
    """Where decision records go."""

    file: str = Field(default="decisions.jsonl", min_length=1)
    """Where records go, relative to the proxy's working directory."""
    chain: bool = False
    """Whether each record holds the hash of the one before."""
    required: bool = False
    """Whether nothing is sent when its record cannot be written."""


class PolicyBlock(StrictModel):
    """The whole block."""

    permit: PermitBlock
    """How a permit comes in and what makes it valid."""
    classifications: dict[Name, ClassificationBlock] = Field(min_length=1)
    """The data classifications that permits may carry."""
    latency_classes: dict[Name, LatencyClassBlock] = Field(min_length=1)
    """The latency classes that permits may carry."""
    tenant_tiers: list[Name] = Field(min_length=1)
    """The tenant tiers that permits may carry."""
    quality_tiers: list[Name] = []
    """The quality tiers that endpoints may declare as `quality_tier`, the lowest first; the strategies `quality` and `balanced` rank by them."""
    rules: list[RuleBlock] = []
    """Which requests get which strategy; the first that matches wins. See [routing.md](routing.md)."""
    default: StrategyBlock
    """The strategy of the requests that no rule matches."""
    budgets: list[BudgetBlock] = Field(default=[], max_length=64)
    """How much may be spent, by whom or where; several may apply to one request. See [budgets](routing.md#budgets)."""
    eligibility: EligibilityBlock = EligibilityBlock()
    """How strictly endpoints are held against a request."""
    resilience: ResilienceBlock = ResilienceBlock()
    """How often, how long and after which errors a request is tried again."""
    stickiness: StickinessBlock = StickinessBlock()
    """What keeps requests where earlier ones were answered; see [stickiness](routing.md#stickiness)."""
    decision_log: DecisionLogBlock = DecisionLogBlock()
    """Where decision records go, see [decision-log.md](decision-log.md)."""
    paths: list[PathBlock] = Field(default=[], max_length=256)
    """Paths of LiteLLM that are opened beside the [open ones](enforcement.md#open-paths)."""
    body_fields: list[Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")]] = []
    """Request fields that may reach LiteLLM in addition to the published request schemas."""
    egress: dict[EgressName, list[Name]] = {}
    """The classifications that each place beside the endpoints may receive, by its name in LiteLLM's configuration."""
    shadow: str | None = Field(default=None, min_length=1)
    """The file of a second policy that is computed and recorded beside this one, and never sent; see [shadow](#shadow)."""

    @field_validator("classifications", "latency_classes", mode="before")
    @classmethod
    def _empty_entries(cls, value: object) -> object:
        """`phi:` with nothing behind it means `phi: {}`."""
        if not isinstance(value, Mapping):
            return value
        return {key: {} if entry is None else entry for key, entry in value.items()}

    @field_validator("quality_tiers")
    @classmethod
    def _tiers_are_distinct(cls, value: list[str]) -> list[str]:
        for name in value:
            if value.count(name) > 1:
                raise ValueError(f"tier {name!r} is listed twice; each has one place, the lowest first")
        return value

    @field_validator("egress")
    @classmethod
    def _egress_is_declared(cls, value: dict[str, list[str]], info: ValidationInfo) -> dict[str, list[str]]:
        declared = sorted(info.data.get("classifications", ()))
        for name, classifications in value.items():
            for classification in classifications:
                if declared and classification not in declared:
                    raise ValueError(f"{name[:80]!r}: {unknown('classification', classification, declared)}")
        return value

    @field_validator("paths")
    @classmethod
    def _paths_are_distinct(cls, value: list[PathBlock]) -> list[PathBlock]:
        opened = [(block.method, block.path) for block in value]
        for method, path in opened:
            if opened.count((method, path)) > 1:
                raise ValueError(f"{method} {path[:80]!r} is listed twice")
        return value

    @field_validator("rules")
    @classmethod
    def _rules_are_distinct(cls, value: list[RuleBlock]) -> list[RuleBlock]:
        names = [rule.name for rule in value]
        for name in names:
            if name == "default" or names.count(name) > 1:
                raise ValueError(f"rule name {name!r} is taken; each rule has a name of its own")
        return value

    @field_validator("budgets")
    @classmethod
    def _budgets_are_distinct(cls, value: list[BudgetBlock]) -> list[BudgetBlock]:
        names = [budget.full_name for budget in value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"budget name {name!r} is taken; give each a `name` of its own")
        return value
