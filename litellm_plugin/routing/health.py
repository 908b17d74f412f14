"""Health: whether a deployment may be asked now, as all workers know it together."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class BreakerState(enum.StrEnum):
    """What a deployment's breaker lets through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class WhenAllOpen(enum.StrEnum):
    """What a request gets whose endpoints would all serve it but for their breakers."""

    LEAST_BAD = "least_bad"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class EndpointHealth:
    """What is known of one deployment's health and limits at this moment.

    Attributes:
        breaker: The state of its breaker.
        cause: What opened it, in a word or a sentence; empty while it is closed.
        may_probe: Whether this worker holds a probe that nobody took yet; it counts while the breaker is half open.
        retry_after_s: How long until it may be asked again, in seconds: the open time that is left, or what the
            provider asked for; None when nobody said.
        waits: Why the provider wants to be left alone now, such as a 429 with Retry-After; empty when it does not.
        waits_unasked: Whether nobody here heard the provider ask for that wait: it answered 429 and named no time, or
            another worker told of it.
        requests_left: How many requests this worker may still send there now; None without a limit.
        tokens_left: How many tokens this worker may still send and receive there now; None without a limit.
    """

    breaker: BreakerState = BreakerState.CLOSED
    cause: str = ""
    may_probe: bool = False
    retry_after_s: float | None = None
    waits: str = ""
    waits_unasked: bool = False
    requests_left: int | None = None
    tokens_left: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether the breaker lets no request of this worker through."""
        return self.breaker is BreakerState.OPEN or (
            self.breaker is BreakerState.HALF_OPEN and not self.may_probe
        )


HEALTHY = EndpointHealth()
