"""The policy block as it stands in YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from litellm_plugin.settings.explanation import unknown
from litellm_plugin.settings.model import Name, StrictModel
from litellm_plugin.settings.permit_block import PermitBlock
from litellm_plugin.settings.rule_block import RuleBlock, StrategyBlock
from litellm_plugin.settings.service_block import LatencyClassBlock, ResilienceBlock

# LiteLLM's own names for callbacks, guardrails and stores: any text on one line.
EgressName = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,256}$")]


class ClassificationBlock(StrictModel):
    """What a data classification demands of an endpoint."""

    require: list[Name] = []


class PathBlock(StrictModel):
    """A path of LiteLLM that is opened beside those that are open by themselves."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str = Field(pattern=r"^/[^\s?#]{0,255}$")
    kind: Literal["administrative"] | None = None
    endpoint: Name | None = None

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
    chain: bool = False
    required: bool = False


class PolicyBlock(StrictModel):
    """The whole block."""

    permit: PermitBlock
    classifications: dict[Name, ClassificationBlock] = Field(min_length=1)
    latency_classes: dict[Name, LatencyClassBlock] = Field(min_length=1)
    tenant_tiers: list[Name] = Field(min_length=1)
    rules: list[RuleBlock] = []
    default: StrategyBlock
    resilience: ResilienceBlock = ResilienceBlock()
    decision_log: DecisionLogBlock = DecisionLogBlock()
    paths: list[PathBlock] = Field(default=[], max_length=256)
    body_fields: list[Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")]] = []
    egress: dict[EgressName, list[Name]] = {}
    shadow: str | None = Field(default=None, min_length=1)

    @field_validator("classifications", "latency_classes", mode="before")
    @classmethod
    def _empty_entries(cls, value: object) -> object:
        """`phi:` with nothing behind it means `phi: {}`."""
        if not isinstance(value, Mapping):
            return value
        return {key: {} if entry is None else entry for key, entry in value.items()}

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
