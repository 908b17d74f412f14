"""A fuzz of the whole verifier: mutated tokens are only ever rejected, and never for an unforeseen reason.

Each rejection says what was expected, and nothing of the token comes out with it.

`PERMIT_FUZZ_TOKENS` sets how many tokens are tried, `PERMIT_FUZZ_SEED` which ones.
"""

import hashlib
import hmac
import json
import os
from collections import Counter

import pytest
from jwt.algorithms import get_default_algorithms
from permit_signing import KEY_FOR, NOW, pem, public_key, verifier
from token_mutator import MARKERS, MUTATIONS, TokenMutator, decode

from litellm_plugin.errors import KeysUnavailable, PermitRejected, Reason

TOKENS = int(os.environ.get("PERMIT_FUZZ_TOKENS", "20000"))
SEED = os.environ.get("PERMIT_FUZZ_SEED", "permit")
TOKENS_FOR_A_BAD_VERIFIER = 3_000


def verify(token, *, good=verifier()):  # noqa: B008 - one verifier for all tokens, as in a worker
    return good.verify(token, NOW, 0.0)


def breach(verify, mutant):
    """What is wrong with how a token was judged, or None; and what it was judged to be."""
    try:
        verify(mutant.token)
    except PermitRejected as rejected:
        return fault_of(rejected), rejected.reason
    except KeysUnavailable:
        return None, "keys_unavailable"
    except Exception as error:  # noqa: BLE001 - this is what the fuzz looks for
        return f"raised {type(error).__name__}", "raised"
    return (None if mutant.may_be_admitted else "admitted"), "admitted"


def fault_of(rejected):
    if rejected.reason is Reason.INTERNAL_ERROR:
        return "internal_error"
    if any(marker in f"{rejected} {rejected.detail} {rejected.expected}" for marker in MARKERS):
        return "quoted"
    return None if rejected.expected else "unexplained"


def run(verify, count):
    mutator = TokenMutator(SEED)
    outcomes, breaches = Counter(), []
    for number in range(count):
        mutant = mutator.mutant(number)
        wrong, outcome = breach(verify, mutant)
        outcomes[mutant.kind, outcome] += 1
        if wrong is not None:
            breaches.append((number, wrong, mutant.kind, mutant.token[:2_000]))
    return outcomes, breaches


def test_mutated_tokens_are_rejected_and_valid_ones_admitted():  # P3, P4, R75
    outcomes, breaches = run(verify, TOKENS)

    assert breaches == []
    assert {kind for kind, _ in outcomes} == {mutation.__name__ for mutation in MUTATIONS}
    assert {outcome for kind, outcome in outcomes if kind == "nothing"} == {"admitted"}
    # A fuzz that only ever meets the first check proves little.
    assert {reason for _, reason in outcomes} >= {
        Reason.PERMIT_MALFORMED,
        Reason.ALG_NOT_ALLOWED,
        Reason.TYP_NOT_ALLOWED,
        Reason.KEY_UNKNOWN,
        Reason.SIGNATURE_INVALID,
        Reason.CLAIM_MISSING,
        Reason.CLAIM_INVALID,
        Reason.ENDPOINTS_INVALID,
        Reason.ISS_MISMATCH,
        Reason.AUD_MISMATCH,
        Reason.EXPIRED,
        Reason.NOT_YET_VALID,
    }


def otherwise(accepts):
    """A verifier that, beside ours, takes what `accepts(header, payload, signing_input, signature)` takes."""

    def bad(token):
        try:
            return verify(token)
        except PermitRejected:
            try:
                head, payload, signature = token.split(".")
                fields, members = json.loads(decode(head)), json.loads(decode(payload))
                if accepts(fields, members, f"{head}.{payload}".encode(), decode(signature)):
                    return members
            except Exception as error:
                raise PermitRejected(Reason.PERMIT_MALFORMED) from error
            raise

    return bad


def is_unsigned(fields, *_):
    return str(fields.get("alg")).lower() == "none"


def is_signed_with_the_public_key(fields, _members, signing_input, signature):
    return fields["alg"] == "HS256" and hmac.compare_digest(
        hmac.new(pem("rsa"), signing_input, hashlib.sha256).digest(), signature
    )


def is_signed_by_its_own_key(fields, _members, signing_input, signature):
    algorithm = get_default_algorithms()[fields["alg"]]
    return algorithm.verify(signing_input, algorithm.from_jwk(fields["jwk"]), signature)


def is_signed_in_any_json(fields, members, signing_input, signature):
    """Takes the last of two equal names, NaN and extra headers, as PyJWT does."""
    key = public_key(KEY_FOR[fields["alg"]])
    is_signed = get_default_algorithms()[fields["alg"]].verify(signing_input, key, signature)
    return is_signed and members["exp"] > NOW and isinstance(members["authorized_endpoints"], list)


def has_a_known_kid(fields, *_):
    return fields["kid"] in {"rsa-1", "ec-1", "ed-1"} and fields["alg"] in KEY_FOR


def leaks(token):
    decode(token.split(".")[2])
    return verify(token)


def quotes(token):
    try:
        return verify(token)
    except PermitRejected as rejected:
        if rejected.reason is Reason.CLAIM_INVALID:
            members = decode(token.split(".")[1]).decode()
            raise PermitRejected(rejected.reason, rejected.detail, f"not {members}") from rejected
        raise


def says_less(token):
    try:
        return verify(token)
    except PermitRejected as rejected:
        raise PermitRejected(rejected.reason, rejected.detail) from rejected


def gives_up(token):
    try:
        return verify(token)
    except PermitRejected as rejected:
        if rejected.detail == "header":
            raise PermitRejected(Reason.INTERNAL_ERROR) from rejected
        raise


@pytest.mark.parametrize(
    ("bad", "kind", "expected"),
    [
        pytest.param(otherwise(is_unsigned), "another_header", "admitted", id="R21-none"),
        pytest.param(
            otherwise(is_signed_with_the_public_key),
            "confused_algorithm",
            "admitted",
            id="R23-hs256-with-public-pem",
        ),
        pytest.param(
            otherwise(is_signed_by_its_own_key), "another_header", "admitted", id="R31-embedded-key"
        ),
        pytest.param(
            otherwise(is_signed_in_any_json), "signed_ambiguity", "admitted", id="R48-duplicate-names"
        ),
        pytest.param(
            otherwise(is_signed_in_any_json), "signed_header_with_more", "admitted", id="R34-unknown-header"
        ),
        pytest.param(otherwise(has_a_known_kid), "other_claims", "admitted", id="R45-signature-not-checked"),
        pytest.param(leaks, "edited_characters", "raised", id="R75-foreign-error"),
        pytest.param(quotes, "signed_values", "quoted", id="token-in-the-message"),
        pytest.param(says_less, "signed_out_of_time", "unexplained", id="no-expectation"),
        pytest.param(gives_up, "another_encoding", "internal_error", id="R75-internal-error"),
    ],
)
def test_the_same_fuzz_catches_a_bad_verifier(bad, kind, expected):
    _, breaches = run(bad, TOKENS_FOR_A_BAD_VERIFIER)

    assert any(found == kind and wrong.startswith(expected) for _, wrong, found, _ in breaches)
