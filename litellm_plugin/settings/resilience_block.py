"""How requests and endpoints are kept from failing together, as it stands in YAML: attempts, retries, breakers."""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field, model_validator

from litellm_plugin.routing import AttemptStatus, Retry, RetryBudgetRule, RetryPolicy, WhenAllOpen
from litellm_plugin.routing.retries import DEFAULT_DEADLINE_MS
from litellm_plugin.settings.model import StrictModel
from litellm_plugin.settings.probing_block import ProbingBlock
from litellm_plugin.state import BreakerPolicy

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


class RetryBudgetBlock(StrictModel):
    """How many retries the requests of one endpoint may have together, in each worker."""

    ratio: float = Field(default=0.2, ge=0, le=10)
    """Retries for each request whose first attempt went to the endpoint."""
    minimum: int = Field(default=3, ge=0, le=10_000)
    """How many are granted in a window whatever the ratio says."""
    window_seconds: float = Field(default=10.0, ge=1, le=3600)
    """Length of the window, in seconds."""

    def rule(self) -> RetryBudgetRule:
        """The budget as routing reads it."""
        return RetryBudgetRule(self.ratio, self.minimum, self.window_seconds)


class BreakerBlock(StrictModel):
    """When a deployment is left alone, for how long, and how it comes back."""

    failure_rate: float = Field(default=0.5, gt=0, le=1)
    """The share of the attempts in the window, those of all workers, whose failure opens a breaker."""
    minimum_attempts: int = Field(default=10, ge=1, le=1_000_000)
    """Below this many attempts in the window no rate is looked at."""
    window_seconds: float = Field(default=30.0, ge=6, le=3600)
    """Length of the window, in seconds."""
    consecutive_failures: int = Field(default=5, ge=1, le=1_000_000)
    """How many failures in a row open a breaker."""
    open_seconds: float = Field(default=10.0, ge=1, le=3600)
    """How long it stays open the first time, in seconds; each further time doubles it."""
    longest_open_seconds: float = Field(default=300.0, ge=1, le=86_400)
    """The longest open time, in seconds."""
    reset_after_seconds: float = Field(default=300.0, ge=1, le=86_400)
    """After how long a closed time the open time begins anew, in seconds."""
    probes: int = Field(default=1, ge=1, le=100)
    """How many probes of a half-open deployment may be under way at once, of all workers together."""
    probes_to_close: int = Field(default=2, ge=1, le=100)
    """How many probes in a row must succeed before it closes."""
    probe_timeout_seconds: float = Field(default=30.0, ge=1, le=3600)
    """After how long a probe that nobody heard of makes room for another one, in seconds."""
    rate_limit_seconds: float = Field(default=5.0, ge=0, le=3600)
    """How long a deployment is left alone after a 429 without Retry-After, in seconds."""
    longest_wait_seconds: float = Field(default=300.0, ge=0, le=86_400)
    """The longest Retry-After that is followed, in seconds."""
    when_all_open: Literal["least_bad", "refuse"] = "least_bad"
    """What a request gets that open breakers and waits nobody asked for keep out: one attempt at the least bad, or 503."""

    @model_validator(mode="after")
    def _open_times_fit(self) -> BreakerBlock:
        if self.longest_open_seconds < self.open_seconds:
            raise ValueError(
                f"`longest_open_seconds` is expected to be `open_seconds` ({self.open_seconds:g}) or more"
            )
        return self

    def policy(self) -> BreakerPolicy:
        """The rules as the shared state reads them."""
        return BreakerPolicy(
            failure_rate=self.failure_rate,
            minimum_attempts=self.minimum_attempts,
            window_s=self.window_seconds,
            consecutive_failures=self.consecutive_failures,
            open_s=self.open_seconds,
            longest_open_s=self.longest_open_seconds,
            reset_after_s=self.reset_after_seconds,
            probes=self.probes,
            probes_to_close=self.probes_to_close,
            probe_timeout_s=self.probe_timeout_seconds,
            rate_limit_s=self.rate_limit_seconds,
            longest_wait_s=self.longest_wait_seconds,
        )


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
    retry_budget: RetryBudgetBlock | None = RetryBudgetBlock()
    """How many retries an endpoint's requests may have together; `null` for no limit. See [retry budget](routing.md#retry-budget)."""
    breaker: BreakerBlock | None = BreakerBlock()
    """When a deployment is left alone; `null` for never, whatever it answers. See [breakers](routing.md#breakers)."""
    probing: ProbingBlock | None = None
    """Whether deployments that nobody asks are asked with a constant prompt; `null` for never. See [probing](routing.md#probing)."""

    @property
    def when_all_open(self) -> WhenAllOpen:
        """What breakers alone keep from being served; without breakers there is no such request."""
        return WhenAllOpen(self.breaker.when_all_open) if self.breaker else WhenAllOpen.LEAST_BAD

    def policy(self) -> RetryPolicy:
        """The rules as routing reads them."""
        return RetryPolicy(
            rules=MappingProxyType(
                {AttemptStatus(name): Retry(value) for name, value in self.retry.model_dump().items()}
            ),
            deadline_ms=self.deadline_ms,
            max_chain_cost_usd=self.max_chain_cost_usd,
            writes_need_idempotency_key=self.writes_need_idempotency_key,
            budget=self.retry_budget.rule() if self.retry_budget else None,
        )
