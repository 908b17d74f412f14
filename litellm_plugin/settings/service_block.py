"""What service a request may ask for, as it stands in YAML: latency classes, attempts."""

from __future__ import annotations

from pydantic import Field, model_validator

from litellm_plugin.settings.model import StrictModel


class LatencyClassBlock(StrictModel):
    """A latency class that permits may name: which latency budgets its callers may ask for."""

    minimum_budget_ms: int = Field(default=0, ge=0)
    """The shortest latency budget that a caller of this class may ask for; a shorter one gets 403 `latency_budget`."""
    default_budget_ms: int | None = Field(default=None, ge=1)
    """The latency budget of a request that asks for none."""

    @model_validator(mode="after")
    def _default_is_allowed(self) -> LatencyClassBlock:
        if self.default_budget_ms is not None and self.default_budget_ms < self.minimum_budget_ms:
            raise ValueError(
                f"`default_budget_ms` is expected to be `minimum_budget_ms` ({self.minimum_budget_ms}) or more"
            )
        return self


class ResilienceBlock(StrictModel):
    """How often a request may be tried."""

    attempts: int = Field(default=3, ge=1, le=10)
    """How many endpoints one request may try."""


class EligibilityBlock(StrictModel):
    """How strictly candidates are held against a request."""

    context_margin: float = Field(default=0.1, ge=0, le=1)
    """By which share the estimate of input tokens is raised before it is held against a context window."""
