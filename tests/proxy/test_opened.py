from __future__ import annotations

import warnings

import pytest

from litellm_plugin.proxy.opened import OpenedPaths, forbidden
from litellm_plugin.proxy.paths import RouteTable

CONFIG = {
    "model_list": [
        {
            "litellm_params": {"api_base": "https://eu.example/v1"},
            "model_info": {"id": "eu-1", "endpoint": "eu"},
        },
        {"litellm_params": {}, "model_info": {"id": "us"}},
    ],
    "general_settings": {
        "pass_through_endpoints": [
            {"path": "/search", "target": "https://eu.example/search", "include_subpath": True},
            {"path": "/elsewhere", "target": "https://other.example/search"},
        ]
    },
}


def said(method, path, endpoint=None):
    return list(forbidden({(method, path): endpoint}, CONFIG))


@pytest.mark.parametrize(
    "path",
    [
        "/spend/logs",
        "/global/spend/report",
        "/customer/info",
        "/ui/*",
        "/cache/ping",
        "/team/{team_id}/callback",
    ],
)
def test_an_administrative_path_may_be_opened(path):
    assert said("GET", path) == []


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        pytest.param("/v1/chat/completions", "is governed", id="governed"),
        pytest.param("/key/generate", "is open already", id="administrative"),
        pytest.param("/openai/{endpoint}", "is a pass-through", id="provider-pass-through"),
        pytest.param("/search", "is a pass-through", id="configured-pass-through"),
        pytest.param("/search/{subpath}", "is a pass-through", id="its-subpaths"),
        *(
            pytest.param(path, "carries prompts", id=path)
            for path in (
                "/v1/messages/count_tokens",
                "/utils/token_counter",
                "/v1/responses/input_tokens",
                "/v1/files",
                "/{provider}/v1/files",
                "/batches",
                "/v1/vector_stores/{vector_store_id}/search",
                "/v1/threads/{thread_id}/runs",
                "/v1/fine_tuning/jobs",
                "/mcp/*",
                "/mcp-rest/tools/call",
                "/a2a/{agent_id}",
                "/prompts/test",
                "/guardrails/apply_guardrail",
                "/queue/chat/completions",
                "/v1/realtime/client_secrets",
                "/v1/videos",
                "/plugin-proxy/{plugin_name}/{path}",
                "/utils/transform_request",
            )
        ),
    ],
)
def test_a_path_that_carries_a_prompt_may_not(path, reason):
    (message,) = said("POST", path)
    assert message.startswith(f"litellm_settings.permit_router.paths: POST {path} {reason}")


def test_a_pass_through_may_stand_for_an_endpoint():
    assert said("POST", "/openai/{endpoint}", "eu") == []
    assert said("POST", "/search", "eu") == []
    assert said("POST", "/search", "us") == []  # declares no address


def test_a_target_elsewhere_is_no_part_of_the_endpoint():
    (message,) = said("POST", "/elsewhere", "eu")
    assert "its target 'https://other.example/search' is at none of that endpoint's addresses" in message


class TestAgainstTheApp:
    @pytest.fixture
    def table(self, litellm_app):
        with warnings.catch_warnings():
            # FastAPI builds the models of included routes when they are first looked at.
            warnings.simplefilter("ignore")
            return RouteTable(litellm_app.router)

    @pytest.mark.parametrize(
        ("method", "path", "endpoint"),
        [
            ("GET", "/spend/logs", None),
            ("GET", "/ui/*", None),
            ("POST", "/openai/{endpoint}", "eu"),
            ("POST", "/vllm/{endpoint}", "eu"),
            ("GET", "/config/pass_through_endpoint", None),
        ],
    )
    def test_what_is_there_is_no_fault(self, table, method, path, endpoint):
        assert OpenedPaths({(method, path): endpoint}, table).faults() == []

    @pytest.mark.parametrize(
        ("method", "path", "endpoint", "message"),
        [
            pytest.param("GET", "/spend/log", None, "has no path GET '/spend/log'; did you mean '/spend/logs'?", id="misspelt"),
            pytest.param("POST", "/openai/{endpoint:path}", "eu", "did you mean '/openai/{endpoint}'?", id="spelling"),
            pytest.param("PUT", "/spend/logs", None, "has no path PUT", id="method"),
            pytest.param("GET", "/spend/logs", "eu", "is no pass-through", id="no-pass-through"),
            pytest.param("POST", "/deepgram/listen", None, "is a pass-through", id="pass-through"),
        ],
    )  # fmt: skip
    def test_what_is_not_is_one(self, table, method, path, endpoint, message):
        (fault,) = OpenedPaths({(method, path): endpoint}, table).faults()
        assert message in fault

    def test_nothing_opened_is_no_fault(self, table):
        assert OpenedPaths({}, table).faults() == []
