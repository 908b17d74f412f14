"""How an attempt at a deployment ended."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class AttemptStatus(enum.StrEnum):
    """The classes of outcome that health, retries and records tell apart."""

    SUCCESS = "success"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    TIMEOUT = "timeout"
    CONNECTION_ERROR = "connection_error"
    PROVIDER_AUTH = "provider_auth"
    MISCONFIGURED = "misconfigured"
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
        total_ms: Time until the whole answer or the error; None where it tells nothing, as of a session.
        first_token_ms: Time until the first token of a stream; None for whole answers and errors.
    """

    deployment_id: str
    status: AttemptStatus
    total_ms: float | None
    first_token_ms: float | None = None
