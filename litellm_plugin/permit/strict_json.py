"""Strict JSON: one text has one meaning, or it is refused.

Python's own parser takes the last of two equal names, `NaN`, `1e400` and UTF-16; two readers of the
same permit could then see two different permits (RFC 8259 §4, RFC 8725 §2.4).
"""

from __future__ import annotations

import json
import math
from json import decoder, scanner
from typing import Any, Final, Never

# Requests and permits stay far below: the largest objects in them are JSON schemas of some hundred properties.
# Lists, whose items cost no more than their bytes, are not bounded.
MAX_NAMES: Final = 10_000
# The parser in C gives an object up at its end only, and lets no other thread run before: 3 million names of one
# object take seconds, this many 0.2 s. A text under a megabyte cannot have more, so small ones never pay.
_MANY_NAMES: Final = 250_000


class StrictJsonError(ValueError):
    """The text is not strict JSON; the message never quotes it."""


def parse_strict_json(data: bytes) -> object:
    """Parse UTF-8 JSON without duplicate names, non-finite numbers, a BOM or anything after the value.

    No object of it has more than `MAX_NAMES` names.

    Args:
        data: The whole text; its size is bounded by the caller.

    Raises:
        StrictJsonError: The text is something else, or is nested deeper than the parser can go.
    """
    try:
        parser = _DECODER if data.count(b":") <= _MANY_NAMES else _COUNTING_DECODER
        return parser.decode(data.decode("utf-8"))
    except StrictJsonError:
        raise
    except UnicodeDecodeError as error:
        raise StrictJsonError("not UTF-8") from error
    except RecursionError as error:
        raise StrictJsonError("nested too deeply") from error
    except ValueError as error:
        raise StrictJsonError("not JSON") from error


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(pairs) > MAX_NAMES:
        raise _too_many_names()
    members = dict(pairs)
    if len(members) != len(pairs):
        raise StrictJsonError("duplicate name")
    return members


def _too_many_names() -> StrictJsonError:
    return StrictJsonError(f"an object with more than {MAX_NAMES} names")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise StrictJsonError("number out of range")
    return number


def _refuse_constant(_name: str) -> Never:
    raise StrictJsonError("NaN or Infinity")


class _Names(dict[str, str]):
    """What the parser in Python asks for each name of one object, so that the object can end early."""

    __slots__ = ("_count",)

    def __init__(self) -> None:
        self._count = 0

    def setdefault(self, name: str, _default: str = "", /) -> str:
        self._count += 1
        if self._count > MAX_NAMES:
            raise _too_many_names()
        return name


def _counted_object(text: Any, *options: Any) -> Any:
    """The parser's own function for an object, with names of this object alone in place of the whole text's."""
    return _parse_object(text, *options[:-1], _Names())


def _counting_decoder() -> json.JSONDecoder:
    """The parser in Python: slower, but it ends at the first name too many, and other threads run meanwhile."""
    made: Any = json.JSONDecoder(
        object_pairs_hook=_object, parse_float=_finite, parse_constant=_refuse_constant
    )
    made.parse_object = _counted_object
    made.scan_once = _make_scanner(made)
    return made  # type: ignore[no-any-return]


_parse_object: Final[Any] = decoder.JSONObject  # type: ignore[attr-defined]
_make_scanner: Final[Any] = scanner.py_make_scanner  # type: ignore[attr-defined]
_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_finite, parse_constant=_refuse_constant
)
_COUNTING_DECODER: Final = _counting_decoder()
