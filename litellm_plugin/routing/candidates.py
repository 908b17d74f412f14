"""Candidates: the deployments of a model group with everything that routing may know of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litellm_plugin.routing.facts import Capability


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices in USD; None means unknown, which is never read as free.

    Attributes:
        input_usd: Per input token.
        output_usd: Per output token.
        request_usd: Fixed, per request.
    """

    input_usd: float | None = None
    output_usd: float | None = None
    request_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """One deployment that could answer.

    Attributes:
        deployment_id: LiteLLM's id of the deployment.
        endpoint: The name that a permit authorizes; several deployments may share it.
        clearances: The classifications it may receive; None when the operator declared none.
        attributes: Declared attributes such as `baa`; an undeclared one is absent.
        latency_classes: The latency classes it serves; None when undeclared: all of them.
        capabilities: What it is known to support; an unknown capability is absent.
        max_input_tokens: Its context window for input; None when unknown.
        prices: What it costs.
        region: Where it runs, as declared.
        tier: Its quality tier, as declared.
        is_available: Whether LiteLLM currently offers it (not paused, blocked or cooling down).
    """

    deployment_id: str
    endpoint: str
    clearances: frozenset[str] | None = None
    attributes: frozenset[str] = frozenset()
    latency_classes: frozenset[str] | None = None
    capabilities: frozenset[Capability] = frozenset()
    max_input_tokens: int | None = None
    prices: Prices = Prices()
    region: str | None = None
    tier: str | None = None
    is_available: bool = True


@dataclass(frozen=True, slots=True)
class EndpointStatistics:
    """What was measured of one deployment in the rolling window; None where nothing was.

    Attributes:
        attempts: Number of attempts.
        failures: Number of failed attempts.
        total_p50_ms, total_p95_ms: Time to the whole answer.
        first_token_p50_ms, first_token_p95_ms: Time to the first token of streams.
    """

    attempts: int = 0
    failures: int = 0
    total_p50_ms: float | None = None
    total_p95_ms: float | None = None
    first_token_p50_ms: float | None = None
    first_token_p95_ms: float | None = None


@dataclass(frozen=True, slots=True)
class StatisticsSnapshot:
    """The statistics that a decision reads, by deployment id, and the time they were taken.

    Attributes:
        by_deployment: Statistics by deployment id.
        taken_at_s: Monotonic seconds.
    """

    by_deployment: Mapping[str, EndpointStatistics]
    taken_at_s: float
