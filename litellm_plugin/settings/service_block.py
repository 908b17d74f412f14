"""What service a request may ask for, as it stands in YAML: latency classes, context windows, stickiness."""

from __future__ import annotations

from pydantic import Field, model_validator

from litellm_plugin.routing import Stickiness
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


class EligibilityBlock(StrictModel):
    """How strictly candidates are held against a request."""

    context_margin: float = Field(default=0.1, ge=0, le=1)
    """By which share the estimate of input tokens is raised before it is held against a context window."""


class SessionBlock(StrictModel):
    """Whether a conversation stays with the deployment that answered it."""

    enabled: bool = True
    """Whether a conversation stays with the deployment that answered it."""
    ttl_seconds: int = Field(default=3600, ge=1, le=604_800)
    """How long after its last answer a conversation is remembered."""
    leave_at_gain: float = Field(default=0.3, ge=0, le=1)
    """The share of the score above which it moves all the same."""


class PromptCacheBlock(StrictModel):
    """Whether what providers have cached of a prompt counts."""

    enabled: bool = True
    """Whether what providers have cached of a prompt counts."""


class StickinessBlock(StrictModel):
    """What keeps requests where earlier ones were answered."""

    session: SessionBlock = SessionBlock()
    """What keeps conversations where they were answered."""
    prompt_cache: PromptCacheBlock = PromptCacheBlock()
    """What brings prompts to where their beginning is cached."""

    def policy(self) -> Stickiness:
        """The settings as routing reads them."""
        return Stickiness(
            keeps_sessions=self.session.enabled,
            leave_at_gain=self.session.leave_at_gain,
            session_ttl_s=self.session.ttl_seconds,
            prefers_warm_caches=self.prompt_cache.enabled,
        )
