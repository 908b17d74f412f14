"""The decision: which candidates there were, why each stayed or fell, and in which order to try them."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from litellm_plugin.routing.candidates import NO_AFFINITY, Affinity
from litellm_plugin.routing.health import HEALTHY, EndpointHealth

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litellm_plugin.errors import Verdict
    from litellm_plugin.routing.budgets import BudgetAccount, BudgetReading
    from litellm_plugin.routing.candidates import Candidate, EndpointStatistics
    from litellm_plugin.routing.facts import FactValue, RequestFacts, RoutingScope


class Exclusion(enum.StrEnum):
    """Why a candidate is not eligible; the first that applies is kept."""

    NOT_AUTHORIZED = "not_authorized"
    NOT_CLEARED = "not_cleared"
    ATTRIBUTE_MISSING = "attribute_missing"
    REGION = "region"
    LANGUAGE = "language"
    CAPABILITY = "capability"
    CONTEXT_WINDOW = "context_window"
    LATENCY_CLASS = "latency_class"
    MAX_COST = "max_cost"
    UNAVAILABLE = "unavailable"
    BREAKER_OPEN = "breaker_open"
    RATE_LIMITED = "rate_limited"
    QUOTA = "quota"
    BUDGET = "budget"
    ALREADY_TRIED = "already_tried"

    @property
    def is_health(self) -> bool:
        """Whether it may pass by itself: the endpoint is right, only not now."""
        return self in _HEALTH


_HEALTH = frozenset(
    {
        Exclusion.UNAVAILABLE,
        Exclusion.BREAKER_OPEN,
        Exclusion.RATE_LIMITED,
        Exclusion.QUOTA,
        Exclusion.BUDGET,
        Exclusion.ALREADY_TRIED,
    }
)


@dataclass(frozen=True, slots=True)
class Assessment:
    """One candidate as the decision saw it.

    Attributes:
        candidate: The candidate.
        exclusion: The first filter it failed; None when it is eligible.
        detail: What that filter missed, for example the attribute's name.
        expected_cost_usd: Expected cost of this request there; None when a price is unknown or the endpoint
            is not authorized.
        cost_terms: What that cost is the sum of, in USD by name (`ExpectedCost`).
        expected_output_tokens: The length of the answer that it was reckoned with; None where none is.
        rank: Its place in the plan, from 0; None when it is not in the plan.
        statistics: What was measured of it, if anything.
        in_flight: How many attempts of this worker were under way there.
        health: What was known of its health and limits.
        terms: What the strategy weighed, by name; empty for what it did not rank.
    """

    candidate: Candidate
    exclusion: Exclusion | None = None
    detail: str = ""
    expected_cost_usd: float | None = None
    cost_terms: Mapping[str, float] = field(default_factory=dict, hash=False)
    expected_output_tokens: float | None = None
    rank: int | None = None
    statistics: EndpointStatistics | None = None
    in_flight: int = 0
    health: EndpointHealth = HEALTHY
    terms: Mapping[str, float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class RuleMatch:
    """Which rule picked the strategy, with the values that it saw.

    Attributes:
        name: The rule's name; the default rule's when none matched.
        strategy: The strategy's name.
        values: The facts that the rule's condition reads, with their values.
        absent: For each rule passed over for it, the facts that it reads and that were absent.
        template: The condition in pieces, each with the fact that it ends with; empty for the default.
    """

    name: str
    strategy: str
    values: Mapping[str, FactValue]
    absent: Mapping[str, tuple[str, ...]]
    template: tuple[tuple[str, str | None], ...] = field(default=(), compare=False)

    def explained(self, shown: Mapping[str, object]) -> str:
        """The condition with each value behind its name, as in `request.input_tokens (812) < 2000`.

        Args:
            shown: The values as they may be shown, by name; a fact without one is absent.
        """
        return "".join(
            text if name is None else f"{text} ({shown.get(name, 'absent')})" for text, name in self.template
        ).strip()


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of one choice: a plan, or the verdict why there is none.

    Attributes:
        facts: The request as it was seen.
        scope: What the permit opened.
        assessments: Every authorized candidate of the group and the first 64 others, in the group's order.
        rule: The rule that picked the strategy.
        plan: The candidates in the order in which attempts take them; empty when denied.
        verdict: Why the request ends here; None when there is a plan.
        seed: What ties were broken with.
        notes: What a reader must know of the order, such as that no candidate met the latency budget.
        affinity: What earlier requests of the same tenant and classification left where.
        output_tokens: The expected length of the answer in tokens; None where the call generates none.
        deployment_ids: The ids of all candidates of the group.
        attempts: How many candidates the plan could hold.
        tried: The deployment ids that earlier attempts of the request took.
        most_attempts: How many attempts the whole request may have under this decision's strategy; None where
            the policy alone says.
        budgets: The budgets that apply, what was left of each and what was done for it.
    """

    facts: RequestFacts
    scope: RoutingScope
    assessments: tuple[Assessment, ...]
    rule: RuleMatch
    plan: tuple[Candidate, ...]
    verdict: Verdict | None
    seed: int
    notes: tuple[str, ...] = ()
    affinity: Affinity = NO_AFFINITY
    output_tokens: float | None = None
    deployment_ids: frozenset[str] = field(default=frozenset(), repr=False)
    attempts: int = 1
    tried: frozenset[str] = frozenset()
    most_attempts: int | None = None
    budgets: tuple[BudgetReading, ...] = ()

    def assessment_of(self, deployment_id: str) -> Assessment | None:
        """The first assessment of the deployment of this id; None when it was no candidate."""
        return next(
            (each for each in self.assessments if each.candidate.deployment_id == deployment_id), None
        )

    def accounts_of(self, deployment_id: str) -> tuple[BudgetAccount, ...]:
        """What an attempt at the deployment of this id is paid from."""
        return tuple(each.account for each in self.budgets if each.concerns(deployment_id))

    @property
    def chosen(self) -> Candidate | None:
        """The first of the plan."""
        return self.plan[0] if self.plan else None
