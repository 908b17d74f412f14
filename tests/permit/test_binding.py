import pytest
from permit_signing import BODY_SHA256, NOW, permit_token, verifier

from litellm_plugin.errors import PermitRejected, Reason
from litellm_plugin.permit import check_body


def permit(**members):
    return verifier().verify(permit_token(**members), NOW, 0.0)


@pytest.mark.parametrize("required", [True, False])
def test_body_of_the_permit_is_accepted(required):
    check_body(permit(body_sha256=BODY_SHA256), BODY_SHA256, required=required)


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("digest", ["1f" * 32, "", "é", BODY_SHA256.upper()])
def test_other_body_is_refused_even_where_binding_is_not_required(required, digest):
    with pytest.raises(PermitRejected) as caught:
        check_body(permit(body_sha256=BODY_SHA256), digest, required=required)
    assert caught.value.reason is Reason.BINDING_MISMATCH


def test_unbound_permit_is_refused_where_binding_is_required():
    with pytest.raises(PermitRejected) as caught:
        check_body(permit(), BODY_SHA256, required=True)
    assert caught.value.reason is Reason.BINDING_MISMATCH


def test_unbound_permit_is_accepted_where_binding_is_not_required():
    check_body(permit(), BODY_SHA256, required=False)
