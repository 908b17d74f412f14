"""Denials: typed, at once, on every governed call type, with nothing sent."""

from __future__ import annotations

import json
import time

import anthropic
import openai
import pytest
from fleet import CALLS, PATHS

from litellm_plugin.testing import PermitIssuer, marker

pytestmark = pytest.mark.proxy


def forged(fleet, raw):
    """An attacker's permit: the trusted issuer's name and kid, another key."""
    attacker = PermitIssuer(issuer=fleet.issuer.issuer)
    return attacker.mint(["eu-a", "claude-eu"], body=raw, headers={"kid": fleet.issuer.kid})


def endpoint_for(call):
    return ["claude-eu"] if call == "messages" else ["eu-a"]


BAD_PERMITS = [
    pytest.param(lambda fleet, raw: [], "permit_missing", id="R01-missing"),
    pytest.param(lambda fleet, raw: [("x-llm-permit", "")], "permit_missing", id="R02-empty"),
    pytest.param(
        lambda fleet, raw: [("x-llm-permit", fleet.issuer.mint(["eu-a"], body=raw))] * 2,
        "permit_malformed",
        id="R03-two-headers",
    ),
    pytest.param(lambda fleet, raw: [("x-llm-permit", "a.b")], "permit_malformed", id="R09-two-segments"),
    pytest.param(
        lambda fleet, raw: [("x-llm-permit", fleet.issuer.mint(["eu-a"], body=raw, headers={"alg": "none"}))],
        "alg_not_allowed",
        id="R21-none",
    ),
    pytest.param(
        lambda fleet, raw: [
            ("x-llm-permit", fleet.issuer.mint(["eu-a"], body=raw, headers={"kid": "other"}))
        ],
        "key_unknown",
        id="R37-unknown-kid",
    ),
    pytest.param(
        lambda fleet, raw: [("x-llm-permit", forged(fleet, raw))], "signature_invalid", id="R45-forged"
    ),
    pytest.param(
        lambda fleet, raw: [
            (
                "x-llm-permit",
                fleet.issuer.mint(["eu-a"], body=raw, iat=int(time.time()) - 100, exp=int(time.time()) - 40),
            )
        ],
        "expired",
        id="R50-expired",
    ),
    pytest.param(
        lambda fleet, raw: [
            ("x-llm-permit", fleet.issuer.mint(["eu-a"], body=raw, iss="https://other.test"))
        ],
        "iss_mismatch",
        id="R55-issuer",
    ),
    pytest.param(
        lambda fleet, raw: [("x-llm-permit", fleet.issuer.mint(["eu-a"], body=raw, aud="other"))],
        "aud_mismatch",
        id="R56-audience",
    ),
    pytest.param(
        lambda fleet, raw: [("x-llm-permit", fleet.issuer.mint(["*"], body=raw))],
        "endpoints_invalid",
        id="R60-star",
    ),
    pytest.param(
        lambda fleet, raw: [
            ("x-llm-permit", fleet.issuer.mint(["eu-a"], body=raw, data_classification="top-secret"))
        ],
        "claim_invalid",
        id="R66-classification",
    ),
    pytest.param(
        lambda fleet, raw: [("x-llm-permit", fleet.issuer.mint(["eu-a"], body=raw + b" "))],
        "binding_mismatch",
        id="other-body",
    ),
    pytest.param(
        lambda fleet, raw: [("x-llm-permit", fleet.issuer.mint(["eu-a"]))],
        "binding_mismatch",
        id="no-binding",
    ),
]


@pytest.mark.parametrize(("headers", "reason"), BAD_PERMITS)
def test_a_bad_permit_is_401_with_its_reason_and_nothing_is_sent(fleet, headers, reason):
    _, body = fleet.body("chat")
    raw = json.dumps(body).encode()

    answer = fleet.post(PATHS["chat"], raw, headers(fleet, raw))

    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (401, "permit_error", reason)
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["x-permit-reason"] == reason
    assert fleet.calls() == {}
    (record,) = [r for r in fleet.records() if r["decision_id"] == error["decision_id"]]
    assert (record["outcome"], record["reason"]) == ("denied", reason)


@pytest.mark.parametrize("call", CALLS)
def test_a_forged_permit_is_401_on_every_call_type(fleet, call):
    _, body = fleet.body(call)
    raw = json.dumps(body).encode()

    answer = fleet.post(PATHS[call], raw, {"x-llm-permit": forged(fleet, raw)})

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "signature_invalid")
    assert fleet.calls() == {}


@pytest.mark.parametrize("place", ["body", "metadata", "query"])
def test_a_permit_in_another_place_counts_as_missing(fleet, place):  # R04
    _, body = fleet.body("chat")
    token = fleet.issuer.mint(["eu-a"])
    if place != "query":
        body |= {"x-llm-permit": token} if place == "body" else {"metadata": {"x-llm-permit": token}}
    path = PATHS["chat"] + (f"?x-llm-permit={token}" if place == "query" else "")

    answer = fleet.post(path, json.dumps(body).encode(), {})

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "permit_missing")
    assert fleet.calls() == {}


@pytest.mark.parametrize("call", CALLS)
def test_a_denial_names_the_gateways_decision(fleet, call):
    others = ["eu-a"] if call == "messages" else ["claude-eu"]

    answer = fleet.send(call, others, permit={"request_id": "gateway-7", "policy_version": "43"})

    document = answer.json()
    error = document["error"]
    assert answer.status_code == 403
    assert (error["request_id"], error["policy_version"]) == ("gateway-7", "43")
    assert "gateway-7" in error["message"]
    assert "43" in error["message"]
    assert answer.headers["x-permit-request-id"] == "gateway-7"
    assert document.get("type") == ("error" if call == "messages" else None)


def test_a_classification_whose_attribute_is_missing_is_refused(fleet):
    answer = fleet.send("chat", ["us-a", "us-b"], permit={"data_classification": "phi"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_eligible")
    assert "baa" in answer.json()["error"]["message"]
    assert fleet.calls() == {}


def test_a_classification_leaves_only_endpoints_that_declare_its_attribute(fleet):
    answer = fleet.send("chat", ["us-b", "eu-a"], permit={"data_classification": "phi"})

    assert answer.status_code == 200
    assert fleet.calls() == {"eu-a": 1}


def test_a_prompt_larger_than_every_authorized_window_is_refused(fleet):
    answer = fleet.send("chat", ["us-a"], messages=[{"role": "user", "content": "word " * 9_000}])

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_eligible")
    assert fleet.calls() == {}


@pytest.mark.parametrize("call", CALLS)
def test_a_body_that_is_no_json_object_sends_nothing(fleet, call):
    raw = b"[1, 2"

    answer = fleet.post(PATHS[call], raw, {"x-llm-permit": fleet.issuer.mint(endpoint_for(call), body=raw)})

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "body_invalid")
    assert fleet.calls() == {}


@pytest.mark.parametrize("messages", [[5], "hi", [{"role": "user", "content": 5}]])
def test_messages_of_no_published_shape_are_the_callers_fault(fleet, messages):
    answer = fleet.send("chat", ["eu-a", "eu-b", "us-a"], messages=messages)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "body_invalid")
    assert fleet.calls() == {}
    assert not [record for record in fleet.records_of(answer, attempts=0) if record["type"] == "attempt"]


def test_a_form_that_hides_other_text_in_a_bound_body_is_refused(fleet):
    """LiteLLM reads forms; the gateway that signed these bytes read JSON."""
    raw = b'{"model":"gpt","prompt":"innocent","user":"&model=gpt&prompt=SECRET&x="}'
    headers = {"authorization": f"Bearer {fleet.proxy.master_key}"}
    headers |= {"x-llm-permit": fleet.issuer.mint(["eu-a"], body=raw)}
    headers |= {"content-type": "application/x-www-form-urlencoded"}

    answer = fleet.client.post(PATHS["completions"], content=raw, headers=headers)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "body_invalid")
    assert fleet.calls() == {}


class TestOfficialClients:
    """The clients raise their own typed errors, without trying again."""

    def openai_client(self, fleet, headers):
        return openai.OpenAI(
            api_key=fleet.proxy.master_key,
            base_url=f"{fleet.proxy.url}/v1",
            default_headers=headers,
            max_retries=2,
        )

    def test_openai_raises_authentication_error_for_a_missing_permit(self, fleet):
        started = time.monotonic()
        with self.openai_client(fleet, {}) as client, pytest.raises(openai.AuthenticationError) as caught:
            client.chat.completions.create(model="gpt", messages=[{"role": "user", "content": "hi"}])
        assert caught.value.code == "permit_missing"
        assert time.monotonic() - started < 20
        assert fleet.calls() == {}

    @pytest.mark.parametrize("stream", [False, True])
    def test_openai_raises_permission_denied_for_an_unauthorized_group(self, fleet, stream):
        started = time.monotonic()
        request_id = f"req-{marker()}"
        request = {"model": "gpt", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
        body = openai_body(fleet, request)
        permit = fleet.issuer.mint(["claude-eu"], body=body, request_id=request_id)
        with (
            self.openai_client(fleet, {"x-llm-permit": permit}) as client,
            pytest.raises(openai.PermissionDeniedError) as caught,
        ):
            client.chat.completions.create(**request)
        assert caught.value.body["code"] == "not_authorized"
        assert time.monotonic() - started < 20
        assert sum(each["request_id"] == request_id for each in fleet.records()) == 1

    def test_anthropic_raises_permission_denied_for_an_unauthorized_group(self, fleet):
        request = {"model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
        with anthropic.Anthropic(api_key=fleet.proxy.master_key, base_url=fleet.proxy.url) as client:
            raw = anthropic_body(fleet, request)
            permit = fleet.issuer.mint(["eu-a"], body=raw)
            with pytest.raises(anthropic.PermissionDeniedError) as caught:
                client.messages.create(**request, extra_headers={"x-llm-permit": permit})
        assert caught.value.body["error"]["code"] == "not_authorized"
        assert fleet.calls() == {}

    def test_anthropic_raises_authentication_error_for_a_missing_permit(self, fleet):
        with (
            anthropic.Anthropic(api_key=fleet.proxy.master_key, base_url=fleet.proxy.url) as client,
            pytest.raises(anthropic.AuthenticationError) as caught,
        ):
            client.messages.create(model="claude", max_tokens=9, messages=[{"role": "user", "content": "hi"}])
        assert caught.value.body["error"]["code"] == "permit_missing"


def openai_body(fleet, request):
    """The bytes that the client will send, as a gateway would see them."""
    with openai.OpenAI(api_key="k", base_url=f"{fleet.urls['eu-a']}/v1") as client:
        client.chat.completions.create(**request)
    return last_body(fleet, "eu-a")


def anthropic_body(fleet, request):
    with anthropic.Anthropic(api_key="k", base_url=fleet.urls["claude-eu"]) as client:
        client.messages.create(**request)
    return last_body(fleet, "claude-eu")


def last_body(fleet, endpoint):
    body = fleet.providers[endpoint].requests[-1].body
    fleet.providers[endpoint].clear()
    return body


class TestPaths:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            pytest.param("POST", "/v1/messages/count_tokens", id="count-tokens"),
            pytest.param("POST", "/utils/token_counter?call_endpoint=true", id="token-counter"),
            pytest.param("POST", "/openai/v1/chat/completions", id="pass-through-openai"),
            pytest.param("POST", "/anthropic/v1/messages", id="pass-through-anthropic"),
            pytest.param("POST", "/vllm/v1/chat/completions", id="pass-through-vllm"),
            pytest.param("GET", "/v1/files", id="files"),
            pytest.param("POST", "/v1/batches", id="batches"),
            pytest.param("POST", "/v1/responses/input_tokens", id="response-tokens"),
            pytest.param("POST", "/v1beta/models/gpt:countTokens", id="gemini-tokens"),
            pytest.param("POST", "/v1beta/interactions", id="interactions"),
            pytest.param("POST", "/v1/videos", id="videos"),
            pytest.param("POST", "/v1/ocr", id="ocr"),
            pytest.param("GET", "/health", id="health-with-calls"),
            pytest.param("POST", "/v1/chat/completions/", id="trailing-slash"),
            pytest.param("POST", "//v1/chat/completions", id="double-slash"),
            pytest.param("POST", "/V1/chat/completions", id="case"),
            pytest.param("POST", "/v1/chat/completions;x", id="semicolon"),
            pytest.param("PUT", "/v1/chat/completions", id="put"),
            pytest.param("GET", "/nowhere", id="unknown"),
        ],
    )
    def test_every_other_path_is_refused(self, fleet, method, path):
        _, body = fleet.body("chat")
        raw = json.dumps(body).encode()
        headers = {
            "authorization": f"Bearer {fleet.proxy.master_key}",
            "x-llm-permit": fleet.issuer.mint(["eu-a"], body=raw),
            "content-type": "application/json",
        }

        answer = fleet.client.request(method, fleet.proxy.url + path, content=raw, headers=headers)

        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "path_not_permitted")
        assert fleet.calls() == {}

    @pytest.mark.parametrize("path", ["/%76%31/chat/completions", "/v1/chat%2fcompletions"])
    def test_an_encoded_spelling_of_a_governed_path_needs_a_permit(self, fleet, path):
        _, body = fleet.body("chat")

        answer = fleet.post(path, json.dumps(body).encode(), {})

        assert answer.status_code in {401, 403}
        assert answer.json()["error"]["code"] in {"permit_missing", "path_not_permitted"}
        assert fleet.calls() == {}

    def test_administrative_paths_need_no_permit(self, fleet):
        headers = {"authorization": f"Bearer {fleet.proxy.master_key}"}
        assert fleet.client.get("/v1/models", headers=headers).status_code == 200
        assert fleet.client.get("/health/readiness").status_code == 200
        assert fleet.client.get("/v1/models").status_code >= 400

    def test_a_preflight_is_answered_and_our_headers_are_exposed(self, fleet):
        origin = {"origin": "https://app.example.com"}
        preflight = fleet.client.options(
            PATHS["chat"], headers={**origin, "access-control-request-method": "POST"}
        )
        answer = fleet.send("chat", ["claude-eu"], headers=origin)

        assert preflight.status_code == 200
        assert answer.status_code == 403
        assert "x-permit-decision-id" in answer.headers["access-control-expose-headers"]
        assert answer.headers["access-control-allow-origin"]
