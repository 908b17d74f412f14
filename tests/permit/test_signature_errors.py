from unittest.mock import create_autospec

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from permit_signing import permit_token

from litellm_plugin.errors import PermitRejected, Reason
from litellm_plugin.permit import KeySet, VerificationKey, verify_compact

EDDSA = frozenset({"EdDSA"})


def test_whatever_a_cryptographic_library_raises_the_signature_is_invalid():
    key = create_autospec(Ed25519PublicKey, instance=True)
    key.verify.side_effect = OverflowError("foreign")

    with pytest.raises(PermitRejected) as caught:
        verify_compact(permit_token("EdDSA"), KeySet((VerificationKey("ed-1", EDDSA, key),)), EDDSA)

    assert caught.value.reason is Reason.SIGNATURE_INVALID
