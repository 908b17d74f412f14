"""Verdicts: the reason and the sentences for a caller whose request has no plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litellm_plugin.errors import Reason, Verdict
from litellm_plugin.routing.decision import Exclusion
from litellm_plugin.routing.health import BreakerState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from litellm_plugin.routing.budgets import BudgetReading
    from litellm_plugin.routing.decision import Assessment
    from litellm_plugin.routing.facts import RequestFacts, RoutingScope
    from litellm_plugin.routing.health import EndpointHealth

_SHOWN_CHARACTERS = 80
# What they miss tells of other callers' use and of providers' faults: it stands in the record alone.
_UNTOLD = frozenset({Exclusion.BREAKER_OPEN, Exclusion.RATE_LIMITED, Exclusion.QUOTA})
_SHOWN_ENDPOINTS = 8  # a permit holds up to 64 endpoints; the message stays a sentence


def verdict_without_plan(
    *,
    facts: RequestFacts,
    scope: RoutingScope,
    rule_name: str,
    authorized: Sequence[Assessment],
    survivors: Sequence[Assessment],
    wanted: Sequence[Assessment],
    tried: frozenset[str],
) -> Verdict:
    """Says why there is no plan; the message names no endpoint outside the permit.

    Args:
        facts: The request.
        scope: What its permit opens.
        rule_name: The rule that applies.
        authorized: The assessments of the endpoints in the permit.
        survivors: Those of them that only health keeps out, if anything.
        wanted: Those of the survivors that the rule's strategy would take.
        tried: The deployment ids that earlier attempts took.
    """
    group, request = quoted(facts.model_group), request_named(scope)
    if not authorized:
        return Verdict(
            Reason.NOT_AUTHORIZED,
            f"No endpoint of model group {group} is in the authorized set of {request}. {_ASK}",
        )
    if not survivors:
        return Verdict(
            Reason.NOT_ELIGIBLE,
            f"No authorized endpoint of model group {group} may serve {request}: {_listed(authorized)}. {_ASK}",
        )
    if not wanted:
        return Verdict(
            Reason.NOT_ELIGIBLE,
            f"Routing rule {quoted(rule_name)} takes no eligible endpoint of model group {group}"
            f" in the authorized set of {request}. {_ASK}",
        )
    if any(each.candidate.deployment_id in tried for each in wanted):
        return Verdict(
            Reason.CHAIN_EXHAUSTED,
            f"Every endpoint of model group {group} that {request} may use was tried"
            f" or is not available: {_listed(wanted)}.",
            soonest_s(each.health for each in wanted),
        )
    if all(each.exclusion is Exclusion.BUDGET for each in wanted):
        return Verdict(
            Reason.BUDGET_EXCEEDED,
            f"The budgets of the endpoints of model group {group} that {request} may use do not cover it:"
            f" {_listed(wanted)}.",
        )
    return Verdict(
        Reason.UNAVAILABLE,
        f"No endpoint of model group {group} that {request} may use is available now: {_listed(wanted)}.",
        soonest_s(each.health for each in wanted),
    )


def soonest_s(healths: Iterable[EndpointHealth]) -> float | None:
    """When the first of them may be asked again, in seconds; None when nobody knows."""
    known = map(_may_be_asked_s, healths)
    return min((each for each in known if each is not None), default=None)


def _may_be_asked_s(health: EndpointHealth) -> float | None:
    if health.breaker is BreakerState.HALF_OPEN and health.retry_after_s is None:
        return 0.0
    return health.retry_after_s


def over_budget(reading: BudgetReading, scope: RoutingScope) -> str:
    """Says which budget does not cover a request, and when it begins anew."""
    account = reading.account
    return (
        f"Budget {quoted(account.budget)} ({account.limit_usd:g} USD a {reading.budget.period} for each"
        f" {reading.budget.per.replace('_', ' ')}) does not cover {request_named(scope)}. It resets at"
        f" {account.resets_at}."
    )


_ASK = "Ask the policy gateway for its decision on that request."


def quoted(text: str) -> str:
    """Text from outside as a literal, 80 characters at most."""
    return _cut(repr(text[: _SHOWN_CHARACTERS + 1]))


def request_named(scope: RoutingScope) -> str:
    """The request by its id and the version of the policy that decided on it, to look it up at the gateway."""
    return f"request {_plain(scope.request_id)} (policy version {_plain(scope.policy_version)})"


def _listed(assessments: Sequence[Assessment]) -> str:
    reasons = tuple(dict.fromkeys(_reason(each) for each in assessments))
    hidden = len(reasons) - _SHOWN_ENDPOINTS
    more = f"; and {hidden} more" if hidden > 0 else ""
    return "; ".join(reasons[:_SHOWN_ENDPOINTS]) + more


def _reason(assessment: Assessment) -> str:
    endpoint = _plain(assessment.candidate.endpoint)
    is_told = bool(assessment.detail) and assessment.exclusion not in _UNTOLD
    detail = f" ({_plain(assessment.detail)})" if is_told else ""
    return f"{endpoint}: {assessment.exclusion or 'eligible'}{detail}"


def _plain(text: str) -> str:
    return _cut(text) if text.isprintable() else quoted(text)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
