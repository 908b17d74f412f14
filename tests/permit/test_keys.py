import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from permit_signing import ALGORITHMS, der, encode, jwk, jwks, pem, private_key, public_key

from litellm_plugin.errors import PermitRejected, Reason
from litellm_plugin.permit import (
    SUPPORTED_ALGORITHMS,
    KeyDocumentError,
    KeySet,
    VerificationKey,
    parse_jwks,
    parse_pem,
    symmetric_keys,
)

GOOD = jwk("P-256", kid="good", alg="ES256")
MAX_DOCUMENT_BYTES = 262_144


def off_curve():
    entry = jwk("P-256", kid="bad")
    x = bytearray(base64.urlsafe_b64decode(entry["x"] + "="))
    x[-1] ^= 1
    return {**entry, "x": encode(bytes(x))}


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param("text", id="R42-not-an-object"),
        pytest.param({"kty": "oct", "k": encode(b"x" * 32), "kid": "bad"}, id="R42-oct"),
        pytest.param({"kty": "oct", "kid": "bad"}, id="R42-oct-without-k"),
        pytest.param(jwk("P-256", private=True, kid="bad"), id="R42-private-ec"),
        pytest.param(jwk("rsa", private=True, kid="bad", key_ops=["verify"]), id="R42-private-rsa"),
        *[
            pytest.param(jwk("rsa", kid="bad", **{name: "AQAB"}), id=f"R42-private-member-{name}-alone")
            for name in ("d", "p", "q", "dp", "dq", "qi", "oth", "k")
        ],
        pytest.param(jwk("P-256", kid="bad", use="enc"), id="R42-use-enc"),
        pytest.param(jwk("P-256", kid="bad", key_ops=["encrypt"]), id="R42-key-ops-encrypt"),
        pytest.param(jwk("P-256", kid="bad", key_ops="verify"), id="R42-key-ops-text"),
        pytest.param(jwk("P-256", kid="bad", alg="none"), id="R42-alg-none"),
        pytest.param(jwk("P-256", kid="bad", alg=["ES256"]), id="R42-alg-list"),
        pytest.param(jwk("rsa", kid="bad", alg="PS256"), id="R25-alg-not-the-issuers"),
        pytest.param(jwk("rsa-1024", kid="bad"), id="R43-rsa-1024"),
        pytest.param(jwk("rsa-e3", kid="bad"), id="R43-rsa-exponent-3"),
        pytest.param(jwk("rsa", kid="bad", e="AQ"), id="R43-rsa-exponent-1"),
        pytest.param(jwk("rsa", kid="bad", n=7), id="R43-rsa-modulus-is-a-number"),
        pytest.param(jwk("P-384", kid="bad", alg="ES256"), id="R43-curve-mismatch"),
        pytest.param(off_curve(), id="R43-point-off-curve"),
        pytest.param({"kty": "EC", "crv": "P-256", "kid": "bad"}, id="R43-no-point"),
        pytest.param({"kty": "OKP", "crv": "Ed448", "x": encode(b"x" * 57), "kid": "bad"}, id="R43-ed448"),
        pytest.param(jwk("P-256", kid="../bad"), id="R38-kid-traversal"),
        pytest.param(jwk("P-256", kid=7), id="R36-kid-int"),
    ],
)
def test_bad_key_is_skipped_and_the_good_one_stays(entry):  # C20
    keys = parse_jwks(jwks(entry, GOOD), ALGORITHMS)

    assert [key.kid for key in keys.keys] == ["good"]
    assert len(keys.skipped) == 1


def test_mixed_set_keeps_the_asymmetric_keys_only():  # R44
    keys = parse_jwks(jwks({"kty": "oct", "k": encode(b"x" * 32), "kid": "hs"}, GOOD), frozenset({"ES256"}))

    with pytest.raises(PermitRejected):
        keys.find("hs", "HS256")


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([jwk("rsa", kid="a"), jwk("P-256", kid="a")], id="R40-two-keys-with-one-kid"),
        pytest.param([jwk("rsa", kid="a")] * 3, id="R40-one-key-three-times"),
    ],
)
def test_duplicate_kid_drops_all_keys_that_have_it(entries):
    keys = parse_jwks(jwks(*entries, GOOD), ALGORITHMS)

    assert [key.kid for key in keys.keys] == ["good"]


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>", id="html"),
        pytest.param(b"[]", id="array"),
        pytest.param(b"{}", id="no-keys"),
        pytest.param(b'{"keys":{}}', id="keys-is-an-object"),
        pytest.param(b'{"keys":[]}', id="no-key"),
        pytest.param(b'{"keys":[{"kty":"oct"}]}', id="R42-only-oct"),
        pytest.param(jwks(GOOD)[:-9], id="truncated"),
        pytest.param(jwks(GOOD).decode().encode("utf-16"), id="utf-16"),
        pytest.param(b'{"keys":' + b"[" * 100_000, id="deep"),
        pytest.param(jwks(GOOD) + b" " * 300_000, id="too-long"),
    ],
)
def test_document_without_a_usable_key_is_an_error(document):
    with pytest.raises(KeyDocumentError):
        parse_jwks(document, ALGORITHMS)


@pytest.mark.parametrize(
    ("name", "fitting"),
    [
        pytest.param("rsa", {"RS256", "RS384", "PS256", "PS384", "PS512"}, id="A14-rsa"),
        pytest.param("P-521", {"ES512"}, id="A14-p-521"),
        pytest.param("ed25519", {"EdDSA"}, id="A14-ed25519"),
    ],
)
def test_jwk_without_alg_takes_the_issuers_algorithms_that_fit(name, fitting):
    keys = parse_jwks(jwks(jwk(name, kid="k")), SUPPORTED_ALGORITHMS - {"RS512"})

    assert keys.find("k", min(fitting)).algorithms == fitting


@pytest.mark.parametrize(
    ("alg", "name"),
    [
        *[pytest.param(alg, "rsa", id=alg) for alg in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")],
        pytest.param("ES256", "P-256", id="ES256"),
        pytest.param("ES384", "P-384", id="ES384"),
        pytest.param("ES512", "P-521", id="ES512"),
        pytest.param("EdDSA", "ed25519", id="EdDSA"),
    ],
)
def test_each_supported_algorithm_has_a_key_that_fits(alg, name):
    keys = parse_jwks(jwks(jwk(name, kid="k", alg=alg)), SUPPORTED_ALGORITHMS)

    assert keys.find("k", alg).algorithms == {alg}


def rsa_public_key(bits):
    return RSAPublicNumbers(e=65537, n=2 ** (bits - 1) + 1).public_key()


@pytest.mark.parametrize("bits", [2048, 8192])
def test_rsa_key_at_a_limit_of_its_size_is_taken(bits):
    assert VerificationKey("k", frozenset({"RS256"}), rsa_public_key(bits)).key.key_size == bits


@pytest.mark.parametrize("bits", [pytest.param(bits, id=f"R43-rsa-{bits}") for bits in (2047, 8193)])
def test_rsa_key_beyond_a_limit_of_its_size_cannot_exist(bits):
    with pytest.raises(KeyDocumentError):
        VerificationKey("k", frozenset({"RS256"}), rsa_public_key(bits))


@pytest.mark.parametrize(
    ("parse", "document"),
    [
        pytest.param(parse_jwks, jwks(GOOD).ljust(MAX_DOCUMENT_BYTES), id="jwks"),
        pytest.param(parse_pem, pem("rsa").ljust(MAX_DOCUMENT_BYTES, b"\n"), id="pem"),
    ],
)
def test_a_document_is_read_up_to_its_limit(parse, document):
    assert len(parse(document, ALGORITHMS).keys) == 1
    with pytest.raises(KeyDocumentError, match="longer than"):
        parse(document + b"\n", ALGORITHMS)


def test_declared_alg_binds_the_key():  # R25
    keys = parse_jwks(jwks(jwk("rsa", kid="r", alg="RS256")), SUPPORTED_ALGORITHMS)

    with pytest.raises(PermitRejected) as caught:
        keys.find("r", "PS256")
    assert caught.value.reason is Reason.ALG_NOT_ALLOWED


def test_token_without_kid_is_served_by_an_only_key_where_the_issuer_allows_it():  # A07
    keys = parse_jwks(jwks(GOOD), ALGORITHMS)

    assert keys.with_rule(kid_optional=True).find(None, "ES256").kid == "good"


@pytest.mark.parametrize(
    ("entries", "kid_optional", "kid"),
    [
        pytest.param([GOOD], False, None, id="R35-kid-required"),
        pytest.param([GOOD, jwk("rsa", kid="r")], True, None, id="R35-two-keys"),
        pytest.param([GOOD], True, "other", id="R37-kid-unknown-beside-a-named-key"),
        pytest.param([jwk("P-256")], False, "other", id="R37-unnamed-key"),
    ],
)
def test_key_is_never_guessed(entries, kid_optional, kid):
    keys = parse_jwks(jwks(*entries), ALGORITHMS).with_rule(kid_optional=kid_optional)

    with pytest.raises(PermitRejected) as caught:
        keys.find(kid, "ES256")
    assert caught.value.reason is Reason.KEY_UNKNOWN


def test_only_unnamed_key_serves_any_kid_where_the_kid_is_optional():
    keys = parse_pem(pem("P-256"), ALGORITHMS).with_rule(kid_optional=True)

    assert keys.find("whatever", "ES256").key == public_key("P-256")


def test_pem_key_can_be_given_a_kid():
    assert parse_pem(pem("rsa"), ALGORITHMS, kid="r").find("r", "RS256").algorithms == {"RS256"}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(der("rsa"), id="der"),
        pytest.param(pem("rsa") + pem("P-256"), id="two-blocks"),
        pytest.param(pem("rsa").replace(b"M", b"?"), id="damaged"),
        pytest.param(pem("rsa-1024"), id="R43-rsa-1024"),
        pytest.param(
            public_key("rsa").public_bytes(Encoding.PEM, PublicFormat.PKCS1), id="R42-another-form-of-key"
        ),
        pytest.param(pem("P-384"), id="R43-curve-without-algorithm"),
        pytest.param(
            private_key("rsa").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            id="R42-private-key",
        ),
    ],
)
def test_other_pem_is_an_error(data):
    with pytest.raises(KeyDocumentError):
        parse_pem(data, ALGORITHMS)


@pytest.mark.parametrize(
    "secret",
    [
        pytest.param(b"", id="R23-empty"),
        pytest.param(b"x" * 31, id="R23-short"),
        pytest.param(pem("rsa"), id="R23-public-pem"),
        pytest.param(der("rsa"), id="R23-public-der"),
        pytest.param(b'{"kty":"RSA","n":"0123456789abcdef"}', id="R23-jwk"),
    ],
)
def test_secret_that_is_short_or_public_is_refused(secret):
    with pytest.raises(KeyDocumentError):
        symmetric_keys(secret)


@pytest.mark.parametrize(
    ("algorithms", "key"),
    [
        pytest.param({"HS256"}, public_key("rsa"), id="R25-secret-algorithm-on-rsa"),
        pytest.param({"RS256", "ES256"}, public_key("rsa"), id="R25-two-families"),
        pytest.param({"ES256"}, public_key("P-384"), id="R43-curve"),
        pytest.param({"RS256"}, b"x" * 32, id="R25-rsa-on-secret"),
        pytest.param({"HS256", "RS256"}, b"x" * 32, id="R44-secret-for-both-families"),
        pytest.param(set(), public_key("rsa"), id="none"),
    ],
)
def test_key_with_algorithms_that_do_not_fit_cannot_exist(algorithms, key):
    with pytest.raises(KeyDocumentError):
        VerificationKey("k", frozenset(algorithms), key)


def test_key_set_demands_a_kid_by_default():  # R35
    keys = KeySet((VerificationKey("k", frozenset({"ES256"}), public_key("P-256")),))

    with pytest.raises(PermitRejected) as caught:
        keys.find(None, "ES256")
    assert caught.value.reason is Reason.KEY_UNKNOWN


def test_key_set_without_a_key_cannot_exist():
    with pytest.raises(KeyDocumentError):
        KeySet(())


def test_key_set_with_one_kid_twice_cannot_exist():  # R40
    key = VerificationKey("k", frozenset({"ES256"}), public_key("P-256"))

    with pytest.raises(KeyDocumentError):
        KeySet((key, key))


def test_secret_of_32_bytes_is_long_enough():
    assert symmetric_keys(b"x" * 32, kid="hs").find("hs", "HS256").key == b"x" * 32


def test_secret_is_not_in_the_representation():
    assert "sesame" not in repr(symmetric_keys(b"open-sesame" * 4))
