"""Bodies: which of them cannot be served at all, found before anything is planned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from litellm_plugin.errors import Reason, Verdict
from litellm_plugin.routing.facts import CallType

# Work that goes on without a request, or context that lives at an endpoint this permit may not name.
REFUSED_FIELDS: Final[Mapping[CallType, tuple[str, ...]]] = MappingProxyType(
    {
        CallType.RESPONSES: ("background", "conversation", "prompt"),
        CallType.MESSAGES: ("container", "inference_geo"),
        CallType.GENERATE_CONTENT: ("cachedContent", "cached_content"),
    }
)
"""Fields that end the request, instead of being left out of it."""

# Longer than any group, deployment id or provider's model name; LiteLLM copies and logs the text many times.
MODEL_CHARS: Final = 512
# OpenAI publishes 16.
METADATA_KEYS: Final = 64

# Tools for which LiteLLM sends the prompt elsewhere itself.
_REFUSED_TOOLS: Final = frozenset({"mcp", "mcp_toolset", "file_search"})
# Gemini's tools are named by their key; these lead to stores and servers beside the endpoint.
_REFUSED_TOOL_KEYS: Final = frozenset(
    ["fileSearch", "file_search", "mcpServers", "mcp_servers", "retrieval", "urlContext", "url_context"]
)
_GEMINI_TOOL_KEYS: Final = frozenset(
    [
        "codeExecution",
        "code_execution",
        "functionDeclarations",
        "function_declarations",
        "googleSearch",
        "googleSearchRetrieval",
        "google_search",
        "google_search_retrieval",
    ]
)

# The shapes that are published, of fields that must be there and of fields that may.
_REQUIRED: Final[Mapping[CallType, Mapping[str, type]]] = MappingProxyType(
    {
        CallType.GENERATE_CONTENT: {"contents": list},
        CallType.IMAGE_GENERATION: {"prompt": str},
        CallType.SPEECH: {"input": str},
        CallType.RERANK: {"query": str, "documents": list},
    }
)
_OPTIONAL: Final[Mapping[str, type]] = MappingProxyType(
    {"tools": list, "metadata": Mapping, "stream_options": Mapping}
)
_CHAT_OPTIONAL: Final[Mapping[str, type]] = MappingProxyType({"response_format": Mapping, **_OPTIONAL})
_KINDS: Final[Mapping[type, str]] = {list: "a list", str: "text", Mapping: "an object"}


# Each item is looked at, here and by LiteLLM, while nothing else runs: a megabyte of empty ones takes seconds.
ITEMS: Final = 10_000
_LISTS: Final = ("messages", "input", "contents", "tools", "documents")
_LONG_MODEL: Final = Verdict(
    Reason.BODY_INVALID, f"The field 'model' must have at most {MODEL_CHARS} characters."
)


def excess(document: Mapping[str, object], call_type: CallType) -> Verdict | None:
    """Says what of a body as it came is larger than LiteLLM may copy; None when nothing is."""
    model = document.get("model")
    if isinstance(model, str) and len(model) > MODEL_CHARS:
        return _LONG_MODEL
    metadata = document.get("metadata")
    # A pass-through's metadata is in the provider's own schema.
    if (
        call_type is not CallType.PASS_THROUGH
        and isinstance(metadata, Mapping)
        and len(metadata) > METADATA_KEYS
    ):
        return Verdict(Reason.BODY_INVALID, f"The field 'metadata' must have at most {METADATA_KEYS} keys.")
    many = next((name for name in _LISTS if _items(document.get(name)) > ITEMS), None)
    return (
        Verdict(Reason.BODY_INVALID, f"The field {many!r} must have at most {ITEMS} items, parts included.")
        if many and call_type is not CallType.PASS_THROUGH
        else None
    )


def _items(value: object) -> int:
    """How many items a list has, with those of the lists one level below; numbers are tokens and no items."""
    if not isinstance(value, list) or (value and isinstance(value[0], int)):
        return 0
    below = (
        each.get("content", each.get("parts")) if isinstance(each, Mapping) else None
        for each in value[:ITEMS]
    )
    return len(value) + sum(len(each) for each in below if isinstance(each, list))


def refusal(data: Mapping[str, Any], call_type: CallType) -> Verdict | None:
    """Says why a body cannot be served at all; None when it can."""
    model = data.get("model")
    if not isinstance(model, str) or "," in model:
        # LiteLLM takes a list, or a comma, for several calls at once.
        return Verdict(Reason.BODY_INVALID, "The field 'model' must name one model group.")
    if len(model) > MODEL_CHARS:  # of a form the names alone were read before
        return _LONG_MODEL
    named = [name for name in REFUSED_FIELDS.get(call_type, ()) if data.get(name)]
    if named:
        return Verdict(
            Reason.BODY_INVALID,
            f"The field {named[0]!r} refers to work or state outside this request; send the whole context instead.",
        )
    refused = tool_refusal(data.get("tools"))
    if refused is not None:
        return refused
    if call_type is CallType.GENERATE_CONTENT and not set(_tool_keys(data.get("tools"))) <= _GEMINI_TOOL_KEYS:
        return Verdict(Reason.BODY_INVALID, f"The tools must be of: {', '.join(sorted(_GEMINI_TOOL_KEYS))}.")
    misshapen = _misshapen(data, call_type)
    return Verdict(Reason.BODY_INVALID, misshapen) if misshapen else None


def tool_refusal(tools: object) -> Verdict | None:
    """Says which of a body's tools sends the prompt elsewhere; None when none does."""
    refused = sorted(
        (_REFUSED_TOOLS & set(_tool_types(tools))) | (_REFUSED_TOOL_KEYS & set(_tool_keys(tools)))
    )
    if not refused:
        return None
    return Verdict(
        Reason.BODY_INVALID,
        f"Tools of type {refused[0]!r} send the prompt to places that no permit names; use function tools.",
    )


def _misshapen(data: Mapping[str, Any], call_type: CallType) -> str | None:
    """Says what of a body has no published shape; LiteLLM would take it for a provider's failure."""
    if call_type in {CallType.CHAT, CallType.MESSAGES}:
        messages = data.get("messages")
        if not isinstance(messages, list) or not all(_is_message(each) for each in messages):
            return "The field 'messages' must be a list of objects whose content is text or a list of parts."
    if call_type is CallType.RESPONSES and _refers_to_stored(data):
        return "Items and containers that are stored at a provider cannot be referred to; send the whole context."
    for name, kind in _REQUIRED.get(call_type, {}).items():
        if not isinstance(data.get(name), kind):
            return f"The field {name!r} must be {_KINDS[kind]}."
    for name, kind in (_CHAT_OPTIONAL if call_type is CallType.CHAT else _OPTIONAL).items():
        if data.get(name) is not None and not isinstance(data[name], kind):
            return f"The field {name!r} must be {_KINDS[kind]}."
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


def _tool_types(tools: object) -> Iterator[str]:
    for tool in tools if isinstance(tools, list) else ():
        kind = tool.get("type") if isinstance(tool, Mapping) else None
        if isinstance(kind, str):
            yield kind


def _tool_keys(tools: object) -> Iterator[str]:
    for tool in tools if isinstance(tools, list) else ():
        yield from tool if isinstance(tool, Mapping) else ()
