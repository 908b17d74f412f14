from __future__ import annotations

import pytest

from litellm_plugin.errors import Reason, RequestDenied
from litellm_plugin.proxy.bodies import excess, refusal
from litellm_plugin.proxy.fields import published, scrub
from litellm_plugin.routing.facts import CallType

MESSAGES = [{"role": "user", "content": "hi"}]
NOTHING = frozenset()


class TestExcess:
    """What of a body is too large to be copied, whatever else it says."""

    @pytest.mark.parametrize(
        "document",
        [
            {"model": "m" * 512},
            {"model": ["m" * 513]},
            {"metadata": {f"k{each}": "v" for each in range(64)}},
            {"metadata": "k" * 1000},
            {"litellm_metadata": {f"k{each}": "v" for each in range(65)}},
        ],
    )
    def test_what_fits_passes(self, document):
        assert excess(document, CallType.CHAT) is None

    @pytest.mark.parametrize("call_type", CallType)
    def test_a_long_model_is_refused(self, call_type):
        verdict = excess({"model": "m" * 513}, call_type)
        assert (verdict.reason, verdict.message) == (
            Reason.BODY_INVALID,
            "The field 'model' must have at most 512 characters.",
        )
        assert refusal({"model": "m" * 513}, call_type) == verdict

    def test_metadata_with_many_keys_is_refused(self):
        verdict = excess({"metadata": {f"k{each}": "v" for each in range(65)}}, CallType.CHAT)
        assert (verdict.reason, verdict.message) == (
            Reason.BODY_INVALID,
            "The field 'metadata' must have at most 64 keys.",
        )

    def test_a_providers_own_metadata_is_its_own_matter(self):
        assert excess({"metadata": {f"k{each}": 1 for each in range(65)}}, CallType.PASS_THROUGH) is None

    @pytest.mark.parametrize(
        ("field", "items"),
        [
            pytest.param("messages", [{}] * 10_001, id="messages"),
            pytest.param("tools", [{}] * 10_001, id="tools"),
            pytest.param("documents", [0.5] * 10_001, id="documents"),
            pytest.param("messages", [{"content": [{}] * 5_001}] * 2, id="parts"),
            pytest.param("contents", [{"parts": [{}] * 10_000}], id="Gemini's parts"),
        ],
    )
    def test_more_items_than_a_worker_looks_at_are_refused(self, field, items):
        verdict = excess({field: items}, CallType.CHAT)
        assert verdict.reason is Reason.BODY_INVALID
        assert verdict.message == f"The field '{field}' must have at most 10000 items, parts included."

    @pytest.mark.parametrize("inputs", [[1] * 20_000, [[1] * 20_000], "x" * 20_000, ["x"] * 10_000])
    def test_tokens_and_texts_are_no_items(self, inputs):
        assert excess({"input": inputs}, CallType.EMBEDDING) is None


class TestRefusals:
    @pytest.mark.parametrize("call_type", CallType)
    @pytest.mark.parametrize("model", [None, ["gpt", "claude"], "gpt,claude", 1])
    def test_a_model_that_is_not_one_group_is_refused(self, call_type, model):
        verdict = refusal({"model": model}, call_type)
        assert verdict.reason is Reason.BODY_INVALID
        assert "'model' must name one model group" in verdict.message

    @pytest.mark.parametrize("field", ["background", "conversation", "prompt"])
    def test_a_response_that_needs_stored_state_is_refused(self, field):
        verdict = refusal({"model": "gpt", "input": "x", field: "y"}, CallType.RESPONSES)
        assert verdict.reason is Reason.BODY_INVALID
        assert f"'{field}'" in verdict.message

    @pytest.mark.parametrize("value", [None, False, "", {}])
    def test_an_empty_reference_is_none(self, value):
        assert (
            refusal({"model": "gpt", "background": value, "conversation": value}, CallType.RESPONSES) is None
        )

    @pytest.mark.parametrize("field", ["background", "conversation", "prompt"])
    def test_what_is_not_refused_is_not_passed_on_either(self, field):
        data = {field: None}
        scrub(data, CallType.RESPONSES, "litellm_metadata", NOTHING)
        assert data == {}

    def test_a_completions_prompt_is_its_input(self):
        assert refusal({"model": "gpt", "prompt": "hello"}, CallType.COMPLETION) is None

    @pytest.mark.parametrize("call_type", CallType)
    @pytest.mark.parametrize("kind", ["mcp", "file_search"])
    def test_a_tool_that_sends_the_prompt_elsewhere_is_refused(self, call_type, kind):
        verdict = refusal({"model": "gpt", "tools": [{"type": "function"}, {"type": kind}]}, call_type)
        assert verdict.reason is Reason.BODY_INVALID
        assert f"'{kind}'" in verdict.message

    @pytest.mark.parametrize("tools", [None, [], [None, "mcp", {"type": 1}, {}], [{"type": "function"}]])
    def test_other_tools_pass(self, tools):
        assert refusal({"model": "gpt", "messages": MESSAGES, "tools": tools}, CallType.CHAT) is None

    @pytest.mark.parametrize("call_type", [CallType.CHAT, CallType.MESSAGES])
    @pytest.mark.parametrize("messages", [None, "hi", {}, [5], ["hi"], [{"content": 5}], [{"content": {}}]])
    def test_messages_of_another_shape_are_refused(self, call_type, messages):
        verdict = refusal({"model": "gpt", "messages": messages}, call_type)
        assert verdict.reason is Reason.BODY_INVALID
        assert "'messages'" in verdict.message

    @pytest.mark.parametrize("content", [None, "hi", [{"type": "text", "text": "hi"}]])
    def test_messages_of_the_published_shape_pass(self, content):
        body = {"model": "gpt", "messages": [{"role": "user", "content": content}, {"role": "assistant"}]}
        assert refusal(body, CallType.CHAT) is None

    @pytest.mark.parametrize("field", ["response_format", "tools", "metadata", "stream_options"])
    def test_a_field_of_another_kind_is_refused(self, field):
        verdict = refusal({"model": "gpt", "messages": MESSAGES, field: "x"}, CallType.CHAT)
        assert f"'{field}'" in verdict.message

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param({"input": [{"type": "item_reference", "id": "x"}]}, id="item"),
            pytest.param(
                {"input": "hi", "tools": [{"type": "code_interpreter", "container": "cntr_1"}]},
                id="container",
            ),
        ],
    )
    def test_what_is_stored_at_a_provider_cannot_be_referred_to(self, body):
        assert refusal({"model": "gpt", **body}, CallType.RESPONSES).reason is Reason.BODY_INVALID

    @pytest.mark.parametrize("field", ["container", "inference_geo"])
    def test_a_messages_field_that_leads_elsewhere_is_refused(self, field):
        verdict = refusal({"model": "gpt", "messages": MESSAGES, field: "x"}, CallType.MESSAGES)
        assert verdict.reason is Reason.BODY_INVALID

    @pytest.mark.parametrize(
        ("call_type", "body", "field"),
        [
            pytest.param(CallType.GENERATE_CONTENT, {"contents": "hi"}, "contents", id="gemini"),
            pytest.param(CallType.IMAGE_GENERATION, {}, "prompt", id="image-without-prompt"),
            pytest.param(CallType.IMAGE_GENERATION, {"prompt": ["a"]}, "prompt", id="image"),
            pytest.param(CallType.SPEECH, {"input": ["a"]}, "input", id="speech"),
            pytest.param(CallType.RERANK, {"query": "q", "documents": "d"}, "documents", id="rerank"),
        ],
    )
    def test_a_required_field_of_another_kind_is_refused(self, call_type, body, field):
        verdict = refusal({"model": "gpt", **body}, call_type)
        assert f"'{field}'" in verdict.message

    def test_the_format_of_an_image_is_text(self):
        assert (
            refusal({"model": "i", "prompt": "p", "response_format": "url"}, CallType.IMAGE_GENERATION)
            is None
        )

    @pytest.mark.parametrize("field", ["cachedContent", "cached_content"])
    def test_content_that_gemini_keeps_cannot_be_referred_to(self, field):
        verdict = refusal(
            {"model": "g", "contents": [], field: "cachedContents/1"}, CallType.GENERATE_CONTENT
        )
        assert verdict.reason is Reason.BODY_INVALID

    @pytest.mark.parametrize("key", ["fileSearch", "mcpServers", "retrieval", "urlContext"])
    @pytest.mark.parametrize("call_type", [CallType.CHAT, CallType.GENERATE_CONTENT])
    def test_a_gemini_tool_that_leads_elsewhere_is_refused(self, call_type, key):
        body = {"model": "g", "messages": MESSAGES, "contents": [], "tools": [{key: {}}]}
        assert refusal(body, call_type).reason is Reason.BODY_INVALID

    def test_a_gemini_tool_that_nobody_knows_is_refused(self):
        verdict = refusal(
            {"model": "g", "contents": [], "tools": [{"newTool": {}}]}, CallType.GENERATE_CONTENT
        )
        assert "functionDeclarations" in verdict.message

    def test_gemini_functions_and_its_own_search_pass(self):
        tools = [{"functionDeclarations": []}, {"googleSearch": {}}]
        assert refusal({"model": "g", "contents": [], "tools": tools}, CallType.GENERATE_CONTENT) is None


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param({"tools": [{"type": "mcp", "server_url": "https://elsewhere"}]}, id="mcp-tool"),
        pytest.param({"mcp_servers": [{"url": "https://elsewhere"}]}, id="mcp-servers"),
        pytest.param({"background": True}, id="background"),
    ],
)
def test_a_pass_through_body_that_leads_elsewhere_is_refused(extra):
    with pytest.raises(RequestDenied):
        published({"model": "m", **extra}, CallType.PASS_THROUGH, NOTHING)
