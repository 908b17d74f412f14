"""The health window: what all workers saw of each deployment in the last seconds, own outcomes at once."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from litellm_plugin.state.breaker_rules import Counts, Sign
from litellm_plugin.state.exchange import HashChange

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

SLICES: Final = 6
_KEY: Final = "health:"
# A worker says of 4,096 deployments what it saw; a hash with more fields is none of ours.
_MOST_FIELDS: Final = 4 * 4096
_MOST_COUNT: Final = 1_000_000


@dataclass(slots=True)
class _Slice:
    """One stretch of time: what this worker saw, what of it was told, and what the others saw."""

    own: defaultdict[tuple[str, Sign], int] = field(default_factory=lambda: defaultdict(int))
    told: dict[tuple[str, Sign], int] = field(default_factory=dict)
    others: dict[tuple[str, Sign], int] = field(default_factory=dict)

    def counts(self, deployment_id: str) -> Counts:
        return Counts(
            **{
                sign.value: self.own.get((deployment_id, sign), 0) + self.others.get((deployment_id, sign), 0)
                for sign in Sign
            }
        )

    def untold(self) -> dict[tuple[str, Sign], int]:
        return {name: count - self.told.get(name, 0) for name, count in self.own.items()}


class HealthWindow:
    """Counts of a rolling window in slices that expire as a whole; each slice is one hash of the store.

    Args:
        window_s: Length of the window, in seconds; it covers between this less one slice and this.
    """

    def __init__(self, window_s: float) -> None:
        self._slice_s = window_s / SLICES
        self._slices: dict[int, _Slice] = {}
        self._telling: dict[int, dict[tuple[str, Sign], int]] = {}
        self._heard: int | None = None
        self._asked: int | None = None

    def add(self, deployment_id: str, sign: Sign, now_s: float) -> None:
        """Takes one own outcome into account."""
        self._slices.setdefault(self._number(now_s), _Slice()).own[deployment_id, sign] += 1

    def counts(self, deployment_id: str, now_s: float, after_s: float) -> Counts:
        """What was seen in the slices that began after a time."""
        found = Counts()
        for number in self._living(now_s):
            if number * self._slice_s > after_s:
                found += self._slices[number].counts(deployment_id)
        return found

    def outgoing(self, now_s: float) -> tuple[tuple[HashChange, ...], tuple[str, ...]]:
        """What was not told yet, and the hashes to read: all slices after silence, else this one and the last."""
        living, number = set(self._living(now_s)), self._number(now_s)
        self._slices = {each: found for each, found in self._slices.items() if each in living}
        self._telling = {each: told for each in sorted(living) if (told := _positive(self._slices[each]))}
        changes = tuple(
            HashChange(
                key=_key(each),
                lifetime_s=2 * SLICES * self._slice_s,
                add={f"{sign}:{deployment_id}": count for (deployment_id, sign), count in told.items()},
            )
            for each, told in self._telling.items()
        )
        for each, told in self._telling.items():
            mine = self._slices[each].told
            mine.update({name: mine.get(name, 0) + count for name, count in told.items()})
        behind = SLICES if self._heard is None else number - self._heard
        self._asked = number
        return changes, tuple(_key(number - back) for back in range(min(max(behind + 1, 2), SLICES)))

    def incoming(self, hashes: Mapping[str, Mapping[str, str]]) -> tuple[set[str], int]:
        """Takes what the store holds; gives the deployments that others saw fail, and how many fields it skipped."""
        failed: set[str] = set()
        skipped = 0
        self._heard, asked = self._asked, self._asked or 0
        for back in range(SLICES):
            fields = hashes.get(_key(asked - back))
            if fields is None:
                continue
            found = self._slices.setdefault(asked - back, _Slice())
            all_of_them, more = _read(fields)
            skipped += more
            found.others = {
                name: count - found.told.get(name, 0)
                for name, count in all_of_them.items()
                if count > found.told.get(name, 0)
            }
            failed.update(deployment_id for deployment_id, sign in found.others if sign is not Sign.OK)
        return failed, skipped

    def lost(self, *, was_sent: bool) -> None:
        """The last `outgoing` failed; what may have been taken is not told again."""
        if was_sent:
            return
        for number, told in self._telling.items():
            mine = self._slices[number].told if number in self._slices else {}
            mine.update({name: mine.get(name, 0) - count for name, count in told.items()})

    def forget(self, deployment_ids: Iterable[str]) -> None:
        """Drops what was seen of deployments."""
        gone = set(deployment_ids)
        for found in self._slices.values():
            for counts in (found.own, found.told, found.others):
                for name in [each for each in counts if each[0] in gone]:
                    del counts[name]

    def _number(self, now_s: float) -> int:
        return int(now_s // self._slice_s)

    def _living(self, now_s: float) -> Iterator[int]:
        # A clock that jumped back leaves slices of the future behind; the next one may be another worker's.
        number = self._number(now_s)
        return (each for each in self._slices if number - SLICES < each <= number + 1)


def _key(number: int) -> str:
    return f"{_KEY}{number}"


def _positive(found: _Slice) -> dict[tuple[str, Sign], int]:
    return {name: count for name, count in found.untold().items() if count > 0}


def _read(fields: Mapping[str, str]) -> tuple[dict[tuple[str, Sign], int], int]:
    """The counts by deployment and sign, and how many fields were none."""
    found: dict[tuple[str, Sign], int] = {}
    skipped = max(0, len(fields) - _MOST_FIELDS)
    for name, value in list(fields.items())[:_MOST_FIELDS]:
        sign, _, deployment_id = name.partition(":")
        if sign not in _SIGNS or not deployment_id or not _is_count(value):
            skipped += 1
            continue
        found[deployment_id, Sign(sign)] = min(int(value), _MOST_COUNT)
    return found, skipped


_SIGNS: Final = frozenset(Sign)


def _is_count(value: str) -> bool:
    return value.isascii() and value.isdecimal() and len(value) < 20  # noqa: PLR2004 - a 64-bit integer has 19 digits
