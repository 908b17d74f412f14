"""Body fields: what of a caller's body may reach LiteLLM.

Beside the published schemas LiteLLM reads many more fields from the same object (destinations,
credentials, fallbacks, retries, cache and logging switches); none of them passes.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from litellm_plugin.errors import Reason, RequestDenied, Verdict
from litellm_plugin.proxy.bodies import REFUSED_FIELDS, tool_refusal
from litellm_plugin.proxy.schemas import PUBLISHED
from litellm_plugin.routing.facts import CallType

if TYPE_CHECKING:
    from litellm_plugin.proxy.slots import Slot

# What LiteLLM itself puts into the object before its pre-call hooks run; it overwrites a caller's value.
_LITELLM_OWN: Final = frozenset(
    {
        "proxy_server_request",
        "secret_fields",
        "litellm_call_id",
        "litellm_logging_obj",
        "litellm_trace_id",
        "litellm_session_id",
        # How the stream of a Gemini answer is framed; set by the path's handler.
        "_litellm_skip_openai_stream_done",
        "_litellm_raw_sse_stream",
    }
)
# What a path's handler puts into the object of one kind of call, whatever the caller sent.
_WRITTEN_BEFORE_HOOKS: Final = {
    # An image's prompt as a chat message, for guardrails; what they make of it becomes the prompt again.
    CallType.IMAGE_GENERATION: frozenset({"messages"}),
    CallType.RESPONSES_SOCKET: frozenset({"websocket", "first_message"}),
    CallType.REALTIME: frozenset({"websocket", "query_params"}),
}
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


def published(
    document: Mapping[str, object], call_type: CallType, extra: frozenset[str]
) -> tuple[dict[str, object], tuple[str, ...]]:
    """Gives what of a body LiteLLM may read at all, and the names of what is left out, sorted.

    LiteLLM acts on some fields before its hooks run (`success_callback` opens a log destination), so they
    go before it sees the body.

    Args:
        document: The body's fields.
        call_type: Which schema the body follows.
        extra: Fields that the operator opened.
    """
    if call_type is CallType.PASS_THROUGH:
        return _in_provider_schema(document)
    refused = REFUSED_FIELDS.get(call_type, ())
    allowed = PUBLISHED[call_type] | {"metadata", *refused} | (extra - CONTROL_FIELDS)
    kept = {name: value for name, value in document.items() if name.removesuffix("[]") in allowed}
    dropped = tuple(sorted(document.keys() - kept.keys()))
    bypass = _cache_bypass(document.get("cache"))
    return ({**kept, "cache": bypass} if bypass else kept), dropped


def _in_provider_schema(document: Mapping[str, object]) -> tuple[dict[str, object], tuple[str, ...]]:
    """A pass-through's body is the provider's own, whose schema nobody knows here: LiteLLM's controls go.

    Raises:
        RequestDenied: It asks for work that goes on without a request, or for tools that lead elsewhere.
    """
    if document.get("background"):
        raise RequestDenied(
            Verdict(Reason.BODY_INVALID, "The field 'background' asks for work outside this request.")
        )
    refused = tool_refusal(document.get("tools"))
    if document.get("mcp_servers"):
        refused = Verdict(
            Reason.BODY_INVALID, "The field 'mcp_servers' sends the prompt to places that no permit names."
        )
    if refused is not None:
        raise RequestDenied(refused)
    steering = CONTROL_FIELDS - {"metadata"}
    kept = {name: value for name, value in document.items() if name not in steering}
    return kept, tuple(sorted(document.keys() - kept.keys()))


def scrub(
    data: MutableMapping[str, Any], call_type: CallType, slot: Slot, extra: frozenset[str]
) -> tuple[str, ...]:
    """Removes from `data` what a caller may not say, and gives the removed fields' names, sorted.

    Args:
        data: LiteLLM's request object; changed in place.
        call_type: Which schema the body follows.
        slot: The field in which LiteLLM keeps its own metadata for this request.
        extra: Fields that the operator opened.
    """
    bypass = _cache_bypass(data.get("cache"))
    merged = data.get("litellm_metadata") if slot == "metadata" else None
    allowed = (
        PUBLISHED[call_type]
        | _LITELLM_OWN
        | _WRITTEN_BEFORE_HOOKS.get(call_type, frozenset())
        | {slot}
        | (extra - CONTROL_FIELDS)
    )
    dropped = [name for name in data if name not in allowed]
    for name in dropped:
        del data[name]
    if bypass:
        data["cache"] = bypass
    dropped += _scrub_controls(data.get(slot), slot)
    if slot == "metadata":
        dropped += _scrub_values(data.get(slot))
        _take_back(data.get(slot), merged)
    else:
        # LiteLLM reads some controls from a caller's own metadata too, `caching_groups` among them.
        dropped += _scrub_own(data.get("metadata"))
    return tuple(sorted(dropped))


def _cache_bypass(asked: object) -> dict[str, bool]:
    """What a caller may say of the response cache: not to read it, not to write it."""
    if not isinstance(asked, Mapping):
        return {}
    return {switch: True for switch in ("no-cache", "no-store") if asked.get(switch) is True}


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
