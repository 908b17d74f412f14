"""What a permit narrows or binds beyond its endpoints, held by a real proxy."""

from __future__ import annotations

import hashlib
import json
import time

import openai
import pytest
from fleet import PATHS, Fleet

from litellm_plugin.testing import TEST_MASTER_KEY, Fault

pytestmark = pytest.mark.proxy

REVOKED = {"jti": ["revoked-jti"], "kid": ["revoked-kid"], "policy_versions": ["41"]}
KEY_HASH = hashlib.sha256(TEST_MASTER_KEY.encode()).hexdigest()


@pytest.fixture(scope="module")
def narrow(valkey):
    """Single use over a real Valkey, a request-id header, revocations, and regions."""
    permit = {"binding": "single_use", "request_id_header": "x-request-id", "revoked": REVOKED}
    with Fleet(policy={"permit": permit}, env={"PERMIT_ROUTER_REDIS_URL": valkey.url}) as fleet:
        yield fleet.ready()


@pytest.fixture
def fleet(narrow):
    narrow.clear()
    yield narrow
    assert narrow.out_of_set() == []


def send(fleet, endpoints=("eu-a",), *, request_id="r-1", model="gpt", key=None, **claims):
    headers = {"x-request-id": request_id}
    if key is not None:
        headers["x-litellm-api-key"] = key
    return fleet.send("chat", endpoints, model=model, headers=headers, permit={"request_id": "r-1", **claims})


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        pytest.param({}, None, id="plain"),
        pytest.param({"request_id": "other"}, "claim_mismatch", id="R63-another-request-id"),
        pytest.param({"models": ["gpt", "other"]}, None, id="R64-model-named"),
        pytest.param({"models": ["claude"]}, "claim_mismatch", id="R64-model-not-named"),
        pytest.param({"api_key_hash": KEY_HASH}, None, id="R72-its-key"),
        pytest.param({"api_key_hash": "0" * 64}, "claim_mismatch", id="R72-another-key"),
        pytest.param({"api_key_hash": KEY_HASH, "key": "sk-second"}, "claim_mismatch", id="R72-two-keys"),
        pytest.param({"jti": "revoked-jti"}, "revoked", id="R71-jti"),
        pytest.param({"policy_version": "41"}, "policy_stale", id="R71-policy-version"),
        pytest.param({"regions": ["eu-west"]}, "not_eligible", id="undeclared-region"),
        pytest.param({"max_cost_usd": 1.0}, None, id="below-the-cap"),
        pytest.param({"max_cost_usd": 0.000001}, "not_eligible", id="above-the-cap"),
    ],
)
def test_a_permit_that_says_more_allows_less(fleet, request_, code):
    answer = send(fleet, **request_)

    if code is None:
        assert answer.status_code == 200, answer.text
        assert fleet.calls() == {"eu-a": 1}
    else:
        assert answer.json()["error"]["code"] == code, answer.text
        assert fleet.calls() == {}


class TestSingleUse:
    def bound(self, fleet, *, body_text="once"):
        mark, body = fleet.body("chat")
        body["messages"][0]["content"] += f" {body_text}"
        fleet.ledger.allow(mark, ["eu-a"])
        raw = json.dumps(body).encode()
        return raw, fleet.issuer.mint(["eu-a"], body=raw, request_id="r-1")

    def post(self, fleet, raw, token):
        return fleet.post(PATHS["chat"], raw, {"x-llm-permit": token, "x-request-id": "r-1"})

    def test_an_answered_permit_is_not_served_again(self, fleet):  # R68
        raw, token = self.bound(fleet)

        assert self.post(fleet, raw, token).status_code == 200
        again = self.post(fleet, raw, token)

        assert (again.status_code, again.json()["error"]["code"]) == (401, "replayed")
        assert fleet.calls() == {"eu-a": 1}

    def test_a_failed_request_may_be_sent_again_twice(self, fleet):  # R68
        raw, token = self.bound(fleet)
        fleet.providers["eu-a"].always(Fault.status(500))

        codes = [self.post(fleet, raw, token).json()["error"]["code"] for _ in range(4)]

        assert codes == ["chain_exhausted", "chain_exhausted", "chain_exhausted", "replayed"]

    def test_the_clients_own_retries_see_the_real_error(self, fleet):  # A12
        fleet.providers["eu-a"].always(Fault.status(500))
        request = {"model": "gpt", "messages": [{"role": "user", "content": "retry me"}]}
        with openai.OpenAI(api_key="k", base_url=f"{fleet.urls['us-a']}/v1") as client:
            client.chat.completions.create(**request)
        raw = fleet.providers["us-a"].requests[-1].body
        fleet.providers["us-a"].clear()
        headers = {
            "x-llm-permit": fleet.issuer.mint(["eu-a"], body=raw, request_id="r-1"),
            "x-request-id": "r-1",
        }
        with (
            openai.OpenAI(
                api_key=fleet.proxy.master_key,
                base_url=f"{fleet.proxy.url}/v1",
                default_headers=headers,
                max_retries=2,
            ) as client,
            pytest.raises(openai.InternalServerError) as caught,
        ):
            client.chat.completions.create(**request)

        assert caught.value.code == "chain_exhausted"
        assert fleet.calls() == {"eu-a": 3}
        fleet.providers["eu-a"].clear()


def test_a_permit_that_expires_between_attempts_stops_the_chain(shared_fleet):  # C35
    shared_fleet.clear()
    shared_fleet.providers["us-b"].latency_s = 9.0
    shared_fleet.providers["us-b"].always(Fault.status(500))
    now = int(time.time())
    try:
        answer = shared_fleet.send("chat", ["us-a", "us-b"], permit={"iat": now, "exp": now + 2})
    finally:
        shared_fleet.providers["us-b"].latency_s = 0.0

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "expired")
    assert shared_fleet.calls() == {"us-b": 1}


def test_a_permit_that_expires_during_a_stream_does_not_cut_it(shared_fleet):  # C35
    shared_fleet.clear()
    provider = shared_fleet.providers["eu-a"]
    provider.answer = "one two three four five six"
    provider.always(Fault.drip(1.2))
    now = int(time.time())
    try:
        answer = shared_fleet.send("chat", ["eu-a"], stream=True, permit={"iat": now, "exp": now + 1})
    finally:
        provider.answer = "answer from eu-a"

    assert answer.status_code == 200
    assert "six" in answer.text
    assert "[DONE]" in answer.text
    assert answer.elapsed.total_seconds() > 6
