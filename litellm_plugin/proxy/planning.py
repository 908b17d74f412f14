"""Planning: a request's decisions, and which attempt follows the ones that it has behind it."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

from litellm_plugin.errors import PermitRejected, Reason, RequestDenied, Verdict
from litellm_plugin.permit import check_model
from litellm_plugin.proxy.context import RoutedGroup
from litellm_plugin.proxy.denial import verdict_of
from litellm_plugin.proxy.shadow import Basis
from litellm_plugin.routing import (
    NO_RETRIES,
    CallType,
    Candidate,
    Chain,
    Halt,
    PastAttempt,
    decide,
    following,
    request_facts,
)
from litellm_plugin.routing.attempts import AttemptStatus
from litellm_plugin.routing.verdicts import soonest_s
from litellm_plugin.state import AffinityScope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from litellm_plugin.proxy.context import Attempt, Permitted
    from litellm_plugin.proxy.runtime import Runtime
    from litellm_plugin.records import ShadowedDecision
    from litellm_plugin.routing import Affinity, Decision, Exclusion, RequestFacts, StatisticsSnapshot
    from litellm_plugin.routing.stickiness import Stickiness


class Planner:
    """Decides for requests, and records each decision before anything is sent.

    Args:
        runtime: What this worker knows.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def attempts(self, state: Permitted, group: str) -> int:
        """Plans for a group that LiteLLM's router knows by this name, and gives the plan's length."""
        if state.call_type is CallType.STORED_RESPONSE and state.stored is not None:
            candidates = self._runtime.deployments.single(state.stored.deployment_id)
        else:
            candidates = self._runtime.deployments.of_group(group, state.team)
        if not candidates:
            return state.policy.routing.attempts
        return len(self.plan(state, group, candidates).decision.plan)

    def plan(self, state: Permitted, group: str, candidates: Iterable[Candidate]) -> RoutedGroup:
        """Decides for a group and records it, before anything is sent.

        Raises:
            RequestDenied: There is no plan.
        """
        decision, shadowed = self._decide(state, group, candidates)
        if decision.verdict is not None and any(each.decision.plan for each in state.groups.values()):
            # What was authorized was tried: the caller sees an outage inside the set, not a refusal.
            verdict = unserved(self._runtime, state)
            decision = replace(decision, verdict=verdict)
        return self._record(state, group, decision, shadowed)

    def enlarge(self, state: Permitted, routed: RoutedGroup) -> None:
        """Plans once more for a request that is longer than the window that it was just refused by.

        The plan may have been cut before the candidates with larger windows. Nothing changes where there is none.
        """
        last = state.current
        window = last.candidate.max_input_tokens if last is not None else None
        if last is None or last.status is not AttemptStatus.CONTEXT_WINDOW or window is None:
            return
        if routed.decision.most_attempts is not None:
            return  # its strategy wants no other attempt, wherever it would go
        whole = self._again(state, routed.decision)
        planned = {each.deployment_id for each in routed.decision.plan}
        left = [each for each in whole if each.deployment_id not in planned]
        if not any(each.max_input_tokens and each.max_input_tokens > window for each in left):
            return
        facts = facts_of(state)
        state.facts = replace(
            facts,
            input_tokens=max(facts.input_tokens, window + 1),
            largest_input_tokens=max(facts.window_tokens, window + 1),
        )
        group = routed.decision.facts.model_group
        decision, shadowed = self._decide(state, group, whole)
        if decision.verdict is None:
            self._record(state, group, decision, shadowed)

    def _again(self, state: Permitted, decision: Decision) -> tuple[Candidate, ...]:
        """All candidates of a decision's group, as LiteLLM lists them now.

        A decision lists few of those outside the permit. What LiteLLM held back then stays held back, and what it
        offered without listing it in the group comes last.
        """
        seen = {each.candidate.deployment_id: each.candidate for each in decision.assessments}
        group = self._runtime.deployments.of_group(decision.facts.model_group, state.team)
        listed = {each.deployment_id for each in group}
        held_back = {name for name, each in seen.items() if not each.is_available}
        whole = (
            replace(each, is_available=False) if each.deployment_id in held_back else each for each in group
        )
        return (*whole, *(each for name, each in seen.items() if name not in listed))

    def _decide(
        self, state: Permitted, group: str, candidates: Iterable[Candidate]
    ) -> tuple[Decision, ShadowedDecision | None]:
        """The decision, and what the shadow policy makes of the same request."""
        holds(lambda: check_model(state.permit, group))
        started_s = self._runtime.clock.monotonic()
        # What an earlier plan of this request took must not stand in its own way.
        self._runtime.shared.give_back_all(state)
        statistics = self._runtime.shared.snapshot()
        routing = state.policy.routing
        facts = replace(facts_of(state), model_group=group)
        affinity = self._affinity(state, facts)
        offered = [each for each in candidates if state.pinned is None or each.deployment_id in state.pinned]
        decision = decide(
            replace(routing, attempts=1) if state.endpoint is not None else routing,
            facts,
            state.scope,
            self._runtime.deployments.indexed(group, offered),
            statistics=statistics,
            seed=_seed(state.permit.request_id),
            tried=state.tried,
            affinity=routing.stickiness.sees(affinity),
        )
        now_s = self._runtime.clock.monotonic()
        state.statistics_age_ms = (now_s - statistics.taken_at_s) * 1000
        state.timings_ms["decide"] = (now_s - started_s) * 1000
        shadowed = self._shadowed(state, decision, offered, statistics, affinity)
        # After it: the second policy is asked with what was left for the first one.
        self._runtime.shared.decided(state, decision)
        return decision, shadowed

    def _shadowed(
        self,
        state: Permitted,
        decision: Decision,
        offered: Sequence[Candidate],
        statistics: StatisticsSnapshot,
        affinity: Affinity,
    ) -> ShadowedDecision | None:
        if state.shadow is None:
            return None
        basis = Basis(
            candidates=offered,
            statistics=statistics,
            tried=state.tried,
            affinity=affinity,
            attempts=1 if state.endpoint is not None else None,
            revoked=self._runtime.stored_revocations,
            now=self._runtime.clock.wall(),
        )
        return state.shadow.decide(decision, state.permit, basis)

    def _record(
        self, state: Permitted, group: str, decision: Decision, shadowed: ShadowedDecision | None
    ) -> RoutedGroup:
        routed = RoutedGroup(self._runtime.recorder.decision(state, decision, shadowed), decision)
        state.groups[group] = routed
        if decision.verdict is not None:
            raise RequestDenied(decision.verdict)
        return routed

    def admitted(self, state: Permitted, wanted_id: str) -> tuple[RoutedGroup, Candidate]:
        """The decision whose plan holds this deployment; one is made for a call that met no selection."""
        for routed in reversed(state.groups.values()):
            for candidate in routed.decision.plan:
                if candidate.deployment_id == wanted_id:
                    return routed, candidate
        routed = self.plan(state, wanted_id, self._runtime.deployments.single(wanted_id))
        return routed, routed.decision.plan[0]

    def following(self, state: Permitted, routed: RoutedGroup) -> Candidate | Halt:
        """The candidate of a group's plan that the next attempt takes, or why there is none."""
        return _following(self._runtime, state, routed.decision)

    def take(self, state: Permitted, routed: RoutedGroup) -> Candidate | Halt:
        """The same, with what the attempt needs taken for it; the attempt or the request's end gives it back.

        What it passes over is noted for the record of that attempt.
        """
        shared = self._runtime.shared
        state.passed_over = ()
        if state.hold is not None:
            shared.give_back(state.hold)
            state.hold = None
        for _ in routed.decision.plan:
            following = self.following(state, routed)
            if not isinstance(following, Candidate):
                return following
            state.hold = shared.take(state, routed.decision, following)
            if state.hold is not None:
                state.passed_over = _passed_over(self._runtime, state, routed.decision, following)
                return following
        return Halt.EXHAUSTED

    def _affinity(self, state: Permitted, facts: RequestFacts) -> Affinity:
        """What either policy wants to know of earlier requests."""
        wanted = stickiness_of(state)
        return self._runtime.affinity.read(
            affinity_scope(state),
            model_group=facts.model_group,
            session=facts.session if any(each.keeps_sessions for each in wanted) else None,
            prefix=facts.prefix if any(each.prefers_warm_caches for each in wanted) else None,
        )


def affinity_scope(state: Permitted) -> AffinityScope:
    """Within what the answers of a request are remembered."""
    return AffinityScope(state.scope.tenant, state.scope.data_classification)


def stickiness_of(state: Permitted) -> tuple[Stickiness, ...]:
    """What the request's policy wants of earlier requests, then what its shadow does."""
    own = state.policy.routing.stickiness
    return (own,) if state.shadow is None else (own, state.shadow.stickiness)


def next_step(runtime: Runtime, state: Permitted) -> Candidate | Halt:
    """What one of the request's plans would try next, or why nothing is tried any more."""
    steps = [_following(runtime, state, each.decision) for each in state.groups.values()]
    found = next((step for step in steps if isinstance(step, Candidate)), None)
    return found or next((step for step in steps if step is not Halt.EXHAUSTED), Halt.EXHAUSTED)


def unserved(runtime: Runtime, state: Permitted) -> Verdict:
    """The verdict for a request whose authorized endpoints were tried and did not serve it."""
    request_id = state.permit.request_id
    step = next_step(runtime, state)
    if step is Halt.WRITES:
        return Verdict(
            Reason.NOT_REPEATED,
            f"Request {request_id} failed where a provider may have acted on it. It has tools that write and no "
            "idempotency key, so it was not tried elsewhere; look whether it took effect before sending it again.",
        )
    has_untried = state.attempts_left > 0 and any(
        untried(routed.decision, state) for routed in state.groups.values()
    )
    if isinstance(step, Candidate) or has_untried:
        return Verdict(
            Reason.UNAVAILABLE,
            f"The authorized endpoints did not serve request {request_id}, and not all could be tried"
            f"{_why(step, state)}. Try again shortly.",
            _soonest_s(runtime, state) if step is Halt.EXHAUSTED else None,
        )
    names = ", ".join(dict.fromkeys(attempt.candidate.endpoint for attempt in state.attempts))
    return Verdict(
        Reason.CHAIN_EXHAUSTED,
        f"Every authorized endpoint that could serve request {request_id} was used up "
        f"(tried: {names or 'none'}). No endpoint outside the authorized set was tried.",
    )


def _soonest_s(runtime: Runtime, state: Permitted) -> float | None:
    """When the first of what was planned and not tried may be asked, in seconds; None when nobody knows."""
    waiting = (each for routed in state.groups.values() for each in untried(routed.decision, state))
    return soonest_s(runtime.shared.health_of(each.deployment_id) for each in waiting)


def untried(decision: Decision, state: Permitted) -> list[Candidate]:
    """What of a decision's plan was not called yet."""
    tried = state.tried
    return [candidate for candidate in decision.plan if candidate.deployment_id not in tried]


def facts_of(state: Permitted) -> RequestFacts:
    """The request's facts; those of an empty body before they were read."""
    return state.facts or request_facts(state.call_type, "", {})


def holds(check: Callable[[], None]) -> None:
    """Runs a check of the permit and turns its rejection into this request's end."""
    try:
        check()
    except PermitRejected as rejected:
        raise RequestDenied(verdict_of(rejected)) from rejected


def _following(runtime: Runtime, state: Permitted, decision: Decision) -> Candidate | Halt:
    return following(
        state.policy.routing.retries,
        chain_of(runtime, state),
        [each for each in decision.plan if runtime.shared.passes_over(decision, each) is None],
        model_group=decision.facts.model_group,
        costs_usd=_costs_usd(decision),
    )


def _passed_over(
    runtime: Runtime, state: Permitted, decision: Decision, chosen: Candidate
) -> tuple[tuple[Candidate, Exclusion], ...]:
    """What of a plan comes before the chosen candidate and may not be asked now, and why."""
    before = itertools.takewhile(lambda each: each is not chosen, untried(decision, state))
    reasons = ((each, runtime.shared.passes_over(decision, each)) for each in before)
    return tuple((each, reason) for each, reason in reasons if reason is not None)


def chain_of(runtime: Runtime, state: Permitted) -> Chain:
    """The request with the attempts behind it, as the retry rules read it."""
    facts, spent = facts_of(state), state.spent
    return Chain(
        past=tuple(_past(each) for each in spent),
        limit=state.attempt_limit,
        # A session lasts as long as its user talks.
        elapsed_ms=0.0 if state.is_socket else (runtime.clock.monotonic() - state.received_s) * 1000,
        writes=facts.writes,
        has_idempotency_key=facts.is_idempotent or state.permit.idempotency_key is not None,
        max_cost_usd=state.scope.max_cost_usd,
        load=runtime.shared.retry_load(spent[0].candidate.endpoint) if spent else NO_RETRIES,
    )


def _past(attempt: Attempt) -> PastAttempt:
    return PastAttempt(
        candidate=attempt.candidate,
        model_group=attempt.model_group,
        status=attempt.status,
        expected_cost_usd=attempt.expected_cost_usd,
        may_have_acted=attempt.may_have_acted,
        asked_to_wait=attempt.retry_after_s is not None,
    )


def _costs_usd(decision: Decision) -> dict[str, float | None]:
    return {
        each.candidate.deployment_id: each.expected_cost_usd
        for each in decision.assessments
        if each.rank is not None
    }


def _why(step: Candidate | Halt, state: Permitted) -> str:
    last = state.current.status if state.current else None
    match step:
        case Halt.DEADLINE:
            return f": its time of {state.policy.routing.retries.deadline_ms} ms is up"
        case Halt.COST:
            return ": another attempt could cost more than the request may"
        case Halt.ERROR_CLASS:
            return f": after {last or 'a failure'} the policy tries no other"
        case Halt.RETRY_BUDGET:
            return ": retries of that endpoint's requests are used up for the moment"
        case _:
            return ""


def _seed(request_id: str) -> int:
    """A seed that repeats with the request, so that a decision can be made again from its record."""
    return int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:4])
