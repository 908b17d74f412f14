"""The reply: what a simulated provider answers, before a dialect writes it down."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_CHARS_PER_TOKEN = 4
_PROMPT_FIELDS = ("system", "instructions", "messages", "prompt", "input", "query", "documents", "contents")


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: the request it answers, its text and consistent token counts."""

    request: Mapping[str, Any]
    text: str
    prompt_tokens: int
    completion_tokens: int
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def model(self) -> str:
        """The model that the request named."""
        return str(self.request.get("model", ""))

    @property
    def total_tokens(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def pieces(self) -> list[str]:
        """The text cut into two or more pieces for a stream; joined, they are the text."""
        words = re.findall(r"\s*\S+\s*?(?=\s|$)|\s+", self.text)
        if len(words) > 1:
            return words
        middle = len(self.text) // 2
        return [self.text[:middle], self.text[middle:]]


def estimated_tokens(text: str) -> int:
    """Count four characters as a token; at least one."""
    return max(1, len(text) // _CHARS_PER_TOKEN)


def prompt_text(payload: Mapping[str, Any]) -> str:
    """Join every string of the fields that carry a prompt in any of the dialects."""
    return " ".join(text for name in _PROMPT_FIELDS for text in _strings(payload.get(name)))


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for inner in value.values() for text in _strings(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in _strings(inner)]
    return []


def json_bytes(value: Any) -> bytes:
    """Encode as compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


def data_event(value: Any) -> bytes:
    """One server-sent event without a name, as OpenAI's chat streams use."""
    return b"data: " + json_bytes(value) + b"\n\n"


def named_event(value: Mapping[str, Any]) -> bytes:
    """One server-sent event named by its own `type`, as Anthropic and OpenAI's responses use."""
    return b"event: " + str(value["type"]).encode() + b"\n" + data_event(value)
