"""The description of a token: its header and claims in lines, times in words."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from litellm_plugin.permit import JoseHeader

_TIMES: Final = ("iat", "nbf", "exp")
_LAST_SECOND_OF_YEAR_9999: Final = 253_402_300_799
_SHOWN_CHARACTERS: Final = 1_000
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def describe(header: JoseHeader, claims: Mapping[str, object], now: float) -> Iterator[str]:
    """The lines that say what a token says; never its text nor its signature.

    Args:
        header: The parsed header.
        claims: The payload's members.
        now: What ages are counted from, seconds since the epoch.
    """
    parts = {"alg": header.alg, "kid": header.kid, "typ": header.typ}
    yield "Header"
    yield from _table({name: shown(value) for name, value in parts.items() if value is not None})
    yield ""
    yield "Claims"
    yield from _table({_name(name): _claim(name, value, now) for name, value in claims.items()})


def shown(value: object) -> str:
    """A value as JSON in ASCII, so that nothing in it can steer a terminal, and cut."""
    text = json.dumps(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]} …"


def moment(seconds: int, now: float) -> str:
    """A moment in words: the time in UTC, and how far off it is."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC, {_distance(seconds - int(now))}"


def is_moment(value: object) -> TypeGuard[int]:
    """Whether a claim's value is a number of seconds that can be put into words."""
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    return 0 <= value <= _LAST_SECOND_OF_YEAR_9999


def _table(rows: Mapping[str, str]) -> Iterator[str]:
    width = max(map(len, rows), default=0)
    for name, text in rows.items():
        yield f"  {name:{width}}  {text}"


def _name(name: str) -> str:
    return name if name.isascii() and name.isidentifier() else shown(name)


def _claim(name: str, value: object, now: float) -> str:
    if name in _TIMES and is_moment(value):
        return f"{value}  ({moment(value, now)})"
    return shown(value)


def _distance(seconds: int) -> str:
    if seconds == 0:
        return "now"
    words = _duration(abs(seconds))
    return f"in {words}" if seconds > 0 else f"{words} ago"


def _duration(seconds: int) -> str:
    """The two greatest units of a duration above 0."""
    counts: list[tuple[int, str]] = []
    for size, unit in _UNITS:
        count, seconds = divmod(seconds, size)
        if count or counts:
            counts.append((count, unit))
    return " ".join(f"{count} {unit}" for count, unit in counts[:2] if count)
