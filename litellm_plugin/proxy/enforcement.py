"""Enforcement: what the hooks do, with LiteLLM's calling conventions left outside.

Three points see a request after admission: the pre-call hook scrubs its body and plans, selection picks
the plan's next candidate for each attempt, the final check holds the call that is about to be made
against the permit once more. Each of them refuses by itself; none relies on the others.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from litellm_plugin.errors import PermitRejected, Reason, RequestDenied, Verdict
from litellm_plugin.permit import check_model, check_tenant, recheck
from litellm_plugin.proxy.bodies import refusal
from litellm_plugin.proxy.content_urls import CONTENT_URLS, urls_refused
from litellm_plugin.proxy.context import Attempt, Permitted, RoutedGroup, current_state
from litellm_plugin.proxy.denial import verdict_of
from litellm_plugin.proxy.deployments import deployment_id, endpoint_name, mismatch, provider_name
from litellm_plugin.proxy.egress import not_cleared
from litellm_plugin.proxy.fields import scrub
from litellm_plugin.proxy.stored import read_stored_id
from litellm_plugin.routing import CallType, decide, request_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, MutableMapping

    from litellm_plugin.proxy.runtime import Runtime
    from litellm_plugin.routing import Candidate, Decision, RequestFacts


class _NoRetries(int):
    """Zero that counts as said: LiteLLM's embedding path reads `max_retries or 2`."""

    def __bool__(self) -> bool:
        return True


# The provider's client must not repeat a call by itself: every attempt is decided, checked and recorded here.
_NO_RETRIES: Final = _NoRetries(0)


class Enforcement:
    """The three points of enforcement behind admission.

    Args:
        runtime: What this worker knows.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

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
            _holds(lambda: check_tenant(state.permit, team))
        if state.call_type is CallType.PASS_THROUGH:
            self._pass_through(state)
            return
        # A call that names a stored response by its id has no body.
        has_body = state.call_type is not CallType.STORED_RESPONSE
        refused = refusal(data, state.call_type) if has_body else None
        if refused is not None:
            raise RequestDenied(refused)
        dropped = scrub(data, state.call_type, state.slot, state.policy.body_fields)
        state.dropped_fields = tuple(sorted({*state.dropped_fields, *dropped}))
        self._check_urls(state, data)
        self._runtime.holding.check_guardrails(data)
        state.call_id = _text(data.get("litellm_call_id"))
        state.team = team
        group = self._pin(state, data) or str(data.get("model") or "")
        state.facts = request_facts(state.call_type, group, state.opening or data)
        state.opening = None
        data["litellm_trace_id"] = data["litellm_session_id"] = state.permit.request_id
        attempts = self._attempts(state, group)
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
        self._plan(state, _facts(state).model_group, candidates)

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
        if known is None or not available.issuperset(
            c.deployment_id for c in _untried(known.decision, state)
        ):
            candidates = self._runtime.deployments.with_health(group, offered, state.team)
            known = self._plan(state, group, candidates)
        if known.decision.verdict is not None:
            raise RequestDenied(known.decision.verdict)
        following = next(iter(_untried(known.decision, state)), None)
        if following is None:
            raise RequestDenied(unserved(state))
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
            self._begin(state, *self._admitted(state, wanted_id))
        else:
            # One call may pass here twice, and somebody's side call too: the permit must be alive for each.
            _holds(lambda: recheck(state.permit, self._runtime.claims, self._runtime.clock.wall()))
        state.verdict = None
        carried = {"cache": self._cache_scope(state, call, endpoint_name(entry)), "max_retries": _NO_RETRIES}
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
        _holds(lambda: recheck(state.permit, self._runtime.claims, self._runtime.clock.wall()))
        if len(state.spent) >= state.policy.routing.attempts:
            raise RequestDenied(unserved(state))

    def _attempts(self, state: Permitted, group: str) -> int:
        """Plans for a group that LiteLLM's router knows by this name, and gives the plan's length."""
        if state.call_type is CallType.STORED_RESPONSE and state.stored is not None:
            candidates = self._runtime.deployments.single(state.stored.deployment_id)
        else:
            candidates = self._runtime.deployments.of_group(group, state.team)
        if not candidates:
            return state.policy.routing.attempts
        return len(self._plan(state, group, candidates).decision.plan)

    def _plan(self, state: Permitted, group: str, candidates: tuple[Candidate, ...]) -> RoutedGroup:
        """Decides for a group and records it, before anything is sent."""
        _holds(lambda: check_model(state.permit, group))
        started_s = self._runtime.clock.monotonic()
        statistics = self._runtime.store.snapshot()
        routing = state.policy.routing
        offered = [each for each in candidates if state.pinned is None or each.deployment_id in state.pinned]
        decision = decide(
            replace(routing, attempts=1) if state.endpoint is not None else routing,
            replace(_facts(state), model_group=group),
            state.scope,
            offered,
            statistics=statistics,
            seed=_seed(state.permit.request_id),
            tried=state.tried,
        )
        now_s = self._runtime.clock.monotonic()
        state.statistics_age_ms = (now_s - statistics.taken_at_s) * 1000
        state.timings_ms["decide"] = (now_s - started_s) * 1000
        if decision.verdict is not None and any(each.decision.plan for each in state.groups.values()):
            # What was authorized was tried: the caller sees an outage inside the set, not a refusal.
            decision = replace(decision, verdict=unserved(state))
        shadowed = None
        if state.shadow is not None:
            shadowed = state.shadow.decide(
                decision,
                offered,
                state.permit,
                statistics=statistics,
                tried=state.tried,
                attempts=1 if state.endpoint is not None else None,
                now=self._runtime.clock.wall(),
            )
        routed = RoutedGroup(self._runtime.recorder.decision(state, decision, shadowed), decision)
        state.groups[group] = routed
        if decision.verdict is not None:
            raise RequestDenied(decision.verdict)
        return routed

    def _admitted(self, state: Permitted, wanted_id: str) -> tuple[RoutedGroup, Candidate]:
        """The decision whose plan holds this deployment; one is made for a call that met no selection."""
        for routed in reversed(state.groups.values()):
            for candidate in routed.decision.plan:
                if candidate.deployment_id == wanted_id:
                    return routed, candidate
        routed = self._plan(state, wanted_id, self._runtime.deployments.single(wanted_id))
        return routed, routed.decision.plan[0]

    def _begin(self, state: Permitted, routed: RoutedGroup, candidate: Candidate) -> None:
        if candidate.endpoint not in state.scope.endpoints:
            raise RequestDenied(Verdict(Reason.NOT_AUTHORIZED, "The endpoint is not in the authorized set."))
        state.attempts.append(
            Attempt(
                number=len(state.attempts) + 1,
                decision_id=routed.decision_id,
                candidate=candidate,
                started_s=self._runtime.clock.monotonic(),
            )
        )

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


def _holds(check: Callable[[], None]) -> None:
    """Runs a check of the permit and turns its rejection into this request's end."""
    try:
        check()
    except PermitRejected as rejected:
        raise RequestDenied(verdict_of(rejected)) from rejected


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
        if available == {each.candidate.deployment_id for each in routed.decision.assessments}:
            return routed
    return None


def _untried(decision: Decision, state: Permitted) -> list[Candidate]:
    tried = state.tried
    return [candidate for candidate in decision.plan if candidate.deployment_id not in tried]


def unserved(state: Permitted) -> Verdict:
    """The verdict for a request whose authorized endpoints were tried and did not serve it."""
    request_id = state.permit.request_id
    if state.may_continue:
        return Verdict(
            Reason.UNAVAILABLE,
            f"The authorized endpoints did not serve request {request_id}, and not all could be tried. "
            "Try again shortly.",
        )
    names = ", ".join(dict.fromkeys(attempt.candidate.endpoint for attempt in state.attempts))
    return Verdict(
        Reason.CHAIN_EXHAUSTED,
        f"Every authorized endpoint that could serve request {request_id} was used up "
        f"(tried: {names or 'none'}). No endpoint outside the authorized set was tried.",
    )


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


def _facts(state: Permitted) -> RequestFacts:
    return state.facts or request_facts(state.call_type, "", {})


def _seed(request_id: str) -> int:
    """A seed that repeats with the request, so that a decision can be made again from its record."""
    return int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:4])


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
