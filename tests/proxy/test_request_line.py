from __future__ import annotations

import pytest
from proxy_cases import http_scope

from litellm_plugin.errors import Reason, RequestDenied
from litellm_plugin.proxy.request_line import check_path, request_line
from litellm_plugin.routing.facts import CallType


@pytest.mark.parametrize(
    ("scope", "line"),
    [
        pytest.param(http_scope("GET", "/v1/responses/resp_a"), b"GET /v1/responses/resp_a", id="path"),
        pytest.param(http_scope("DELETE", "/a", query=b"b=c%20d"), b"DELETE /a?b=c%20d", id="query"),
        pytest.param(http_scope("GET", "/llm/v1/x", root_path="/llm"), b"GET /v1/x", id="root-path"),
        pytest.param(http_scope("GET", "/a/ü"), "GET /a/ü".encode(), id="beyond-ascii"),
    ],
)
def test_the_line_says_method_path_and_query(scope, line):
    assert request_line(scope) == line


@pytest.mark.parametrize(
    "path",
    [
        "/openai/v1/chat/completions",
        "/search",
        "/gemini/v1beta/models/gemini-2:generateContent",
        "/openai/v1/models/",
    ],
)
def test_a_plain_path_passes(path):
    check_path(http_scope("POST", path), CallType.PASS_THROUGH)


@pytest.mark.parametrize(
    "path",
    [
        "/openai/..",
        "/openai/./v1",
        "/openai//evil",
        "/openai/%2e%2e/v1",
        "/openai/a?b",
        "/openai/a\\b",
        "/openai/a b",
        "//evil/v1",
    ],
)
def test_a_path_with_a_second_meaning_is_refused(path):
    with pytest.raises(RequestDenied) as denied:
        check_path(http_scope("POST", path), CallType.PASS_THROUGH)
    assert denied.value.verdict.reason is Reason.PATH_NOT_PERMITTED


@pytest.mark.parametrize("path", ["/v1/responses/litellm_poll_a", "/responses/abc", "/v1/responses/x/cancel"])
def test_an_id_of_litellms_own_is_refused(path):
    with pytest.raises(RequestDenied) as denied:
        check_path(http_scope("GET", path), CallType.STORED_RESPONSE)
    assert denied.value.verdict.reason is Reason.BODY_INVALID


@pytest.mark.parametrize(
    "path",
    [
        "/openai/v1/batches",
        "/openai/v1/files/file-1/content",
        "/openai/v1/fine_tuning/jobs",
        "/openai/v1/threads/t/runs",
        "/openai/v1/vector_stores/",
        "/anthropic/v1/messages/batches",
        "/gemini/upload/v1beta/files",
        "/gemini/v1beta/models/gemini-2:batchGenerateContent",
        "/gemini/v1beta/models/gemini-2:asyncBatchEmbedContent",
    ],
)
def test_work_for_later_is_refused_on_a_pass_through(path):
    with pytest.raises(RequestDenied) as denied:
        check_path(http_scope("POST", path), CallType.PASS_THROUGH)
    assert denied.value.verdict.reason is Reason.PATH_NOT_PERMITTED


def test_other_calls_have_no_say_in_their_path():
    check_path(http_scope("POST", "/engines/a b/../c/chat/completions"), CallType.CHAT)
