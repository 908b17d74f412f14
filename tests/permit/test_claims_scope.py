import pytest
from permit_signing import NOW, permit_token, verifier

CLAIMS = {
    "request_id": "request-7",
    "policy_version": "43",
    "data_classification": "phi",
    "tenant": "globex",
    "tenant_tier": "free",
    "latency_class": "batch",
    "max_cost_usd": 0.5,
}


def scope():
    permit = verifier().verify(permit_token(regions=["eu"], **CLAIMS), NOW, 0.0)
    return permit.scope(requirements=frozenset({"hipaa"}))


@pytest.mark.parametrize(("name", "value"), CLAIMS.items(), ids=CLAIMS)
def test_routing_sees_the_claim_as_it_was_signed(name, value):
    assert getattr(scope(), name) == value


def test_routing_sees_what_narrows_the_choice():
    seen = scope()

    assert seen.endpoints == {"azure-eu-gpt4o", "local-llama"}
    assert seen.regions == {"eu"}
    assert seen.requirements == {"hipaa"}
