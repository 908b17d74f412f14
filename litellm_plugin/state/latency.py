"""Shared latency: what workers measured, told to each other through the exchange."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeAlias

from litellm_plugin.state.exchange import Contribution, HashChange
from litellm_plugin.state.memory import MOST_DEPLOYMENTS
from litellm_plugin.state.tally import MOST_ATTEMPTS, Tally, whole_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from litellm_plugin.state.exchange import Reply
    from litellm_plugin.state.memory import MemoryStore

# A hash of 1,000 streams has 430 fields and takes 0.2 ms to read, and requests wait while all of them are read.
MOST_READS: Final = 8
# LiteLLM's own ids are 64 characters long; whoever writes longer ones into the store is not heard.
MOST_ID_CHARS: Final = 512

# A deployment's id, and a slice on the shared clock.
_Key: TypeAlias = tuple[str, int]


class SharedLatency:
    """Tells other workers what this one measured, and its statistics what they did; a `Part` of the state.

    In the store each deployment has a hash for each slice (`latency:<deployment>:<slice>`, see `Tally`), and each
    slice has an index (`latencies:<slice>`): the number of attempts by deployment. The index is read once a period
    and says which hashes hold what this worker has not read: those alone are asked for, at most 8 a period, the
    one that was read longest ago first. What a hash holds beyond what was read and told before is what others
    measured since; it enters the statistics at its age in slices. So work follows the number of deployments in use
    and not that of requests. What was measured is known everywhere within three periods (told, indexed, read); of
    more than 8 deployments that others use, in proportion later.

    Slices are numbered on the shared clock, ages are counted on the statistics' own: when the shared clock jumps,
    what is known stays, and other hashes are used from then on; what was told in the last periods before may not
    reach the others. When the store was emptied, what is known stays too.

    Args:
        store: The statistics of this worker.

    Attributes:
        skipped: How many fields and deployments were left out, since they made no sense or there was no room.
    """

    def __init__(self, store: MemoryStore) -> None:
        self.skipped = 0
        self._store = store
        self._unsent: dict[_Key, Tally] = {}
        self._unsent_slice = store.slice_number
        self._slices: dict[int, _Slice] = {}
        self._batch: _Batch | None = None
        self._last_slice: int | None = None
        self._periods = 0
        # What is told to a slice is of use until it leaves the window of those who read it last.
        self._lifetime_s = store.slice_s * (store.slices + 2)
        store.tell(self._measured)

    def outgoing(self, now_s: float) -> Contribution:
        """Tells what was measured since the last period and asks for what can have changed."""
        self.lost(was_sent=True)  # nobody told how the last period ended
        if not math.isfinite(now_s):
            return Contribution()
        self._periods += 1
        number = int(now_s // self._store.slice_s)
        local = self._store.slice_number
        self._forget(before=local - self._store.slices)
        self._drop_old_unsent(local)
        unsent, self._unsent = self._unsent, {}
        sent = {(name, number - (local - when)): tally for (name, when), tally in unsent.items()}
        slices = self._slices_to_read(number)
        asked = self._hashes_to_read()
        self._batch = _Batch(number, unsent, sent, slices, asked)
        return Contribution(
            changes=(*self._told(sent), *self._indexed(sent)),
            # The indexes first: what comes between the two reads is then read again, and not missed.
            reads=(*map(_index_key, slices), *(_hash_key(key) for key in asked)),
        )

    def incoming(self, reply: Reply, now_s: float) -> None:
        """Takes what others measured; the time of the answer plays no part."""
        del now_s
        batch, self._batch = self._batch, None
        if batch is None:
            return
        for key, tally in batch.sent.items():
            self._known(key).told(tally)
        for number in batch.slices:
            self._take_index(number, reply.hashes.get(_index_key(number), {}), batch)
        for key in batch.asked:
            self._take_hash(key, reply.hashes.get(_hash_key(key), {}), batch)
        self._last_slice = batch.number

    def lost(self, *, was_sent: bool) -> None:
        """Keeps what never left, to tell it again; what may have arrived is not told again.

        Of that, as much is taken for this worker's own as the store turns out to hold more.
        """
        batch, self._batch = self._batch, None
        if batch is None:
            return
        if was_sent:
            for key, tally in batch.sent.items():
                self._known(key).uncertain.merge(tally)
            return
        for key, tally in batch.unsent.items():
            self._unsent.setdefault(key, Tally()).merge(tally)

    def _measured(self, deployment_id: str, tally: Tally) -> None:
        local = self._store.slice_number
        if local != self._unsent_slice:
            self._unsent_slice = local
            self._drop_old_unsent(local)
        unsent = self._unsent.get((deployment_id, local))
        if unsent is not None:
            unsent.merge(tally)
        elif len(self._unsent) < MOST_DEPLOYMENTS:
            self._unsent[deployment_id, local] = _copied(tally)
        else:
            self.skipped += 1

    def _drop_old_unsent(self, local: int) -> None:
        """Nobody reads slices before the previous one again: what was measured then is told to nobody."""
        self._unsent = {key: tally for key, tally in self._unsent.items() if key[1] >= local - 1}

    def _forget(self, *, before: int) -> None:
        # By the worker's own clock: should the shared one jump and come back, what was read is still known.
        self._slices = {number: each for number, each in self._slices.items() if each.used_in >= before}

    def _known(self, key: _Key) -> _Known:
        deployment_id, number = key
        if number not in self._slices:
            self._slices[number] = _Slice(self._store.slice_number)
        return self._slices[number].known.setdefault(deployment_id, _Known())

    def _slices_to_read(self, number: int) -> tuple[int, ...]:
        """The slice of this moment, the one before, and those that went by since the last answer."""
        oldest = number - self._store.slices + 1
        if self._last_slice is not None:
            oldest = max(oldest, self._last_slice - 1)
        return tuple(range(number, min(oldest, number - 1) - 1, -1))

    def _hashes_to_read(self) -> tuple[_Key, ...]:
        changed = (
            (known.read_at, -number, deployment_id)
            for number, each in self._slices.items()
            for deployment_id, known in each.known.items()
            if known.is_behind
        )
        return tuple((name, -number) for _, number, name in heapq.nsmallest(MOST_READS, changed))

    def _told(self, sent: Mapping[_Key, Tally]) -> Iterator[HashChange]:
        for key, tally in sent.items():
            yield HashChange(_hash_key(key), self._lifetime_s, add=tally.fields())

    def _indexed(self, sent: Mapping[_Key, Tally]) -> Iterator[HashChange]:
        attempts: dict[int, dict[str, int]] = {}
        for (deployment_id, number), tally in sent.items():
            attempts.setdefault(number, {})[deployment_id] = tally.attempts
        for number, counts in attempts.items():
            yield HashChange(_index_key(number), self._lifetime_s, add=counts)

    def _take_index(self, number: int, index: Mapping[str, str], batch: _Batch) -> None:
        counts: dict[str, int | None] = {}
        for deployment_id, text in islice(index.items(), MOST_DEPLOYMENTS):
            counts[deployment_id] = attempts = whole_number(text, MOST_ATTEMPTS)
            if attempts is None or len(deployment_id) > MOST_ID_CHARS:
                self.skipped += 1
            else:
                self._known((deployment_id, number))
        self.skipped += max(0, len(index) - MOST_DEPLOYMENTS)
        if number in self._slices:
            self._slices[number].used_in = self._store.slice_number
            for deployment_id, known in self._slices[number].known.items():
                attempts = counts.get(deployment_id, 0)
                if attempts is not None:
                    known.counted(attempts, batch.sent.get((deployment_id, number)))

    def _take_hash(self, key: _Key, fields: Mapping[str, str], batch: _Batch) -> None:
        tally, skipped = Tally.read(fields)
        self.skipped += skipped
        known = self._known(key)
        known.read_at = self._periods
        others = known.read(tally, batch.sent.get(key), is_whole=not skipped)
        if not self._store.learn(key[0], others, age=max(0, batch.number - key[1])):
            self.skipped += 1


class _Known:
    """What this worker knows of a hash of the store.

    Attributes:
        read_at: In which period it was read last.
        uncertain: What this worker told and the store may have taken.
    """

    __slots__ = ("_held", "_indexed", "_listed", "_since", "read_at", "uncertain")

    def __init__(self) -> None:
        self.read_at = 0
        self.uncertain = Tally()
        # What the hash holds at least: what was read of it, and what was told since.
        self._held = Tally()
        # How many attempts the index holds by that, and how many it does.
        self._listed = 0
        self._indexed = 0
        # What was told since the index fell; None as long as it did not.
        self._since: Tally | None = None

    @property
    def is_behind(self) -> bool:
        """Whether the hash may hold what was not read, or less than was thought."""
        return self._indexed > self._listed or self._since is not None

    def told(self, tally: Tally) -> None:
        """Takes note of what the store took from this worker."""
        self._held.merge(tally)
        self._listed += tally.attempts
        if self._since is not None:
            self._since.merge(tally)

    def counted(self, attempts: int, sent: Tally | None) -> None:
        """Takes note of what the index says, after `sent` was told with the same batch."""
        self._indexed = attempts
        if attempts < self._listed:
            # The store was emptied or is another one, or the index alone was spoilt: the hash will tell.
            self._since = _copied(sent)
            self._listed = self._since.attempts
        elif attempts == self._listed and self._since is None:
            self.uncertain = Tally()  # it did not arrive

    def read(self, tally: Tally, sent: Tally | None, *, is_whole: bool) -> Tally:
        """Takes note of what the hash holds, and gives what others added to it.

        Args:
            tally: What it holds now.
            sent: What was told with the batch that read it.
            is_whole: Whether nothing was left out of it.
        """
        ours = self._held
        if is_whole and not tally.covers(ours):
            ours = (sent or Tally()) if self._since is None else self._since
        others = tally.beyond(ours)
        if not self.uncertain.is_empty:
            others = others.beyond(self.uncertain)
        self._held, self.uncertain, self._since = tally, Tally(), None
        self._listed = self._indexed
        return others


@dataclass(slots=True)
class _Slice:
    """A slice on the shared clock.

    Attributes:
        used_in: In which slice of the worker's own clock it was used last.
        known: What is known of its hashes, by deployment.
    """

    used_in: int
    known: dict[str, _Known] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Batch:
    """What the last `outgoing` handed out.

    Attributes:
        number: The slice on the shared clock.
        unsent: What was told, by the worker's own slices.
        sent: The same, by the shared clock's.
        slices: The slices whose index was asked for.
        asked: The hashes that were asked for.
    """

    number: int
    unsent: Mapping[_Key, Tally]
    sent: Mapping[_Key, Tally]
    slices: tuple[int, ...]
    asked: tuple[_Key, ...]


def _hash_key(key: _Key) -> str:
    return f"latency:{key[0]}:{key[1]}"


def _index_key(number: int) -> str:
    return f"latencies:{number}"


def _copied(tally: Tally | None) -> Tally:
    copy = Tally()
    if tally is not None:
        copy.merge(tally)
    return copy
