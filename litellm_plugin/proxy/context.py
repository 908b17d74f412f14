"""The state of one request, carried by a ContextVar that no client can write.

LiteLLM's metadata is client-writable, copied on fallbacks and deep-copied for mirrors, so it decides
nothing here. The ContextVar set by admission is seen in every hook, through retries, fallbacks, streams
and log events of the same request.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from litellm_plugin.routing.attempts import AttemptStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litellm_plugin.errors import Verdict
    from litellm_plugin.permit import Claim, Permit
    from litellm_plugin.proxy.caller_facts import CallerFacts
    from litellm_plugin.proxy.openings import Openings
    from litellm_plugin.proxy.shadow import Shadow
    from litellm_plugin.proxy.shared_state import Hold
    from litellm_plugin.proxy.slots import Slot
    from litellm_plugin.proxy.stored import StoredId
    from litellm_plugin.routing import Candidate, Decision, Exclusion, RequestFacts, RoutingScope
    from litellm_plugin.routing.facts import CallType
    from litellm_plugin.settings import PolicySnapshot
    from litellm_plugin.state import BudgetTab


@dataclass(slots=True)
class Attempt:
    """One call of one deployment.

    Attributes:
        number: 1 for the first attempt of the request.
        decision_id: The decision that it carries out.
        candidate: The deployment that is called.
        started_s: Monotonic seconds.
        model_group: The group whose plan it is part of.
        status: How it ended; None while it runs.
        may_have_acted: Whether the provider may have worked on it.
        retry_after_s: When the provider asked to come back; None when it did not.
        expected_cost_usd: What the decision expected it to cost; None when a price is unknown.
        expected_output_tokens: The length of the answer that it was reckoned with.
        route: The route whose next answers its own tells the length of (`route_of`); None where it tells of none.
        would_have: What would have been called in its place, where nothing is enforced and LiteLLM chose otherwise.
        hold: What it took of limits and budgets; None where it took nothing.
        passed_over: What of the plan came before it and could not be asked any more, and why.
    """

    number: int
    decision_id: str
    candidate: Candidate
    started_s: float
    model_group: str = ""
    status: AttemptStatus | None = None
    may_have_acted: bool = True
    retry_after_s: float | None = None
    expected_cost_usd: float | None = None
    expected_output_tokens: float | None = None
    route: str | None = None
    would_have: Candidate | None = None
    hold: Hold | None = None
    passed_over: tuple[tuple[Candidate, Exclusion], ...] = ()


@dataclass(slots=True)
class RoutedGroup:
    """A decision that was recorded for a model group of this request."""

    decision_id: str
    decision: Decision


@dataclass(slots=True)
class Permitted:
    """A request with a valid permit, on a governed path.

    Attributes:
        policy: The policy snapshot that the whole request is judged by.
        permit: The verified permit.
        scope: What routing may know of it.
        call_type: The kind of call, from the path.
        method, template: The route that the app's own router matches.
        received_s: Monotonic seconds.
        shadow: The second policy, which is computed beside the first; None without.
        slot: The field in which LiteLLM keeps its own metadata of this request.
        stored: The stored response that the request names.
        pinned: The deployment ids that alone may serve the request; None when the plan alone says.
        endpoint: The endpoint that a pass-through stands for.
        caller: What its headers and metadata say of it; None for a call that passed no admission.
        claim: The use of a single-use permit that this request holds.
        held: The names of egresses that may not receive this request.
        timings_ms: How long each stage of this plugin took.
        statistics_age_ms: How old the statistics were that the decision read.
        call_id: LiteLLM's id of the call.
        team: The team of the LiteLLM key in use; None before that is known, and for a key without one.
        facts: What is known of the request once LiteLLM parsed the body.
        opening: The body that a socket's first frame carries, until its facts are read; None where there is none.
        dropped_fields: Body fields that did not reach LiteLLM.
        groups: Decisions by model group (or deployment id).
        attempts: Every attempt so far.
        verdict: How the request ends unless a later attempt is dispatched.
        recorded, denial_id: The verdict that a record tells already, and that record's decision id.
        awaited: The attempt whose stream was opened and has not given its first item yet.
        openings: What makes its attempts; None before it was planned.
        handled: The exception that was being handled when the running attempt began.
        response_started: Whether the first byte of the answer's body went out.
        unreported: How an attempt ended of which LiteLLM never told the end.
        closed: Whether the request is over, so that nothing may be sent on its behalf.
        spared: How the request would have ended, where nothing is enforced.
        wanted: The deployment that would have been called next, where nothing is enforced.
        hold: What the attempt took that was selected and is not made yet.
        passed_over: What that selection passed over, and why.
        tab: What is reserved of budgets for the attempt that comes next; None where none applies.
    """

    policy: PolicySnapshot
    permit: Permit
    scope: RoutingScope
    call_type: CallType
    method: str
    template: str
    received_s: float
    shadow: Shadow | None = None
    slot: Slot = "metadata"
    stored: StoredId | None = None
    pinned: frozenset[str] | None = None
    endpoint: str | None = None
    caller: CallerFacts | None = None
    claim: Claim | None = None
    held: frozenset[str] = frozenset()
    timings_ms: dict[str, float] = field(default_factory=dict)
    statistics_age_ms: float | None = None
    call_id: str | None = None
    team: str | None = None
    facts: RequestFacts | None = None
    opening: Mapping[str, object] | None = None
    dropped_fields: tuple[str, ...] = ()
    groups: dict[str, RoutedGroup] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    verdict: Verdict | None = None
    recorded: Verdict | None = None
    denial_id: str | None = None
    awaited: Attempt | None = None
    openings: Openings | None = None
    handled: BaseException | None = None
    response_started: bool = False
    unreported: AttemptStatus = AttemptStatus.ABANDONED
    closed: bool = False
    spared: Verdict | None = None
    wanted: Candidate | None = None
    hold: Hold | None = None
    passed_over: tuple[tuple[Candidate, Exclusion], ...] = ()
    tab: BudgetTab | None = None

    @property
    def is_socket(self) -> bool:
        """Whether it is a websocket, which may be answered many times."""
        return self.method == "WEBSOCKET"

    @property
    def tried(self) -> frozenset[str]:
        """The deployments that were called already."""
        return frozenset(attempt.candidate.deployment_id for attempt in self.attempts)

    @property
    def spent(self) -> list[Attempt]:
        """What counts against the number of attempts: on a socket each response that succeeded is a new start."""
        return [a for a in self.attempts if not self.is_socket or a.status is not AttemptStatus.SUCCESS]

    @property
    def current(self) -> Attempt | None:
        """The attempt that was dispatched last."""
        return self.attempts[-1] if self.attempts else None

    @property
    def attempts_left(self) -> int:
        """How many attempts it may still have."""
        return max(0, self.attempt_limit - len(self.spent))

    @property
    def attempt_limit(self) -> int:
        """How many attempts the request may have: the policy's, or fewer where a decision's strategy says so."""
        limits = (routed.decision.most_attempts for routed in self.groups.values())
        return min((each for each in limits if each is not None), default=self.policy.routing.attempts)

    @property
    def retry_after_s(self) -> float | None:
        """When the first of the providers that failed may be asked again; None when none of them said."""
        asked = [each.retry_after_s for each in self.attempts if each.retry_after_s is not None]
        return min(asked, default=None)

    def end(self, verdict: Verdict) -> None:
        """Says how the request ends, unless a provider refused what the request says: that answer stands."""
        last = self.current
        if last is None or last.status is None or not last.status.is_about_request:
            self.verdict = verdict

    def open_attempt(self, deployment_id: str) -> Attempt | None:
        """The attempt at this deployment that has not ended yet."""
        return next(
            (a for a in self.attempts if a.status is None and a.candidate.deployment_id == deployment_id),
            None,
        )


@dataclass(frozen=True, slots=True)
class Administrative:
    """A request on an administrative path: LiteLLM's own authentication holds, no model may be called."""


@dataclass(frozen=True, slots=True)
class Spared:
    """A request that would have ended in admission, where nothing is enforced: LiteLLM serves it as it likes."""


@dataclass(frozen=True, slots=True)
class Denied:
    """A request that ended in admission; anything that still runs for it may call nothing."""


RequestState: TypeAlias = Permitted | Administrative | Spared | Denied

_state: Final[ContextVar[RequestState | None]] = ContextVar("permit_router_request", default=None)


def current_state() -> RequestState | None:
    """Gives the state of the request that runs here; None outside any request."""
    return _state.get()


def enter(state: RequestState) -> Token[RequestState | None]:
    """Makes `state` the state of everything that runs from here on in this context."""
    return _state.set(state)


def leave(token: Token[RequestState | None]) -> None:
    """Takes back what `enter` did, in the same context."""
    _state.reset(token)
