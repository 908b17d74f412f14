"""Enforcement: what the hooks do, with LiteLLM's calling conventions left outside.

Three points see a request after admission: the pre-call hook scrubs its body and plans, selection picks
the plan's next candidate for each attempt, the final check holds the call that is about to be made
against the permit once more. Each of them refuses by itself; none relies on the others.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from litellm_plugin.errors import Reason, RequestDenied, Verdict
from litellm_plugin.permit import check_tenant, recheck
from litellm_plugin.proxy.bodies import refusal
from litellm_plugin.proxy.caller_facts import CallerFacts, said_in_body, utc_moment
from litellm_plugin.proxy.candidate_facts import identity
from litellm_plugin.proxy.content_urls import CONTENT_URLS, urls_refused
from litellm_plugin.proxy.context import Attempt, Permitted, RoutedGroup, current_state
from litellm_plugin.proxy.deployments import deployment_id, endpoint_name, mismatch, provider_name
from litellm_plugin.proxy.egress import not_cleared
from litellm_plugin.proxy.fields import scrub
from litellm_plugin.proxy.openings import Openings, time_left_s
from litellm_plugin.proxy.planning import (
    Planner,
    chain_of,
    facts_of,
    holds,
    unserved,
    untried,
)
from litellm_plugin.proxy.stored import read_stored_id
from litellm_plugin.routing import (
    CallType,
    Candidate,
    Exclusion,
    Halt,
    identity_exclusion,
    request_facts,
    route_of,
)
from litellm_plugin.routing.retries import halted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping

    from litellm_plugin.proxy.runtime import Runtime
    from litellm_plugin.routing import Decision, RequestFacts, RoutingScope


class _NoRetries(int):
    """Zero that counts as said: LiteLLM's embedding path reads `max_retries or 2`."""

    def __bool__(self) -> bool:
        return True


# The provider's client must not repeat a call by itself: every attempt is decided, checked and recorded here.
_NO_RETRIES: Final = _NoRetries(0)
# LiteLLM keeps one client of a provider for each timeout that it is told: a request's own time left would make one a
# request. The openings end an attempt in time; this bounds what goes round them, by the next of these.
_TIMEOUTS_S: Final = tuple(step * 10**power for power in range(5) for step in (1, 2, 5))
_SESSIONS: Final = frozenset({CallType.RESPONSES_SOCKET, CallType.REALTIME})


class Enforcement:
    """The three points of enforcement behind admission.

    Args:
        runtime: What this worker knows.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._planner = Planner(runtime)
        self._openings = Openings(runtime, self._planner)

    def prepare(self, data: MutableMapping[str, Any], team: str | None = None) -> None:
        """Scrubs the body, plans, and sets how often LiteLLM's retry loop may run.

        Args:
            data: LiteLLM's request object; changed in place.
            team: The team of the LiteLLM key in use.

        Raises:
            RequestDenied: The body cannot be served, or nothing here is authorized for it.
        """
        state = self.permitted()
        # First of all: LiteLLM tells a refused request to its callbacks too.
        self._runtime.holding.drop_callbacks(data)
        if state.policy.permit.tenant_is_team:
            holds(lambda: check_tenant(state.permit, team))
        if state.call_type is CallType.PASS_THROUGH:
            self._pass_through(state)
            return
        # A call that names a stored response by its id has no body.
        has_body = state.call_type is not CallType.STORED_RESPONSE
        refused = refusal(data, state.call_type) if has_body else None
        if refused is not None:
            raise RequestDenied(refused)
        caller = _caller(state, data)
        dropped = scrub(data, state.call_type, state.slot, state.policy.body_fields)
        state.dropped_fields = tuple(sorted({*state.dropped_fields, *dropped}))
        self._check_urls(state, data)
        self._runtime.holding.check_guardrails(data)
        state.call_id = _text(data.get("litellm_call_id"))
        state.team = team
        group = self._pin(state, data) or str(data.get("model") or "")
        if not self._runtime.observes:
            state.openings = self._openings
        facts = request_facts(
            state.call_type, group, state.opening or data, wants_language=self._runtime.wants_language
        )
        state.facts = caller.added_to(facts, self._runtime.clock.wall())
        state.opening = None
        data["litellm_trace_id"] = data["litellm_session_id"] = state.permit.request_id
        attempts = self._planner.attempts(state, group)
        # What went to a socket's first endpoint cannot be said again to a second one.
        data["num_retries"] = 0 if state.is_socket else attempts - 1
        _tell_loggers(data, state)

    def open(self, state: Permitted) -> None:
        """Decides on a pass-through before LiteLLM sees it: not every one of them asks a hook.

        Raises:
            RequestDenied: The endpoint that the path stands for is not authorized, or not eligible.
        """
        if state.endpoint is None:
            return
        candidates = self._runtime.deployments.of_endpoint(state.endpoint)
        state.pinned = frozenset(each.deployment_id for each in candidates)
        # Budgets have periods, and rules read the hour.
        state.facts = replace(facts_of(state), moment=utc_moment(self._runtime.clock.wall()))
        self._planner.plan(state, facts_of(state).model_group, candidates)

    def select(self, group: str, offered: Iterable[Mapping[str, Any]]) -> str:
        """Gives the id of the one deployment that the next attempt calls.

        Args:
            group: The model group as LiteLLM resolved it.
            offered: The deployments that LiteLLM holds healthy.

        Raises:
            RequestDenied: Nothing is left that the permit allows, or the request may not go on.
        """
        state = self.permitted()
        self._may_go_on(state)
        offered = list(offered)
        available = {deployment_id(entry) for entry in offered}
        known = _known(state, group, available)
        self._keep_to_plan(state, known)
        if known is None or not available.issuperset(c.deployment_id for c in untried(known.decision, state)):
            candidates = self._runtime.deployments.with_health(group, offered, state.team)
            known = self._planner.plan(state, group, candidates)
        if known.decision.verdict is not None:
            raise RequestDenied(known.decision.verdict)
        following = self._planner.take(state, known)
        if following is Halt.EXHAUSTED and not state.attempts:
            # What was planned before LiteLLM's other hooks ran was overtaken; nothing was sent yet.
            candidates = self._runtime.deployments.with_health(group, offered, state.team)
            following = self._planner.take(state, self._planner.plan(state, group, candidates))
        if not isinstance(following, Candidate):
            raise RequestDenied(self._unserved(state))
        return following.deployment_id

    def check(self, call: Mapping[str, Any]) -> dict[str, Any]:
        """Holds a call that is about to be made against the permit, and gives what the call must carry.

        Raises:
            RequestDenied: The deployment is not in the set, or the call would not go to it.
        """
        state = self.permitted()
        wanted_id = deployment_id(call)
        ongoing = state.open_attempt(wanted_id)
        _holds_pin(state, wanted_id, call)
        entry = self._runtime.deployments.configured(wanted_id)
        if entry is None:
            raise RequestDenied(
                Verdict(
                    Reason.DESTINATION_MISMATCH,
                    "A call without a configured deployment was refused: no permit can name where it goes.",
                )
            )
        different = mismatch(call, entry)
        if different is not None:
            raise RequestDenied(
                Verdict(
                    Reason.DESTINATION_MISMATCH,
                    f"The call differs from the configured deployment in {different!r}; it was not made.",
                )
            )
        if ongoing is None:
            if state.endpoint is not None and state.policy.permit.tenant_is_team and not state.attempts:
                # The pre-call hook, which knows the key's team, was not asked.
                raise RequestDenied(
                    Verdict(Reason.NOT_AUTHORIZED, "The tenant cannot be held against the team on this path.")
                )
            self._may_go_on(state)
            planned = self._planner.admitted(state, wanted_id)
            _holds_endpoint(state, entry)
            self._begin(state, *planned)
        else:
            # One call may pass here twice, and somebody's side call too: the permit must be alive for each.
            holds(lambda: recheck(state.permit, self._runtime.claims, self._runtime.clock.wall()))
            _holds_endpoint(state, entry)
        state.verdict = None
        carried = {"cache": self._cache_scope(state, call, endpoint_name(entry)), "max_retries": _NO_RETRIES}
        timeout = _shortened(call, time_left_s(state, self._runtime.clock.monotonic()))
        if timeout is not None:
            carried["timeout"] = timeout
        if call.get("vector_store_ids"):
            carried["vector_store_ids"] = self._cleared_stores(state, call["vector_store_ids"])
        return carried

    def check_search(self, call: Mapping[str, Any]) -> None:
        """Holds a search that LiteLLM is about to make of a vector store or with a search tool.

        Raises:
            RequestDenied: It is not a configured one, or may not receive this request.
        """
        state = self.permitted()
        names = self._runtime.egress.searched(call)
        if not names:
            raise RequestDenied(
                Verdict(
                    Reason.DESTINATION_MISMATCH,
                    "A search of a place that LiteLLM's configuration does not name was refused.",
                )
            )
        held = sorted(names & state.held)
        if held:
            raise RequestDenied(not_cleared(held[0], state.scope.data_classification))

    def _check_urls(self, state: Permitted, data: Mapping[str, Any]) -> None:
        refused = urls_refused(data, state.policy, state.scope.data_classification)
        if refused is not None:
            state.held |= {CONTENT_URLS}
            raise RequestDenied(refused)

    def _cleared_stores(self, state: Permitted, ids: Iterable[object]) -> list[object]:
        """Those of a deployment's vector stores that may receive this request; the others are not searched."""
        stores = ((each, self._runtime.egress.vector_store(each)) for each in ids)
        return [each for each, store in stores if store is not None and store.name not in state.held]

    def scope_cache(self, request: MutableMapping[str, Any], endpoint: str) -> None:
        """Puts the response cache's scope into a request before LiteLLM copies it."""
        request["cache"] = self._cache_scope(self.permitted(), request, endpoint)

    def permitted(self) -> Permitted:
        """The state of the request that runs here.

        Raises:
            RequestDenied: There is none, or it may call no model.
        """
        state = current_state()
        if isinstance(state, Permitted) and not state.closed:
            return state
        self._runtime.count_no_context()
        raise RequestDenied(
            Verdict(
                Reason.NO_CONTEXT,
                "A model call outside a request with a valid permit was refused; nothing was sent.",
            )
        )

    def _pin(self, state: Permitted, data: Mapping[str, Any]) -> str | None:
        """Pins a request that names a stored response to the one deployment that holds it.

        Gives the model group of a call that names no group itself.

        Raises:
            RequestDenied: The id is not LiteLLM's, names no configured deployment or another provider than
                that deployment has; or the group asked for does not hold the deployment.
        """
        is_stored_call = state.call_type is CallType.STORED_RESPONSE
        text = data.get("response_id" if is_stored_call else "previous_response_id")
        if not is_stored_call and (state.call_type is not CallType.RESPONSES or not text):
            return None
        stored = read_stored_id(text)
        entry = self._runtime.deployments.configured(stored.deployment_id) if stored else None
        if stored is None or entry is None or provider_name(entry) != stored.provider:
            raise RequestDenied(
                Verdict(Reason.BODY_INVALID, "The id is not of a response that this proxy gave out.")
            )
        state.stored, state.pinned = stored, frozenset({stored.deployment_id})
        if is_stored_call:
            return str(entry.get("model_name") or stored.deployment_id)
        group = self._runtime.deployments.of_group(str(data.get("model") or ""), state.team)
        if group and stored.deployment_id not in {each.deployment_id for each in group}:
            raise RequestDenied(
                Verdict(Reason.BODY_INVALID, "The response to continue was made by another model group.")
            )
        return None

    def _pass_through(self, state: Permitted) -> None:
        """Begins the one attempt of a pass-through that LiteLLM is about to send."""
        if state.attempts:
            return
        self._may_go_on(state)
        routed = next(iter(state.groups.values()), None)
        if routed is None or not routed.decision.plan:
            raise RequestDenied(Verdict(Reason.NOT_AUTHORIZED, "The endpoint is not in the authorized set."))
        self._begin(state, routed, routed.decision.plan[0])

    def _may_go_on(self, state: Permitted) -> None:
        if state.response_started:
            raise RequestDenied(
                Verdict(Reason.CHAIN_EXHAUSTED, "The answer has begun; no other endpoint may continue it.")
            )
        holds(lambda: recheck(state.permit, self._runtime.claims, self._runtime.clock.wall()))
        if halted(state.policy.routing.retries, chain_of(self._runtime, state)) is not None:
            raise RequestDenied(self._unserved(state))

    def _keep_to_plan(self, state: Permitted, known: RoutedGroup | None) -> None:
        """Keeps LiteLLM from falling back to another group while it waits for a stream's first item.

        The plan's next candidate comes first; LiteLLM's retry loop takes it when this pass has failed.
        """
        awaited = state.awaited
        routed = state.groups.get(awaited.model_group) if awaited is not None else None
        if routed is None or routed is known:
            return
        if isinstance(self._planner.following(state, routed), Candidate):
            raise RequestDenied(self._unserved(state))

    def _unserved(self, state: Permitted) -> Verdict:
        return unserved(self._runtime, state)

    def _begin(self, state: Permitted, routed: RoutedGroup, candidate: Candidate) -> None:
        if candidate.endpoint not in state.scope.endpoints:
            raise RequestDenied(Verdict(Reason.NOT_AUTHORIZED, "The endpoint is not in the authorized set."))
        attempt = next_attempt(state, routed, candidate, self._runtime.clock.monotonic())
        begin_attempt(self._runtime, state, attempt, routed.decision)

    def _cache_scope(self, state: Permitted, call: Mapping[str, Any], endpoint: str) -> dict[str, Any]:
        """LiteLLM's cache controls with a namespace that no other tenant, classification or endpoint shares.

        A cache whose embedder may not receive the request is neither read nor written.
        """
        asked = call.get("cache")
        kept = dict(asked) if isinstance(asked, dict) else {}
        if state.held & self._runtime.egress.embedders:
            kept.update({"no-cache": True, "no-store": True})
        parts = (state.scope.tenant, state.scope.data_classification, endpoint)
        text = "\0".join(f"{len(part)}:{part}" for part in parts)
        return {**kept, "namespace": f"permit-{hashlib.sha256(text.encode()).hexdigest()[:32]}"}


def next_attempt(state: Permitted, routed: RoutedGroup, candidate: Candidate, started_s: float) -> Attempt:
    """The next attempt of a request, with what its decision expected of the candidate.

    Args:
        state: The request.
        routed: The decision that the attempt carries out.
        candidate: The deployment that is called.
        started_s: Monotonic seconds.
    """
    assessed = routed.decision.assessment_of(candidate.deployment_id)
    return Attempt(
        number=len(state.attempts) + 1,
        decision_id=routed.decision_id,
        candidate=candidate,
        started_s=started_s,
        model_group=routed.decision.facts.model_group,
        expected_cost_usd=assessed.expected_cost_usd if assessed else None,
        expected_output_tokens=assessed.expected_output_tokens if assessed else None,
        route=_route(routed.decision.facts, routed.decision.scope),
    )


def begin_attempt(runtime: Runtime, state: Permitted, attempt: Attempt, decision: Decision | None) -> None:
    """Counts an attempt that is about to be made, with what selection took for it.

    Args:
        runtime: What this worker knows.
        state: The request.
        attempt: The attempt.
        decision: The decision that weighed its candidate; None where none did.
    """
    shared, spent = runtime.shared, state.spent
    deployment_id = attempt.candidate.deployment_id
    hold, state.hold = state.hold, None
    passed_over, state.passed_over = state.passed_over, ()
    if hold is not None and hold.deployment_id != deployment_id:
        shared.give_back(hold)
        hold = None
    if hold is not None:
        attempt.passed_over = passed_over
    if hold is None and decision is not None:
        # It met no selection: what is spent all the same has to be known.
        hold = shared.spend(state, decision, attempt.candidate)
    attempt.hold = hold
    first = spent[0].candidate.endpoint if spent else attempt.candidate.endpoint
    shared.begin(deployment_id, first=first, is_first=not spent)
    state.attempts.append(attempt)


def _caller(state: Permitted, data: Mapping[str, Any]) -> CallerFacts:
    """What the caller says: as admission read it, with what a socket's first frame or a call of the SDK adds.

    Raises:
        RequestDenied: A field of the metadata says something else than is expected of it.
    """
    told = state.opening if state.caller is not None else data
    caller = state.caller or CallerFacts()
    return (
        caller if told is None else caller.and_also(said_in_body(told, state.call_type, state.permit.tenant))
    )


def _holds_endpoint(state: Permitted, entry: Mapping[str, Any]) -> None:
    """Holds the configured deployment itself against the permit: a plan was made of what selection was offered.

    Raises:
        RequestDenied: Its endpoint is not in the set, or may not receive this request.
    """
    facts = facts_of(state)
    excluded = identity_exclusion(identity(entry), facts, state.scope)
    if excluded is not None:
        reason = Reason.NOT_AUTHORIZED if excluded is Exclusion.NOT_AUTHORIZED else Reason.NOT_ELIGIBLE
        raise RequestDenied(
            Verdict(reason, f"The call was not made: its endpoint is out of the question ({excluded}).")
        )


def _holds_pin(state: Permitted, wanted_id: str, call: Mapping[str, Any]) -> None:
    """Holds a call against the stored response that its request names.

    Raises:
        RequestDenied: It would go to another deployment, or names another response.
    """
    if state.pinned is not None and wanted_id not in state.pinned:
        raise RequestDenied(
            Verdict(Reason.NOT_AUTHORIZED, "Only the endpoint that the request names may serve it.")
        )
    named = call.get("response_id") or call.get("previous_response_id")
    if not named or state.call_type not in {CallType.RESPONSES, CallType.STORED_RESPONSE}:
        return
    own = state.stored
    if own is None or (named != own.provider_id and read_stored_id(named) != own):
        raise RequestDenied(
            Verdict(Reason.DESTINATION_MISMATCH, "The call names a stored response that was not checked.")
        )


def _known(state: Permitted, group: str, available: set[str]) -> RoutedGroup | None:
    """The decision made for this group; for an alias it was made under the alias' own name."""
    if group in state.groups:
        return state.groups[group]
    for routed in state.groups.values():
        if available == routed.decision.deployment_ids:
            return routed
    return None


def _shortened(call: Mapping[str, Any], left_s: float | None) -> float | None:
    """How long a whole answer may take at most, where that is less than what the call says; None where it says less.

    A stream is let go on after its first byte, for which its opening is timed.
    """
    if left_s is None or "timeout" not in call or call.get("stream"):
        return None
    own = call["timeout"]
    if own is not None and not isinstance(own, int | float):
        return None
    most_s = next((each for each in _TIMEOUTS_S if each >= left_s), None)
    return most_s if most_s is not None and (own is None or most_s < own) else None


def _tell_loggers(data: MutableMapping[str, Any], state: Permitted) -> None:
    """Puts the decision where LiteLLM's spend log and its other callbacks carry an operator's own facts."""
    slot = data.setdefault(state.slot, {})
    if not isinstance(slot, dict):
        return
    routed = next(iter(state.groups.values()), None)
    told: dict[str, object] = {
        "request_id": state.permit.request_id,
        "policy_version": state.permit.policy_version,
    }
    if routed is not None:
        told["decision_id"] = routed.decision_id
        told["rule"] = routed.decision.rule.name
        told["plan"] = [candidate.endpoint for candidate in routed.decision.plan]
    own = slot.get("spend_logs_metadata")
    slot["spend_logs_metadata"] = {**(own if isinstance(own, dict) else {}), "permit_router": told}


def _route(facts: RequestFacts, scope: RoutingScope) -> str | None:
    """The route of an answer whose length tells of later ones: a session is as long as its user talks."""
    is_answer = facts.call_type.generates_text and facts.call_type not in _SESSIONS
    return route_of(facts, scope) if is_answer else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
