import hashlib

import pytest
from permit_signing import NOW, permit_token, verifier

from litellm_plugin.errors import PermitRejected, Reason
from litellm_plugin.permit import check_api_key, check_model, check_request_id, check_tenant

KEY = "sk-litellm-1"
KEY_HASH = hashlib.sha256(KEY.encode()).hexdigest()


def permit(**members):
    return verifier().verify(permit_token(**members), NOW, 0.0)


@pytest.mark.parametrize(
    ("check", "value", "members"),
    [
        pytest.param(check_model, "gpt-4o", {}, id="any-model"),
        pytest.param(check_model, "gpt-4o", {"models": ["other", "gpt-4o"]}, id="listed-model"),
        pytest.param(check_api_key, KEY, {}, id="any-key"),
        pytest.param(check_api_key, None, {}, id="no-key-and-no-claim"),
        pytest.param(check_api_key, KEY, {"api_key_hash": KEY_HASH}, id="key-of-the-permit"),
        pytest.param(check_tenant, "acme", {}, id="tenant-of-the-team"),
        pytest.param(check_request_id, "request-1", {}, id="request-of-the-permit"),
    ],
)
def test_request_of_the_permit_is_accepted(check, value, members):
    check(permit(**members), value)


@pytest.mark.parametrize(
    ("check", "value", "members", "claim"),
    [
        *[
            pytest.param(check_model, model, {"models": ["gpt-4o"]}, "models", id=f"{case}-{model!r}")
            for case, model in (
                ("R64-other-model", "gpt-4"),
                ("R64-longer-name", "gpt-4o-mini"),
                ("R64-case", "GPT-4o"),
                ("R64-space", "gpt-4o "),
                ("R64-empty", ""),
                ("R64-deployment-id", "azure-eu-gpt4o"),
            )
        ],
        pytest.param(
            check_api_key, "sk-litellm-2", {"api_key_hash": KEY_HASH}, "api_key_hash", id="R72-other-key"
        ),
        pytest.param(check_api_key, None, {"api_key_hash": KEY_HASH}, "api_key_hash", id="R72-no-key"),
        pytest.param(
            check_api_key,
            "",
            {"api_key_hash": hashlib.sha256(b"").hexdigest()},
            "api_key_hash",
            id="R72-hash-of-nothing",
        ),
        pytest.param(
            check_api_key, KEY_HASH, {"api_key_hash": KEY_HASH}, "api_key_hash", id="R72-hash-instead-of-key"
        ),
        pytest.param(
            check_api_key, "\ud800", {"api_key_hash": KEY_HASH}, "api_key_hash", id="R72-key-is-no-text"
        ),
        pytest.param(check_tenant, "globex", {}, "tenant", id="R65-other-team"),
        pytest.param(check_tenant, "globex", {"tenant": "acme"}, "tenant", id="R72-key-of-another-tenant"),
        pytest.param(check_tenant, "ACME", {}, "tenant", id="R65-case"),
        pytest.param(check_tenant, "", {}, "tenant", id="R65-empty-team"),
        pytest.param(check_tenant, None, {}, "tenant", id="R65-no-team"),
        pytest.param(check_request_id, "request-2", {}, "request_id", id="R63-other-request"),
        pytest.param(check_request_id, "request-1 ", {}, "request_id", id="R63-space"),
        pytest.param(check_request_id, "", {}, "request_id", id="R63-empty-header"),
        pytest.param(check_request_id, None, {}, "request_id", id="R63-no-header"),
    ],
)
def test_other_request_is_a_mismatch(check, value, members, claim):
    with pytest.raises(PermitRejected) as caught:
        check(permit(**members), value)
    assert (caught.value.reason, caught.value.detail) == (Reason.CLAIM_MISMATCH, claim)
