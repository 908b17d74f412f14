"""Fields: reading JSON of which nothing is known to be well-formed; what is not as published reads as nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

Body: TypeAlias = Mapping[str, object]

# Above any model's limit, and small enough for every integer type that reads a record.
_LARGEST_NUMBER = 2**31 - 1


def mapping(value: object) -> Body:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[object]:
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: object) -> str:
    """The value if it is text, else an empty one."""
    return value if isinstance(value, str) else ""


def either(fields: Body, camel: str, snake: str) -> object:
    """A field of Gemini's schema, which is published in two spellings."""
    return fields.get(camel, fields.get(snake))


def number(value: object) -> int | None:
    """A whole number that is not negative, cut at 2^31 - 1; None for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return int(min(value, _LARGEST_NUMBER))
    return None


def first_number(fields: Body, *names: str) -> int | None:
    """The first of the named fields that holds a number that is not negative."""
    return next((found for name in names if (found := number(fields.get(name))) is not None), None)


def count(value: object) -> int:
    """How many are asked for at once: one, where nothing that makes sense is said."""
    return max(number(value) or 1, 1)


def is_token(value: object) -> bool:
    """Whether the value is the number of a token."""
    return isinstance(value, int) and not isinstance(value, bool)
