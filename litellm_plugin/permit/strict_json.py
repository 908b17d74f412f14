"""Strict JSON: one text has one meaning, or it is refused.

Python's own parser takes the last of two equal names, `NaN`, `1e400` and UTF-16; two readers of the
same permit could then see two different permits (RFC 8259 §4, RFC 8725 §2.4).
"""

from __future__ import annotations

import json
import math
from typing import Final, Never


class StrictJsonError(ValueError):
    """The text is not strict JSON; the message never quotes it."""


def parse_strict_json(data: bytes) -> object:
    """Parse UTF-8 JSON without duplicate names, non-finite numbers, a BOM or anything after the value.

    Args:
        data: The whole text; its size is bounded by the caller.

    Raises:
        StrictJsonError: The text is something else, or is nested deeper than the parser can go.
    """
    try:
        return _DECODER.decode(data.decode("utf-8"))
    except StrictJsonError:
        raise
    except UnicodeDecodeError as error:
        raise StrictJsonError("not UTF-8") from error
    except RecursionError as error:
        raise StrictJsonError("nested too deeply") from error
    except ValueError as error:
        raise StrictJsonError("not JSON") from error


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise StrictJsonError("duplicate name")
    return members


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise StrictJsonError("number out of range")
    return number


def _refuse_constant(_name: str) -> Never:
    raise StrictJsonError("NaN or Infinity")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_finite, parse_constant=_refuse_constant
)
