import base64
import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st
from permit_signing import (
    ALGORITHMS,
    KEY_FOR,
    as_bytes,
    claims,
    der,
    encode,
    header,
    jwk,
    key_set,
    pem,
    private_key,
    rsa_key,
    signed,
    untimed,
)

from litellm_plugin.errors import PermitRejected, Reason
from litellm_plugin.permit import (
    SUPPORTED_ALGORITHMS,
    KeySet,
    VerificationKey,
    symmetric_keys,
    verify_compact,
)

PAYLOAD = as_bytes(claims())
TOKENS = {alg: signed(header(alg), PAYLOAD, private_key(KEY_FOR[alg]), alg) for alg in ALGORITHMS}


def rejection(token, keys=None, algorithms=ALGORITHMS):
    with pytest.raises(PermitRejected) as caught:
        verify_compact(token, keys or key_set(), algorithms)
    return caught.value.reason


def signature_of(token):
    segment = token.rpartition(".")[2]
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def hs_token(secret, alg="HS256"):
    digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}[alg]
    signing_input = f"{encode(as_bytes(header(alg, kid='rsa-1')))}.{encode(PAYLOAD)}"
    return f"{signing_input}.{encode(hmac.new(secret, signing_input.encode(), digest).digest())}"


@pytest.mark.parametrize("alg", [pytest.param(alg, id=f"A01-{alg}") for alg in sorted(ALGORITHMS)])
def test_signed_payload_is_returned(alg):
    assert verify_compact(TOKENS[alg], key_set(), ALGORITHMS) == PAYLOAD


def test_payload_need_not_be_json():
    token = signed(header(), b"\xff\x00", private_key("P-256"), "ES256")

    assert verify_compact(token, key_set(), ALGORITHMS) == b"\xff\x00"


@pytest.mark.parametrize("alg", sorted(SUPPORTED_ALGORITHMS))
def test_every_supported_algorithm_verifies(alg):
    name = {"E": {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}.get(alg, "ed25519")}.get(
        alg[0], "rsa"
    )
    keys = KeySet((VerificationKey("k", frozenset({alg}), private_key(name).public_key()),))

    token = signed(header(alg, kid="k"), PAYLOAD, private_key(name), alg)

    assert verify_compact(token, keys, SUPPORTED_ALGORITHMS) == PAYLOAD


def test_symmetric_issuer_verifies_hs256():
    secret = b"s" * 32

    keys = symmetric_keys(secret, kid="rsa-1")

    assert verify_compact(hs_token(secret), keys, frozenset({"HS256"})) == PAYLOAD


@pytest.mark.parametrize("bits", [pytest.param(4096, id="A11-rsa-4096")])
def test_long_rsa_signature_is_accepted(bits):
    key = rsa_key(bits)
    keys = KeySet((VerificationKey("k", frozenset({"RS256"}), key.public_key()),))

    assert (
        verify_compact(signed(header("RS256", kid="k"), PAYLOAD, key, "RS256"), keys, ALGORITHMS) == PAYLOAD
    )


@pytest.mark.parametrize("first", [pytest.param(0, id="A11-leading-zero-byte")])
def test_signature_with_leading_zero_byte_is_accepted(first):
    tokens = (signed(header(), b"%d" % number, private_key("P-256"), "ES256") for number in range(5_000))
    token = next(token for token in tokens if signature_of(token)[0] == first)  # every 256th r, on average

    verify_compact(token, key_set(), ALGORITHMS)


@pytest.mark.parametrize(
    "alg",
    [
        *[pytest.param(alg, id=f"R21-{alg}") for alg in ("none", "None", "NONE", "nOnE")],
        *[pytest.param(alg, id=f"R22-{alg}") for alg in ("es256", "ES256 ", "Es256")],
        *[pytest.param(alg, id=f"R24-{alg}") for alg in ("ES256K", "RS1", "PS256", "ES384", "ES521", "")],
    ],
)
def test_alg_outside_the_list_is_not_allowed(alg):
    _, payload, signature = TOKENS["ES256"].split(".")

    token = f"{encode(as_bytes(header(alg)))}.{payload}.{signature}"

    assert rejection(token) is Reason.ALG_NOT_ALLOWED
    assert rejection(token, algorithms=frozenset({alg})) is Reason.ALG_NOT_ALLOWED


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize(
    "secret",
    [
        pytest.param(pem("rsa"), id="R23-hs-with-public-pem"),
        pytest.param(pem("rsa").strip(), id="R23-hs-with-public-pem-stripped"),
        pytest.param(der("rsa"), id="R23-hs-with-public-der"),
        pytest.param(as_bytes(jwk("rsa")), id="R23-hs-with-jwk"),
        pytest.param(jwk("rsa")["n"].encode(), id="R23-hs-with-modulus"),
        pytest.param(b"", id="R23-hs-with-empty"),
        pytest.param(b"\0", id="R23-hs-with-nul"),
        pytest.param(b"rsa-1", id="R23-hs-with-kid"),
        pytest.param(b"secret", id="R23-hs-with-guess"),
    ],
)
def test_public_key_is_no_secret(alg, secret):
    token = hs_token(secret, alg)

    assert rejection(token) is Reason.ALG_NOT_ALLOWED
    assert rejection(token, algorithms=ALGORITHMS | {alg}) is Reason.ALG_NOT_ALLOWED


@pytest.mark.parametrize(
    ("alg", "kid", "key"),
    [
        pytest.param("RS256", "ec-1", "rsa", id="R25-rs256-on-ec-key"),
        pytest.param("ES256", "rsa-1", "P-256", id="R25-es256-on-rsa-key"),
        pytest.param("EdDSA", "ec-1", "ed25519", id="R25-eddsa-on-ec-key"),
    ],
)
def test_alg_of_another_key_is_not_allowed(alg, kid, key):
    assert rejection(signed(header(alg, kid=kid), PAYLOAD, private_key(key), alg)) is Reason.ALG_NOT_ALLOWED


@pytest.mark.parametrize("kid", [pytest.param(..., id="R35-absent"), pytest.param("other", id="R37-unknown")])
def test_unknown_key_is_refused(kid):
    token = signed(header(kid=kid), PAYLOAD, private_key("P-256"), "ES256")

    assert rejection(token) is Reason.KEY_UNKNOWN


@pytest.mark.parametrize("alg", [pytest.param(alg, id=f"R45-{alg}") for alg in sorted(ALGORITHMS)])
def test_signature_of_another_permit_is_invalid(alg):
    other = signed(header(alg), claims(jti="other"), private_key(KEY_FOR[alg]), alg)
    signing_input = TOKENS[alg].rpartition(".")[0]

    assert rejection(f"{signing_input}.{other.rpartition('.')[2]}") is Reason.SIGNATURE_INVALID


def token_of(length):
    """A signed token of exactly so many characters."""
    for pad in range(8):
        head = {"alg": "EdDSA", "kid": "ed-1", "typ": "x" * pad}
        rest = length - len(signed(head, b"", private_key("ed25519"), "EdDSA"))
        if rest % 4 != 1:
            return signed(head, b"x" * (rest * 3 // 4), private_key("ed25519"), "EdDSA")
    raise AssertionError


def test_token_at_the_default_limit_is_looked_at():  # A08
    token = token_of(16_384)

    assert len(token) == 16_384
    assert set(verify_compact(token, key_set(), ALGORITHMS)) == set(b"x")


def test_token_beyond_the_default_limit_is_malformed():  # R06
    token = token_of(16_385)

    assert len(token) == 16_385
    assert rejection(token) is Reason.PERMIT_MALFORMED


def der_signature(token):
    signing_input = token.rpartition(".")[0]
    return private_key("P-256").sign(signing_input.encode(), ec.ECDSA(SHA256()))


@pytest.mark.parametrize("alg", sorted(ALGORITHMS))
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda signature: signature[:-1] + bytes([signature[-1] ^ 1]), id="R45-last-bit"),
        pytest.param(lambda signature: signature[:-1], id="R45-truncated"),
        pytest.param(lambda signature: signature + b"\0", id="R45-extended"),
        pytest.param(lambda signature: b"\0" + signature, id="R45-extended-in-front"),
        pytest.param(lambda signature: bytes(len(signature)), id="R45-all-zero"),
        pytest.param(lambda signature: b"\0", id="R45-one-byte"),
        pytest.param(lambda signature: der_signature(TOKENS["ES256"]), id="R45-der"),
    ],
)
def test_changed_signature_is_invalid(alg, change):
    signing_input = TOKENS[alg].rpartition(".")[0]

    assert (
        rejection(f"{signing_input}.{encode(change(signature_of(TOKENS[alg])))}") is Reason.SIGNATURE_INVALID
    )


@pytest.mark.parametrize(
    ("position", "segment"),
    [
        pytest.param(0, as_bytes(header(typ="JWT")), id="R47-header-changed"),
        pytest.param(1, as_bytes(claims(jti="other")), id="R46-payload-of-another-permit"),
        pytest.param(1, PAYLOAD.replace(b"pro", b"Pro"), id="R46-payload-byte-changed"),
        pytest.param(1, PAYLOAD + b" ", id="R46-payload-byte-added"),
    ],
)
def test_what_changed_after_signing_is_invalid(position, segment):
    segments = TOKENS["ES256"].split(".")
    segments[position] = encode(segment)

    assert rejection(".".join(segments)) is Reason.SIGNATURE_INVALID


@untimed
@given(alg=st.sampled_from(sorted(ALGORITHMS)), data=st.data())
def test_flipping_any_bit_is_rejected(alg, data):  # P3
    token = TOKENS[alg].encode()
    position = data.draw(st.integers(0, len(token) * 8 - 1))
    changed = bytearray(token)
    changed[position // 8] ^= 1 << (position % 8)

    rejection(changed.decode("latin-1"))


@untimed
@given(st.one_of(st.text(), st.text(alphabet="AQe30fyJ-_."), st.from_regex(r"[\w-]*\.[\w-]*\.[\w-]*")))
def test_arbitrary_text_is_only_ever_rejected(text):  # P4
    rejection(text)
