"""Body fields: what of a caller's body may reach LiteLLM.

An allow-list, not a deny-list: the published request schemas of OpenAI and Anthropic, field by field, and
a short list that steers sampling on self-hosted servers. LiteLLM reads many more from the same object
(destinations, credentials, fallbacks, retries, cache and logging switches); none of them passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from types import MappingProxyType
from typing import Any, Final

from litellm_plugin.errors import Reason, Verdict
from litellm_plugin.routing.facts import CallType

# https://platform.openai.com/docs/api-reference/chat/create
_CHAT: Final = frozenset(
    [
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "metadata",
        "modalities",
        "model",
        "moderation",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
        "web_search_options",
    ]
)
# https://platform.openai.com/docs/api-reference/completions/create
_COMPLETION: Final = frozenset(
    [
        "best_of",
        "echo",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "max_tokens",
        "model",
        "n",
        "presence_penalty",
        "prompt",
        "seed",
        "stop",
        "stream",
        "stream_options",
        "suffix",
        "temperature",
        "top_p",
        "user",
    ]
)
# https://platform.openai.com/docs/api-reference/embeddings/create
_EMBEDDING: Final = frozenset(["dimensions", "encoding_format", "input", "model", "user"])
# https://platform.openai.com/docs/api-reference/responses/create, without what refers to stored state
_RESPONSES: Final = frozenset(
    [
        "context_management",
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "model",
        "moderation",
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning",
        "safety_identifier",
        "service_tier",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "truncation",
        "user",
    ]
)
# https://docs.anthropic.com/en/api/messages
_MESSAGES: Final = frozenset(
    [
        "cache_control",
        "context_management",
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "output_config",
        "service_tier",
        "speed",
        "stop_sequences",
        "stream",
        "system",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    ]
)
# Not in OpenAI's schema, but understood by LiteLLM for other providers: sampling, and Anthropic's thinking.
_SAMPLING: Final = frozenset({"top_k", "min_p", "repetition_penalty"})
_THINKING: Final = frozenset({"thinking"})

PUBLISHED_CONTENT: Final = frozenset(
    [
        "messages",
        "prompt",
        "input",
        "system",
        "instructions",
        "tools",
        "functions",
        "suffix",
        "documents",
        "contents",
        "file",
        "image",
        "audio",
        "prediction",
    ]
)
"""Fields in which a call may carry what somebody wrote."""

PUBLISHED: Final[Mapping[CallType, frozenset[str]]] = MappingProxyType(
    {
        CallType.CHAT: _CHAT | _SAMPLING | _THINKING,
        CallType.COMPLETION: _COMPLETION | _SAMPLING,
        CallType.EMBEDDING: _EMBEDDING,
        CallType.MESSAGES: _MESSAGES,
        CallType.RESPONSES: _RESPONSES,
    }
)

# What LiteLLM itself puts into the object before its pre-call hooks run; it overwrites a caller's value.
_LITELLM_OWN: Final = frozenset(
    {
        "proxy_server_request",
        "secret_fields",
        "litellm_call_id",
        "litellm_logging_obj",
        "litellm_trace_id",
        "litellm_session_id",
    }
)
_SLOT: Final[Mapping[CallType, str]] = MappingProxyType(
    {
        CallType.CHAT: "metadata",
        CallType.COMPLETION: "metadata",
        CallType.EMBEDDING: "metadata",
        CallType.MESSAGES: "litellm_metadata",
        CallType.RESPONSES: "litellm_metadata",
    }
)

# Metadata keys that LiteLLM acts on and does not write itself before its pre-call hooks.
_METADATA_CONTROLS: Final = frozenset(
    [
        "redis_namespace",
        "cache_key",
        "caching_groups",
        "specific_deployment",
        "deployment",
        "api_base",
        "model_group",
        "model_info",
        "previous_models",
        "original_model_group",
        "silent_model",
        "prompt_id",
        "prompt_variables",
        "fallbacks",
        "routing_decision",
        "permit_router",
    ]
)
# What LiteLLM writes into the same object before it copies it aside as the caller's.
_WRITTEN_BY_LITELLM: Final = frozenset({"headers", "used_client_oauth_token", "trace_id", "session_id"})
_METADATA_VALUE_LIMIT: Final = 512

# Work that goes on without a request, or context that lives at an endpoint this permit may not name.
REFUSED: Final[Mapping[CallType, tuple[str, ...]]] = MappingProxyType(
    {
        CallType.RESPONSES: ("background", "previous_response_id", "conversation", "prompt"),
        CallType.MESSAGES: ("container", "inference_geo"),
    }
)
"""Fields that end a request when they say anything."""

# Tools for which LiteLLM sends the prompt elsewhere itself.
_REFUSED_TOOLS: Final = frozenset({"mcp", "mcp_toolset", "file_search"})

DESTINATION: Final = (
    "api_base",
    "base_url",
    "api_key",
    "api_version",
    "organization",
    "region_name",
    "litellm_credential_name",
    "prompt_id",
    "use_litellm_proxy",
    "aws_region_name",
    "aws_bedrock_runtime_endpoint",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "aws_session_name",
    "aws_role_name",
    "aws_profile_name",
    "aws_web_identity_token",
    "aws_sts_endpoint",
    "aws_external_id",
    "sagemaker_base_url",
    "vertex_project",
    "vertex_location",
    "vertex_credentials",
    "azure_ad_token",
    "azure_username",
    "azure_password",
    "azure_scope",
    "tenant_id",
    "client_id",
    "client_secret",
    "watsonx_region_name",
    "proxy",
    "extra_headers",
    "extra_body",
    "extra_query",
    "default_headers",
)
"""What of a call says where it goes and with whose account; the final check compares each with the deployment."""

CONTROL_FIELDS: Final = frozenset(DESTINATION) | frozenset(
    [
        "custom_llm_provider",
        "headers",
        "client",
        "model_list",
        "user_config",
        "router_settings_override",
        "fallbacks",
        "context_window_fallbacks",
        "content_policy_fallbacks",
        "disable_fallbacks",
        "num_retries",
        "max_retries",
        "retry_policy",
        "timeout",
        "stream_timeout",
        "request_timeout",
        "specific_deployment",
        "deployment_id",
        "deployment",
        "litellm_params",
        "litellm_metadata",
        "model_info",
        "metadata",
        "proxy_server_request",
        "secret_fields",
        "cache",
        "caching",
        "ttl",
        "no-log",
        "no_log",
        "tags",
        "guardrails",
        "mock_response",
        "mock_tool_calls",
        "mock_testing_fallbacks",
        "prompt_variables",
        "prompt_label",
        "prompt_version",
        "vector_store_ids",
        "callbacks",
        "success_callback",
        "failure_callback",
        "input_cost_per_token",
        "output_cost_per_token",
        "fastest_response",
        "silent_model",
    ]
)
"""Fields that no operator may open: they steer where a request goes, or what is kept of it."""


def metadata_slot(call_type: CallType) -> str:
    """The field in which LiteLLM keeps its own metadata for this kind of call."""
    return _SLOT[call_type]


def scrub(data: MutableMapping[str, Any], call_type: CallType, extra: frozenset[str]) -> tuple[str, ...]:
    """Removes from `data` what a caller may not say, and gives the removed fields' names, sorted.

    Args:
        data: LiteLLM's request object; changed in place.
        call_type: Which schema the body follows.
        extra: Fields that the operator opened.
    """
    bypass = _cache_bypass(data.get("cache"))
    merged = data.get("litellm_metadata") if _SLOT[call_type] == "metadata" else None
    allowed = PUBLISHED[call_type] | _LITELLM_OWN | {_SLOT[call_type]} | (extra - CONTROL_FIELDS)
    dropped = [name for name in data if name not in allowed]
    for name in dropped:
        del data[name]
    if bypass:
        data["cache"] = bypass
    slot = _SLOT[call_type]
    dropped += _scrub_controls(data.get(slot), slot)
    if slot == "metadata":
        dropped += _scrub_values(data.get(slot))
        _take_back(data.get(slot), merged)
    else:
        # LiteLLM reads some controls from a caller's own metadata too, `caching_groups` among them.
        dropped += _scrub_own(data.get("metadata"))
    return tuple(sorted(dropped))


def refusal(data: Mapping[str, Any], call_type: CallType) -> Verdict | None:
    """Says why a body cannot be served at all; None when it can."""
    model = data.get("model")
    if not isinstance(model, str) or "," in model:
        # LiteLLM takes a list, or a comma, for several calls at once.
        return Verdict(Reason.BODY_INVALID, "The field 'model' must name one model group.")
    named = [name for name in REFUSED.get(call_type, ()) if data.get(name)]
    if named:
        return Verdict(
            Reason.BODY_INVALID,
            f"The field {named[0]!r} refers to work or state outside this request; send the whole context instead.",
        )
    refused = sorted(_REFUSED_TOOLS & set(_tool_types(data.get("tools"))))
    if refused:
        return Verdict(
            Reason.BODY_INVALID,
            f"Tools of type {refused[0]!r} send the prompt to places that no permit names; use function tools.",
        )
    misshapen = _misshapen(data, call_type)
    return Verdict(Reason.BODY_INVALID, misshapen) if misshapen else None


def _misshapen(data: Mapping[str, Any], call_type: CallType) -> str | None:
    """Says what of a body has no published shape; LiteLLM would take it for a provider's failure."""
    if call_type in {CallType.CHAT, CallType.MESSAGES}:
        messages = data.get("messages")
        if not isinstance(messages, list) or not all(_is_message(each) for each in messages):
            return "The field 'messages' must be a list of objects whose content is text or a list of parts."
    if call_type is CallType.RESPONSES and _refers_to_stored(data):
        return "Items and containers that are stored at a provider cannot be referred to; send the whole context."
    for name, kind in (
        ("response_format", Mapping),
        ("tools", list),
        ("metadata", Mapping),
        ("stream_options", Mapping),
    ):
        if data.get(name) is not None and not isinstance(data[name], kind):
            return f"The field {name!r} must be {'a list' if kind is list else 'an object'}."
    return None


def _is_message(message: object) -> bool:
    return isinstance(message, Mapping) and isinstance(message.get("content"), str | list | None)


def _refers_to_stored(data: Mapping[str, Any]) -> bool:
    items = data.get("input")
    tools = data.get("tools")
    return any(
        isinstance(item, Mapping) and item.get("type") == "item_reference"
        for item in (items if isinstance(items, list) else ())
    ) or any(
        isinstance(tool, Mapping) and isinstance(tool.get("container"), str)
        for tool in (tools if isinstance(tools, list) else ())
    )


def _cache_bypass(asked: object) -> dict[str, bool]:
    """What a caller may say of the response cache: not to read it, not to write it."""
    if not isinstance(asked, Mapping):
        return {}
    return {switch: True for switch in ("no-cache", "no-store") if asked.get(switch) is True}


def _tool_types(tools: object) -> Iterator[str]:
    for tool in tools if isinstance(tools, list) else ():
        kind = tool.get("type") if isinstance(tool, Mapping) else None
        if isinstance(kind, str):
            yield kind


def _scrub_controls(metadata: object, slot: str) -> list[str]:
    if not isinstance(metadata, MutableMapping):
        return []
    dropped = [key for key in metadata if key in _METADATA_CONTROLS]
    for key in dropped:
        del metadata[key]
    return [f"{slot}.{key}" for key in dropped]


def _scrub_values(metadata: object) -> list[str]:
    """Removes a caller's metadata that is not short text, which is all that OpenAI's schema publishes."""
    if not isinstance(metadata, MutableMapping):
        return []
    written = metadata.get("requester_metadata")
    if not isinstance(written, Mapping):
        return []
    dropped = [
        key for key, value in written.items() if key not in _WRITTEN_BY_LITELLM and not _is_short_text(value)
    ]
    for key in dropped:
        metadata.pop(key, None)
    return [f"metadata.{key}" for key in dropped]


def _scrub_own(metadata: object) -> list[str]:
    """Removes controls and what is not short text from metadata that LiteLLM leaves as the caller wrote it."""
    if not isinstance(metadata, MutableMapping):
        return []
    dropped = [
        key for key, value in metadata.items() if key in _METADATA_CONTROLS or not _is_short_text(value)
    ]
    for key in dropped:
        del metadata[key]
    return [f"metadata.{key}" for key in dropped]


def _take_back(metadata: object, merged: object) -> None:
    """Removes what LiteLLM merged from a caller's `litellm_metadata` into its own metadata."""
    if not isinstance(metadata, MutableMapping) or not isinstance(merged, Mapping):
        return
    for key, value in merged.items():
        if key == "tags" and isinstance(metadata.get(key), list) and isinstance(value, list):
            metadata[key] = [tag for tag in metadata[key] if tag not in value]
        elif key in metadata and metadata[key] == value:
            del metadata[key]


def _is_short_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _METADATA_VALUE_LIMIT
