import pytest
from permit_signing import KEY_FOR, NOW, claims, header, private_key, signed, verifier

from litellm_plugin.errors import PermitRejected, Reason
from litellm_plugin.permit import ClaimPath, TokenLayout


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        pytest.param("authorized_endpoints", Reason.ENDPOINTS_INVALID, id="endpoints"),
        pytest.param("models", Reason.CLAIM_INVALID, id="models"),
        pytest.param("regions", Reason.CLAIM_INVALID, id="regions"),
        pytest.param("preferences", Reason.CLAIM_INVALID, id="preferences"),
    ],
)
def test_a_list_where_a_text_is_split_is_refused_with_the_reason_of_its_claim(name, reason):
    layout = TokenLayout(claims={name: ClaimPath((name,), split=" ")})
    token = signed(header(), claims(**{name: ["local-llama"]}), private_key(KEY_FOR["ES256"]), "ES256")

    with pytest.raises(PermitRejected) as caught:
        verifier(layout=layout).verify(token, NOW, 0.0)

    assert (caught.value.reason, caught.value.detail) == (reason, name)
