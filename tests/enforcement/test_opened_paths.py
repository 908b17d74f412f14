"""Opened paths: what the policy block opens, and nothing more; a pass-through is checked like its endpoint."""

from __future__ import annotations

import http.client
import json

import pytest
from fleet import Fleet, deployment

from litellm_plugin.testing import Fault, marker

pytestmark = pytest.mark.proxy

PATHS = [
    {"method": "GET", "path": "/spend/tags", "kind": "administrative"},
    {"method": "GET", "path": "/utils/supported_openai_params", "kind": "administrative"},
    {"method": "POST", "path": "/openai/{endpoint}", "endpoint": "us-a"},
    {"method": "GET", "path": "/openai/{endpoint}", "endpoint": "us-a"},
    {"method": "POST", "path": "/anthropic/{endpoint}", "endpoint": "claude-eu"},
    {"method": "POST", "path": "/vllm/{endpoint}", "endpoint": "eu-a"},
    {"method": "POST", "path": "/internal-search", "endpoint": "eu-b"},
]

# A path, the endpoint that it stands for, and what the provider sees of it.
DOORS = [
    pytest.param("/openai/v1/chat/completions", "us-a", "/v1/chat/completions", id="openai"),
    pytest.param("/anthropic/v1/messages", "claude-eu", "/v1/messages", id="anthropic"),
    pytest.param("/internal-search", "eu-b", "/v1/chat/completions", id="configured"),
    pytest.param("/vllm/chat/completions", "eu-a", "/v1/chat/completions", id="vllm-router"),
]

# What the provider answers, what the caller sees of it, and how the attempt is recorded.
FAILURES = {
    500: (503, "server_error"),
    429: (503, "rate_limited"),
    400: (400, "client_error"),
    404: (404, "client_error"),
}


class OpenedFleet(Fleet):
    def config(self):
        self.env |= {
            "OPENAI_API_BASE": self.urls["us-a"],
            "OPENAI_API_KEY": "sk-openai",
            "ANTHROPIC_API_BASE": self.urls["claude-eu"],
            "ANTHROPIC_API_KEY": "sk-anthropic",
        }
        self.policy["paths"] = PATHS
        through = {
            "path": "/internal-search",
            "target": f"{self.urls['eu-b']}/v1/chat/completions",
            "headers": {"authorization": "Bearer sk-search"},
            "forward_headers": True,
        }
        self.settings = {
            **self.settings,
            "general_settings": {
                "master_key": "os.environ/LITELLM_MASTER_KEY",
                "pass_through_endpoints": [through, {**through, "path": "/unlisted"}],
            },
        }
        config = super().config()
        files = {
            "custom_llm_provider": "openai",
            "api_base": f"{self.urls['us-b']}/v1",
            "api_key": "sk-files",
        }
        config["files_settings"] = [files]
        for name in ("us-b", "eu-a"):
            entry = deployment(self.providers[name], "local", self.urls[name], id=f"{name}-local")
            entry["litellm_params"]["model"] = "hosted_vllm/gpt-test"
            config["model_list"].append(entry)
        return config

    def through(self, path, endpoints, *, permit=None, headers=None, **extra):
        """Sends a marked chat through a pass-through."""
        mark = marker()
        self.ledger.allow(mark, endpoints)
        model = "local" if path.startswith("/vllm") else "gpt-test"
        body = {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": mark}], **extra}
        raw = json.dumps(body).encode()
        token = self.issuer.mint(endpoints, body=raw, **(permit or {}))
        return self.post(path, raw, {"x-llm-permit": token, **(headers or {})})


@pytest.fixture(scope="module")
def shared_opened():
    with OpenedFleet() as fleet:
        yield fleet.ready()


@pytest.fixture
def opened(shared_opened):
    shared_opened.clear()
    yield shared_opened
    assert shared_opened.out_of_set() == []


@pytest.fixture(scope="module")
def shared_plain():
    """The control: the same proxy with the plugin switched off."""
    with OpenedFleet(env={"PERMIT_ROUTER_ENABLED": "false"}) as fleet:
        yield fleet.ready()


@pytest.fixture
def plain(shared_plain):
    shared_plain.clear()
    return shared_plain


def records(fleet, answer):
    """The decision of an answer and its attempt."""
    decision_id = answer.headers["x-permit-decision-id"]
    fleet.wait_for(lambda: sum(r["decision_id"] == decision_id for r in fleet.records()) > 1)
    return [r for r in fleet.records() if r["decision_id"] == decision_id]


class TestPassThrough:
    @pytest.mark.parametrize(("path", "endpoint", "arrives"), DOORS)
    def test_it_serves_with_a_permit_for_its_endpoint(self, opened, path, endpoint, arrives):
        answer = opened.through(path, [endpoint])

        assert answer.status_code == 200, answer.text
        (request,) = opened.providers[endpoint].requests
        assert request.path == arrives
        assert opened.calls() == {endpoint: 1}
        assert answer.headers["x-permit-endpoint"] == endpoint
        decision, attempt = records(opened, answer)
        assert (decision["call_type"], decision["chosen"]["endpoint"]) == ("pass_through", endpoint)
        assert (attempt["endpoint"], attempt["status"]) == (endpoint, "success")

    @pytest.mark.parametrize(("path", "endpoint", "arrives"), DOORS)
    def test_a_stream_too(self, opened, path, endpoint, arrives):
        answer = opened.through(path, [endpoint], stream=True)

        assert answer.status_code == 200, answer.text
        assert "data: " in answer.text
        assert opened.calls() == {endpoint: 1}
        assert records(opened, answer)[-1]["status"] == "success"

    @pytest.mark.parametrize(("path", "endpoint", "arrives"), DOORS)
    def test_a_permit_without_its_endpoint_reaches_nobody(self, opened, path, endpoint, arrives):
        answer = opened.through(path, ["us-b", "claude-us"])

        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_authorized")
        assert opened.calls() == {}
        (decision,) = [
            r for r in opened.records() if r["decision_id"] == answer.headers["x-permit-decision-id"]
        ]
        assert (decision["call_type"], decision["chosen"]) == ("pass_through", None)

    @pytest.mark.parametrize(("path", "endpoint", "arrives"), DOORS)
    def test_without_the_plugin_it_arrives(self, plain, path, endpoint, arrives):
        for _ in range(20):
            answer = plain.through(path, ["claude-us"])
            assert answer.status_code == 200, answer.text
        assert plain.out_of_set()

    @pytest.mark.parametrize(
        "path", ["/unlisted", "/cohere/v1/chat", "/openai_passthrough/v1/chat/completions"]
    )
    def test_what_is_not_opened_is_refused(self, opened, path):
        answer = opened.through(path, ["us-a", "eu-b"])

        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "path_not_permitted")
        assert opened.calls() == {}

    def test_without_the_plugin_the_unlisted_one_arrives(self, plain):
        assert plain.through("/unlisted", ["us-a"]).status_code == 200
        assert plain.calls() == {"eu-b": 1}

    @pytest.mark.parametrize(
        "path", ["/openai/v1/batches", "/openai/v1/threads", "/anthropic/v1/messages/batches"]
    )
    def test_work_for_later_does_not_pass(self, opened, path):
        answer = opened.through(path, ["us-a", "claude-eu"])

        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "path_not_permitted")
        assert opened.calls() == {}

    def test_work_in_the_background_does_not_pass(self, opened):
        answer = opened.through("/openai/v1/chat/completions", ["us-a"], background=True)

        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "body_invalid")
        assert opened.calls() == {}

    def test_without_the_plugin_work_for_later_arrives(self, plain):
        plain.through("/openai/v1/threads", ["us-b"])

        assert plain.calls() == {"us-a": 1}

    def test_another_method_is_refused(self, opened):
        answer = opened.bodiless("DELETE", "/openai/v1/files/file-1", ["us-a"])

        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "path_not_permitted")

    def test_without_a_permit_it_is_refused(self, opened):
        answer = opened.post("/openai/v1/chat/completions", b"{}", {})

        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "permit_missing")
        assert opened.calls() == {}

    def test_the_classification_holds(self, opened):
        answer = opened.through(
            "/openai/v1/chat/completions", ["us-a"], permit={"data_classification": "phi"}
        )

        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_eligible")
        assert opened.calls() == {}

    def test_a_narrowed_model_holds(self, opened):
        answer = opened.through("/openai/v1/chat/completions", ["us-a"], permit={"models": ["other"]})

        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "claim_mismatch")
        assert opened.calls() == {}

    def test_the_body_is_bound(self, opened):
        token = opened.issuer.mint(["us-a"], body=b'{"model": "gpt-test"}')

        answer = opened.post("/openai/v1/chat/completions", b'{"model": "other"}', {"x-llm-permit": token})

        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "binding_mismatch")
        assert opened.calls() == {}

    def test_a_bodiless_call_is_bound_by_its_request_line(self, opened):
        opened.allowed_paths.add(("us-a", "/v1/models"))

        served = opened.bodiless("GET", "/openai/v1/models?limit=1", ["us-a"])
        other = opened.bodiless("GET", "/openai/v1/models/a", ["us-a"], line="GET /openai/v1/models")

        assert served.status_code == 200, served.text
        assert (other.status_code, other.json()["error"]["code"]) == (401, "binding_mismatch")
        assert [each.path for each in opened.providers["us-a"].requests] == ["/v1/models"]

    @pytest.mark.parametrize(
        "path",
        [
            "/openai/../anthropic/v1/messages",
            "/openai/%2e%2e/%2e%2e/v1/chat/completions",
            "/openai/%252e%252e/v1/chat/completions",
            "/openai//us-b.example/v1/chat/completions",
            "/openai/v1/chat%3Fkey=1",
        ],
    )
    def test_a_path_that_can_be_read_in_two_ways_is_refused(self, opened, path):
        raw = b'{"model": "gpt-test", "messages": []}'
        token = opened.issuer.mint(["us-a"], body=raw)
        headers = {
            "authorization": f"Bearer {opened.proxy.master_key}",
            "content-type": "application/json",
            "x-llm-permit": token,
        }
        connection = http.client.HTTPConnection(opened.proxy.url.removeprefix("http://"))
        connection.request("POST", path, raw, headers)

        assert connection.getresponse().status in {400, 403, 404}
        connection.close()
        assert opened.calls() == {}

    @pytest.mark.parametrize(("path", "endpoint", "arrives"), DOORS)
    def test_neither_permit_nor_a_callers_credentials_reach_the_provider(
        self, opened, path, endpoint, arrives
    ):
        spoofed = {"x-api-key": "sk-attacker", "api-key": "sk-attacker", "x-goog-api-key": "sk-attacker"}

        opened.through(path, [endpoint], headers={**spoofed, "x-litellm-tags": "x"})

        (request,) = opened.providers[endpoint].requests
        assert not [name for name in request.headers if "permit" in name]
        assert "sk-attacker" not in str(request.headers)
        assert "eyJ" not in str(request.headers)

    def test_controls_of_litellm_do_not_reach_it(self, opened):
        answer = opened.through(
            "/openai/v1/chat/completions", ["us-a"], success_callback=["langfuse"], api_base="http://evil"
        )

        assert answer.status_code == 200, answer.text
        (request,) = opened.providers["us-a"].requests
        assert not {"success_callback", "api_base"} & set(request.json)
        assert {"success_callback", "api_base"} <= set(records(opened, answer)[0]["dropped_fields"])

    @pytest.mark.parametrize(("path", "endpoint", "arrives"), DOORS)
    @pytest.mark.parametrize("code", [500, 429, 400, 404])
    def test_a_failure_is_on_record_and_not_replaced(self, opened, path, endpoint, arrives, code):
        status, outcome = FAILURES[code]
        if path.startswith("/vllm") and status == code:
            status = 500  # LiteLLM raises what its router gets from the provider, and catches it nowhere.
        opened.providers[endpoint].always(Fault.status(code))

        answer = opened.through(path, [endpoint, "us-b"])

        assert answer.status_code == status, answer.text
        assert opened.calls() == {endpoint: 1}
        request_id = answer.headers["x-permit-request-id"]
        opened.wait_for(
            lambda: [r for r in opened.records() if r["request_id"] == request_id and r["type"] == "attempt"]
        )
        attempts = [r for r in opened.records() if r["request_id"] == request_id and r["type"] == "attempt"]
        assert [(r["endpoint"], r["status"]) for r in attempts] == [(endpoint, outcome)]

    @pytest.mark.parametrize(("path", "endpoint", "arrives"), DOORS)
    def test_a_redirect_is_not_followed(self, opened, path, endpoint, arrives):
        opened.providers[endpoint].always(Fault.redirect(opened.urls["us-b"]))

        answer = opened.through(path, [endpoint])

        assert answer.status_code >= 400
        assert opened.calls() == {endpoint: 1}


class TestAdministrative:
    @pytest.mark.parametrize("path", ["/utils/supported_openai_params?model=gpt-4o"])
    def test_it_is_open_without_a_permit(self, opened, path):
        answer = opened.client.get(path, headers={"authorization": f"Bearer {opened.proxy.master_key}"})

        assert answer.status_code == 200, answer.text

    def test_litellms_own_authentication_holds(self, opened):
        # Without its database package LiteLLM answers a missing key with 500.
        assert opened.client.get("/utils/supported_openai_params?model=gpt-4o").status_code in {401, 500}

    def test_its_neighbours_stay_shut(self, opened):
        answer = opened.client.get(
            "/spend/keys", headers={"authorization": f"Bearer {opened.proxy.master_key}"}
        )

        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "path_not_permitted")


# A path, a body that makes LiteLLM call a provider, and whether it does without the plugin.
LATER = [
    pytest.param("/v1/batches", {"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}, True, id="batches"),
    pytest.param("/v1/vector_stores", {"name": "store"}, True, id="vector-stores"),
    pytest.param("/v1/fine_tuning/jobs", {"model": "gpt-test", "training_file": "file-1", "custom_llm_provider": "openai"}, False, id="fine-tuning"),
    pytest.param("/v1/assistants", {"model": "gpt-test", "instructions": "hello"}, False, id="assistants"),
    pytest.param("/v1/threads", {"messages": [{"role": "user", "content": "hello"}]}, False, id="threads"),
]  # fmt: skip


class TestLater:
    """Work that runs later without a request, and content that stays: refused with any permit."""

    @pytest.mark.parametrize(("path", "body", "arrives"), LATER)
    def test_it_is_refused(self, opened, path, body, arrives):
        raw = json.dumps(body).encode()
        token = opened.issuer.mint(["us-a", "eu-a", "eu-b", "us-b"], body=raw)

        answer = opened.post(path, raw, {"x-llm-permit": token})

        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "path_not_permitted")
        assert opened.calls() == {}

    def test_a_file_is_refused(self, opened):
        token = opened.issuer.mint(["us-a", "eu-a", "eu-b", "us-b"], body=b"")

        answer = self.upload(opened, {"x-llm-permit": token})

        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "path_not_permitted")
        assert opened.calls() == {}

    @pytest.mark.parametrize(("path", "body", "arrives"), LATER)
    def test_without_the_plugin(self, plain, path, body, arrives):
        plain.post(path, json.dumps(body).encode(), {})

        assert bool(plain.calls()) is arrives

    def test_without_the_plugin_a_file_arrives(self, plain):
        answer = self.upload(plain, {})

        assert plain.calls(), answer.text

    def upload(self, fleet, headers):
        own = {"authorization": f"Bearer {fleet.proxy.master_key}"}
        line = {
            "custom_id": "1",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "gpt-test"},
        }
        files = {"file": ("batch.jsonl", json.dumps(line), "application/jsonl")}
        data = {"purpose": "batch", "custom_llm_provider": "openai"}
        return fleet.client.post("/v1/files", files=files, data=data, headers={**own, **headers})
