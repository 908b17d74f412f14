"""Retries: whether a request whose attempt failed may be tried elsewhere, and where."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from litellm_plugin.routing.attempts import AttemptStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from litellm_plugin.routing.candidates import Candidate


class Retry(enum.StrEnum):
    """What follows an attempt that failed in some way."""

    NEXT = "next"
    LARGER = "larger"
    STOP = "stop"


class Halt(enum.StrEnum):
    """Why no attempt follows."""

    EXHAUSTED = "exhausted"
    ATTEMPTS = "attempts"
    DEADLINE = "deadline"
    COST = "cost"
    ERROR_CLASS = "error_class"
    WRITES = "writes"
    RETRY_BUDGET = "retry_budget"


DEFAULT_RULES: Final[Mapping[AttemptStatus, Retry]] = MappingProxyType(
    {
        AttemptStatus.RATE_LIMITED: Retry.NEXT,
        AttemptStatus.SERVER_ERROR: Retry.NEXT,
        AttemptStatus.TIMEOUT: Retry.NEXT,
        AttemptStatus.CONNECTION_ERROR: Retry.NEXT,
        AttemptStatus.PROVIDER_AUTH: Retry.NEXT,
        AttemptStatus.MISCONFIGURED: Retry.NEXT,
        AttemptStatus.CONTEXT_WINDOW: Retry.LARGER,
        AttemptStatus.CONTENT_FILTER: Retry.STOP,
    }
)
# The official OpenAI clients wait 600 s for an answer before they give up: openai-python, DEFAULT_TIMEOUT.
DEFAULT_DEADLINE_MS: Final = 600_000


@dataclass(frozen=True, slots=True)
class RetryLoad:
    """What retries cost one endpoint lately, as counted within a window.

    Attributes:
        first_attempts: How many requests went there first.
        retries: How many further attempts those requests had, wherever they went; not those that were answered.
    """

    first_attempts: int = 0
    retries: int = 0


NO_RETRIES: Final = RetryLoad()


@dataclass(frozen=True, slots=True)
class RetryBudgetRule:
    """How many retries an endpoint's requests may have together, so that an outage does not grow by them.

    Attributes:
        ratio: Retries for each first attempt within the window; 0 or more.
        minimum: How many are granted in a window whatever the ratio says.
        window_s: Length of the window, in seconds.

    Source: Finagle's RetryBudget, and Google's SRE book, chapter 21, "Handling Overload".
    """

    ratio: float = 0.2
    minimum: int = 3
    window_s: float = 10.0

    def allows(self, load: RetryLoad) -> bool:
        """Whether one more retry is within it."""
        return load.retries + 1 <= max(self.minimum, self.ratio * load.first_attempts)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """What the operator configured of repeating requests.

    Attributes:
        rules: What follows each class of failure; a class without a rule is never repeated.
        deadline_ms: How long after its admission a request may be worked on; None without a limit.
        max_chain_cost_usd: What all attempts of a request may cost together, as expected; None without a limit.
        writes_need_idempotency_key: Whether a request that writes is repeated only with an idempotency key.
        budget: How many retries the requests of one endpoint may have together; None without a limit.
    """

    rules: Mapping[AttemptStatus, Retry] = field(default_factory=lambda: DEFAULT_RULES, hash=False)
    deadline_ms: int | None = DEFAULT_DEADLINE_MS
    max_chain_cost_usd: float | None = None
    writes_need_idempotency_key: bool = True
    budget: RetryBudgetRule | None = RetryBudgetRule()


@dataclass(frozen=True, slots=True)
class PastAttempt:
    """One attempt that a request has behind it.

    Attributes:
        candidate: The deployment that was called.
        model_group: The group whose plan it was part of.
        status: How it ended; None where nobody told.
        expected_cost_usd: What it was expected to cost; None when unknown.
        may_have_acted: Whether the provider may have worked on the request.
        asked_to_wait: Whether the provider said when to come back.
    """

    candidate: Candidate
    model_group: str
    status: AttemptStatus | None = None
    expected_cost_usd: float | None = None
    may_have_acted: bool = True
    asked_to_wait: bool = False


@dataclass(frozen=True, slots=True)
class Chain:
    """A request with the attempts that it has behind it.

    Attributes:
        past: The attempts, in order.
        limit: How many attempts it may have.
        elapsed_ms: Time since its admission.
        writes: Whether it has tools that write.
        has_idempotency_key: Whether the caller or the permit gave one.
        max_cost_usd: The permit's limit for the whole request; None when it sets none.
        load: What retries cost the endpoint that its first attempt went to.
    """

    past: tuple[PastAttempt, ...]
    limit: int
    elapsed_ms: float = 0.0
    writes: bool = False
    has_idempotency_key: bool = False
    max_cost_usd: float | None = None
    load: RetryLoad = NO_RETRIES


def following(
    policy: RetryPolicy,
    chain: Chain,
    plan: Iterable[Candidate],
    *,
    model_group: str,
    costs_usd: Mapping[str, float | None],
) -> Candidate | Halt:
    """Gives the candidate that the next attempt takes, or why there is none.

    The answer is one of `plan` that no attempt took. The first attempt meets the deadline alone: what it may
    cost is a matter of eligibility.

    Args:
        policy: The operator's rules.
        chain: The request so far.
        plan: The decision's candidates in their order.
        model_group: The group that the plan is for.
        costs_usd: What the request is expected to cost, by deployment id.
    """
    halt = halted(policy, chain)
    if halt is not None:
        return halt
    taken = {each.candidate.deployment_id for each in chain.past}
    left = [each for each in plan if each.deployment_id not in taken]
    fitting = [each for each in left if _may_be_asked(policy, chain, each, model_group)]
    if not fitting:
        return Halt.EXHAUSTED
    affordable = (each for each in fitting if _fits_cost(policy, chain, costs_usd.get(each.deployment_id)))
    return next(affordable, Halt.COST)


def halted(policy: RetryPolicy, chain: Chain) -> Halt | None:
    """Says why the request may not be tried again at all; None when it may."""
    # First, because it is the one that forbids the caller too to send the request again by itself.
    if _is_unsafe(policy, chain):
        return Halt.WRITES
    if policy.deadline_ms is not None and chain.elapsed_ms >= policy.deadline_ms:
        return Halt.DEADLINE
    if any(_forbids(policy, each.status) for each in chain.past):
        return Halt.ERROR_CLASS
    if len(chain.past) >= chain.limit:
        return Halt.ATTEMPTS
    is_over = bool(chain.past) and policy.budget is not None and not policy.budget.allows(chain.load)
    return Halt.RETRY_BUDGET if is_over else None


def _forbids(policy: RetryPolicy, status: AttemptStatus | None) -> bool:
    # What nobody told of is a failure all the same: the request is still unanswered.
    known = AttemptStatus.SERVER_ERROR if status is None else status
    if known is AttemptStatus.SUCCESS:
        return False
    return policy.rules.get(known, Retry.STOP) is Retry.STOP


def _is_unsafe(policy: RetryPolicy, chain: Chain) -> bool:
    if not chain.writes or chain.has_idempotency_key or not policy.writes_need_idempotency_key:
        return False
    return any(each.may_have_acted for each in chain.past)


def _may_be_asked(policy: RetryPolicy, chain: Chain, candidate: Candidate, model_group: str) -> bool:
    return all(
        _is_larger(candidate, each.candidate)
        for each in chain.past
        if each.status is not None and policy.rules.get(each.status) is Retry.LARGER
    ) and not any(_asked_to_wait(each, candidate, model_group) for each in chain.past)


def _is_larger(candidate: Candidate, than: Candidate) -> bool:
    """An unknown window is not larger than any, and nothing is known to be larger than it."""
    mine, its = candidate.max_input_tokens, than.max_input_tokens
    return mine is not None and its is not None and mine > its


def _asked_to_wait(past: PastAttempt, candidate: Candidate, model_group: str) -> bool:
    """The deployments of one group that share an endpoint are a pool of keys, each with a limit of its own."""
    is_same = past.candidate.endpoint == candidate.endpoint and past.model_group != model_group
    return past.asked_to_wait and is_same


def _fits_cost(policy: RetryPolicy, chain: Chain, cost_usd: float | None) -> bool:
    limits_usd = [each for each in (policy.max_chain_cost_usd, chain.max_cost_usd) if each is not None]
    if not limits_usd or not chain.past:
        return True
    costs_usd = [cost_usd, *(each.expected_cost_usd for each in chain.past if each.may_have_acted)]
    known_usd = [each for each in costs_usd if each is not None]
    return len(known_usd) == len(costs_usd) and sum(known_usd) <= min(limits_usd)
