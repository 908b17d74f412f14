"""The prompts file: the user's own requests, one a line, as text or as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from litellm_plugin.cli.demo.tenants import KEYS
from litellm_plugin.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_LIMIT_BYTES: Final = 16 * 1024 * 1024
_SHOWN_FAULTS: Final = 20
_SHOWN_CHARACTERS: Final = 80
_FIELDS: Final = "prompt or messages, and optionally tenant, classification, model, stream, max_tokens"


@dataclass(frozen=True, slots=True)
class UserPrompt:
    """One request of the user's.

    Attributes:
        line: The line it stands on, from 1.
        messages: The conversation, in OpenAI's shape.
        key: The API key of the tenant that sends it.
        classification: The classification that the caller declares; None leaves it to the gateway.
        model: The model group.
        stream: Whether the answer is streamed.
        max_tokens: The limit of the answer; None sets none.
    """

    line: int
    messages: tuple[Mapping[str, Any], ...]
    key: str
    classification: str | None
    model: str
    stream: bool
    max_tokens: int | None

    @property
    def label(self) -> str:
        """The beginning of what is asked, for the table."""
        content = self.messages[-1].get("content")
        text = " ".join(content.split()) if isinstance(content, str) else "(several parts)"
        return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"

    def body(self) -> dict[str, Any]:
        """The request's body."""
        limit = {} if self.max_tokens is None else {"max_tokens": self.max_tokens}
        stream = {"stream": True} if self.stream else {}
        return {"model": self.model, "messages": list(self.messages), **stream, **limit}


class _Message(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: str | None = Field(default=None, min_length=1)
    messages: list[_Message] | None = Field(default=None, min_length=1)
    tenant: str = "acme"
    classification: str | None = None
    model: str = "chat"
    stream: bool = False
    max_tokens: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _asks_once(self) -> _Line:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("exactly one of prompt and messages is expected")
        return self


def read_prompts(path: Path, *, models: Iterable[str], classifications: Iterable[str]) -> list[UserPrompt]:
    """Reads a prompts file; nothing is sent before all of it was read.

    A line is a prompt as plain text or, when it begins with `{`, a JSON object with `prompt` or `messages`
    and optionally `tenant`, `classification`, `model`, `stream` and `max_tokens`. Empty lines are skipped.

    Args:
        path: The file.
        models: The model groups there are.
        classifications: The classifications there are.

    Raises:
        ConfigurationError: Names each bad line by its number, and what was expected there.
    """
    known = {"model": sorted(models), "classification": sorted(classifications)}
    prompts: list[UserPrompt] = []
    faults: list[str] = []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            prompts.append(_user_prompt(number, line.strip(), known))
        except ConfigurationError as error:
            faults.append(f"{path}, line {number}: {error}")
    if faults:
        hidden = len(faults) - _SHOWN_FAULTS
        more = [f"and {hidden} more bad lines"] if hidden > 0 else []
        raise ConfigurationError("\n".join([*faults[:_SHOWN_FAULTS], *more]))
    if not prompts:
        raise ConfigurationError(f"{path}: at least one prompt is expected, the file holds none")
    return prompts


def _lines(path: Path) -> list[str]:
    try:
        if path.stat().st_size > _LIMIT_BYTES:
            raise ConfigurationError(f"{path}: at most {_LIMIT_BYTES} bytes are expected")
        # Not splitlines(): JSON strings may hold the Unicode line separators that it would split at.
        return path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read as UTF-8 text: {error}") from error


def _user_prompt(number: int, line: str, known: Mapping[str, list[str]]) -> UserPrompt:
    fields = _parsed(line) if line.startswith("{") else _Line(prompt=line)
    _check("tenant", fields.tenant, sorted(KEYS))
    _check("model", fields.model, known["model"])
    if fields.classification is not None:
        _check("classification", fields.classification, known["classification"])
    messages = [{"role": "user", "content": fields.prompt}]
    if fields.messages is not None:
        messages = [message.model_dump(mode="json") for message in fields.messages]
    return UserPrompt(
        line=number,
        messages=tuple(messages),
        key=KEYS[fields.tenant],
        classification=fields.classification,
        model=fields.model,
        stream=fields.stream,
        max_tokens=fields.max_tokens,
    )


def _parsed(line: str) -> _Line:
    try:
        return _Line.model_validate(json.loads(line))
    except json.JSONDecodeError as error:
        raise ConfigurationError(
            f"a JSON object was expected, since the line begins with '{{': {error.msg} at character {error.pos + 1}"
        ) from error
    except RecursionError as error:
        raise ConfigurationError("a JSON object was expected, this one is nested too deeply") from error
    except ValidationError as error:
        raise ConfigurationError(_explained(error)) from error


def _explained(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"unknown key {where[:_SHOWN_CHARACTERS]!r}; expected are {_FIELDS}"
    message = fault["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _check(name: str, value: str, known: list[str]) -> None:
    if value not in known:
        raise ConfigurationError(
            f"{name}: one of {', '.join(known)} was expected, got {value[:_SHOWN_CHARACTERS]!r}"
        )
