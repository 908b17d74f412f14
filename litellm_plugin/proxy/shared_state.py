"""The shared state: what this worker knows together with the others, and what requests take of it.

Requests read and write memory alone. Once a period the background task tells the store what was measured, spent and
found out here, and takes what the others told it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from litellm_plugin.routing import EndpointHealth, Exclusion, RetryLoad
from litellm_plugin.routing.attempts import AttemptStatus
from litellm_plugin.routing.cost import expected_answers
from litellm_plugin.routing.eligibility import quota_missing
from litellm_plugin.routing.health import HEALTHY, BreakerState
from litellm_plugin.routing.panic import PASSABLE
from litellm_plugin.state import (
    Breakers,
    BudgetHold,
    Budgets,
    LeaseBook,
    LoopWatch,
    MemoryExchange,
    MemoryStore,
    Outcome,
    Probing,
    ProviderLimits,
    Quotas,
    QuotaUse,
    RetryBudget,
    Roster,
    SharedClock,
    SharedLatency,
    StoreKind,
    Synchroniser,
    TurnEnd,
)

if TYPE_CHECKING:
    from litellm_plugin.proxy.clock import Clock
    from litellm_plugin.proxy.context import Permitted
    from litellm_plugin.routing import Candidate, Decision, StatisticsSnapshot
    from litellm_plugin.routing.attempts import Measurement
    from litellm_plugin.routing.budgets import BudgetAccount
    from litellm_plugin.settings import PolicySnapshot
    from litellm_plugin.state import Exchange, ProbingPolicy, Quota, Turn


@dataclass(frozen=True, slots=True)
class Hold:
    """What one attempt took before it is known what it used; ended once.

    Attributes:
        deployment_id: LiteLLM's id of the deployment.
        is_probe: Whether it is a probe of a half-open breaker.
        quota: Its request and expected tokens.
        budget: Its expected cost.
    """

    deployment_id: str
    is_probe: bool = False
    quota: QuotaUse = field(default_factory=QuotaUse)
    budget: BudgetHold = field(default_factory=BudgetHold)


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt ended, as far as the shared state cares.

    Attributes:
        status: How it ended.
        began_s: When it began, in monotonic seconds.
        retry_after_s: When the provider asked to come back; None when it did not.
        was_sent: Whether the provider may have seen it.
        tokens: How many tokens it had, input and output; None when nobody told.
        cost_usd: What it was billed; None when nobody told.
        is_measured: Whether it tells something of the deployment.
        is_excused: Whether it failed for reasons of this worker or of the request, none of the deployment's.
        retry_of: The endpoint of the request's first attempt; None where this is that attempt.
    """

    status: AttemptStatus
    began_s: float
    retry_after_s: float | None = None
    was_sent: bool = True
    tokens: int | None = None
    cost_usd: float | None = None
    is_measured: bool = True
    is_excused: bool = False
    retry_of: str | None = None


class SharedState:
    """Statistics, health, limits and budgets; belongs to one event loop, and only `synchronise` waits.

    Args:
        clock: The worker's clock.
        worker: Names this worker among all of them, and among its own restarts.
    """

    def __init__(self, clock: Clock, worker: str) -> None:
        self._clock = clock
        self._worker = worker
        self._statistics = MemoryStore(clock=clock.monotonic)
        self._shared_clock = SharedClock(clock.monotonic, clock.wall)
        self._roster = Roster(worker)
        self._breakers = Breakers(None)
        self._book = LeaseBook(self._roster.count, clock.monotonic)
        self._quotas = Quotas(self._book)
        self._provider_limits = ProviderLimits(clock.monotonic)
        self._budgets = Budgets(self._book)
        self._retries = RetryBudget(clock.monotonic)
        self._probing = Probing(
            self._statistics.measured_at_s, self._half_open, self._may_be_probed, clock.monotonic
        )
        self.watch: Final = LoopWatch(clock.monotonic)
        self._exchange: Exchange = MemoryExchange(self._shared_clock.now_s)
        self._kind = StoreKind.MEMORY
        self._sync = self._synchroniser()

    def connect(self, exchange: Exchange, kind: StoreKind = StoreKind.MEMORY) -> None:
        """Takes the store that workers share, before requests are served; this worker's own memory before that."""
        self._exchange, self._kind = exchange, kind
        self._sync = self._synchroniser()

    @property
    def is_store_lost(self) -> bool:
        """Whether the store did not answer for some seconds."""
        return self._sync.is_lost

    def use(self, policy: PolicySnapshot) -> None:
        """Takes what a policy says of breakers and retries; what is known stays."""
        self._breakers.use(policy.breaker)
        budget = policy.routing.retries.budget
        if budget is not None:
            self._retries.use(budget.window_s)

    def probe(self, policy: ProbingPolicy | None) -> None:
        """Takes turns by these rules from now on; None where nobody takes them."""
        self._probing.use(policy)

    def declare(self, quotas: Mapping[str, Quota], synthetic: Iterable[str] = ()) -> None:
        """Replaces the limits of deployments, by deployment id: one entry for each that is configured.

        Args:
            quotas: Their limits.
            synthetic: Those that may be asked with the plugin's own prompt.
        """
        self._quotas.declare(quotas)
        self._probing.declare(synthetic)
        if quotas:
            self._breakers.know(quotas)
            self._provider_limits.know(quotas)

    def snapshot(self) -> StatisticsSnapshot:
        """What a decision reads: statistics at most 0.1 s old; health, limits and budgets of this moment."""
        return replace(
            self._statistics.snapshot(),
            health=_Health(self),
            budgets=self._budgets,
        )

    def health_of(self, deployment_id: str) -> EndpointHealth:
        """Whether a deployment may be asked now, by its breaker, its provider and its quota."""
        known = self._breakers.health(self._shared_clock.now_s()).get(deployment_id, HEALTHY)
        provider = self._provider_limits.standing(deployment_id)
        quota = self._quotas.left(deployment_id)
        requests_left = _least(quota.requests, provider.requests_left)
        tokens_left = _least(quota.tokens, provider.tokens_left)
        if not provider.waits and requests_left is None and tokens_left is None:
            return known
        return replace(
            known,
            waits=known.waits or provider.waits,
            waits_unasked=known.waits_unasked and not provider.waits,
            retry_after_s=_longest(known.retry_after_s, provider.retry_after_s),
            requests_left=requests_left,
            tokens_left=tokens_left,
        )

    def decided(self, state: Permitted, decision: Decision) -> None:
        """Reserves what a plan's first attempt is expected to cost, and notes what the decision missed.

        Probes and larger leases go to who needs them.
        """
        shut = [
            each.candidate.deployment_id
            for each in decision.assessments
            if each.exclusion is Exclusion.BREAKER_OPEN
        ]
        if shut:
            self._breakers.want(shut, self._shared_clock.now_s())
        for each in decision.assessments:
            if each.exclusion is Exclusion.QUOTA:
                self._quotas.miss(each.candidate.deployment_id, _tokens(decision, each.candidate))
        if decision.budgets:
            state.tab = state.tab or self._budgets.tab()
            state.tab.plan(decision)

    def passes_over(self, decision: Decision, candidate: Candidate) -> Exclusion | None:
        """Why a planned candidate may not be asked at this moment, which may be later than the decision.

        None where it may.
        """
        health = self.health_of(candidate.deployment_id)
        was_planned_shut = _was_planned_shut(decision, candidate)
        if health.is_open and not was_planned_shut:
            return Exclusion.BREAKER_OPEN
        if health.waits and not (was_planned_shut and health.waits_unasked):
            return Exclusion.RATE_LIMITED
        missing = quota_missing(health, decision.facts, _answer_tokens(decision, candidate))
        return None if missing is None else Exclusion.QUOTA

    def take(self, state: Permitted, decision: Decision, candidate: Candidate) -> Hold | None:
        """Takes what an attempt at a planned candidate needs; None, and nothing taken, where that is gone by now."""
        if self.passes_over(decision, candidate) is not None:
            return None
        deployment_id = candidate.deployment_id
        is_probe = self._breakers.take_probe(deployment_id, self._shared_clock.now_s())
        quota = self._quotas.reserve(deployment_id, _tokens(decision, candidate))
        if quota is None:
            if is_probe:
                self._breakers.give_back_probe(deployment_id)
            return None
        return Hold(deployment_id, is_probe, quota, _budget(state, decision, deployment_id))

    def spend(self, state: Permitted, decision: Decision, candidate: Candidate) -> Hold:
        """Takes what an attempt needs that is made whatever is left."""
        deployment_id = candidate.deployment_id
        return Hold(
            deployment_id,
            self._breakers.take_probe(deployment_id, self._shared_clock.now_s()),
            self._quotas.spend(deployment_id, _tokens(decision, candidate)),
            _budget(state, decision, deployment_id),
        )

    def give_back(self, hold: Hold) -> None:
        """Gives back what was taken for an attempt that was never made."""
        if hold.is_probe:
            self._breakers.give_back_probe(hold.deployment_id)
        self._quotas.release(hold.quota)
        self._budgets.release(hold.budget)

    def give_back_all(self, state: Permitted) -> None:
        """Gives back what a request took for an attempt that it has not made."""
        hold, state.hold = state.hold, None
        if hold is not None:
            self.give_back(hold)
        if state.tab is not None:
            state.tab.close()

    def begin(self, deployment_id: str, *, first: str, is_first: bool) -> None:
        """Counts an attempt that is under way from now on.

        Args:
            deployment_id: LiteLLM's id of the deployment.
            first: The endpoint that the request's first attempt went to.
            is_first: Whether this is that attempt.
        """
        self._statistics.begin(deployment_id)
        if is_first:
            self._retries.began(first)
        else:
            self._retries.retried(first)

    def end(self, deployment_id: str, hold: Hold | None, ended: Ended) -> None:
        """Counts an attempt as ended, and settles what it took."""
        self._statistics.end(deployment_id)
        if hold is not None:
            self._settle(hold, ended)
        if ended.retry_of is not None and ended.status is AttemptStatus.SUCCESS:
            self._retries.answered(ended.retry_of, ended.began_s)
        if not ended.is_measured:
            if hold is not None and hold.is_probe:
                self._breakers.give_back_probe(deployment_id)
            return
        self._breakers.record(
            Outcome(
                deployment_id=deployment_id,
                status=ended.status,
                duration_s=max(0.0, self._clock.monotonic() - ended.began_s),
                retry_after_s=ended.retry_after_s,
                is_probe=hold is not None and hold.is_probe,
                is_excused=ended.is_excused,
            ),
            self._shared_clock.now_s(),
        )

    @property
    def turn(self) -> Turn | None:
        """The deployment that this worker may ask with the plugin's own prompt now; None without one."""
        return self._probing.granted

    def take_turn(
        self, turn: Turn, tokens: int, expected_usd: float | None, accounts: Iterable[BudgetAccount]
    ) -> Hold | None:
        """Begins an attempt that no request stands behind; None, and the turn given back, where it has no room.

        Args:
            turn: The turn that was granted.
            tokens: How many tokens it is expected to have.
            expected_usd: What it is expected to cost; None when a price is unknown.
            accounts: The budgets that it is paid from.
        """
        name = turn.deployment_id
        paid = tuple(accounts)
        has_room = self._may_be_probed(name) and all(
            self._budgets[each] > (expected_usd or 0.0) for each in paid
        )
        quota = self._quotas.reserve(name, tokens) if has_room else None
        if quota is None:
            self._probing.put_off(turn)
            return None
        is_probe = self._breakers.take_probe(name, self._shared_clock.now_s())
        self._probing.begin(turn)
        self._statistics.begin(name)
        return Hold(name, is_probe, quota, self._budgets.spend(paid, expected_usd))

    def put_off(self, turn: Turn) -> None:
        """Gives back a turn that cannot be taken."""
        self._probing.put_off(turn)

    def end_turn(self, turn: Turn, hold: Hold, ended: Ended, measured: Measurement | None) -> None:
        """Ends such an attempt, as `end` does that of a request.

        Args:
            turn: The turn that was taken.
            hold: What it took.
            ended: How it ended.
            measured: The times of it; None where it tells nothing of the deployment.
        """
        self.end(turn.deployment_id, hold, ended)
        how = str(ended.status) if ended.is_measured else "refused"
        if measured is None:
            self._probing.end(turn, TurnEnd(how, tells=False))
            return
        self.measure(measured)
        self._probing.end(turn, TurnEnd(how, measured.first_token_ms, measured.total_ms))

    def measure(self, measurement: Measurement) -> None:
        """Takes the times of an ended attempt into account."""
        self._statistics.record(measurement)

    def hear(self, deployment_id: str, headers: Mapping[str, object]) -> None:
        """Takes what a provider says of its own limits in the headers of an answer."""
        self._provider_limits.hear(deployment_id, headers, self._clock.wall())

    def retry_load(self, endpoint: str) -> RetryLoad:
        """What retries cost the requests that went to an endpoint first."""
        return self._retries.load(endpoint)

    async def synchronise(self) -> None:
        """One exchange with the store; it raises nothing but a cancellation."""
        await self._sync.round()

    def pause_s(self) -> float:
        """How long to wait before the next exchange, in seconds."""
        return self._sync.pause_s()

    async def aclose(self) -> None:
        """Closes the store's connections."""
        await self._exchange.aclose()

    def report(self) -> dict[str, object]:
        """What the health page shows of it."""
        return {
            "store": {"kind": str(self._kind), **self._sync.health()},
            "workers": self._roster.count(),
            "breakers": dict(self._breakers.report(self._shared_clock.now_s())),
            "probing": dict(self._probing.report()) if self._probing.is_on else None,
            "deployments": self._statistics.report(),
        }

    def _half_open(self) -> set[str]:
        """What is half open and has a probe that nobody wants."""
        return {
            name
            for name, each in self._breakers.health(self._shared_clock.now_s()).items()
            if each.breaker is BreakerState.HALF_OPEN and each.may_probe
        }

    def _may_be_probed(self, deployment_id: str) -> bool:
        """Whether breaker, provider and limits leave room for one more attempt."""
        health = self.health_of(deployment_id)
        has_room = health.requests_left != 0 and health.tokens_left != 0
        return has_room and not health.is_open and not health.waits

    def _settle(self, hold: Hold, ended: Ended) -> None:
        if not ended.was_sent:
            self._quotas.release(hold.quota)
            self._budgets.release(hold.budget)
            return
        # Without a word what was expected counts, where the provider may have begun.
        tokens = ended.tokens if ended.tokens is not None or ended.status.may_have_acted else 0
        self._quotas.settle(hold.quota, tokens)
        self._budgets.end(hold.budget, ended.status, ended.cost_usd)

    def _synchroniser(self) -> Synchroniser:
        parts = (
            self._roster,
            self._breakers,
            self._book,
            self._provider_limits,
            self._probing,
            SharedLatency(self._statistics),
        )
        return Synchroniser(parts, self._exchange, self._worker, self._shared_clock)


class _Health(Mapping[str, EndpointHealth]):
    """The health of any deployment, made when it is looked up: a decision reads few of thousands."""

    __slots__ = ("_shared",)

    def __init__(self, shared: SharedState) -> None:
        self._shared = shared

    def __getitem__(self, deployment_id: str) -> EndpointHealth:
        return self._shared.health_of(deployment_id)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _budget(state: Permitted, decision: Decision, deployment_id: str) -> BudgetHold:
    return BudgetHold() if state.tab is None else state.tab.begin(decision, deployment_id)


def _was_planned_shut(decision: Decision, candidate: Candidate) -> bool:
    """Whether the decision itself sends this one attempt through an open breaker or a wait."""
    assessed = decision.assessment_of(candidate.deployment_id)
    return assessed is not None and assessed.rank is not None and assessed.exclusion in PASSABLE


def _answer_tokens(decision: Decision, candidate: Candidate) -> float | None:
    expected, longest = decision.output_tokens, candidate.max_output_tokens or math.inf
    return None if expected is None else min(expected, longest * expected_answers(decision.facts))


def _tokens(decision: Decision, candidate: Candidate) -> int:
    return decision.facts.input_tokens + round(_answer_tokens(decision, candidate) or 0)


def _least(first: int | None, second: int | None) -> int | None:
    return min((each for each in (first, second) if each is not None), default=None)


def _longest(first: float | None, second: float | None) -> float | None:
    return max((each for each in (first, second) if each is not None), default=None)
