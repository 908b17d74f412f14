from __future__ import annotations

import pytest
from anthropic.types import message_create_params as anthropic_messages
from openai.types import completion_create_params as openai_completion
from openai.types import embedding_create_params as openai_embedding
from openai.types.chat import completion_create_params as openai_chat
from openai.types.responses import response_create_params as openai_responses

from litellm_plugin.errors import Reason
from litellm_plugin.proxy.fields import CONTROL_FIELDS, DESTINATION, PUBLISHED, metadata_slot, refusal, scrub
from litellm_plugin.routing.facts import CallType

# DESIGN §3, "Side doors": what a body may not steer.
STEERING = [
    "_excluded_deployment_ids",
    "_retry_skipped_deployment_ids",
    "_target_order",
    "api_base",
    "api_key",
    "api_version",
    "base_url",
    "cache",
    "caching",
    "client",
    "content_policy_fallbacks",
    "context_window_fallbacks",
    "custom_llm_provider",
    "default_headers",
    "disable_fallbacks",
    "extra_body",
    "extra_headers",
    "extra_query",
    "fallback_depth",
    "fallbacks",
    "fastest_response",
    "guardrails",
    "headers",
    "litellm_credential_name",
    "litellm_params",
    "max_retries",
    "mock_response",
    "mock_testing_fallbacks",
    "mock_timeout",
    "mock_tool_calls",
    "model_info",
    "model_list",
    "no-log",
    "num_retries",
    "organization",
    "prompt_id",
    "prompt_label",
    "prompt_variables",
    "retry_policy",
    "router_settings_override",
    "specific_deployment",
    "stream_timeout",
    "tags",
    "timeout",
    "user_config",
    "vector_store_ids",
]
METADATA_CALLS = (CallType.CHAT, CallType.COMPLETION, CallType.EMBEDDING)
OTHER_CALLS = (CallType.MESSAGES, CallType.RESPONSES)
NOTHING = frozenset()


class TestControlFields:
    @pytest.mark.parametrize("call_type", CallType)
    @pytest.mark.parametrize("name", sorted({*STEERING, *CONTROL_FIELDS} - {"metadata", "litellm_metadata"}))
    def test_it_is_dropped_for_every_call_type(self, call_type, name):
        data = {"model": "gpt", name: "x"}
        dropped = scrub(data, call_type, NOTHING)
        own = name in {"proxy_server_request", "secret_fields"}  # LiteLLM overwrites these itself
        assert (name in data, name in dropped) == (own, not own)

    @pytest.mark.parametrize("call_type", CallType)
    def test_no_operator_can_open_one(self, call_type):
        data = dict.fromkeys(CONTROL_FIELDS - PUBLISHED[call_type], "x")
        scrub(data, call_type, CONTROL_FIELDS)
        assert not data.keys() - {metadata_slot(call_type), "proxy_server_request", "secret_fields"}

    @pytest.mark.parametrize("call_type", CallType)
    def test_the_schemas_hold_none(self, call_type):
        assert PUBLISHED[call_type] & CONTROL_FIELDS <= {"metadata"}

    @pytest.mark.parametrize("call_type", METADATA_CALLS)
    def test_the_other_slot_is_dropped(self, call_type):
        data = {"litellm_metadata": {"a": "b"}}
        assert scrub(data, call_type, NOTHING) == ("litellm_metadata",)
        assert data == {}

    def test_embeddings_keep_the_slot_that_litellm_writes(self):
        data = {"metadata": {"headers": {}}}
        assert scrub(data, CallType.EMBEDDING, NOTHING) == ()


class TestPublishedFields:
    @pytest.mark.parametrize("call_type", CallType)
    def test_all_are_kept(self, call_type):
        data = dict.fromkeys(PUBLISHED[call_type], None)
        assert scrub(data, call_type, NOTHING) == ()
        assert data.keys() == PUBLISHED[call_type]

    def test_an_operators_field_is_kept_as_it_came(self):
        data = {"model": "gpt", "chat_template_kwargs": {"a": 1}}
        assert scrub(data, CallType.CHAT, frozenset({"chat_template_kwargs"})) == ()
        assert data["chat_template_kwargs"] == {"a": 1}

    def test_an_unknown_field_is_dropped(self):
        data = {"model": "gpt", "new_switch": True}
        assert scrub(data, CallType.CHAT, NOTHING) == ("new_switch",)

    def test_what_litellm_added_is_kept(self):
        data = dict.fromkeys(("proxy_server_request", "litellm_call_id", "litellm_logging_obj"), 1)
        assert scrub(data, CallType.CHAT, NOTHING) == ()

    def test_the_dropped_names_are_sorted(self):
        assert scrub({"z": 1, "a": 1}, CallType.CHAT, NOTHING) == ("a", "z")


class TestMetadata:
    @pytest.mark.parametrize("call_type", CallType)
    @pytest.mark.parametrize(
        "key",
        [
            "caching_groups",
            "deployment",
            "fallbacks",
            "model_group",
            "redis_namespace",
            "specific_deployment",
        ],
    )
    def test_a_control_in_litellms_slot_is_dropped(self, call_type, key):
        slot = metadata_slot(call_type)
        data = {slot: {key: "x", "user_api_key": "hash"}}
        assert scrub(data, call_type, NOTHING) == (f"{slot}.{key}",)
        assert data[slot] == {"user_api_key": "hash"}

    @pytest.mark.parametrize("call_type", METADATA_CALLS)
    @pytest.mark.parametrize("value", [["a"], {"a": 1}, 1, True, None, "x" * 513])
    def test_a_callers_value_that_is_not_short_text_is_dropped(self, call_type, value):
        data = {"metadata": {"own": value, "requester_metadata": {"own": value}, "user_api_key": "hash"}}
        assert scrub(data, call_type, NOTHING) == ("metadata.own",)
        assert "own" not in data["metadata"]
        assert data["metadata"]["user_api_key"] == "hash"

    def test_a_callers_short_text_is_kept(self):
        data = {"metadata": {"own": "x" * 512, "requester_metadata": {"own": "x" * 512}}}
        assert scrub(data, CallType.CHAT, NOTHING) == ()
        assert data["metadata"]["own"] == "x" * 512

    def test_what_litellm_wrote_before_it_copied_is_kept(self):
        headers = {"user-agent": "x"}
        data = {"metadata": {"headers": headers, "requester_metadata": {"headers": headers}}}
        assert scrub(data, CallType.CHAT, NOTHING) == ()
        assert data["metadata"]["headers"] == headers

    @pytest.mark.parametrize("call_type", OTHER_CALLS)
    @pytest.mark.parametrize(
        ("key", "value"), [("caching_groups", "x"), ("model_group", "x"), ("tags", ["a"]), ("guardrails", {})]
    )
    def test_a_callers_own_metadata_holds_no_controls_either(self, call_type, key, value):
        data = {"metadata": {key: value, "user_id": "u"}, "litellm_metadata": {}}
        assert scrub(data, call_type, NOTHING) == (f"metadata.{key}",)
        assert data["metadata"] == {"user_id": "u"}

    @pytest.mark.parametrize("call_type", CallType)
    @pytest.mark.parametrize("value", [None, "text", ["a"]])
    def test_metadata_that_is_no_object_does_no_harm(self, call_type, value):
        scrub({metadata_slot(call_type): value, "metadata": value}, call_type, NOTHING)


class TestRefusals:
    @pytest.mark.parametrize("call_type", CallType)
    @pytest.mark.parametrize("model", [None, ["gpt", "claude"], "gpt,claude", 1])
    def test_a_model_that_is_not_one_group_is_refused(self, call_type, model):
        verdict = refusal({"model": model}, call_type)
        assert verdict.reason is Reason.BODY_INVALID
        assert "'model' must name one model group" in verdict.message

    @pytest.mark.parametrize("field", ["background", "previous_response_id", "conversation", "prompt"])
    def test_a_response_that_needs_stored_state_is_refused(self, field):
        verdict = refusal({"model": "gpt", "input": "x", field: "y"}, CallType.RESPONSES)
        assert verdict.reason is Reason.BODY_INVALID
        assert f"'{field}'" in verdict.message

    @pytest.mark.parametrize("value", [None, False, "", {}])
    def test_an_empty_reference_is_none(self, value):
        assert (
            refusal({"model": "gpt", "background": value, "conversation": value}, CallType.RESPONSES) is None
        )

    @pytest.mark.parametrize("field", ["background", "previous_response_id", "conversation", "prompt"])
    def test_what_is_not_refused_is_not_passed_on_either(self, field):
        data = {field: None}
        scrub(data, CallType.RESPONSES, NOTHING)
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


def test_whatever_the_final_check_compares_no_operator_may_open():
    assert frozenset(DESTINATION) <= CONTROL_FIELDS


MESSAGES = [{"role": "user", "content": "hi"}]

SDK_TYPES = {
    CallType.CHAT: openai_chat.CompletionCreateParamsBase,
    CallType.COMPLETION: openai_completion.CompletionCreateParamsBase,
    CallType.EMBEDDING: openai_embedding.EmbeddingCreateParams,
    CallType.RESPONSES: openai_responses.ResponseCreateParamsBase,
    CallType.MESSAGES: anthropic_messages.MessageCreateParamsBase,
}
# Reviewed differences from the installed SDKs; a new SDK that adds a field fails here until somebody decides.
LEFT_OUT = {
    CallType.RESPONSES: {"background", "conversation", "previous_response_id", "prompt"},  # refused
    # Refused; and whose account, and what is kept.
    CallType.MESSAGES: {"container", "inference_geo", "diagnostics", "user_profile_id", "workspace_id"},
}
ADDED = {
    # Sampling of self-hosted servers, and what LiteLLM translates for Anthropic.
    CallType.CHAT: {"min_p", "repetition_penalty", "thinking", "top_k"},
    CallType.COMPLETION: {"min_p", "repetition_penalty", "top_k"},
    # Published by Anthropic, absent from some SDK versions.
    CallType.MESSAGES: {"context_management", "temperature", "top_k", "top_p"},
}


@pytest.mark.parametrize("call_type", CallType)
def test_the_allow_list_is_the_installed_sdks_schema(call_type):
    schema = {*SDK_TYPES[call_type].__annotations__, "stream"} - (
        {"stream"} if call_type is CallType.EMBEDDING else set()
    )
    missing = schema - PUBLISHED[call_type] - LEFT_OUT.get(call_type, set())
    extra = PUBLISHED[call_type] - schema - ADDED.get(call_type, set())
    assert (missing, extra) == (set(), set())


@pytest.mark.parametrize("call_type", CallType)
def test_what_was_left_out_is_not_in_the_allow_list(call_type):
    assert not LEFT_OUT.get(call_type, set()) & PUBLISHED[call_type]
