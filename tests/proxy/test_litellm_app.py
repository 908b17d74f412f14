"""LiteLLM's real app: what the lists of paths, the middleware walk and the probe's prompts are pinned to."""

from __future__ import annotations

import re
import warnings

import pytest
from litellm.proxy.health_check import _get_random_llm_message
from proxy_cases import http_scope, websocket_scope

from litellm_plugin.proxy.hooks import is_health_probe
from litellm_plugin.proxy.paths import ADMINISTRATIVE, GOVERNED, PathKind, RouteTable


@pytest.fixture(scope="module")
def table(litellm_app):
    with warnings.catch_warnings():
        # FastAPI builds the models of included routes when they are first looked at.
        warnings.simplefilter("ignore")
        return RouteTable(litellm_app.router)


@pytest.mark.parametrize(("method", "path"), sorted(GOVERNED))
def test_every_governed_path_exists(table, method, path):
    filled = re.sub(r"{\w+}", "a" if "response_id" in path else "a/b", path)
    route = table.classify(websocket_scope(path) if method == "WEBSOCKET" else http_scope(method, filled))
    assert (route.kind, route.template) == (PathKind.GOVERNED, path)


@pytest.mark.parametrize(("method", "path"), sorted(ADMINISTRATIVE))
def test_every_administrative_path_exists(table, method, path):
    route = table.classify(http_scope(method, path))
    assert (route.kind, route.template) == (PathKind.ADMINISTRATIVE, path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/openai/chat/completions"),
        ("POST", "/vllm/chat/completions"),
        ("POST", "/anthropic/v1/messages"),
        ("POST", "/v1/messages/count_tokens"),
        ("POST", "/utils/token_counter"),
        ("POST", "/v1/realtime/client_secrets"),
        ("POST", "/v1beta/models/gemini:countTokens"),
        ("POST", "/v1beta/interactions"),
        ("POST", "/v1/responses/input_tokens"),
        ("POST", "/v1/videos"),
        ("POST", "/v1/files"),
        ("POST", "/v1/batches"),
        ("POST", "/v1/responses/compact"),
        ("POST", "/v1/vector_stores"),
        ("POST", "/v1/fine_tuning/jobs"),
        ("POST", "/v1/assistants"),
        ("POST", "/v1/threads"),
        ("POST", "/mcp/"),
        ("POST", "/prompts/test"),
        ("GET", "/health"),
        ("POST", "/queue/chat/completions"),
    ],
)
def test_a_path_that_leads_past_the_permit_is_refused(table, method, path):
    assert table.classify(http_scope(method, path)).kind is PathKind.REFUSED


def test_litellms_own_probe_prompts_pass():
    metadata = {"tags": ["litellm-internal-health-check"]}
    for _ in range(20):
        assert is_health_probe({"metadata": metadata, "messages": _get_random_llm_message()})


@pytest.mark.parametrize("path", ["/vertex_ai/live", "/openai/v1/other", "/openai_passthrough/v1/realtime"])
def test_a_websocket_that_leads_past_the_permit_is_refused(table, path):
    route = table.classify(websocket_scope(path))
    assert (route.kind, route.template is None) == (PathKind.REFUSED, False)
