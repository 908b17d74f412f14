"""Multipart bodies: whether their bytes have one meaning, RFC 7578.

A permit binds the bytes of a body and not the header that says where its parts begin, so the header must
be the only one that fits the bytes, and no part may stand for another one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

# RFC 2046 §5.1.1 without the characters that must be quoted; every client makes its boundary of these.
_CONTENT_TYPE: Final = re.compile(rb"multipart/form-data; *boundary=([A-Za-z0-9'_.+-]{1,70})", re.IGNORECASE)
# RFC 7578 §4.2, as clients write it: quoted, without escapes and without the other spellings of a name.
_DISPOSITION: Final = re.compile(
    rb'form-data; ?name="(?P<name>[^"\\]+)"(; ?filename="(?P<filename>[^"\\]*)")?'
)
_REPEATABLE: Final = frozenset({"image", "mask"})
# Starlette's own default for fields and for files (starlette.formparsers), which LiteLLM's forms are read with.
MAX_PARTS: Final = 1000
_PART_HEADERS: Final = frozenset({"content-disposition", "content-type", "content-length"})


class MultipartError(ValueError):
    """A body that is no form, or a form that can be read in two ways."""


def boundary_of(content_type: bytes) -> bytes | None:
    """The boundary that a content type declares; None where it is no plain `multipart/form-data`."""
    found = _CONTENT_TYPE.fullmatch(content_type.strip(b" \t"))
    return found.group(1) if found else None


def form_names(body: bytes, boundary: bytes) -> frozenset[str]:
    """Gives the fields' names of one whole form, in which each field stands once, of at most `MAX_PARTS` parts.

    Files of a list (`image`) and names that end in `[]` may come several times.

    Raises:
        MultipartError: Says what was expected.
    """
    if not body.startswith(b"--" + boundary + b"\r\n"):
        raise MultipartError("its first line must be the declared boundary")
    reader = _Reader()
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise MultipartError("it is no form under the declared boundary") from error
    if not reader.is_whole or not body.rstrip(b"\r\n").endswith(b"--" + boundary + b"--"):
        raise MultipartError("it must end with the declared boundary")
    return frozenset(reader.names)


class _Reader:
    """Collects the names of the parts, and refuses what another parser might read otherwise."""

    def __init__(self) -> None:
        self.is_whole = False
        self.names: set[str] = set()
        self._parts = 0
        self._field = bytearray()
        self._value = bytearray()
        self._headers: dict[str, bytes] = {}

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._field.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise MultipartError(f"it may have at most {MAX_PARTS} parts")
        self._headers = {}

    def _end_header(self) -> None:
        name = self._field.decode("latin-1").lower()
        if name in self._headers or name not in _PART_HEADERS:
            raise MultipartError("a part may have one Content-Disposition and one Content-Type, nothing else")
        self._headers[name] = bytes(self._value)
        self._field.clear()
        self._value.clear()

    def _end_headers(self) -> None:
        found = _DISPOSITION.fullmatch(self._headers.get("content-disposition", b""))
        if found is None:
            raise MultipartError(
                'a part must say: Content-Disposition: form-data; name="…", and filename="…" for a file'
            )
        name = found["name"].decode("utf-8", errors="replace")
        is_repeatable = name.endswith("[]") or (name in _REPEATABLE and found["filename"] is not None)
        if name in self.names and not is_repeatable:
            raise MultipartError("each field must come once")
        self.names.add(name)

    def _end(self) -> None:
        self.is_whole = True
