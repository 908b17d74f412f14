"""One conversation, and how each dialect writes it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

BUDGETS = {"none": 0, "minimal": 128, "low": 1024, "medium": 2048, "high": 4096, "xhigh": 8192}
IMAGE, AUDIO, DOCUMENT = "image", "audio", "document"


@dataclass(frozen=True)
class Said:
    """What the user says: texts, and media by name."""

    texts: tuple[str, ...] = ()
    media: tuple[str, ...] = ()


@dataclass(frozen=True)
class Round:
    """What the model says, the tools it calls with which arguments, and what they answer."""

    text: str = ""
    calls: tuple[tuple[str, dict, str], ...] = ()


@dataclass(frozen=True)
class Talk:
    system: str = ""
    tools: tuple[tuple[str, str, dict], ...] = ()
    turns: tuple[Said | Round, ...] = ()
    limit: int | None = None
    stream: bool = False
    has_schema: bool = False
    effort: str | None = None
    outputs: int = 1
    parallel: bool = field(default=False)


def chat(talk):
    media = {
        IMAGE: {"type": "image_url", "image_url": {"url": "data:x"}},
        AUDIO: {"type": "input_audio", "input_audio": {"data": "x", "format": "mp3"}},
        DOCUMENT: {"type": "file", "file": {"file_data": "x"}},
    }
    messages = [{"role": "system", "content": talk.system}] if talk.system else []
    for turn in talk.turns:
        if isinstance(turn, Said):
            texts = [{"type": "text", "text": text} for text in turn.texts]
            messages.append({"role": "user", "content": texts + [media[each] for each in turn.media]})
            continue
        calls = [
            {
                "id": str(number),
                "type": "function",
                "function": {"name": name, "arguments": compact(arguments)},
            }
            for number, (name, arguments, _) in enumerate(turn.calls)
        ]
        messages.append(
            {"role": "assistant", "content": turn.text or None, **({"tool_calls": calls} if calls else {})}
        )
        messages += [
            {"role": "tool", "tool_call_id": str(number), "content": answer}
            for number, (_, _, answer) in enumerate(turn.calls)
        ]
    tools = [
        {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}
        for name, description, schema in talk.tools
    ]
    return {
        "messages": messages,
        "tools": tools,
        "stream": talk.stream,
        **({"max_completion_tokens": talk.limit} if talk.limit is not None else {}),
        **({"response_format": {"type": "json_schema", "json_schema": {}}} if talk.has_schema else {}),
        **({"reasoning_effort": talk.effort} if talk.effort else {}),
        **({"n": talk.outputs} if talk.outputs != 1 else {}),
        **({"parallel_tool_calls": True} if talk.parallel else {}),
    }


def messages(talk):
    media = {
        IMAGE: {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "x"}},
        DOCUMENT: {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "x"},
        },
    }
    written = []
    for turn in talk.turns:
        if isinstance(turn, Said):
            texts = [{"type": "text", "text": text} for text in turn.texts]
            written.append({"role": "user", "content": texts + [media[each] for each in turn.media]})
            continue
        blocks = [{"type": "text", "text": turn.text}] if turn.text else []
        blocks += [
            {"type": "tool_use", "id": str(number), "name": name, "input": arguments}
            for number, (name, arguments, _) in enumerate(turn.calls)
        ]
        written.append({"role": "assistant", "content": blocks})
        results = [
            {"type": "tool_result", "tool_use_id": str(number), "content": answer}
            for number, (_, _, answer) in enumerate(turn.calls)
        ]
        if results:
            written.append({"role": "user", "content": results})
    budget = BUDGETS.get(talk.effort)
    return {
        "system": talk.system,
        "messages": written,
        "tools": [{"name": n, "description": d, "input_schema": schema} for n, d, schema in talk.tools],
        "stream": talk.stream,
        **({"max_tokens": talk.limit} if talk.limit is not None else {}),
        **({"output_config": {"format": {"type": "json_schema", "schema": {}}}} if talk.has_schema else {}),
        **({"thinking": {"type": "enabled", "budget_tokens": budget}} if budget else {}),
        **({"thinking": {"type": "disabled"}} if budget == 0 else {}),
        **({"tool_choice": {"type": "auto", "disable_parallel_tool_use": False}} if talk.parallel else {}),
    }


def responses(talk):
    media = {
        IMAGE: {"type": "input_image", "image_url": "data:x"},
        AUDIO: {"type": "input_audio", "input_audio": {"data": "x", "format": "mp3"}},
        DOCUMENT: {"type": "input_file", "file_data": "x"},
    }
    items = []
    for turn in talk.turns:
        if isinstance(turn, Said):
            texts = [{"type": "input_text", "text": text} for text in turn.texts]
            items.append({"role": "user", "content": texts + [media[each] for each in turn.media]})
            continue
        if turn.text:
            content = [{"type": "output_text", "text": turn.text}]
            items.append({"type": "message", "role": "assistant", "content": content})
        items += [
            {"type": "function_call", "call_id": str(number), "name": name, "arguments": compact(arguments)}
            for number, (name, arguments, _) in enumerate(turn.calls)
        ]
        items += [
            {"type": "function_call_output", "call_id": str(number), "output": answer}
            for number, (_, _, answer) in enumerate(turn.calls)
        ]
    return {
        "instructions": talk.system,
        "input": items,
        "tools": [
            {"type": "function", "name": name, "description": description, "parameters": schema}
            for name, description, schema in talk.tools
        ],
        "stream": talk.stream,
        **({"max_output_tokens": talk.limit} if talk.limit is not None else {}),
        **({"text": {"format": {"type": "json_schema", "schema": {}}}} if talk.has_schema else {}),
        **({"reasoning": {"effort": talk.effort}} if talk.effort else {}),
        **({"parallel_tool_calls": True} if talk.parallel else {}),
    }


def gemini(talk):
    mime_types = {IMAGE: "image/png", AUDIO: "audio/mp3", DOCUMENT: "application/pdf"}
    contents = []
    for turn in talk.turns:
        if isinstance(turn, Said):
            shown = [{"inlineData": {"mimeType": mime_types[each], "data": "x"}} for each in turn.media]
            contents.append({"role": "user", "parts": [{"text": text} for text in turn.texts] + shown})
            continue
        parts = [{"text": turn.text}] if turn.text else []
        parts += [{"functionCall": {"name": name, "args": arguments}} for name, arguments, _ in turn.calls]
        contents.append({"role": "model", "parts": parts})
        results = [
            {"functionResponse": {"name": name, "response": {"output": answer}}}
            for name, _, answer in turn.calls
        ]
        if results:
            contents.append({"role": "user", "parts": results})
    config = {
        **({"maxOutputTokens": talk.limit} if talk.limit is not None else {}),
        **({"responseSchema": {"type": "OBJECT"}} if talk.has_schema else {}),
        **({"thinkingConfig": {"thinkingBudget": BUDGETS[talk.effort]}} if talk.effort else {}),
        **({"candidateCount": talk.outputs} if talk.outputs != 1 else {}),
    }
    declarations = [{"name": n, "description": d, "parameters": schema} for n, d, schema in talk.tools]
    return {
        "systemInstruction": {"parts": [{"text": talk.system}]},
        "contents": contents,
        "tools": [{"functionDeclarations": declarations}],
        "generationConfig": config,
        # LiteLLM puts it into the body for streamGenerateContent.
        "stream": talk.stream,
    }


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
