import json

import pytest
from permit_signing import KEY_FOR, NOW, claims, header, permit_token, private_key, signed, verifier

from litellm_plugin.errors import PermitRejected, Reason

EXP = NOW + 60
LEEWAY_S = 5


def rejection(token, now=NOW):
    with pytest.raises(PermitRejected) as caught:
        verifier().verify(token, now, 0.0)
    return caught.value.reason, caught.value.detail


def test_clocks_may_differ_by_five_seconds_where_nobody_says_otherwise():
    token = permit_token(exp=EXP)

    assert verifier().verify(token, EXP + LEEWAY_S - 0.001, 0.0).expires_at == EXP
    assert rejection(token, EXP + LEEWAY_S) == (Reason.EXPIRED, "exp")


@pytest.mark.parametrize(
    ("times", "claim"),
    [
        pytest.param({"iat": NOW + 4, "exp": NOW + 1}, "exp", id="ends-before-it-was-issued"),
        pytest.param({"iat": NOW + 1, "exp": NOW + 1}, "exp", id="ends-as-it-was-issued"),
        pytest.param({"iat": NOW, "exp": NOW + 1, "nbf": NOW + 4}, "nbf", id="begins-after-its-end"),
        pytest.param({"iat": NOW, "exp": NOW + 1, "nbf": NOW + 1}, "nbf", id="begins-at-its-end"),
        pytest.param(
            {"iat": NOW + 2, "exp": NOW + 9, "nbf": NOW + 1}, "nbf", id="begins-before-it-was-issued"
        ),
    ],
)
def test_times_in_the_wrong_order_are_refused_though_each_is_within_the_leeway(times, claim):
    assert rejection(permit_token(**times)) == (Reason.CLAIM_INVALID, claim)


@pytest.mark.parametrize("number", ["1e309", "Infinity", "NaN", "9" * 400])
def test_a_cost_that_no_number_can_hold_is_refused(number):
    payload = json.dumps(claims(max_cost_usd="COST")).replace('"COST"', number).encode()

    assert rejection(signed(header(), payload, private_key(KEY_FOR["ES256"]), "ES256"))[0] in {
        Reason.PERMIT_MALFORMED,
        Reason.CLAIM_INVALID,
    }
