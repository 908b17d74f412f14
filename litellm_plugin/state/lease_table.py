"""The lease table: who holds how much of one limited resource, and how much of it was spent when.

A table is one hash of text, so that every store can keep it:

    w:<worker>  sequence, answered, spent, granted, ends_ms    what the worker told last, and what it holds until when
    s:<slice>   units                                          what all workers spent in a slice of the window

`lease.lua` does the same on the server; a test holds the two together.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from litellm_plugin.state.exchange import Lease

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litellm_plugin.state.exchange import Batch, LeaseRequest

SLICES: Final = 12
# Sums of the slices and of some ninety leases stay below 2^53, up to which Lua counts exactly.
MOST_UNITS: Final = 10**14
# A batch that hung in a socket may arrive this many lease times late, and is still known as late.
REMEMBERED: Final = 10

_NUMBER: Final = re.compile(r"-?[0-9]{1,15}")
_HOLDER: Final = 5


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """A lease request as a table takes it: whole numbers only, none beyond what Lua counts exactly.

    Attributes:
        slice_ms: A twelfth of the window; 0 where what was spent counts for as long as the table is kept.
    """

    worker: str
    sequence: int
    answered: int
    limit: int
    spent: int
    want: int
    ttl_ms: int
    slice_ms: int
    lifetime_ms: int

    @classmethod
    def of(cls, batch: Batch, request: LeaseRequest) -> LeaseTerms:
        """Takes a request of a batch; absurd units are clamped."""
        return cls(
            worker=batch.worker,
            sequence=batch.sequence,
            answered=batch.sequence - 1 if batch.answered is None else batch.answered,
            limit=_clamp(request.limit),
            spent=_clamp(request.spent),
            want=_clamp(request.want),
            ttl_ms=whole_ms(request.ttl_s),
            slice_ms=0 if request.window_s is None else whole_ms(request.window_s / SLICES),
            lifetime_ms=whole_ms(request.lifetime_s),
        )


@dataclass(frozen=True, slots=True)
class _Holder:
    sequence: int
    answered: int
    spent: int
    granted: int
    ends_ms: int

    def __str__(self) -> str:
        return f"{self.sequence} {self.answered} {self.spent} {self.granted} {self.ends_ms}"


def settle(fields: Mapping[str, str], terms: LeaseTerms, now_ms: int) -> tuple[Lease, dict[str, str]]:
    """Gives the lease, and the table as it is then; what is no entry of a table is left out of it.

    Args:
        fields: The table as it is, as text.
        terms: What a worker spent and wants.
        now_ms: The store's clock.
    """
    current = now_ms // terms.slice_ms if terms.slice_ms else 0
    slices = _slices(fields, current)
    holders = _holders(fields, terms.ttl_ms, now_ms)
    mine = holders.pop(terms.worker, None)
    others = sum(holder.granted for holder in holders.values())
    if mine is None or terms.sequence > mine.sequence:
        told = mine.spent if mine is not None and mine.answered == terms.answered else 0
        slices[current] = _clamp(slices.get(current, 0) + terms.spent - told)
        granted = max(0, min(terms.want, terms.limit - _used(slices) - others))
        mine = _Holder(terms.sequence, terms.answered, terms.spent, granted, now_ms + terms.ttl_ms)
    lease = Lease(granted=mine.granted, used=_used(slices), held=others + mine.granted)
    table = {f"s:{number}": str(units) for number, units in slices.items()}
    table |= {f"w:{worker}": str(holder) for worker, holder in holders.items()}
    return lease, table | {f"w:{terms.worker}": str(mine)}


def kept_ms(table: Mapping[str, str], terms: LeaseTerms) -> int:
    """For how long a table is kept: one of which nothing is spent ends with the memory of those who hold leases of it.

    Args:
        table: What `settle` gave.
        terms: What it gave it for.
    """
    is_spent = any(units != "0" for name, units in table.items() if name.startswith("s:"))
    return terms.lifetime_ms if is_spent else min(terms.lifetime_ms, (REMEMBERED + 1) * terms.ttl_ms)


def whole_ms(seconds: float) -> int:
    """Seconds as milliseconds, one or more: no store takes less."""
    return max(1, math.ceil(seconds * 1000))


def _slices(fields: Mapping[str, str], current: int) -> dict[int, int]:
    """What counts; a slice that lies ahead is of a clock that went back since, and would count for too long."""
    slices = {}
    for name, text in fields.items():
        if name.startswith("s:") and _is_number(name[2:]) and _is_number(text):
            number = int(name[2:])
            if current - SLICES <= number <= current + 1:
                slices[number] = _clamp(int(text))
    return slices


def _holders(fields: Mapping[str, str], ttl_ms: int, now_ms: int) -> dict[str, _Holder]:
    """Who told something; what a silent worker held has returned."""
    holders = {}
    for name, text in fields.items():
        numbers = text.split(" ")
        if not name.startswith("w:") or len(numbers) != _HOLDER or not all(map(_is_number, numbers)):
            continue
        sequence, answered, spent, granted, ends_ms = map(int, numbers)
        # An end that lies further ahead is of a clock that went back since.
        ends_ms = min(ends_ms, now_ms + ttl_ms)
        if ends_ms + REMEMBERED * ttl_ms > now_ms:
            held = _clamp(granted) if ends_ms > now_ms else 0
            holders[name[2:]] = _Holder(sequence, answered, _clamp(spent), held, ends_ms)
    return holders


def _used(slices: Mapping[int, int]) -> int:
    return max(0, sum(slices.values()))


def _clamp(units: int) -> int:
    return max(-MOST_UNITS, min(MOST_UNITS, units))


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None
