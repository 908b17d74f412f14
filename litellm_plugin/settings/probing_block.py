"""How deployments that nobody asks are asked with the plugin's own prompt, as it stands in YAML."""

from __future__ import annotations

from pydantic import Field, model_validator

from litellm_plugin.settings.model import StrictModel
from litellm_plugin.state import ProbingPolicy


class ProbingBlock(StrictModel):
    """When deployments that declare `synthetic_prompts: true` are asked, and how often."""

    every_seconds: float = Field(default=60.0, ge=10, le=86_400)
    """How long no attempt of any worker was measured before a deployment is asked, in seconds."""
    requests_per_hour: int = Field(default=60, ge=1, le=10_000)
    """How many are asked within any hour, by all workers and of all deployments together."""
    max_tokens: int = Field(default=16, ge=1, le=256)
    """How long an answer may be, in tokens."""
    timeout_seconds: float = Field(default=30.0, ge=1, le=600)
    """How long one may take, in seconds; then it counts as a timeout. At most `every_seconds`."""

    @model_validator(mode="after")
    def _one_ends_before_the_next(self) -> ProbingBlock:
        if self.timeout_seconds > self.every_seconds:
            default = "" if "timeout_seconds" in self.model_fields_set else " (the default)"
            raise ValueError(
                f"`timeout_seconds` is expected to be `every_seconds` ({self.every_seconds:g}) or less, "
                f"got {self.timeout_seconds:g}{default}"
            )
        return self

    def policy(self) -> ProbingPolicy:
        """The rules as the shared state reads them."""
        return ProbingPolicy(
            every_s=self.every_seconds,
            requests_per_hour=self.requests_per_hour,
            max_tokens=self.max_tokens,
            timeout_s=self.timeout_seconds,
        )
