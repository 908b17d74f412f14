import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from permit_signing import (
    ALGORITHMS,
    KEY_FOR,
    NOW,
    claims,
    header,
    jwk,
    jwks,
    private_key,
    public_key,
    signed,
    verifier,
)

from litellm_plugin.errors import PermitRejected, Reason
from litellm_plugin.permit import KeyDocumentError, KeySet, StaticKeys, VerificationKey, parse_jwks


@pytest.mark.parametrize("use", ["", "enc", "sign", "tls", "zip", "SIG", "sig ", None, 1, ["sig"]])
def test_a_key_for_another_use_is_left_out(use):
    with pytest.raises(KeyDocumentError):
        parse_jwks(jwks(jwk("P-256", kid="ec", use=use)), ALGORITHMS)


@pytest.mark.parametrize("exponent", [3, 17, 65_535, 65_539, 2**32 + 1])
def test_an_rsa_key_of_another_exponent_cannot_exist(exponent):
    key = rsa.RSAPublicNumbers(exponent, public_key("rsa").public_numbers().n).public_key()

    with pytest.raises(KeyDocumentError):
        VerificationKey("k", frozenset({"RS256"}), key)


def test_a_token_without_kid_is_refused_by_an_issuer_that_demands_one_whatever_its_keys_say():  # R35
    only = VerificationKey("ec-1", frozenset({"ES256"}), public_key("P-256"))
    source = StaticKeys(KeySet((only,), kid_optional=True))
    token = signed(header(kid=...), claims(), private_key(KEY_FOR["ES256"]), "ES256")
    assert verifier(keys=source, kid_optional=True).verify(token, NOW, 0.0).kid == "ec-1"

    with pytest.raises(PermitRejected) as caught:
        verifier(keys=source, kid_optional=False).verify(token, NOW, 0.0)

    assert caught.value.reason is Reason.KEY_UNKNOWN
