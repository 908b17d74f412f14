"""The order of policy versions."""

from __future__ import annotations

import re
from datetime import date
from typing import Final, TypeAlias

Ordered: TypeAlias = tuple[str, tuple[int, ...]]

_INTEGER: Final = re.compile(r"[0-9]+")
_DOTTED: Final = re.compile(r"[0-9]+(?:\.[0-9]+)+")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def order_of(version: str) -> Ordered | None:
    """The kind of a version and its place among its kind; None for a version without an order.

    Kinds are integers (`42`), dotted numbers (`1.4.2`; `1.4` equals `1.4.0`) and dates (`2026-11-05`).
    """
    if _INTEGER.fullmatch(version):
        return ("integer", (int(version),))
    if _DOTTED.fullmatch(version):
        return ("dotted", _without_trailing_zeros([int(part) for part in version.split(".")]))
    if _DATE.fullmatch(version):
        return _date_order(version)
    return None


def is_at_least(version: str, minimum: str) -> bool:
    """Whether a version is the minimum or later; False when the two are of different kinds."""
    mine, least = order_of(version), order_of(minimum)
    return mine is not None and least is not None and mine[0] == least[0] and mine[1] >= least[1]


def _without_trailing_zeros(parts: list[int]) -> tuple[int, ...]:
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def _date_order(version: str) -> Ordered | None:
    try:
        return ("date", (date.fromisoformat(version).toordinal(),))
    except ValueError:
        return None
