from __future__ import annotations

import pytest

from litellm_plugin.errors import (
    ConfigurationError,
    KeysUnavailable,
    PermitRejected,
    PermitRouterError,
    Reason,
    RecordNotWritten,
    RequestDenied,
    StoreUnavailable,
    Verdict,
)

STATUSES = {
    400: {Reason.BODY_INVALID},
    403: {
        Reason.CLAIM_MISMATCH,
        Reason.NOT_AUTHORIZED,
        Reason.NOT_ELIGIBLE,
        Reason.LATENCY_BUDGET,
        Reason.BUDGET_EXCEEDED,
        Reason.EGRESS_NOT_CLEARED,
        Reason.PATH_NOT_PERMITTED,
        Reason.POLICY_STALE,
        Reason.DESTINATION_MISMATCH,
        Reason.NO_CONTEXT,
    },
    413: {Reason.BODY_TOO_LARGE},
    500: {Reason.INTERNAL_ERROR, Reason.LITELLM_REFUSED},
    503: {
        Reason.CHAIN_EXHAUSTED,
        Reason.UNAVAILABLE,
        Reason.NOT_REPEATED,
        Reason.KEYS_UNAVAILABLE,
        Reason.NOT_READY,
        Reason.LOG_UNAVAILABLE,
    },
}


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_its_status(reason):
    expected = next((status for status, reasons in STATUSES.items() if reason in reasons), 401)
    assert reason.status == expected


@pytest.mark.parametrize("reason", Reason)
def test_only_503_is_temporary_and_not_what_may_have_taken_effect(reason):
    assert reason.is_temporary is (reason.status == 503 and reason is not Reason.NOT_REPEATED)


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_is_a_word_for_logs_and_metrics(reason):
    assert str(reason) == reason.name.lower()


def test_a_verdict_takes_its_status_from_the_reason():
    assert Verdict(Reason.NOT_READY, "x").status == 503


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ConfigurationError("x"), id="configuration"),
        pytest.param(PermitRejected(Reason.EXPIRED), id="permit"),
        pytest.param(KeysUnavailable("https://a.example"), id="keys"),
        pytest.param(StoreUnavailable("x"), id="store"),
        pytest.param(RequestDenied(Verdict(Reason.EXPIRED, "x")), id="denied"),
        pytest.param(RecordNotWritten("x"), id="record"),
    ],
)
def test_every_error_has_one_root(error):
    assert isinstance(error, PermitRouterError)


def test_a_rejection_says_which_part_failed():
    rejected = PermitRejected(Reason.CLAIM_MISSING, "jti")
    assert (rejected.reason, rejected.detail, str(rejected)) == (
        Reason.CLAIM_MISSING,
        "jti",
        "claim_missing: jti",
    )


def test_a_rejection_says_what_was_expected_where_it_is_asked():
    rejected = PermitRejected(Reason.CLAIM_INVALID, "exp", "a lifetime of at most 300 s")
    assert (rejected.expected, str(rejected)) == ("a lifetime of at most 300 s", "claim_invalid: exp")
    assert not PermitRejected(Reason.CLAIM_INVALID, "exp").expected


def test_a_denial_carries_its_verdict():
    verdict = Verdict(Reason.EXPIRED, "too late")
    denied = RequestDenied(verdict)
    assert (denied.verdict, str(denied)) == (verdict, "expired: too late")


def test_missing_keys_name_the_issuer():
    assert str(KeysUnavailable("https://a.example")) == "no usable keys for issuer 'https://a.example'"
