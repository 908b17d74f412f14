r"""The hash chain: makes an edited, removed, moved or repeated record visible, offline.

Each writer (one process run) has a chain of its own. A record carries as its member `chain`

    writer  who wrote it; unique to one process run
    seq     1, 2, 3, … within the writer
    prev    `hash` of the writer's record before; 64 zeros for the first
    hash    SHA-256, in lower-case hex, of the ASCII bytes of `prev` followed by the canonical JSON of
            the record with everything but `chain.hash`

Canonical JSON is: members sorted by the code points of their names, at every depth; no white space;
every character outside U+0020 … U+007E escaped, as `\b`, `\t`, `\n`, `\f`, `\r` or else `\uxxxx` with
lower-case digits (a surrogate pair above U+FFFF); `"` and `\` escaped with a backslash, `/` not; integers
without a fraction; other numbers as Python's `repr`, the shortest text that reads back to the same double.
It is independent of the order and spacing of the stored line.

A chain cannot show that the end of a writer's records was cut off, nor that a whole writer is missing:
keep the heads that `verify_chain` reports where the log's writers cannot reach them. It has no key, so
it proves order and integrity against those heads, not authorship.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

GENESIS = "0" * 64

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


class HashChain:
    """Links the records of one writer.

    `seal` leaves the chain where it is and `advance` moves it on, so that a record which could not
    be written leaves no gap.
    """

    def __init__(self, writer: str) -> None:
        self.writer = writer
        self._seq = 0
        self._prev = GENESIS

    def seal(self, record: Mapping[str, object]) -> dict[str, object]:
        """Returns the record with its `chain` member added as the last one.

        Raises:
            TypeError, ValueError: The record holds a value that JSON has no form for.
        """
        link: dict[str, object] = {"writer": self.writer, "seq": self._seq + 1, "prev": self._prev}
        sealed = {**record, "chain": link}
        link["hash"] = _digest(self._prev, sealed)
        return sealed

    def advance(self, sealed: Mapping[str, object]) -> None:
        """Moves on: the next record follows this one, which was written."""
        link = cast("Mapping[str, object]", sealed["chain"])
        self._seq += 1
        self._prev = str(link["hash"])


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The last record that was read of one writer.

    Attributes:
        writer: The writer.
        seq: The record's number; without breaks also the writer's number of records.
        hash: The record's hash, which stands for everything before it.
    """

    writer: str
    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class ChainBreak:
    """One place where the log is not what was written.

    Attributes:
        line_number: From 1.
        writer: The writer that the line names; None when it names none.
        what: A sentence that says what is wrong there.
    """

    line_number: int
    writer: str | None
    what: str


@dataclass(frozen=True, slots=True)
class ChainReport:
    """What a verification found.

    Attributes:
        records: The number of lines that are not blank.
        writers: The head of each writer, in the order in which they first appear.
        broken: The breaks, in the order of the lines.
    """

    records: int
    writers: tuple[ChainHead, ...]
    broken: tuple[ChainBreak, ...]

    @property
    def is_intact(self) -> bool:
        """Whether nothing is broken."""
        return not self.broken


def verify_chain(lines: Iterable[str | bytes]) -> ChainReport:
    """Verifies the lines of one log, whichever way its writers interleave.

    Blank lines are passed over. Rotated files are given oldest first, as one iterable: a writer whose
    first record is missing is a break. Nothing in a line raises; what cannot be read is reported.
    """
    records = 0
    heads: dict[str, ChainHead] = {}
    broken: list[ChainBreak] = []
    for line_number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        records += 1
        link = _read(line)
        if isinstance(link, str):
            broken.append(ChainBreak(line_number, None, link))
            continue
        head = heads.get(link.writer, ChainHead(link.writer, 0, GENESIS))
        what = _mismatch(head, link)
        if what:
            broken.append(ChainBreak(line_number, link.writer, what))
        if _moves_on(head, link):
            heads[link.writer] = ChainHead(link.writer, link.seq, link.hash)
    return ChainReport(records, tuple(heads.values()), tuple(broken))


@dataclass(frozen=True, slots=True)
class _Link:
    writer: str
    seq: int
    prev: str
    hash: str
    is_genuine: bool


def _mismatch(head: ChainHead, link: _Link) -> str:
    expected = head.seq + 1
    if not link.is_genuine:
        return f"record {link.seq} was edited: its hash does not match its content"
    if link.seq > expected:
        return f"record {link.seq} comes after record {head.seq}: {link.seq - expected} removed or moved"
    if link.seq < expected:
        return f"record {link.seq} comes after record {head.seq}: repeated or moved"
    if link.prev != head.hash:
        return f"record {link.seq} does not follow the record before it, which was replaced"
    return ""


def _moves_on(head: ChainHead, link: _Link) -> bool:
    """Whether the line becomes its writer's head; an edited one may not jump, lest it mask what follows."""
    return link.seq > head.seq if link.is_genuine else link.seq == head.seq + 1


def _read(line: str | bytes) -> _Link | str:
    try:
        record = json.loads(line, object_pairs_hook=_members, parse_constant=_refuse_constant)
        return _link(record)
    except (ValueError, RecursionError):
        return "not a complete JSON object: torn or edited"
    except (KeyError, TypeError):
        return "no usable `chain` member"


def _link(record: object) -> _Link:
    """Raises KeyError or TypeError when there is no chain in it."""
    if not isinstance(record, dict) or not isinstance(chain := record["chain"], dict):
        raise TypeError
    writer, seq, prev, claimed = chain["writer"], chain["seq"], chain["prev"], chain.pop("hash")
    if not all(isinstance(text, str) for text in (writer, prev, claimed)) or type(seq) is not int:
        raise TypeError
    # An edited `prev` may hold anything; the digest takes ASCII.
    is_genuine = prev.isascii() and _digest(prev, record) == claimed
    return _Link(writer, seq, prev, claimed, is_genuine)


def _digest(prev: str, record: Mapping[str, object]) -> str:
    # The encoder leaves U+007F as it is, the only control character it does not escape.
    canonical = _CANONICAL.encode(record).replace("\x7f", "\\u007f")
    return hashlib.sha256((prev + canonical).encode("ascii")).hexdigest()


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Refuses a repeated name: readers differ on which one counts, so it could hide an edit."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return members


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")
