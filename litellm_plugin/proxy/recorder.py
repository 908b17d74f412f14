"""The recorder: fills records with the facts of this worker and writes them to the decision log."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from litellm_plugin.errors import Reason, RecordNotWritten, RequestDenied, Verdict
from litellm_plugin.records import PermitFacts, RequestIds, attempt_record, decision_record, probe_record
from litellm_plugin.settings import Mode

if TYPE_CHECKING:
    from starlette.types import Scope

    from litellm_plugin.permit import Permit
    from litellm_plugin.proxy.clock import Clock
    from litellm_plugin.proxy.context import Attempt, Permitted
    from litellm_plugin.proxy.paths import Route
    from litellm_plugin.records import Counters, DecisionLog, ShadowedDecision
    from litellm_plugin.routing import Candidate, Decision
    from litellm_plugin.routing.attempts import AttemptStatus

_REFUSALS_PER_SECOND = 100
_UNCHECKED_USE = "single use not checked: the store that knows which permits were used did not answer"


class Recorder:
    """Writes decision and attempt records.

    Args:
        log: Where they go.
        instance: Names this worker.
        config_hash: Names the policy block in force.
        clock: The worker's clock.
        counters: Where each request that is denied is counted.
        mode: Whether a denial ends its request, or is only told.

    Attributes:
        config_hash: Names the policy block in force; what was admitted under another is recorded with that one's.
        unrecorded: How many refusals were only counted.
    """

    def __init__(
        self,
        log: DecisionLog,
        *,
        instance: str,
        config_hash: str,
        clock: Clock,
        counters: Counters,
        mode: Mode = Mode.ENFORCE,
    ) -> None:
        self._log = log
        self._instance = instance
        self.config_hash = config_hash
        self._mode = str(mode)
        self._count = counters.spare if mode is Mode.OBSERVE else counters.deny
        self._clock = clock
        self._window_s = clock.monotonic()
        self._in_window = 0
        self.unrecorded = 0

    @property
    def lost(self) -> int:
        """How many records the log could not take."""
        return self._log.lost

    def decision(self, state: Permitted, decision: Decision, shadowed: ShadowedDecision | None = None) -> str:
        """Records a decision before anything is sent, and gives its id.

        Args:
            state: The request.
            decision: What was decided.
            shadowed: What the shadow would have decided; None without one.

        Raises:
            RequestDenied: The log is required and did not take the record.
        """
        if state.claim is not None and not state.claim.is_recorded:
            decision = replace(decision, notes=(_UNCHECKED_USE, *decision.notes))
        return self._decide(state, decision, decision.verdict, shadowed)

    def denial(self, state: Permitted, verdict: Verdict) -> str:
        """Counts that this request ends, and gives the id of the record that says why; one is written if none does.

        Call it once a request, when its answer begins: verdicts of attempts that another one followed are no end.
        """
        self._count(verdict.reason)
        if state.recorded == verdict and state.denial_id is not None:
            return state.denial_id
        last = next(reversed(state.groups.values()), None)
        try:
            return self._decide(state, last.decision if last else None, verdict)
        except RequestDenied:
            return str(uuid.uuid4())

    def _decide(
        self,
        state: Permitted,
        decision: Decision | None,
        verdict: Verdict | None,
        shadowed: ShadowedDecision | None = None,
    ) -> str:
        decision_id = str(uuid.uuid4())
        record = decision_record(
            time=self._time(),
            ids=_ids(state, decision_id),
            instance=self._instance,
            config_hash=state.policy.config_hash,
            mode=self._mode,
            path=state.template,
            method=state.method,
            decision=decision,
            verdict=verdict,
            permit=_permit_facts(state.permit),
            scope=state.scope,
            call_type=state.call_type,
            requested_model=state.facts.model_group if state.facts else None,
            dropped_fields=state.dropped_fields,
            egress_held=state.held,
            statistics_age_ms=state.statistics_age_ms if decision else None,
            timings_ms=state.timings_ms,
            shadow=shadowed,
        )
        if verdict is not None:
            state.denial_id, state.recorded = decision_id, verdict
        self._write(record)
        return decision_id

    def refusal(
        self,
        scope: Scope,
        route: Route | None,
        verdict: Verdict,
        permit: Permit | None,
        config_hash: str | None = None,
    ) -> str:
        """Counts and records a request that ended in admission, and gives the record's id.

        Anybody can be refused any number of times: past a rate, refusals without a permit are only counted.
        """
        self._count(verdict.reason)
        decision_id = str(uuid.uuid4())
        if permit is None and not self._has_room():
            self.unrecorded += 1
            return decision_id
        record = decision_record(
            time=self._time(),
            ids=RequestIds(decision_id=decision_id, request_id=permit.request_id if permit else None),
            instance=self._instance,
            config_hash=config_hash or self.config_hash,
            mode=self._mode,
            path=route.template if route and route.template else "(no such route)",
            method=route.method if route else str(scope.get("method", "WEBSOCKET")),
            decision=None,
            verdict=verdict,
            permit=_permit_facts(permit) if permit else None,
            scope=permit.scope(frozenset()) if permit else None,
            call_type=route.call_type if route else None,
            requested_model=None,
            dropped_fields=(),
            egress_held=(),
            statistics_age_ms=None,
            timings_ms={},
        )
        try:
            self._write(record)
        except RequestDenied:  # The request is refused in any case; the log's state is reported by itself.
            return decision_id
        return decision_id

    def _has_room(self) -> bool:
        now_s = self._clock.monotonic()
        if now_s - self._window_s >= 1.0:
            self._window_s, self._in_window = now_s, 0
        self._in_window += 1
        return self._in_window <= _REFUSALS_PER_SECOND

    def attempt(
        self,
        state: Permitted,
        attempt: Attempt,
        status: AttemptStatus,
        *,
        total_ms: float,
        first_token_ms: float | None = None,
        http_status: int | None = None,
        error_class: str | None = None,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cost_usd: float | None = None,
        cache_hit: bool | None = None,
        is_final: bool = True,
    ) -> None:
        """Records how an attempt ended; what the log does not take is counted there."""
        record = attempt_record(
            time=self._time(),
            ids=_ids(state, attempt.decision_id),
            instance=self._instance,
            config_hash=state.policy.config_hash,
            attempt=attempt.number,
            deployment_id=attempt.candidate.deployment_id,
            endpoint=attempt.candidate.endpoint,
            status=status,
            http_status=http_status,
            error_class=error_class,
            total_ms=total_ms,
            first_token_ms=first_token_ms,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cost_usd=cost_usd,
            expected_cost_usd=attempt.expected_cost_usd,
            expected_output_tokens=attempt.expected_output_tokens,
            cache_hit=cache_hit,
            is_final=is_final,
            would_have=attempt.would_have,
            passed_over=attempt.passed_over,
        )
        try:
            self._write(record)
        except RequestDenied:  # The call was made; there is nothing left to deny.
            return

    def probe(
        self,
        probe_id: str,
        candidate: Candidate,
        cause: str,
        *,
        status: AttemptStatus | None = None,
        **facts: Any,
    ) -> None:
        """Records a call with the plugin's own prompt: before it is sent, and again with how it ended.

        Args:
            probe_id: Joins the two.
            candidate: The deployment that is asked.
            cause: Why.
            status: How it ended; None before it is sent.
            facts: What else is known of its end (`probe_record`).

        Raises:
            RequestDenied: The log is required and did not take the record.
        """
        self._write(
            probe_record(
                time=self._time(),
                probe_id=probe_id,
                instance=self._instance,
                config_hash=self.config_hash,
                deployment_id=candidate.deployment_id,
                endpoint=candidate.endpoint,
                cause=cause,
                status=status,
                **facts,
            )
        )

    def _write(self, record: dict[str, object]) -> None:
        try:
            self._log.write(record)
        except RecordNotWritten as error:
            verdict = Verdict(
                Reason.LOG_UNAVAILABLE, "The decision log does not take records and this proxy requires it."
            )
            raise RequestDenied(verdict) from error

    def _time(self) -> str:
        stamp = datetime.fromtimestamp(self._clock.wall(), UTC).isoformat(timespec="milliseconds")
        return stamp.replace("+00:00", "Z")


def _ids(state: Permitted, decision_id: str) -> RequestIds:
    request_id = state.permit.request_id
    return RequestIds(
        decision_id=decision_id, request_id=request_id, call_id=state.call_id, trace_id=request_id
    )


def _permit_facts(permit: Permit) -> PermitFacts:
    return PermitFacts(
        issuer=permit.issuer,
        kid=permit.kid,
        jti_hash=permit.jti_hash,
        policy_version=permit.policy_version,
        issued_at=permit.issued_at,
        expires_at=permit.expires_at,
        subject=permit.subject,
    )
