"""The verdict on a token in lines: each check in the router's order, and what the failing one expected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from litellm_plugin.cli.permit.expectation import Case, expectation
from litellm_plugin.cli.permit.judgement import Check, Judgement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from litellm_plugin.cli.permit.policy_source import Policy
    from litellm_plugin.errors import PermitRejected
    from litellm_plugin.settings import PolicySnapshot

_MOST_LISTED: Final = 20


def verdict(judgement: Judgement, case: Case, policy: Policy) -> Iterator[str]:
    """The lines that say what a router with this policy answers."""
    snapshot = policy.snapshot
    yield "Checks"
    for check in Check:
        yield f"  {_state(check, judgement, case):12} {_words(check, snapshot)}"
    yield ""
    if judgement.omitted:
        yield f"The key and the signature were not checked: {judgement.omitted}."
    if judgement.rejected is not None:
        yield from _refusal(judgement.rejected, case)
        return
    if judgement.later:
        yield f"Known only with the request, and not checked: {'; '.join(judgement.later)}."
    if judgement.omitted:
        yield "UNDECIDED: no check failed, but anybody could have written this token."
    else:
        with_body = " with the body that it is bound to" if _waits_for_body(judgement, case) else ""
        yield "Whether an endpoint of its set may serve the request is decided with the request."
        yield from _unknown(judgement, policy)
        yield f"VALID: the router would admit it{with_body}."


def _unknown(judgement: Judgement, policy: Policy) -> Iterator[str]:
    """What the set names and the configuration has not: a misspelt endpoint is no error, and serves nobody."""
    if judgement.permit is None or policy.endpoints is None:
        return
    named = frozenset(judgement.permit.endpoints)
    unknown = sorted(named - policy.endpoints)
    if unknown:
        yield f"No deployment of the configuration has {', '.join(unknown)}; known: {_listed(policy.endpoints)}."
    if not named & policy.endpoints:
        yield "None of its set is known, so every request under it gets 403 not_authorized."


def _listed(endpoints: frozenset[str]) -> str:
    return ", ".join(sorted(endpoints)[:_MOST_LISTED]) + (", …" if len(endpoints) > _MOST_LISTED else "")


def signature_verdict(judgement: Judgement, case: Case) -> Iterator[str]:
    """The lines for a token that no policy was given for."""
    if judgement.rejected is not None:
        yield from _refusal(judgement.rejected, case)
    elif judgement.keys is not None:
        yield "The signature is valid; the claims were not checked: --config or --policy says what is expected."
    else:
        yield (
            "Nothing but the form was checked: --config or --policy says what is expected of the claims, "
            "--jwks holds the keys."
        )


def _state(check: Check, judgement: Judgement, case: Case) -> str:
    failed = judgement.failed
    order = list(Check)
    if failed is check:
        return "FAILED"
    if judgement.omitted and check in {Check.KEY, Check.SIGNATURE}:
        return "not checked"
    if failed is not None and order.index(check) > order.index(failed):
        return "not reached"
    if check is Check.BODY and _waits_for_body(judgement, case):
        return "not checked"
    if check is Check.BODY and judgement.permit is not None and judgement.permit.body_sha256 is None:
        return "not bound"
    return "ok"


def _waits_for_body(judgement: Judgement, case: Case) -> bool:
    permit = judgement.permit
    return case.body is None and permit is not None and permit.body_sha256 is not None


def _words(check: Check, snapshot: PolicySnapshot) -> str:
    match check:
        case Check.CLAIMS:
            return "claims: form, audience, times, declared values, policy version, revocation"
        case Check.BODY:
            return f"body: --body FILE holds it against the permit (binding: {snapshot.permit.binding})"
    return check.value


def _refusal(rejected: PermitRejected, case: Case) -> Iterator[str]:
    detail = f" ({rejected.detail})" if rejected.detail else ""
    answer = expectation(rejected, case)
    yield f"NOT VALID: {rejected.reason}{detail}; a router answers {rejected.reason.status}."
    yield f"  expected  {answer.expected}"
    yield f"  found     {answer.found}"
