"""What service a request may ask for, as it stands in YAML: latency classes, attempts, stickiness."""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field, model_validator

from litellm_plugin.routing import AttemptStatus, Retry, RetryPolicy, Stickiness
from litellm_plugin.routing.retries import DEFAULT_DEADLINE_MS
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


Following = Literal["next", "stop"]


class RetryBlock(StrictModel):
    """What follows an attempt that failed in each way; a request that a provider found wrong is never repeated."""

    rate_limited: Following = "next"
    """What follows 429: `next` takes the next of the plan, `stop` nothing."""
    server_error: Following = "next"
    """What follows 5xx, 409 and 425."""
    timeout: Following = "next"
    """What follows 408, 504 and no answer in time."""
    connection_error: Following = "next"
    """What follows no connection, or one that broke before the answer began."""
    provider_auth: Following = "next"
    """What follows 401 and 403: the endpoint's own key."""
    misconfigured: Following = "next"
    """What follows 402, 404 and a redirect."""
    context_window: Literal["larger", "next", "stop"] = "larger"
    """What follows a prompt that is too long: `larger` takes the next with a larger known context window."""
    content_filter: Following = "stop"
    """What follows a refusal of the provider's content filter."""


class EligibilityBlock(StrictModel):
    """How strictly candidates are held against a request."""

    context_margin: float = Field(default=0.1, ge=0, le=1)
    """By which share the estimate of input tokens is raised before it is held against a context window."""


class ResilienceBlock(StrictModel):
    """How often a request may be tried, for how long, and after what."""

    attempts: int = Field(default=3, ge=1, le=10)
    """How many endpoints one request may try."""
    deadline_ms: Annotated[int, Field(ge=100, le=86_400_000)] | None = DEFAULT_DEADLINE_MS
    """How long after its admission a request may be worked on; `null` for no limit."""
    max_chain_cost_usd: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """What all attempts of a request may cost together, as expected."""
    writes_need_idempotency_key: bool = True
    """Whether a request with tools that write is tried again only with an idempotency key."""
    retry: RetryBlock = RetryBlock()
    """What follows an attempt that failed, by class; see [plans and retries](routing.md#plans-and-retries)."""

    def policy(self) -> RetryPolicy:
        """The rules as routing reads them."""
        return RetryPolicy(
            rules=MappingProxyType(
                {AttemptStatus(name): Retry(value) for name, value in self.retry.model_dump().items()}
            ),
            deadline_ms=self.deadline_ms,
            max_chain_cost_usd=self.max_chain_cost_usd,
            writes_need_idempotency_key=self.writes_need_idempotency_key,
        )


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
