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
    CONTEXT_WINDOW = "context_window"
    CONTENT_FILTER = "content_filter"
    CLIENT_ERROR = "client_error"
    ABANDONED = "abandoned"

    @property
    def is_retryable(self) -> bool:
        """Whether it is a failure of the endpoint, so that another one may do better with the same request."""
        return self not in _NO_FAILURE

    @property
    def is_about_request(self) -> bool:
        """Whether the provider refused what the request says; its answer stands, whatever was tried elsewhere."""
        return self in _ABOUT_REQUEST

    @property
    def may_have_acted(self) -> bool:
        """Whether the provider may have worked on the request, as far as the class alone can tell."""
        return self in _MAY_HAVE_ACTED


_ABOUT_REQUEST = frozenset(
    {AttemptStatus.CLIENT_ERROR, AttemptStatus.CONTEXT_WINDOW, AttemptStatus.CONTENT_FILTER}
)
_NO_FAILURE = _ABOUT_REQUEST | {AttemptStatus.SUCCESS, AttemptStatus.ABANDONED}
# A provider that refuses a request (4xx, 429) has not begun it.
_MAY_HAVE_ACTED = frozenset(
    {
        AttemptStatus.SUCCESS,
        AttemptStatus.SERVER_ERROR,
        AttemptStatus.TIMEOUT,
        AttemptStatus.CONNECTION_ERROR,
        AttemptStatus.ABANDONED,
    }
)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One ended attempt.

    Attributes:
        deployment_id: LiteLLM's id of the deployment.
        status: How it ended.
        total_ms: Time until the whole answer or the error; None where it tells nothing, as of a session.
        first_token_ms: Time until the first token of a stream; None for whole answers and errors.
        output_tokens: How many tokens all of its answers had together; None when nobody told.
        answers: How many answers the caller asked for at once.
        route: Which route the request took, see `route_of`; None where its length tells nothing of later ones.
    """

    deployment_id: str
    status: AttemptStatus
    total_ms: float | None
    first_token_ms: float | None = None
    output_tokens: int | None = None
    answers: int = 1
    route: str | None = None

    @property
    def answer_tokens(self) -> float | None:
        """The length of its one answer in tokens; None where it tells nothing of later answers."""
        if self.status is not AttemptStatus.SUCCESS or self.output_tokens is None or self.answers > 1:
            # Of several answers nobody tells how many came.
            return None
        return self.output_tokens

    @property
    def output_token_ms(self) -> float | None:
        """The time per output token, in a stream per token after the first one; None when unknown."""
        if self.status is not AttemptStatus.SUCCESS or self.total_ms is None or not self.output_tokens:
            return None
        if self.first_token_ms is None:
            return self.total_ms / self.output_tokens
        if self.output_tokens == 1:
            return None
        return max(0.0, self.total_ms - self.first_token_ms) / (self.output_tokens - 1)
