"""Budgets: how much may be spent in a period, by whom or where, and what is left for a request."""

from __future__ import annotations

import datetime as dt
import enum
import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.routing.cost import route_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from litellm_plugin.routing.candidates import Candidate
    from litellm_plugin.routing.expressions import Condition
    from litellm_plugin.routing.facts import RequestFacts, RoutingScope


class BudgetPer(enum.StrEnum):
    """What each has a budget of its own."""

    TENANT = "tenant"
    TENANT_TIER = "tenant_tier"
    ROUTE = "route"
    ENDPOINT = "endpoint"
    PROVIDER = "provider"

    @property
    def is_of_candidates(self) -> bool:
        """Whether it depends on who answers, so that an exceeded budget keeps out those alone."""
        return self in {BudgetPer.ENDPOINT, BudgetPer.PROVIDER}


class BudgetPeriod(enum.StrEnum):
    """For how long a budget counts; in UTC."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"

    def id_of(self, date: dt.date) -> str:
        """The period that a day lies in: `2026-11-22`, `2026-W47` (ISO 8601, from Monday on) or `2026-11`."""
        match self:
            case BudgetPeriod.DAY:
                return date.isoformat()
            case BudgetPeriod.WEEK:
                year, week, _ = date.isocalendar()
                return f"{year:04}-W{week:02}"
            case BudgetPeriod.MONTH:
                return f"{date.year:04}-{date.month:02}"
            case _:
                assert_never(self)

    def end_of(self, date: dt.date) -> dt.date:
        """The first day after the period that a day lies in."""
        match self:
            case BudgetPeriod.DAY:
                return date + dt.timedelta(days=1)
            case BudgetPeriod.WEEK:
                return date + dt.timedelta(days=8 - date.isoweekday())
            case BudgetPeriod.MONTH:
                # A month has 31 days at most, so that 32 after its first day lie in the next one.
                return (date.replace(day=1) + dt.timedelta(days=32)).replace(day=1)
            case _:
                assert_never(self)


class WhenExceeded(enum.StrEnum):
    """What becomes of a request that a budget does not cover; the strictest first."""

    REFUSE = "refuse"
    TIER = "tier"
    CHEAPEST = "cheapest"


class BudgetAction(enum.StrEnum):
    """What was done because a budget did not cover a request."""

    REFUSED = "refused"
    TIER = "tier"
    CHEAPEST = "cheapest"
    KEPT_OUT = "kept_out"


@dataclass(frozen=True, slots=True)
class Budget:
    """How much may be spent in a period.

    Attributes:
        name: What records and messages call it; unique in a policy.
        per: What each has a budget of its own.
        limit_usd: How much each may spend in a period, in USD.
        period: For how long it counts.
        where: Which requests count; None for all.
        when_exceeded: What becomes of a request that it does not cover; budgets per endpoint and per provider keep
            those out instead.
        tier: The quality tier that such a request is answered by, with `WhenExceeded.TIER`.

    Raises:
        ConfigurationError: The limit is no positive number, or there is no tier to degrade to.
    """

    name: str
    per: BudgetPer
    limit_usd: float
    period: BudgetPeriod
    where: Condition | None = None
    when_exceeded: WhenExceeded = WhenExceeded.REFUSE
    tier: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.limit_usd < math.inf:
            raise ConfigurationError(
                f"budget {self.name!r}: limit_usd: expected more than 0, got {self.limit_usd}"
            )
        if (self.when_exceeded is WhenExceeded.TIER) is (self.tier is None):
            raise ConfigurationError(
                f"budget {self.name!r}: expected a tier exactly where it degrades to one, got {self.tier!r}"
            )


@dataclass(frozen=True, slots=True)
class BudgetAccount:
    """What one budget holds for one subject in one period; state is looked up and spent by it.

    Attributes:
        budget: The budget's name.
        subject: Whose it is: a tenant, a tenant tier, a route (`route_of`), an endpoint or a provider. Permits and
            callers write the first three: it may be any text.
        period: How long the period is.
        period_id: Which one it is, such as `2026-11`.
        limit_usd: How much may be spent in it.
        resets_at: When the period ends, in UTC: `2026-12-01T00:00:00Z`.
    """

    budget: str
    subject: str
    period: BudgetPeriod
    period_id: str
    limit_usd: float
    resets_at: str


@dataclass(frozen=True, slots=True)
class BudgetReading:
    """A budget that applies to a request, and what was left of it.

    Attributes:
        budget: The budget.
        account: What is spent from.
        left_usd: What was left, in USD; None when nobody keeps count.
        deployment_ids: Which candidates spend from it; None for whichever answers.
        action: What was done because it did not cover the request; None when it did.
    """

    budget: Budget
    account: BudgetAccount
    left_usd: float | None
    deployment_ids: frozenset[str] | None = None
    action: BudgetAction | None = None

    def covers(self, cost_usd: float | None) -> bool:
        """Whether a request of this expected cost fits; of an unknown cost, whether anything is left."""
        if self.left_usd is None:
            return True
        return self.left_usd > 0 if cost_usd is None else cost_usd <= self.left_usd

    def concerns(self, deployment_id: str) -> bool:
        """Whether an answer of this deployment is paid from it."""
        return self.deployment_ids is None or deployment_id in self.deployment_ids


def read_budgets(
    budgets: Sequence[Budget],
    facts: RequestFacts,
    scope: RoutingScope,
    candidates: Sequence[Candidate],
    left_usd: Mapping[BudgetAccount, float],
) -> tuple[BudgetReading, ...]:
    """Reads what is left of each budget that applies to a request, in the budgets' order.

    A request without a moment has no period, and none applies. A candidate of an unknown provider spends from no
    budget per provider.

    Args:
        budgets: The policy's budgets.
        facts: The request, with the moment that tells the periods.
        scope: What its permit opens.
        candidates: The authorized candidates.
        left_usd: What is left, by account; no entry where nobody keeps count.
    """
    if facts.moment is None:
        return ()
    is_conditional = any(budget.where is not None for budget in budgets)
    names = {**facts.names(), **scope.names()} if is_conditional else {}
    readings: list[BudgetReading] = []
    for budget in budgets:
        if budget.where is not None and not budget.where.evaluate(names):
            continue
        period_id, resets_at = _period(budget.period, facts.moment.date)
        for subject, deployment_ids in _subjects(budget.per, facts, scope, candidates).items():
            account = BudgetAccount(
                budget.name, subject, budget.period, period_id, budget.limit_usd, resets_at
            )
            left = left_usd.get(account)
            known = left if left is not None and math.isfinite(left) else None
            readings.append(BudgetReading(budget, account, known, deployment_ids))
    return tuple(readings)


def uncovered(
    deployment_id: str, cost_usd: float | None, readings: Iterable[BudgetReading]
) -> BudgetReading | None:
    """The first budget of its own that does not cover a request at a deployment; None where all do."""
    for reading in readings:
        is_own = reading.deployment_ids is not None and deployment_id in reading.deployment_ids
        if is_own and not reading.covers(cost_usd):
            return reading
    return None


def by_deployment(readings: Iterable[BudgetReading]) -> dict[str, list[BudgetReading]]:
    """The budgets that single candidates spend from, by deployment id."""
    found: dict[str, list[BudgetReading]] = {}
    for reading in readings:
        for deployment_id in reading.deployment_ids or ():
            found.setdefault(deployment_id, []).append(reading)
    return found


def accounts_without_permit(
    budgets: Iterable[Budget], candidate: Candidate, day: str
) -> tuple[BudgetAccount, ...]:
    """What a call that no permit stands behind is paid from: its endpoint's and its provider's budgets.

    Those with a condition are of the requests that meet it, and of no such call.

    Args:
        budgets: The policy's budgets.
        candidate: Who answers.
        day: The day in UTC, `2026-11-22`.
    """
    subjects = {BudgetPer.ENDPOINT: candidate.endpoint, BudgetPer.PROVIDER: candidate.provider}
    return tuple(
        BudgetAccount(each.name, subject, each.period, period_id, each.limit_usd, resets_at)
        for each in budgets
        if each.where is None and (subject := subjects.get(each.per)) is not None
        for period_id, resets_at in (_period(each.period, day),)
    )


def _subjects(
    per: BudgetPer, facts: RequestFacts, scope: RoutingScope, candidates: Iterable[Candidate]
) -> Mapping[str, frozenset[str] | None]:
    """Whose budgets a request may be paid from, each with the deployments that spend from it."""
    match per:
        case BudgetPer.TENANT:
            return {scope.tenant: None}
        case BudgetPer.TENANT_TIER:
            return {scope.tenant_tier: None}
        case BudgetPer.ROUTE:
            return {route_of(facts, scope): None}
        case BudgetPer.ENDPOINT:
            pairs = ((each.endpoint, each.deployment_id) for each in candidates)
        case BudgetPer.PROVIDER:
            pairs = ((each.provider, each.deployment_id) for each in candidates if each.provider is not None)
        case _:
            assert_never(per)
    found: dict[str, frozenset[str]] = {}
    for subject, deployment_id in pairs:
        found[subject] = found.get(subject, frozenset()) | {deployment_id}
    return found


# A worker asks for one day at a time, two around midnight.
@functools.lru_cache(maxsize=16)
def _period(period: BudgetPeriod, day: str) -> tuple[str, str]:
    date = dt.date.fromisoformat(day)
    return period.id_of(date), f"{period.end_of(date).isoformat()}T00:00:00Z"
