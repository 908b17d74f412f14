"""Meaning: whether a body says one thing, however it is read.

A permit binds the bytes of a body. The headers that say how to read them are not bound, and a parser may
be lenient: what the gateway read and what LiteLLM will read must be the same.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from litellm_plugin.errors import Reason, RequestDenied, Verdict
from litellm_plugin.permit.strict_json import StrictJsonError, parse_strict_json
from litellm_plugin.proxy.multipart import MultipartError, boundary_of, form_names
from litellm_plugin.routing.facts import CallType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

# Calls that carry files; the others are JSON.
_FORMS: Final = frozenset({CallType.IMAGE_EDIT, CallType.TRANSCRIPTION})
# Calls that say all in their path.
_BODILESS: Final = frozenset({CallType.STORED_RESPONSE})


def body_reader(
    headers: Iterable[tuple[bytes, bytes]], call_type: CallType
) -> Callable[[bytes], Mapping[str, object]]:
    """Gives what reads the body; it raises RequestDenied when the body can be read in two ways.

    What it returns are the fields by name; of a form the names alone.

    Args:
        headers: The request's raw headers.
        call_type: What the path takes: JSON, or a form with files.

    Raises:
        RequestDenied: The body is declared as something else; LiteLLM would read other text out of it.
    """
    lines = [(name.lower(), value) for name, value in headers]
    if any(value.strip().lower() != b"identity" for name, value in lines if name == b"content-encoding"):
        raise _invalid("A body without content encoding is expected.")
    declared = [value for name, value in lines if name == b"content-type"]
    if call_type in _BODILESS or (call_type is CallType.PASS_THROUGH and not declared):
        return _read_nothing
    content_type = declared[0] if len(declared) == 1 else b""
    if is_form(call_type):
        boundary = boundary_of(content_type)
        if boundary is None:
            raise _invalid("The content type multipart/form-data with a boundary is expected.")
        return partial(_read_form, boundary=boundary)
    if not _is_json(content_type):
        raise _invalid("The content type application/json is expected.")
    return _read_json_or_nothing if call_type is CallType.PASS_THROUGH else _read_json


def is_form(call_type: CallType) -> bool:
    """Whether the body is a form with files; every other body is JSON."""
    return call_type in _FORMS


def _is_json(content_type: bytes) -> bool:
    kind, _, parameters = content_type.lower().partition(b";")
    charset = parameters.replace(b" ", b"").replace(b'"', b"")
    return kind.strip() == b"application/json" and charset in {b"", b"charset=utf-8"}


def _read_json(body: bytes) -> Mapping[str, object]:
    """Of two equal names LiteLLM would take the last, RFC 8259 §4."""
    try:
        document = parse_strict_json(body)
    except StrictJsonError as error:
        raise _invalid(f"A JSON object is expected in the body: {error}.") from error
    if not isinstance(document, dict):
        raise _invalid("A JSON object is expected in the body.")
    return document


def _read_nothing(body: bytes) -> Mapping[str, object]:
    if body:
        raise _invalid("No body is expected, or one whose content type is application/json.")
    return {}


def _read_json_or_nothing(body: bytes) -> Mapping[str, object]:
    return _read_json(body) if body else {}


def _read_form(body: bytes, boundary: bytes) -> Mapping[str, object]:
    try:
        return dict.fromkeys(form_names(body, boundary))
    except MultipartError as error:
        raise _invalid(f"A form is expected in the body: {error}.") from error


def _invalid(message: str) -> RequestDenied:
    return RequestDenied(Verdict(Reason.BODY_INVALID, message))
