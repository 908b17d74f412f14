"""The record: what one decision or one attempt leaves behind, as a JSON object.

The builders take no prompt, answer, key, permit or header value, so none can reach a record.
Text is cut to `TEXT_CHARS`, a verdict's message to `MESSAGE_CHARS`, and a number that is not
finite becomes null. The shapes are fixed by `decision.schema.json` and `attempt.schema.json`.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from litellm_plugin.routing.budgets import BudgetPer
from litellm_plugin.routing.health import HEALTHY
from litellm_plugin.routing.verdicts import quoted

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from litellm_plugin.errors import Verdict
    from litellm_plugin.routing.attempts import AttemptStatus
    from litellm_plugin.routing.budgets import BudgetReading
    from litellm_plugin.routing.candidates import Candidate, EndpointStatistics
    from litellm_plugin.routing.decision import Assessment, Decision, Exclusion, RuleMatch
    from litellm_plugin.routing.facts import CallType, FactValue, RequestFacts, RoutingScope
    from litellm_plugin.routing.health import EndpointHealth

Record: TypeAlias = dict[str, object]

DECISION_SCHEMA = "permit-router/decision/1"
ATTEMPT_SCHEMA = "permit-router/attempt/1"

TEXT_CHARS = 128
MESSAGE_CHARS = 512
# A caller can send any number of unknown fields; the line must not grow with them.
DROPPED_FIELDS = 64
EGRESS_NAMES = 64
NOTES = 16
# A budget per endpoint has an entry for each of up to 64.
BUDGETS = 128
# Callers write these names and can write a prompt there; what looks like none stands for it.
OTHER_FIELDS = "(other)"
NO_MODEL_NAME = "(not a model name)"
_FIELD_NAME: Final = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")
_MODEL_NAME: Final = re.compile(r"[A-Za-z0-9._:/@*+-]{1,256}")


@dataclass(frozen=True, slots=True)
class PermitFacts:
    """What a record may say of a permit; never its text.

    Attributes:
        issuer: Claim `iss`.
        kid: The id of the key that signed it; None where the issuer names none.
        jti_hash: A hash of claim `jti`, so that the log cannot be used to claim the permit.
        policy_version: The version of the policy that decided.
        issued_at: Claim `iat`, seconds since the epoch.
        expires_at: Claim `exp`, seconds since the epoch.
        subject: Claim `sub`; it reaches records only, never routing.
    """

    issuer: str
    kid: str | None
    jti_hash: str
    policy_version: str
    issued_at: float
    expires_at: float
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class RequestIds:
    """The ids that join records to each other and to other systems' logs.

    Attributes:
        decision_id: Joins a decision with its attempts.
        request_id: The gateway's id of the request; None before a permit was verified.
        call_id: LiteLLM's id of the call.
        trace_id: LiteLLM's id of the trace, as in its spend logs.
    """

    decision_id: str
    request_id: str | None = None
    call_id: str | None = None
    trace_id: str | None = None


@dataclass(frozen=True, slots=True)
class ShadowedDecision:
    """What a second policy would have decided on the same request; nothing of it is sent.

    Attributes:
        config_hash: The hash of the second policy.
        decision: Its decision; None when the permit does not count under it.
        verdict: Why the request would end; None when it would not.
        agrees: Whether outcome and first choice are those of the policy in force.
    """

    config_hash: str
    decision: Decision | None
    verdict: Verdict | None
    agrees: bool


def decision_record(
    *,
    time: str,
    ids: RequestIds,
    instance: str,
    config_hash: str,
    mode: str,
    path: str,
    method: str,
    decision: Decision | None,
    verdict: Verdict | None,
    permit: PermitFacts | None,
    scope: RoutingScope | None,
    call_type: CallType | None,
    requested_model: str | None,
    dropped_fields: Sequence[str],
    egress_held: Collection[str],
    statistics_age_ms: float | None,
    timings_ms: Mapping[str, float],
    shadow: ShadowedDecision | None = None,
) -> Record:
    """Builds the record of one decision, or of a denial before any decision.

    Args:
        time: ISO 8601 in UTC with milliseconds, `2026-01-31T12:00:00.000Z`.
        ids: The ids of the request.
        instance: Which worker decided.
        config_hash: The hash of the policy snapshot that decided.
        mode: `enforce` or `observe`.
        path: The request's path; a query string is left out.
        method: The HTTP method.
        decision: The decision; None when the request ended before one.
        verdict: Why the request ends; None falls back to the decision's own verdict.
        permit: What may be said of the permit; None when none was verified.
        scope: What the permit opened; None falls back to the decision's own scope.
        call_type: Which schema the body follows; None before that is known.
        requested_model: The model name that was asked for; `NO_MODEL_NAME` stands for other text.
        dropped_fields: Names of the body's fields that were not let through; `OTHER_FIELDS` stands for other text.
        egress_held: Names of the egresses that may not receive the request.
        statistics_age_ms: The age of the statistics that were read.
        timings_ms: How long each stage took.
        shadow: What the shadow policy would have decided; None without one.

    Raises:
        ValueError: Neither a decision nor a verdict was given.
    """
    verdict = verdict or (decision.verdict if decision else None)
    if decision is None and verdict is None:
        raise ValueError("a decision record needs a decision or a verdict, got neither")
    return {
        **_heading(DECISION_SCHEMA, time, ids, instance, config_hash),
        "mode": mode,
        "outcome": "denied" if verdict else "routed",
        "reason": str(verdict.reason) if verdict else None,
        "message": _message(verdict, requested_model) if verdict else None,
        "method": _cut(method),
        # A query string can carry a key (`?api_key=`), a path cannot.
        "path": _cut(path.partition("?")[0]),
        "call_type": str(call_type) if call_type is not None else None,
        "requested_model": _model(requested_model),
        "permit": _permit(permit) if permit else None,
        **_scope(scope or (decision.scope if decision else None)),
        **_choice(decision),
        "dropped_fields": _fields(dropped_fields),
        "dropped_fields_count": len(dropped_fields),
        "egress_held": [_cut(name) for name in sorted(egress_held)[:EGRESS_NAMES]],
        "statistics_age_ms": _milliseconds(statistics_age_ms),
        "timings_ms": {_cut(stage): _milliseconds(value) for stage, value in timings_ms.items()},
        "shadow": _shadow(shadow) if shadow else None,
    }


def attempt_record(
    *,
    time: str,
    ids: RequestIds,
    instance: str,
    config_hash: str,
    attempt: int,
    deployment_id: str,
    endpoint: str,
    status: AttemptStatus,
    http_status: int | None,
    error_class: str | None,
    total_ms: float,
    first_token_ms: float | None,
    input_tokens: int | None,
    output_tokens: int | None,
    cost_usd: float | None,
    expected_cost_usd: float | None,
    expected_output_tokens: float | None,
    cache_hit: bool | None,
    is_final: bool,
    would_have: Candidate | None = None,
    passed_over: Sequence[tuple[Candidate, Exclusion]] = (),
) -> Record:
    """Builds the record of one ended attempt.

    Args:
        time: When it ended, ISO 8601 in UTC with milliseconds.
        ids: The ids of the request.
        instance: Which worker made the attempt.
        config_hash: The hash of the policy snapshot that decided.
        attempt: Its number within the decision, from 1.
        deployment_id: LiteLLM's id of the deployment.
        endpoint: The name that the permit authorizes.
        status: How it ended.
        http_status: The provider's status; None when none came.
        error_class: The class of the error, never its text.
        total_ms: Time until the whole answer or the error.
        first_token_ms: Time until the first token of a stream.
        input_tokens: Prompt tokens as billed.
        output_tokens: Completion tokens as billed.
        cost_usd: What LiteLLM billed; None when it knows no price.
        expected_cost_usd: What the decision expected it to cost; None when a price is unknown.
        expected_output_tokens: The length of the answer that it was reckoned with.
        cache_hit: Whether the answer came from LiteLLM's cache; None when unknown.
        is_final: Whether no further attempt follows.
        would_have: What would have been called in its place, in mode `observe`; None where it is the same.
        passed_over: What of the plan came before it and could not be asked any more, and why.
    """
    return {
        **_heading(ATTEMPT_SCHEMA, time, ids, instance, config_hash),
        "attempt": attempt,
        "deployment_id": _cut(deployment_id),
        "endpoint": _cut(endpoint),
        "status": str(status),
        "http_status": http_status,
        "error_class": _text(error_class),
        "total_ms": _milliseconds(total_ms),
        "first_token_ms": _milliseconds(first_token_ms),
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cost_usd": _number(cost_usd),
        "expected_cost_usd": _number(expected_cost_usd),
        "expected_output_tokens": _number(expected_output_tokens),
        "cache_hit": cache_hit,
        "is_final": is_final,
        "would_have": _chosen(would_have),
        "passed_over": [
            {
                "deployment_id": _cut(each.deployment_id),
                "endpoint": _cut(each.endpoint),
                "reason": str(reason),
            }
            for each, reason in passed_over
        ],
    }


def _heading(schema: str, time: str, ids: RequestIds, instance: str, config_hash: str) -> Record:
    return {
        "time": time,
        "schema": schema,
        "type": schema.split("/")[1],
        "decision_id": _cut(ids.decision_id),
        "request_id": _text(ids.request_id),
        "litellm_call_id": _text(ids.call_id),
        "litellm_trace_id": _text(ids.trace_id),
        "instance": _cut(instance),
        "config_hash": _cut(config_hash),
    }


def _permit(permit: PermitFacts) -> Record:
    return {
        "iss": _cut(permit.issuer),
        "kid": _text(permit.kid),
        "jti_hash": _cut(permit.jti_hash),
        "policy_version": _cut(permit.policy_version),
        "iat": _number(permit.issued_at),
        "exp": _number(permit.expires_at),
        "sub": _text(permit.subject),
    }


def _scope(scope: RoutingScope | None) -> Record:
    return {
        "data_classification": _cut(scope.data_classification) if scope else None,
        "tenant": _cut(scope.tenant) if scope else None,
        "tenant_tier": _cut(scope.tenant_tier) if scope else None,
        "latency_class": _cut(scope.latency_class) if scope else None,
        "authorized_endpoints": sorted(_cut(name) for name in scope.endpoints) if scope else [],
        "preferences": [_cut(name) for name in scope.preferences] if scope else [],
    }


def _choice(decision: Decision | None) -> Record:
    if decision is None:
        return {
            "rule": None,
            "notes": [],
            "request": None,
            "seed": None,
            "session_deployment": None,
            "expected_output_tokens": None,
            "candidates": [],
            "candidates_omitted": 0,
            "chosen": None,
            "plan": [],
            "attempts": None,
            "tried": [],
            "budgets": [],
        }
    return {
        "rule": _rule(decision.rule),
        "notes": [_cut(note, MESSAGE_CHARS) for note in decision.notes[:NOTES]],
        "request": _request(decision.facts),
        "seed": decision.seed,
        "session_deployment": _text(decision.affinity.session_deployment),
        "expected_output_tokens": _number(decision.output_tokens),
        "candidates": [_candidate(each, decision) for each in decision.assessments],
        "candidates_omitted": max(0, len(decision.deployment_ids) - len(decision.assessments)),
        "chosen": _chosen(decision.chosen),
        "plan": [_cut(candidate.deployment_id) for candidate in decision.plan],
        "attempts": decision.attempts,
        "tried": sorted(_cut(name) for name in decision.tried),
        "budgets": [_budget(each) for each in _told(decision.budgets)],
    }


def _told(readings: Sequence[BudgetReading]) -> list[BudgetReading]:
    """Those of whole requests first: a replay needs them."""
    return sorted(readings, key=lambda each: each.deployment_ids is not None)[:BUDGETS]


def _budget(reading: BudgetReading) -> Record:
    account, ids = reading.account, reading.deployment_ids
    # A route is made of names that callers write; the record tells them one by one.
    subject = None if reading.budget.per is BudgetPer.ROUTE else _cut(account.subject)
    return {
        "name": _cut(account.budget),
        "per": str(reading.budget.per),
        "subject": subject,
        "period": account.period_id,
        "limit_usd": _number(account.limit_usd),
        "left_usd": _number(reading.left_usd),
        "resets_at": account.resets_at,
        "deployment_ids": None if ids is None else sorted(_cut(name) for name in ids),
        "action": str(reading.action) if reading.action else None,
    }


def _chosen(candidate: Candidate | None) -> Record | None:
    if candidate is None:
        return None
    return {"deployment_id": _cut(candidate.deployment_id), "endpoint": _cut(candidate.endpoint)}


def _shadow(shadow: ShadowedDecision) -> Record:
    decision = shadow.decision
    return {
        "config_hash": _cut(shadow.config_hash),
        "outcome": "denied" if shadow.verdict else "routed",
        "reason": str(shadow.verdict.reason) if shadow.verdict else None,
        "rule": _cut(decision.rule.name) if decision else None,
        "chosen": _chosen(decision.chosen) if decision else None,
        "plan": [_cut(candidate.deployment_id) for candidate in decision.plan] if decision else [],
        "agrees": shadow.agrees,
    }


def _rule(rule: RuleMatch) -> Record:
    values = {
        _cut(name): _model(str(value)) if name == "request.model" else _fact(value)
        for name, value in rule.values.items()
    }
    return {
        "name": _cut(rule.name),
        "strategy": _cut(rule.strategy),
        "values": values,
        "absent": {_cut(name): [_cut(fact) for fact in facts] for name, facts in rule.absent.items()},
        "explanation": _cut(rule.explained(values), MESSAGE_CHARS),
    }


def _request(facts: RequestFacts) -> Record:
    return {
        "model_group": _model(facts.model_group),
        "call_type": str(facts.call_type),
        "input_tokens": facts.input_tokens,
        "largest_input_tokens": facts.largest_input_tokens,
        "max_output_tokens": facts.max_output_tokens,
        "stream": facts.stream,
        "needs": sorted(str(capability) for capability in facts.needs),
        "tool_count": facts.tool_count,
        "tool_step": facts.tool_step,
        "writes": facts.writes,
        "image_count": facts.image_count,
        "audio_count": facts.audio_count,
        "document_count": facts.document_count,
        "spoken_characters": facts.spoken_characters,
        "output_count": facts.output_count,
        "reasoning_effort": _text(facts.reasoning_effort),
        "language": _text(facts.language),
        "latency_budget_ms": facts.latency_budget_ms,
        "workload": _text(facts.workload),
        "session": _text(facts.session),
        "prefix": _text(facts.prefix),
        "prefix_tokens": facts.prefix_tokens,
        "is_idempotent": facts.is_idempotent,
        "moment": asdict(facts.moment) if facts.moment else None,
    }


def _candidate(assessment: Assessment, decision: Decision) -> Record:
    candidate = assessment.candidate
    prices = candidate.prices_for(decision.scope.tenant_tier).at(decision.facts.input_tokens)
    return {
        "deployment_id": _cut(candidate.deployment_id),
        "endpoint": _cut(candidate.endpoint),
        "model": _text(candidate.model),
        "region": _text(candidate.region),
        "tier": _text(candidate.tier),
        "quality": _number(candidate.quality),
        "exclusion": str(assessment.exclusion) if assessment.exclusion else None,
        "detail": _cut(assessment.detail),
        "expected_cost_usd": _number(assessment.expected_cost_usd),
        "expected_output_tokens": _number(assessment.expected_output_tokens),
        "cost_terms": {_cut(name): _number(value) for name, value in assessment.cost_terms.items()},
        "prices": {
            "input_usd": _number(prices.input_usd),
            "cached_input_usd": _number(prices.cached_input_usd),
            "output_usd": _number(prices.output_usd),
            "request_usd": _number(prices.request_usd),
        },
        "rank": assessment.rank,
        "terms": {_cut(name): _number(value) for name, value in assessment.terms.items()},
        "in_flight": assessment.in_flight,
        "warm_tokens": decision.affinity.warm_tokens.get(candidate.deployment_id, 0),
        "statistics": _statistics(assessment.statistics) if assessment.statistics else None,
        "health": _health(assessment.health) if assessment.health != HEALTHY else None,
    }


def _health(health: EndpointHealth) -> Record:
    # Not rounded, as statistics are not.
    return {
        "breaker": str(health.breaker),
        "cause": _cut(health.cause),
        "may_probe": health.may_probe,
        "retry_after_s": _number(health.retry_after_s),
        "waits": _cut(health.waits),
        "requests_left": health.requests_left,
        "tokens_left": health.tokens_left,
    }


def _statistics(statistics: EndpointStatistics) -> Record:
    # Not rounded: a replay ranks by the very values that the decision saw.
    return {
        "attempts": statistics.attempts,
        "failures": statistics.failures,
        "total_p50_ms": _number(statistics.total_p50_ms),
        "total_p95_ms": _number(statistics.total_p95_ms),
        "total_p99_ms": _number(statistics.total_p99_ms),
        "first_token_p50_ms": _number(statistics.first_token_p50_ms),
        "first_token_p95_ms": _number(statistics.first_token_p95_ms),
        "first_token_p99_ms": _number(statistics.first_token_p99_ms),
        "output_token_p50_ms": _number(statistics.output_token_p50_ms),
        "output_token_p95_ms": _number(statistics.output_token_p95_ms),
        "output_token_p99_ms": _number(statistics.output_token_p99_ms),
    }


def _cut(text: str, chars: int = TEXT_CHARS) -> str:
    text = text[:chars]
    if text.isascii():
        return text
    # RFC 8259 section 8.2: readers differ on unpaired surrogates, and some refuse the whole line.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _model(name: str | None) -> str | None:
    if not name:
        return name
    return _cut(name) if _MODEL_NAME.fullmatch(name) else NO_MODEL_NAME


def _message(verdict: Verdict, requested_model: str | None) -> str:
    text = verdict.message
    if requested_model is not None and _model(requested_model) == NO_MODEL_NAME:
        text = text.replace(quoted(requested_model), NO_MODEL_NAME)
    return _cut(text, MESSAGE_CHARS)


def _fields(names: Sequence[str]) -> list[str]:
    """The names that are a field's, in their order, and one entry for all that are not."""
    told = [name for name in names if _FIELD_NAME.fullmatch(name)]
    if len(told) == len(names):
        return told[:DROPPED_FIELDS]
    return [*told[: DROPPED_FIELDS - 1], OTHER_FIELDS]


def _text(text: str | None) -> str | None:
    return None if text is None else _cut(text)


def _fact(value: FactValue) -> FactValue | None:
    return _cut(value) if isinstance(value, str) else _number(value)


def _number(value: float | None) -> float | None:
    # Only a float is looked at: `isfinite` raises OverflowError for a large int.
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _milliseconds(value: float | None) -> float | None:
    finite = _number(value)
    return None if finite is None else round(finite, 3)
