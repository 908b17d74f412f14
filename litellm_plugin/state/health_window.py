"""The health window: what all workers saw of each deployment in the last seconds, own outcomes at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from litellm_plugin.state.breaker_rules import Counts, Sign
from litellm_plugin.state.exchange import HashChange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

SLICES: Final = 6
_KEY: Final = "health:"
# A worker says of 4,096 deployments what it saw; a hash with more fields is none of ours.
_MOST_FIELDS: Final = 4 * 4096
_MOST_COUNT: Final = 1_000_000


_ByDeployment: TypeAlias = dict[str, dict[Sign, int]]


@dataclass(slots=True)
class _Slice:
    """One stretch of time: what this worker saw, what of it was told, and what the others saw."""

    own: _ByDeployment = field(default_factory=dict)
    told: _ByDeployment = field(default_factory=dict)
    others: _ByDeployment = field(default_factory=dict)

    def counts(self, deployment_id: str) -> Counts:
        own, others = self.own.get(deployment_id, _NOTHING), self.others.get(deployment_id, _NOTHING)
        return Counts(**{sign.value: own.get(sign, 0) + others.get(sign, 0) for sign in Sign})

    def saw(self, deployment_id: str) -> bool:
        return deployment_id in self.own or deployment_id in self.others

    def untold(self) -> _ByDeployment:
        found = {name: _beyond(counts, self.told.get(name, _NOTHING)) for name, counts in self.own.items()}
        return {name: counts for name, counts in found.items() if counts}

    def tell(self, counts: _ByDeployment, times: int = 1) -> None:
        for name, more in counts.items():
            told = self.told.setdefault(name, {})
            told.update({sign: told.get(sign, 0) + times * count for sign, count in more.items()})

    def hear(self, counts: _ByDeployment) -> None:
        found = {name: _beyond(more, self.told.get(name, _NOTHING)) for name, more in counts.items()}
        self.others = {name: more for name, more in found.items() if more}

    def forget(self, deployment_id: str) -> None:
        for counts in (self.own, self.told, self.others):
            counts.pop(deployment_id, None)


class HealthWindow:
    """Counts of a rolling window in slices that expire as a whole; each slice is one hash of the store.

    Args:
        window_s: Length of the window, in seconds; it covers between this less one slice and this.
    """

    def __init__(self, window_s: float) -> None:
        self._slice_s = window_s / SLICES
        self._slices: dict[int, _Slice] = {}
        self._telling: dict[int, _ByDeployment] = {}
        self._heard: int | None = None
        self._asked: int | None = None

    def add(self, deployment_id: str, sign: Sign, now_s: float) -> None:
        """Takes one own outcome into account."""
        counts = self._slices.setdefault(self._number(now_s), _Slice()).own.setdefault(deployment_id, {})
        counts[sign] = counts.get(sign, 0) + 1

    def counts(self, deployment_id: str, now_s: float, after_s: float) -> Counts:
        """What was seen in the slices that began after a time."""
        found = Counts()
        for number in self._living(now_s):
            each = self._slices[number]
            if number * self._slice_s > after_s and each.saw(deployment_id):
                found += each.counts(deployment_id)
        return found

    def outgoing(self, now_s: float) -> tuple[tuple[HashChange, ...], tuple[str, ...]]:
        """What was not told yet, and the hashes to read: all slices after silence, else this one and the last."""
        living, number = set(self._living(now_s)), self._number(now_s)
        self._slices = {each: found for each, found in self._slices.items() if each in living}
        self._telling = {each: told for each in sorted(living) if (told := self._slices[each].untold())}
        changes = tuple(
            HashChange(
                key=_key(each),
                lifetime_s=2 * SLICES * self._slice_s,
                add={
                    f"{sign}:{name}": count for name, counts in told.items() for sign, count in counts.items()
                },
            )
            for each, told in self._telling.items()
        )
        for each, told in self._telling.items():
            self._slices[each].tell(told)
        behind = SLICES if self._heard is None else number - self._heard
        self._asked = number
        return changes, tuple(_key(number - back) for back in range(min(max(behind + 1, 2), SLICES)))

    def incoming(
        self, hashes: Mapping[str, Mapping[str, str]], is_ours: Callable[[str], bool] = bool
    ) -> tuple[set[str], int]:
        """Takes what the store holds; gives the deployments that others saw fail, and how many fields it skipped.

        Args:
            hashes: The store's hashes, by key.
            is_ours: Whether a deployment's counts are to be kept; the others' fields are skipped.
        """
        failed: set[str] = set()
        skipped = 0
        self._heard, asked = self._asked, self._asked or 0
        for back in range(SLICES):
            fields = hashes.get(_key(asked - back))
            if fields is None:
                continue
            found = self._slices.setdefault(asked - back, _Slice())
            all_of_them, more = _read(fields, is_ours)
            skipped += more
            found.hear(all_of_them)
            failed.update(name for name, counts in found.others.items() if counts.keys() - _FINE)
        return failed, skipped

    def lost(self, *, was_sent: bool) -> None:
        """The last `outgoing` failed; what may have been taken is not told again."""
        if was_sent:
            return
        for number, told in self._telling.items():
            if number in self._slices:
                self._slices[number].tell(told, times=-1)

    def forget(self, deployment_ids: Iterable[str]) -> None:
        """Drops what was seen of deployments."""
        for name in deployment_ids:
            for found in self._slices.values():
                found.forget(name)

    def _number(self, now_s: float) -> int:
        return int(now_s // self._slice_s)

    def _living(self, now_s: float) -> Iterator[int]:
        # A clock that jumped back leaves slices of the future behind; the next one may be another worker's.
        number = self._number(now_s)
        return (each for each in self._slices if number - SLICES < each <= number + 1)


def _key(number: int) -> str:
    return f"{_KEY}{number}"


def _beyond(counts: Mapping[Sign, int], told: Mapping[Sign, int]) -> dict[Sign, int]:
    """What of counts goes beyond those that were told."""
    return {sign: count - told.get(sign, 0) for sign, count in counts.items() if count > told.get(sign, 0)}


def _read(fields: Mapping[str, str], is_ours: Callable[[str], bool]) -> tuple[_ByDeployment, int]:
    """The counts by deployment and sign, and how many fields were none of ours."""
    found: _ByDeployment = {}
    taken = 0
    for name, value in fields.items():
        sign, _, deployment_id = name.partition(":")
        if sign in _SIGNS and deployment_id and is_ours(deployment_id) and _is_count(value):
            found.setdefault(deployment_id, {})[Sign(sign)] = min(int(value), _MOST_COUNT)
            taken += 1
        if taken == _MOST_FIELDS:
            break
    return found, len(fields) - taken


_SIGNS: Final = frozenset(Sign)
_FINE: Final = frozenset({Sign.OK})
_NOTHING: Final[Mapping[Sign, int]] = {}


def _is_count(value: str) -> bool:
    return value.isascii() and value.isdecimal() and len(value) < 20  # noqa: PLR2004 - a 64-bit integer has 19 digits
