"""Gemini's dialect: contents of parts; whether it streams stands in its path.

Source: https://ai.google.dev/api/generate-content
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from litellm_plugin.routing.body.fields import count, either, items, mapping, number, text
from litellm_plugin.routing.body.json_text import json_texts
from litellm_plugin.routing.body.reasoning import gemini_effort
from litellm_plugin.routing.body.transcript import BodyFacts, Speaker, Transcript
from litellm_plugin.routing.facts import Capability

if TYPE_CHECKING:
    from litellm_plugin.routing.body.fields import Body

# A function's response must be an object; Google's client puts a plain answer under one of these.
# https://ai.google.dev/api/caching#FunctionResponse
_PLAIN_ANSWERS = ("output", "result", "error")


def generate_content_facts(body: Body) -> BodyFacts:
    """Reads a body of Gemini's generateContent."""
    transcript = Transcript()
    config = mapping(either(body, "generationConfig", "generation_config"))
    for tool in map(mapping, items(body.get("tools"))):
        for each in map(mapping, items(either(tool, "functionDeclarations", "function_declarations"))):
            schema = each.get("parameters", either(each, "parametersJsonSchema", "parameters_json_schema"))
            transcript.declare(text(each.get("name")), text(each.get("description")), schema)
    _read_parts(transcript, Speaker.SYSTEM, either(body, "systemInstruction", "system_instruction"))
    for content in items(body.get("contents")):
        is_model = mapping(content).get("role") == "model"
        _read_parts(transcript, Speaker.MODEL if is_model else Speaker.USER, content)
    if either(config, "responseSchema", "response_schema") or either(
        config, "responseJsonSchema", "response_json_schema"
    ):
        transcript.need(Capability.RESPONSE_SCHEMA)
    return transcript.facts(
        max_output_tokens=number(either(config, "maxOutputTokens", "max_output_tokens")),
        stream=body.get("stream") is True,
        output_count=count(either(config, "candidateCount", "candidate_count")),
        reasoning_effort=gemini_effort(either(config, "thinkingConfig", "thinking_config")),
    )


def _read_parts(transcript: Transcript, speaker: Speaker, value: object) -> None:
    """A text, or parts that hold text, media, calls or their results."""
    transcript.say(speaker, text(value))
    for part in map(mapping, items(mapping(value).get("parts"))):
        transcript.say(speaker, text(part.get("text")))
        media = mapping(either(part, "inlineData", "inline_data")) or mapping(
            either(part, "fileData", "file_data")
        )
        _read_media(transcript, speaker, text(either(media, "mimeType", "mime_type")))
        call = mapping(either(part, "functionCall", "function_call"))
        if call:
            transcript.call(text(call.get("name")), json_texts(call.get("args")))
        result = mapping(either(part, "functionResponse", "function_response"))
        if result:
            _read_result(transcript, mapping(result.get("response")))


def _read_result(transcript: Transcript, response: Body) -> None:
    transcript.result()
    plain = next((response[name] for name in _PLAIN_ANSWERS if name in response), None)
    if len(response) == 1 and isinstance(plain, str):
        transcript.say(Speaker.TOOL, plain)
        return
    for each in json_texts(response or None):
        transcript.say(Speaker.TOOL, each)


def _read_media(transcript: Transcript, speaker: Speaker, mime_type: str) -> None:
    if mime_type.startswith("image/"):
        transcript.show(speaker, Capability.VISION)
    elif mime_type.startswith("video/"):
        transcript.need(Capability.VISION)
    elif mime_type.startswith("audio/"):
        transcript.show(speaker, Capability.AUDIO_INPUT)
    elif mime_type == "application/pdf":
        transcript.show(speaker, Capability.PDF_INPUT)
