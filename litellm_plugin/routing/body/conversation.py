"""Conversations of OpenAI's and Anthropic's dialects, which share one walk: chat, messages and responses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litellm_plugin.routing.body.fields import count, first_number, items, mapping, text
from litellm_plugin.routing.body.json_text import json_texts
from litellm_plugin.routing.body.reasoning import anthropic_effort, openai_effort
from litellm_plugin.routing.body.transcript import BodyFacts, Speaker, Transcript
from litellm_plugin.routing.facts import Capability

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from litellm_plugin.routing.body.fields import Body

# Tool results hold blocks, documents hold blocks; the dialects nest no deeper than this.
_DEEPEST_BLOCK = 4
_SPEAKERS: Mapping[str, Speaker] = {
    "system": Speaker.SYSTEM,
    "developer": Speaker.SYSTEM,
    "user": Speaker.USER,
    "assistant": Speaker.MODEL,
    "tool": Speaker.TOOL,
    "function": Speaker.TOOL,
}
_TEXT_FIELDS: Mapping[str, str] = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "refusal": "refusal",
    "thinking": "thinking",
}
_MEDIA: Mapping[str, Capability] = {
    "image_url": Capability.VISION,
    "image": Capability.VISION,
    "input_image": Capability.VISION,
    "input_audio": Capability.AUDIO_INPUT,
    "file": Capability.PDF_INPUT,
    "input_file": Capability.PDF_INPUT,
}
# Tools that the provider itself runs need no function calling; Anthropic's types end in a date.
# https://platform.openai.com/docs/guides/tools, https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/overview
_PROVIDERS_TOOLS = (
    "web_search",
    "web_fetch",
    "code_execution",
    "code_interpreter",
    "file_search",
    "image_generation",
    "tool_search",
    "mcp",
)


def chat_facts(body: Body) -> BodyFacts:
    """Reads a chat completion body.

    Source: https://platform.openai.com/docs/api-reference/chat/create
    """
    transcript = Transcript()
    _read_tools(transcript, [*items(body.get("tools")), *items(body.get("functions"))])
    _read_conversation(transcript, body.get("messages"))
    _read_schema(transcript, body.get("response_format"))
    if body.get("parallel_tool_calls") is True:
        transcript.need(Capability.PARALLEL_FUNCTION_CALLING)
    return transcript.facts(
        max_output_tokens=first_number(body, "max_completion_tokens", "max_tokens"),
        stream=body.get("stream") is True,
        output_count=count(body.get("n")),
        # LiteLLM takes Anthropic's `thinking` in a chat body too.
        reasoning_effort=openai_effort(body.get("reasoning_effort"))
        or anthropic_effort(body.get("thinking")),
    )


def messages_facts(body: Body) -> BodyFacts:
    """Reads a body of Anthropic's Messages API.

    Source: https://docs.anthropic.com/en/api/messages
    """
    transcript = Transcript()
    config = mapping(body.get("output_config"))
    _read_tools(transcript, items(body.get("tools")))
    _read_blocks(transcript, Speaker.SYSTEM, body.get("system"))
    _read_conversation(transcript, body.get("messages"))
    _read_schema(transcript, body.get("output_format"))
    _read_schema(transcript, config.get("format"))
    if mapping(body.get("tool_choice")).get("disable_parallel_tool_use") is False:
        transcript.need(Capability.PARALLEL_FUNCTION_CALLING)
    return transcript.facts(
        max_output_tokens=first_number(body, "max_tokens"),
        stream=body.get("stream") is True,
        reasoning_effort=anthropic_effort(body.get("thinking"), config),
    )


def responses_facts(body: Body) -> BodyFacts:
    """Reads a body of the Responses API.

    Source: https://platform.openai.com/docs/api-reference/responses/create
    """
    transcript = Transcript()
    _read_tools(transcript, items(body.get("tools")))
    _read_blocks(transcript, Speaker.SYSTEM, body.get("instructions"))
    _read_conversation(transcript, body.get("input"))
    _read_schema(transcript, mapping(body.get("text")).get("format"))
    if body.get("parallel_tool_calls") is True:
        transcript.need(Capability.PARALLEL_FUNCTION_CALLING)
    return transcript.facts(
        max_output_tokens=first_number(body, "max_output_tokens"),
        stream=body.get("stream") is True,
        reasoning_effort=openai_effort(body.get("reasoning")),
    )


def _read_tools(transcript: Transcript, tools: Iterable[object]) -> None:
    """Tool definitions: they need function calling, and they are prompt text too."""
    for tool in tools:
        outer = mapping(tool)
        if text(outer.get("type")).startswith(_PROVIDERS_TOOLS):
            continue
        fields = mapping(outer.get("function")) or mapping(outer.get("custom")) or outer
        schema = fields.get("parameters", fields.get("input_schema"))
        transcript.declare(text(fields.get("name")), text(fields.get("description")), schema)


def _read_schema(transcript: Transcript, value: object) -> None:
    if mapping(value).get("type") == "json_schema":
        transcript.need(Capability.RESPONSE_SCHEMA)


def _read_conversation(transcript: Transcript, value: object) -> None:
    """A text of the user, or a list of messages and of the Responses API's typed items."""
    transcript.say(Speaker.USER, text(value))
    for item in items(value):
        fields = mapping(item)
        speaker = _SPEAKERS.get(text(fields.get("role")), Speaker.USER)
        if speaker is Speaker.TOOL:
            transcript.result()
        _read_blocks(transcript, speaker, fields.get("content"))
        # Most messages have none of these, and a long conversation has many messages.
        if "type" in fields:
            _read_block(transcript, speaker, fields, _DEEPEST_BLOCK)
        if "function_call" in fields:
            _read_call(transcript, fields["function_call"])
        if "tool_calls" in fields:
            for call in map(mapping, items(fields["tool_calls"])):
                _read_call(transcript, call.get("function", call.get("custom")))


def _read_blocks(
    transcript: Transcript, speaker: Speaker, value: object, depth: int = _DEEPEST_BLOCK
) -> None:
    """A text, or a list of content blocks."""
    if isinstance(value, str):
        transcript.say(speaker, value)
        return
    for block in items(value):
        _read_block(transcript, speaker, mapping(block), depth)


def _read_block(transcript: Transcript, speaker: Speaker, fields: Body, depth: int) -> None:
    kind = text(fields.get("type"))
    if depth == 0 or not kind:
        return
    if kind in _TEXT_FIELDS:
        transcript.say(speaker, text(fields.get(_TEXT_FIELDS[kind])))
    elif kind in _MEDIA:
        transcript.show(speaker, _MEDIA[kind])
    elif kind == "document":
        _read_document(transcript, speaker, mapping(fields.get("source")), depth - 1)
    elif kind == "tool_use":
        transcript.call(text(fields.get("name")), json_texts(fields.get("input")))
    elif kind == "tool_result":
        transcript.result()
        _read_blocks(transcript, Speaker.TOOL, fields.get("content"), depth - 1)
    elif kind in {"function_call", "custom_tool_call"}:
        _read_call(transcript, fields)
    elif kind in {"function_call_output", "custom_tool_call_output"}:
        transcript.result()
        _read_blocks(transcript, Speaker.TOOL, fields.get("output"), depth - 1)


def _read_document(transcript: Transcript, speaker: Speaker, source: Body, depth: int) -> None:
    match source.get("type"):
        case "text":
            transcript.say(speaker, text(source.get("data")))
        case "content":
            _read_blocks(transcript, speaker, source.get("content"), depth)
        case _:
            transcript.show(speaker, Capability.PDF_INPUT)


def _read_call(transcript: Transcript, value: object) -> None:
    """A call in the history: its name, and its arguments as text."""
    fields = mapping(value)
    if fields:
        arguments = fields.get("arguments", fields.get("input"))
        transcript.call(text(fields.get("name")), [text(arguments)])
