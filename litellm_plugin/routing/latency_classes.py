"""Latency classes: how fast an answer the callers of a class may ask for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from litellm_plugin.errors import Reason, Verdict
from litellm_plugin.routing.verdicts import quoted, request_named

if TYPE_CHECKING:
    from litellm_plugin.routing.facts import RequestFacts, RoutingScope


@dataclass(frozen=True, slots=True)
class LatencyClass:
    """What a latency class allows.

    Attributes:
        minimum_budget_ms: The shortest budget that a caller may ask for.
        default_budget_ms: The budget of a request that asks for none; None leaves it without one.
    """

    minimum_budget_ms: int = 0
    default_budget_ms: int | None = None

    def with_default(self, facts: RequestFacts) -> RequestFacts:
        """The request with the budget that it has."""
        if facts.latency_budget_ms is not None or self.default_budget_ms is None:
            return facts
        return replace(facts, latency_budget_ms=self.default_budget_ms)

    def refusal(self, facts: RequestFacts, scope: RoutingScope) -> Verdict | None:
        """Why the request may not have the budget that it asks for; None when it may."""
        budget_ms = facts.latency_budget_ms
        if budget_ms is None or budget_ms >= self.minimum_budget_ms:
            return None
        return Verdict(
            Reason.LATENCY_BUDGET,
            f"A latency budget of {budget_ms} ms was asked for; latency class {quoted(scope.latency_class)} allows "
            f"{self.minimum_budget_ms} ms or more. The policy gateway decided that class for "
            f"{request_named(scope)}: ask for a larger budget, or the gateway for another class.",
        )
