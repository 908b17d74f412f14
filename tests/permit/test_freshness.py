import dataclasses

import pytest
from permit_signing import NOW, POLICY, pem, permit_token, verifier

from litellm_plugin.errors import PermitRejected, Reason
from litellm_plugin.permit import KeySet, Revocations, StaticKeys, VerificationKey, parse_pem, recheck

PUBLIC = parse_pem(pem("P-256"), frozenset({"ES256"})).keys[0].key
PERMIT = verifier().verify(permit_token(), NOW, 0.0)
STALE = (Reason.POLICY_STALE, "policy_version")

CHANGES = [
    pytest.param({"minimum_policy_version": "43"}, STALE, id="R70-below-the-minimum"),
    pytest.param({"accepted_policy_versions": frozenset({"43"})}, STALE, id="R70-not-accepted"),
    pytest.param({"accepted_policy_versions": frozenset({"042", "42.0"})}, STALE, id="R70-accepted-is-exact"),
    pytest.param(
        {"minimum_policy_version": "43", "accepted_policy_versions": frozenset({"42"})},
        STALE,
        id="R70-accepted-and-below-the-minimum",
    ),
    pytest.param({"revocations": Revocations(policy_versions=frozenset({"42"}))}, STALE, id="R71-policy"),
    pytest.param(
        {"revocations": Revocations(jti=frozenset({"permit-1"}))}, (Reason.REVOKED, "jti"), id="R71-jti"
    ),
    pytest.param(
        {"revocations": Revocations(kid=frozenset({"ec-1"}))}, (Reason.REVOKED, "kid"), id="R71-kid"
    ),
]


def rejection(call, *arguments):
    with pytest.raises(PermitRejected) as caught:
        call(*arguments)
    return caught.value.reason, caught.value.detail


@pytest.mark.parametrize(("changes", "expected"), CHANGES)
def test_what_no_longer_counts_is_refused_at_admission(changes, expected):
    policy = dataclasses.replace(POLICY, **changes)

    assert rejection(verifier(policy).verify, permit_token(), NOW, 0.0) == expected


@pytest.mark.parametrize(("changes", "expected"), CHANGES)
def test_what_stopped_counting_is_refused_before_an_attempt(changes, expected):
    assert rejection(recheck, PERMIT, dataclasses.replace(POLICY, **changes), NOW) == expected


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        pytest.param(NOW + 65, (Reason.EXPIRED, "exp"), id="R50-beyond-the-leeway"),
        pytest.param(NOW + 9_999, (Reason.EXPIRED, "exp"), id="R50-long-past"),
    ],
)
def test_permit_that_expired_since_is_refused(now, expected):
    assert rejection(recheck, PERMIT, POLICY, now) == expected


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="A03-within-the-leeway"),
        pytest.param({"minimum_policy_version": "42"}, id="minimum"),
        pytest.param({"accepted_policy_versions": frozenset({"41", "42"})}, id="accepted"),
        pytest.param(
            {"revocations": Revocations(frozenset({"other"}), frozenset({"rsa-1"}), frozenset({"41"}))},
            id="others-revoked",
        ),
    ],
)
def test_permit_that_still_counts_is_accepted(changes):
    recheck(PERMIT, dataclasses.replace(POLICY, **changes), NOW + 64.9)


def test_permit_without_kid_does_not_escape_the_revocation_of_its_key():  # R71
    keys = StaticKeys(KeySet((VerificationKey("k", frozenset({"ES256"}), PUBLIC),)))
    policy = dataclasses.replace(POLICY, revocations=Revocations(kid=frozenset({"k"})))
    token = permit_token(head={"kid": ...})

    assert verifier(keys=keys, kid_optional=True).verify(token, NOW, 0.0).kid == "k"
    assert rejection(verifier(policy, keys, kid_optional=True).verify, token, NOW, 0.0)[0] is Reason.REVOKED


def test_key_without_an_id_leaves_the_tokens_own():
    keys = StaticKeys(parse_pem(pem("P-256"), frozenset({"ES256"})))

    assert verifier(keys=keys, kid_optional=True).verify(permit_token(), NOW, 0.0).kid == "ec-1"
