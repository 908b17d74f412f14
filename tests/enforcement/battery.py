"""The battery's table: what went through each door, for the end of a run."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import httpx


class Arrivals(NamedTuple):
    """How many requests the providers received, and how many of them no permit named."""

    total: int
    unauthorized: int


@dataclass
class Row:
    """What was seen of one door; `red` names the layers without which it does not end as it should."""

    attempts: int = 0
    expected: int = 0
    arrivals: int = 0
    unauthorized: int = 0
    denials: Counter[str] = field(default_factory=Counter)
    red: list[str] = field(default_factory=list)
    is_shut_by_litellm: bool = False

    def add(self, other: Row) -> None:
        """Takes what another run saw of the same door."""
        self.attempts += other.attempts
        self.expected += other.expected
        self.arrivals += other.arrivals
        self.unauthorized += other.unauthorized
        self.denials.update(other.denials)
        self.red += other.red
        self.is_shut_by_litellm = self.is_shut_by_litellm or other.is_shut_by_litellm

    def cells(self) -> tuple[str, ...]:
        denials = ", ".join(f"{reason} {count}" for reason, count in sorted(self.denials.items()))
        remark = "shut by LiteLLM" if self.is_shut_by_litellm else ""
        counts = map(str, (self.attempts, self.expected, self.arrivals, self.unauthorized))
        return (*counts, denials or "-", ", ".join(sorted(self.red)) or "-", remark)


HEAD = ("door", "attempts", "expected", "arrivals", "unauthorized", "denials", "red without", "")


class Battery:
    """Collects rows, in whatever order and number the tests of a run put them in."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def tried(self, door: str, answer: httpx.Response, *, arrivals: Arrivals, expected: int) -> None:
        """Takes one request that went through a door, with every layer in its place."""
        row = self._row(door)
        row.attempts += 1
        row.expected += expected
        row.arrivals += arrivals.total
        row.unauthorized += arrivals.unauthorized
        if answer.status_code >= 400:
            row.denials[answer.headers.get("x-permit-reason") or f"status {answer.status_code}"] += 1

    def red(self, door: str, layer: str) -> None:
        """Takes that a door does not end as it should without this layer."""
        self._row(door).red.append(layer)

    def shut_by_litellm(self, door: str) -> None:
        """Takes that nothing left by this door without the plugin."""
        self._row(door).is_shut_by_litellm = True

    def faults(self) -> list[str]:
        """Why these rows prove nothing: what was refused all the same, and what arrived where it should not."""
        return list(self._faults())

    def table(self) -> list[str]:
        """The rows as text, with their sums."""
        rows = sorted(self.rows.items())
        lines = [HEAD, *((door, *row.cells()) for door, row in rows), ("total", *self._sum().cells())]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        ]

    def write(self, path: Path) -> None:
        """Writes the rows for `read`, which puts the parts of a run together."""
        path.write_text(json.dumps({door: vars(row) for door, row in self.rows.items()}))

    @classmethod
    def read(cls, paths: Iterable[Path]) -> Battery:
        """The rows of several runs, each of which saw a part of the doors.

        Raises:
            FileNotFoundError: A part is missing.
        """
        battery = cls()
        for path in paths:
            for door, row in json.loads(path.read_text()).items():
                battery._row(door).add(Row(**{**row, "denials": Counter(row["denials"])}))
        return battery

    def _faults(self) -> Iterator[str]:
        for door, row in sorted(self.rows.items()):
            if row.arrivals != row.expected:
                yield f"{door}: {row.expected} arrivals were expected, {row.arrivals} came"
            if row.unauthorized:
                yield f"{door}: {row.unauthorized} arrivals outside the permit's set"
        total = self._sum()
        # A part of the battery may hold nothing but doors that are refused.
        if total.attempts >= WHOLE and not total.expected:
            yield "nothing was expected to arrive: a battery in which all is refused proves nothing"

    def _sum(self) -> Row:
        rows = self.rows.values()
        return Row(
            attempts=sum(row.attempts for row in rows),
            expected=sum(row.expected for row in rows),
            arrivals=sum(row.arrivals for row in rows),
            unauthorized=sum(row.unauthorized for row in rows),
            denials=sum((row.denials for row in rows), Counter()),
        )

    def _row(self, door: str) -> Row:
        return self.rows.setdefault(door, Row())


WHOLE = 20
"""So many requests are no part any more."""


def main(paths: list[str]) -> int:
    """Prints the table of several parts of a run; 1 where it proves nothing."""
    battery = Battery.read(map(Path, paths))
    print("\n".join((*battery.table(), *battery.faults())))  # noqa: T201 - a command prints
    return int(bool(battery.faults() or not battery.rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
