from __future__ import annotations

import pytest

from litellm_plugin.proxy.fields import CONTROL_FIELDS, DESTINATION, scrub
from litellm_plugin.proxy.schemas import PUBLISHED
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
SLOTS = ("metadata", "litellm_metadata")
NOTHING = frozenset()


class TestControlFields:
    @pytest.mark.parametrize("call_type", CallType)
    @pytest.mark.parametrize("name", sorted({*STEERING, *CONTROL_FIELDS} - {"metadata", "litellm_metadata"}))
    def test_it_is_dropped_for_every_call_type(self, call_type, name):
        data = {"model": "gpt", name: "x"}
        dropped = scrub(data, call_type, "metadata", NOTHING)
        own = name in {"proxy_server_request", "secret_fields"}  # LiteLLM overwrites these itself
        assert (name in data, name in dropped) == (own, not own)

    @pytest.mark.parametrize("slot", SLOTS)
    @pytest.mark.parametrize("call_type", CallType)
    def test_no_operator_can_open_one(self, call_type, slot):
        data = dict.fromkeys(CONTROL_FIELDS - PUBLISHED[call_type], "x")
        scrub(data, call_type, slot, CONTROL_FIELDS)
        assert not data.keys() - {slot, "proxy_server_request", "secret_fields"}

    @pytest.mark.parametrize("call_type", CallType)
    def test_the_schemas_hold_none(self, call_type):
        assert PUBLISHED[call_type] & CONTROL_FIELDS <= {"metadata"}

    @pytest.mark.parametrize("call_type", CallType)
    def test_the_other_slot_is_dropped(self, call_type):
        data = {"litellm_metadata": {"a": "b"}}
        assert scrub(data, call_type, "metadata", NOTHING) == ("litellm_metadata",)
        assert data == {}

    def test_embeddings_keep_the_slot_that_litellm_writes(self):
        data = {"metadata": {"headers": {}}}
        assert scrub(data, CallType.EMBEDDING, "metadata", NOTHING) == ()


class TestPublishedFields:
    @pytest.mark.parametrize("call_type", CallType)
    def test_all_are_kept(self, call_type):
        data = dict.fromkeys(PUBLISHED[call_type], None)
        assert scrub(data, call_type, "metadata", NOTHING) == ()
        assert data.keys() == PUBLISHED[call_type]

    def test_an_operators_field_is_kept_as_it_came(self):
        data = {"model": "gpt", "chat_template_kwargs": {"a": 1}}
        assert scrub(data, CallType.CHAT, "metadata", frozenset({"chat_template_kwargs"})) == ()
        assert data["chat_template_kwargs"] == {"a": 1}

    def test_an_unknown_field_is_dropped(self):
        data = {"model": "gpt", "new_switch": True}
        assert scrub(data, CallType.CHAT, "metadata", NOTHING) == ("new_switch",)

    def test_what_litellm_added_is_kept(self):
        data = dict.fromkeys(("proxy_server_request", "litellm_call_id", "litellm_logging_obj"), 1)
        assert scrub(data, CallType.CHAT, "metadata", NOTHING) == ()

    def test_the_dropped_names_are_sorted(self):
        assert scrub({"z": 1, "a": 1}, CallType.CHAT, "metadata", NOTHING) == ("a", "z")


class TestMetadata:
    @pytest.mark.parametrize("slot", SLOTS)
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
    def test_a_control_in_litellms_slot_is_dropped(self, call_type, slot, key):
        data = {slot: {key: "x", "user_api_key": "hash"}}
        assert scrub(data, call_type, slot, NOTHING) == (f"{slot}.{key}",)
        assert data[slot] == {"user_api_key": "hash"}

    @pytest.mark.parametrize("call_type", CallType)
    @pytest.mark.parametrize("value", [["a"], {"a": 1}, 1, True, None, "x" * 513])
    def test_a_callers_value_that_is_not_short_text_is_dropped(self, call_type, value):
        data = {"metadata": {"own": value, "requester_metadata": {"own": value}, "user_api_key": "hash"}}
        assert scrub(data, call_type, "metadata", NOTHING) == ("metadata.own",)
        assert "own" not in data["metadata"]
        assert data["metadata"]["user_api_key"] == "hash"

    def test_a_callers_short_text_is_kept(self):
        data = {"metadata": {"own": "x" * 512, "requester_metadata": {"own": "x" * 512}}}
        assert scrub(data, CallType.CHAT, "metadata", NOTHING) == ()
        assert data["metadata"]["own"] == "x" * 512

    def test_what_litellm_wrote_before_it_copied_is_kept(self):
        headers = {"user-agent": "x"}
        data = {"metadata": {"headers": headers, "requester_metadata": {"headers": headers}}}
        assert scrub(data, CallType.CHAT, "metadata", NOTHING) == ()
        assert data["metadata"]["headers"] == headers

    @pytest.mark.parametrize("call_type", [CallType.MESSAGES, CallType.RESPONSES, CallType.CHAT])
    @pytest.mark.parametrize(
        ("key", "value"), [("caching_groups", "x"), ("model_group", "x"), ("tags", ["a"]), ("guardrails", {})]
    )
    def test_a_callers_own_metadata_holds_no_controls_either(self, call_type, key, value):
        data = {"metadata": {key: value, "user_id": "u"}, "litellm_metadata": {}}
        assert scrub(data, call_type, "litellm_metadata", NOTHING) == (f"metadata.{key}",)
        assert data["metadata"] == {"user_id": "u"}

    @pytest.mark.parametrize("slot", SLOTS)
    @pytest.mark.parametrize("value", [None, "text", ["a"]])
    def test_metadata_that_is_no_object_does_no_harm(self, slot, value):
        scrub({slot: value, "metadata": value}, CallType.CHAT, slot, NOTHING)


def test_whatever_the_final_check_compares_no_operator_may_open():
    assert frozenset(DESTINATION) <= CONTROL_FIELDS
