"""What service a request may ask for, as it stands in YAML: latency classes, attempts, stickiness."""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field

from litellm_plugin.routing import AttemptStatus, Retry, RetryPolicy, Stickiness
from litellm_plugin.routing.retries import DEFAULT_DEADLINE_MS
from litellm_plugin.settings.model import StrictModel


class LatencyClassBlock(StrictModel):
    """A latency class that permits may name."""


Following = Literal["next", "stop"]


class RetryBlock(StrictModel):
    """What follows an attempt that failed in each way; a request that a provider found wrong is never repeated."""

    rate_limited: Following = "next"
    server_error: Following = "next"
    timeout: Following = "next"
    connection_error: Following = "next"
    provider_auth: Following = "next"
    misconfigured: Following = "next"
    context_window: Literal["larger", "next", "stop"] = "larger"
    content_filter: Following = "stop"


class ResilienceBlock(StrictModel):
    """How often a request may be tried, for how long, and after what."""

    attempts: int = Field(default=3, ge=1, le=10)
    deadline_ms: Annotated[int, Field(ge=100, le=86_400_000)] | None = DEFAULT_DEADLINE_MS
    max_chain_cost_usd: Annotated[float, Field(gt=0, strict=False, allow_inf_nan=False)] | None = None
    writes_need_idempotency_key: bool = True
    retry: RetryBlock = RetryBlock()

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
    ttl_seconds: int = Field(default=3600, ge=1, le=604_800)
    leave_at_gain: float = Field(default=0.3, ge=0, le=1, strict=False)


class PromptCacheBlock(StrictModel):
    """Whether what providers have cached of a prompt counts."""

    enabled: bool = True


class StickinessBlock(StrictModel):
    """What keeps requests where earlier ones were answered."""

    session: SessionBlock = SessionBlock()
    prompt_cache: PromptCacheBlock = PromptCacheBlock()

    def policy(self) -> Stickiness:
        """The settings as routing reads them."""
        return Stickiness(
            keeps_sessions=self.session.enabled,
            leave_at_gain=self.session.leave_at_gain,
            session_ttl_s=self.session.ttl_seconds,
            prefers_warm_caches=self.prompt_cache.enabled,
        )
