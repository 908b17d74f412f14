import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from permit_signing import (
    ALGORITHMS,
    AUDIENCE,
    ISSUER,
    NOW,
    POLICY,
    claims,
    encode,
    header,
    key_set,
    permit_token,
    private_key,
    public_key,
    signed,
    untimed,
    verifier,
)

from litellm_plugin.errors import ConfigurationError, KeysUnavailable, PermitRejected, Reason
from litellm_plugin.permit import (
    SUPPORTED_ALGORITHMS,
    IssuerTrust,
    KeySet,
    PermitVerifier,
    StaticKeys,
    VerificationKey,
    symmetric_keys,
)

OTHER = "https://other.example.com"


class RecordingKeys(StaticKeys):
    def __init__(self, keys):
        super().__init__(keys)
        self.wishes = []

    def note_unknown_kid(self, now_s):
        self.wishes.append(now_s)


class MissingKeys(StaticKeys):
    def current(self, now_s):
        raise KeysUnavailable(ISSUER)


class BrokenKeys(StaticKeys):
    def current(self, now_s):
        raise ZeroDivisionError


def rejection(token, permit_verifier=None):
    with pytest.raises(PermitRejected) as caught:
        (permit_verifier or verifier()).verify(token, NOW, 0.0)
    return caught.value.reason


@pytest.mark.parametrize("alg", [pytest.param(alg, id=f"A01-{alg}") for alg in sorted(ALGORITHMS)])
def test_valid_permit_is_verified(alg):
    assert verifier().verify(permit_token(alg), NOW, 0.0).request_id == "request-1"


@pytest.mark.parametrize("count", [pytest.param(10_000, id="A15-many-distinct-permits")])
def test_every_one_of_many_permits_is_verified(count):
    permit_verifier = verifier()

    seen = {permit_verifier.verify(permit_token(jti=f"p{n}"), NOW, 0.0).jti for n in range(count)}

    assert len(seen) == count


@pytest.mark.parametrize(
    "typ",
    [
        pytest.param(..., id="R26-absent"),
        *[
            pytest.param(typ, id=f"R26-{typ}")
            for typ in ("JWT", "at+jwt", "logout+jwt", "PERMIT+JWT", "application/permit+jwt", "")
        ],
    ],
)
def test_other_typ_is_not_allowed(typ):
    assert rejection(permit_token(head={"typ": typ})) is Reason.TYP_NOT_ALLOWED


def test_unknown_kid_wishes_for_a_refresh():  # R37
    keys = RecordingKeys(key_set())

    with pytest.raises(PermitRejected):
        verifier(keys=keys).verify(permit_token(head={"kid": "new"}), NOW, 17.0)

    assert keys.wishes == [17.0]


@pytest.mark.parametrize(
    "head",
    [
        pytest.param({"kid": ...}, id="R35-kid-absent"),
        pytest.param({"kid": "rsa-1"}, id="R25-alg-of-another-key"),
        pytest.param({"kid": "rsa-1", "alg": "HS256"}, id="R23-alg-not-listed"),
    ],
)
def test_other_faults_do_not_wish_for_a_refresh(head):
    keys = RecordingKeys(key_set())

    rejection(permit_token(head=head), verifier(keys=keys))

    assert keys.wishes == []


def test_kid_is_demanded_unless_the_issuer_says_otherwise():  # R35
    only = StaticKeys(KeySet((VerificationKey("ec-1", frozenset({"ES256"}), public_key("P-256")),)))
    token = permit_token(head={"kid": ...})

    assert rejection(token, verifier(keys=only)) is Reason.KEY_UNKNOWN
    assert verifier(keys=only, kid_optional=True).verify(token, NOW, 0.0).kid == "ec-1"


def test_issuer_may_use_every_supported_algorithm():
    assert verifier(algorithms=SUPPORTED_ALGORITHMS).verify(permit_token(), NOW, 0.0)


def two_issuers():
    other = KeySet((VerificationKey("other-1", frozenset({"ES256"}), public_key("P-256")),))
    ours = KeySet((VerificationKey("rsa-1", frozenset({"RS256"}), public_key("rsa")),))
    return PermitVerifier(
        [
            IssuerTrust(ISSUER, AUDIENCE, frozenset({"RS256"}), StaticKeys(ours)),
            IssuerTrust(OTHER, AUDIENCE, frozenset({"ES256"}), StaticKeys(other)),
        ],
        POLICY,
    )


def test_each_issuer_is_verified_with_its_own_keys():
    permit = two_issuers().verify(permit_token(iss=OTHER, head={"kid": "other-1"}), NOW, 0.0)

    assert permit.issuer == OTHER


@pytest.mark.parametrize("kid", [pytest.param("other-1", id="R39-kid-of-another-issuer")])
def test_key_of_another_issuer_is_unknown(kid):
    token = permit_token("RS256", head={"kid": kid})

    assert rejection(token, two_issuers()) is Reason.KEY_UNKNOWN


def test_alg_of_another_issuer_is_not_allowed():  # R24
    assert rejection(permit_token(head={"kid": "other-1"}), two_issuers()) is Reason.ALG_NOT_ALLOWED


@pytest.mark.parametrize(
    "issuer", [pytest.param(OTHER, id="R55-other"), pytest.param([ISSUER], id="R55-list")]
)
def test_undeclared_issuer_is_a_mismatch(issuer):
    assert rejection(permit_token(iss=issuer)) is Reason.ISS_MISMATCH


@pytest.mark.parametrize("issuer", [pytest.param(..., id="R49-absent"), pytest.param(None, id="R49-null")])
def test_missing_issuer_is_named(issuer):
    assert rejection(permit_token(iss=issuer)) is Reason.CLAIM_MISSING


def test_claims_are_not_looked_at_before_the_signature():
    head, payload, _ = permit_token(exp=NOW - 600, iat=NOW - 700).split(".")

    assert rejection(f"{head}.{payload}.{encode(b'x' * 64)}") is Reason.SIGNATURE_INVALID


def test_payload_of_another_form_is_malformed():  # R48
    assert rejection(permit_token(payload=b"[]")) is Reason.PERMIT_MALFORMED


def test_deep_payload_is_malformed():  # R19
    assert rejection(permit_token(payload=b"[" * 9_000)) is Reason.PERMIT_MALFORMED


@pytest.mark.parametrize("head", [{"kid": ...}, {"kid": "k"}], ids=["A07-no-kid", "A07-named"])
def test_kid_may_be_absent_where_the_issuer_says_so(head):
    keys = StaticKeys(KeySet((VerificationKey("k", frozenset({"ES256"}), public_key("P-256")),)))

    permit = verifier(keys=keys, kid_optional=True).verify(permit_token(head=head), NOW, 0.0)

    assert permit.jti == "permit-1"


def test_symmetric_issuer_is_verified():
    secret = b"s" * 32
    token = signed(header("HS256", kid="hs"), claims(), secret, "HS256")
    keys = StaticKeys(symmetric_keys(secret, kid="hs"))

    assert verifier(keys=keys, algorithms=frozenset({"HS256"})).verify(token, NOW, 0.0).kid == "hs"


@pytest.mark.parametrize("keys", [pytest.param(MissingKeys(key_set()), id="R74-keys-never-loaded")])
def test_missing_keys_are_not_the_permits_fault(keys):
    with pytest.raises(KeysUnavailable):
        verifier(keys=keys).verify(permit_token(), NOW, 0.0)


@pytest.mark.parametrize("keys", [pytest.param(BrokenKeys(key_set()), id="R75-unknown-exception")])
def test_unforeseen_error_denies_and_is_logged_once(keys, caplog):
    broken = verifier(keys=keys)

    with caplog.at_level(logging.ERROR):
        reasons = [rejection(permit_token(), broken) for _ in range(3)]

    assert reasons == [Reason.INTERNAL_ERROR] * 3
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]


def test_issuer_that_is_declared_twice_stops_the_start():
    trust = IssuerTrust(ISSUER, AUDIENCE, ALGORITHMS, StaticKeys(key_set()))

    with pytest.raises(ConfigurationError, match="twice"):
        PermitVerifier([trust, trust], POLICY)


@pytest.mark.parametrize(
    "algorithms",
    [
        pytest.param(set(), id="none"),
        pytest.param({"none"}, id="R21-none"),
        pytest.param({"ES256K"}, id="R24-es256k"),
        pytest.param({"RS256", "HS256"}, id="R44-symmetric-beside-asymmetric"),
    ],
)
def test_unsafe_algorithms_stop_the_start(algorithms):
    with pytest.raises(ConfigurationError):
        IssuerTrust(ISSUER, AUDIENCE, frozenset(algorithms), StaticKeys(key_set()))


@untimed
@given(st.text())
def test_arbitrary_text_is_only_ever_rejected(text):  # P4
    rejection(text)


@untimed
@given(st.binary(), st.binary())
def test_arbitrary_signed_bytes_are_only_ever_rejected(head, payload):  # P4
    rejection(signed(head or b"{}", payload or b"{}", private_key("P-256"), "ES256"))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@untimed
@given(
    st.dictionaries(st.sampled_from([*claims(), "nbf", "sub", "body_sha256", "x"]), JSON_VALUES, min_size=1)
)
def test_arbitrary_claims_never_raise_another_error(members):  # P4
    try:
        verifier().verify(permit_token(**members), NOW, 0.0)
    except PermitRejected as rejected:
        assert rejected.reason is not Reason.INTERNAL_ERROR  # noqa: PT017 - acceptance is an outcome as well


@untimed
@given(st.data())
def test_flipping_any_bit_is_rejected(data):  # P3
    token = permit_token("EdDSA").encode()
    position = data.draw(st.integers(0, len(token) * 8 - 1))
    changed = bytearray(token)
    changed[position // 8] ^= 1 << (position % 8)

    rejection(changed.decode("latin-1"))
