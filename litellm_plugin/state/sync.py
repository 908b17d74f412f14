"""The synchroniser: the one background task of a worker that talks to the shared store, once a period."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Final

from litellm_plugin.errors import StoreUnavailable
from litellm_plugin.state.exchange import Batch, Contribution, HashChange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from litellm_plugin.state.exchange import Exchange, LeaseRequest, Part, Reply
    from litellm_plugin.state.shared_clock import SharedClock

PERIOD_S: Final = 1.0
# Workers that start together would all ask in the same millisecond.
JITTER: Final = 0.1
# A reply is cut off after 50 ms, and on a machine without processor time to spare one is missed now and then.
LOST_AFTER_MISSES: Final = 3

_logger = logging.getLogger("LiteLLM Proxy").getChild("permit_router")


class Synchroniser:
    """Asks every part what it has to say, tells the store all of it at once and hands each part the answer.

    A part that raises is logged once and left out of that round; the others go on.

    Args:
        parts: What shares state; belongs to one event loop.
        exchange: Where it is shared.
        worker: Names this worker among all of them, and among its own restarts.
        clock: The store's clock, which every answer corrects.
        period_s: How long it waits between two rounds, in seconds.
        draw: Gives a number from 0 to 1, for the jitter.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        exchange: Exchange,
        worker: str,
        clock: SharedClock,
        *,
        period_s: float = PERIOD_S,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._parts = tuple(parts)
        self._exchange = exchange
        self._worker = worker
        self._clock = clock
        self._period_s = period_s
        self._draw = draw
        self._sequence = 0
        self._answered = 0
        self._answered_at_s: float | None = None
        self._rounds = 0
        self._missed = 0
        self._misses_in_a_row = 0
        self._skipped = 0
        self._skipped_last = 0
        self._is_lost = False
        self._failed: set[str] = set()

    async def run(self) -> None:
        """Goes round until it is cancelled; nothing that happens in a round ends it."""
        while True:
            await self.round()
            await asyncio.sleep(self.pause_s())

    def pause_s(self) -> float:
        """How long to wait for the next round, in seconds: the period, a tenth more or less."""
        return self._period_s * (1 + JITTER * (2 * self._draw() - 1))

    async def round(self) -> bool:
        """Makes one exchange, and says whether the store answered; it raises nothing but a cancellation."""
        self._rounds += 1
        self._sequence += 1
        asked = self._outgoing()
        contribution = merged([given for _, given in asked])
        parts = [part for part, _ in asked]
        batch = Batch(self._worker, self._sequence, contribution, self._answered)
        asked_s = self._clock.monotonic_s()
        try:
            reply = await self._exchange.exchange(batch)
        except StoreUnavailable as error:
            self._miss(parts, str(error), was_sent=error.was_sent)
            return False
        except asyncio.CancelledError:
            self._tell_lost(parts, was_sent=True)
            raise
        except Exception as error:  # noqa: BLE001 - the outer guard of a background task
            self._log_failure("the exchange", error)
            self._miss(parts, f"{type(error).__name__} in the exchange", was_sent=True)
            return False
        self._clock.observe(reply.now_s, asked_s, self._clock.monotonic_s())
        self._answer(parts, reply)
        return True

    @property
    def is_lost(self) -> bool:
        """Whether the store did not answer for so long that it was logged."""
        return self._is_lost

    def health(self) -> Mapping[str, object]:
        """What operators want to know of the store: whether it answers, since when not, and what was skipped."""
        answered_at_s = self._answered_at_s
        age_s = None if answered_at_s is None else round(self._clock.monotonic_s() - answered_at_s, 3)
        return {
            "answers": self._rounds > 0 and self._misses_in_a_row == 0,
            "age_s": age_s,
            "rounds": self._rounds,
            "missed": self._missed,
            "missed_in_a_row": self._misses_in_a_row,
            "skipped": self._skipped,
            "skipped_last": self._skipped_last,
            "clock_jumps": self._clock.jumps,
        }

    def _outgoing(self) -> list[tuple[Part, Contribution]]:
        now_s = self._clock.now_s()
        given = []
        for part in self._parts:
            try:
                given.append((part, part.outgoing(now_s)))
            except Exception as error:  # noqa: BLE001 - one part's mistake must not silence the others
                self._log_failure(type(part).__name__, error)
        return given

    def _answer(self, parts: Iterable[Part], reply: Reply) -> None:
        self._answered = self._sequence
        self._answered_at_s = self._clock.monotonic_s()
        missed, self._misses_in_a_row = self._misses_in_a_row, 0
        self._skipped += reply.skipped
        self._skipped_last = reply.skipped
        now_s = self._clock.now_s()
        for part in parts:
            try:
                part.incoming(reply, now_s)
            except Exception as error:  # noqa: BLE001 - as above
                self._log_failure(type(part).__name__, error)
        if self._is_lost:
            self._is_lost = False
            _logger.info("The shared store answers again after %d missed rounds", missed)

    def _miss(self, parts: Iterable[Part], why: str, *, was_sent: bool) -> None:
        self._missed += 1
        self._misses_in_a_row += 1
        self._tell_lost(parts, was_sent=was_sent)
        if self._misses_in_a_row == LOST_AFTER_MISSES:
            self._is_lost = True
            _logger.warning(
                "The shared store does not answer; what was known last goes on, then neutral values: %s", why
            )

    def _tell_lost(self, parts: Iterable[Part], *, was_sent: bool) -> None:
        for part in parts:
            try:
                part.lost(was_sent=was_sent)
            except Exception as error:  # noqa: BLE001 - as above
                self._log_failure(type(part).__name__, error)

    def _log_failure(self, name: str, error: Exception) -> None:
        """Logs each place's first failure with its traceback: the same one would come back each second."""
        if name not in self._failed:
            self._failed.add(name)
            _logger.error("Shared state: %s failed, and is left out while it does", name, exc_info=error)


def merged(contributions: Sequence[Contribution]) -> Contribution:
    """Makes one contribution of those of all parts.

    Changes of one key become one: counts are summed, of puts the last counts, the longest lifetime stays. Of two
    requests for one resource the first counts.
    """
    changes: dict[str, HashChange] = {}
    leases: dict[str, LeaseRequest] = {}
    for contribution in contributions:
        for change in contribution.changes:
            before = changes.get(change.key)
            changes[change.key] = change if before is None else _joined(before, change)
        for request in contribution.leases:
            leases.setdefault(request.resource, request)
    reads = dict.fromkeys(key for contribution in contributions for key in contribution.reads)
    return Contribution(tuple(changes.values()), tuple(reads), tuple(leases.values()))


def _joined(first: HashChange, second: HashChange) -> HashChange:
    names = first.add.keys() | second.add.keys()
    return HashChange(
        key=first.key,
        lifetime_s=max(first.lifetime_s, second.lifetime_s),
        add={name: first.add.get(name, 0) + second.add.get(name, 0) for name in names},
        put={**first.put, **second.put},
    )
