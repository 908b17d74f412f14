"""Decision tables: a cell's unary tests as a condition, so that nobody has to write the expression."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, TypeAlias

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.routing.expressions import fact_type

if TYPE_CHECKING:
    from collections.abc import Mapping

Cell: TypeAlias = bool | int | float | str | list[bool | int | float | str]

_NOT = re.compile(r"not\s*\((?P<inner>.*)\)", re.DOTALL)
_INTERVAL = re.compile(
    r"(?P<low_open>[\[(\]])(?P<low>[^.,\[\]()]*(?:\.\d+)?)\.\.(?P<high>[^,\[\]()]*)(?P<high_open>[\])\[])"
)
_COMPARISON = re.compile(r"(?P<operator><=|>=|<|>)\s*(?P<value>.+)", re.DOTALL)
# What somebody means as a test and which is none here, such as an interval of texts.
_MEANT_AS_TEST = re.compile(r"[\[(\]].*\.\..*|.*\.\..*[\])\[]|not\s*\(.*", re.DOTALL)
# A comma splits tests, not inside quotes and not inside an interval.
_TEST = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|[^,"]+)\s*(?:,|$)""")
# Written as text that sorts by time, so that it can be compared.
_ORDERED_TEXT = frozenset({"request.date"})


def row_condition(cells: Mapping[str, Cell]) -> str:
    """The CEL expression of a row: every cell holds.

    A cell is one test or several, of which one must hold: a value, `< 5`, `[1..5]` (a round bracket leaves the
    bound out), `not(...)` round all of them, and `-` or nothing for anything.

    Args:
        cells: The tests by the name of the fact that they are about.

    Raises:
        ConfigurationError: A fact is unknown, or a test is not one that its type can have.

    Source: unary tests and the hit policy "first", Decision Model and Notation 1.5, chapters 8 and 10,
    https://www.omg.org/spec/DMN/1.5
    """
    conditions = [condition for name, cell in cells.items() if (condition := _condition(name, cell))]
    return " && ".join(conditions) or "true"


def _condition(name: str, cell: Cell) -> str:
    kind = fact_type(name)
    text = cell.strip() if isinstance(cell, str) else cell
    if text in ("", "-"):
        return ""
    negated = _NOT.fullmatch(text) if isinstance(text, str) else None
    tests = _tests(name, negated["inner"] if negated else text)
    joined = " || ".join(_test(name, kind, test) for test in tests)
    if negated:
        return f"!({joined})"
    return f"({joined})" if len(tests) > 1 else joined


def _tests(name: str, cell: object) -> list[object]:
    if isinstance(cell, list):
        return list(cell)
    if not isinstance(cell, str):
        return [cell]
    found = [test.group(1).strip() for test in _TEST.finditer(cell)]
    if not found or "".join(_TEST.split(cell)[::2]).strip():
        raise _unreadable(name, cell, "tests with commas between them")
    return list(found)


def _test(name: str, kind: type, test: object) -> str:
    if isinstance(test, str):
        is_ordered = kind in (int, float) or name in _ORDERED_TEXT
        interval, comparison = _INTERVAL.fullmatch(test), _COMPARISON.fullmatch(test)
        if is_ordered and interval:
            low = ">" if interval["low_open"] in "(]" else ">="
            high = "<" if interval["high_open"] in ")[" else "<="
            return f"({name} {low} {_literal(name, kind, interval['low'])} && {name} {high} {_literal(name, kind, interval['high'])})"
        if is_ordered and comparison:
            return f"{name} {comparison['operator']} {_literal(name, kind, comparison['value'])}"
    return f"{name} == {_literal(name, kind, test)}"


def _literal(name: str, kind: type, value: object) -> str:
    """A value as CEL writes it; text in quotes loses them, and text that stands for a number or a flag is read."""
    text = value.strip() if isinstance(value, str) else None
    if kind is str:
        if text is None:
            raise _unreadable(name, value, "text")
        return json.dumps(_unquoted(name, text), ensure_ascii=False)
    if kind is bool:
        if value is True or text == "true":
            return "true"
        if value is False or text == "false":
            return "false"
        raise _unreadable(name, value, "true or false")
    number = _number(value if text is None else text)
    if number is None or (kind is int and not isinstance(number, int)):
        raise _unreadable(name, value, "a whole number" if kind is int else "a number")
    return repr(kind(number))


def _unquoted(name: str, text: str) -> str:
    if not text.startswith('"'):
        if _COMPARISON.fullmatch(text) and name not in _ORDERED_TEXT:
            raise _unreadable(name, text, "text, which is not compared; quotes make it a value")
        if _MEANT_AS_TEST.fullmatch(text):
            raise _unreadable(name, text, "a value, and this reads like a test; quotes make it a value")
        return text
    try:
        return str(json.loads(text))
    except ValueError:
        raise _unreadable(name, text, "text in one pair of quotes") from None


def _number(value: object) -> int | float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    try:
        return int(str(value))
    except ValueError:
        pass
    try:
        return float(str(value))
    except ValueError:
        return None


def _unreadable(name: str, value: object, expected: str) -> ConfigurationError:
    return ConfigurationError(f"{name}: expected {expected}, got {str(value)[:80]!r}")
