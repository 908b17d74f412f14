"""The store protocol: what replicas know together about deployments."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from litellm_plugin.routing.candidates import StatisticsSnapshot


class AttemptStatus(enum.StrEnum):
    """How an attempt at a deployment ended."""

    SUCCESS = "success"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    TIMEOUT = "timeout"
    CONNECTION_ERROR = "connection_error"
    PROVIDER_AUTH = "provider_auth"
    CLIENT_ERROR = "client_error"
    ABANDONED = "abandoned"

    @property
    def is_retryable(self) -> bool:
        """Whether another endpoint may do better with the same request."""
        return self not in {AttemptStatus.SUCCESS, AttemptStatus.CLIENT_ERROR, AttemptStatus.ABANDONED}


@dataclass(frozen=True, slots=True)
class Measurement:
    """One ended attempt.

    Attributes:
        deployment_id: LiteLLM's id of the deployment.
        status: How it ended.
        total_ms: Time until the whole answer or the error.
        first_token_ms: Time until the first token of a stream; None for whole answers and errors.
    """

    deployment_id: str
    status: AttemptStatus
    total_ms: float
    first_token_ms: float | None = None


class Store(Protocol):
    """Where measurements go and statistics come from; neither call waits for anything."""

    def record(self, measurement: Measurement) -> None:
        """Takes one ended attempt into account; absurd values are clamped, never raised."""

    def snapshot(self) -> StatisticsSnapshot:
        """The statistics of the rolling window, cached for at least a tenth of a second."""
