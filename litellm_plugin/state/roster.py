"""The roster: how many workers share the store."""

from __future__ import annotations

import math
from itertools import chain, islice
from typing import TYPE_CHECKING, Final

from litellm_plugin.state.exchange import Contribution, HashChange

if TYPE_CHECKING:
    from litellm_plugin.state.exchange import Reply

# A worker that is gone counts until the second page after its last.
PAGE_S: Final = 30.0
_KEPT_PAGES: Final = 3
# More names are of no fleet, and would leave each worker too small a part of every limit.
MOST_WORKERS: Final = 256


class Roster:
    """Counts the workers that wrote down their names lately; a part of the state that is exchanged.

    A page is a hash of names that ends by itself: a fleet that restarts often fills none. What was read of a page is
    remembered as long as it counts: where the store was emptied, the fleet is no smaller.

    Args:
        worker: Names this worker among all of them.
    """

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._pages: tuple[str, ...] = ()
        self._read: dict[str, frozenset[str]] = {}
        self._is_written = False
        self._count = 1

    def count(self) -> int:
        """How many workers share the store, this one included, up to 256; the last count while the store is silent."""
        return self._count

    def outgoing(self, now_s: float) -> Contribution:
        """Writes the worker's name on the page of this time, once, and reads that page and the one before."""
        number = math.floor(now_s / PAGE_S)
        pages = (f"workers:{number}", f"workers:{number - 1}")
        if pages != self._pages:
            self._pages, self._is_written = pages, False
        change = HashChange(pages[0], _KEPT_PAGES * PAGE_S, put={self._worker: ""})
        return Contribution(changes=() if self._is_written else (change,), reads=pages)

    def incoming(self, reply: Reply, now_s: float) -> None:  # noqa: ARG002 - a page's number is its time
        """Counts the names."""
        pages = [reply.hashes.get(page, {}) for page in self._pages]
        self._is_written = any(self._worker in page for page in pages[:1])
        self._read = {
            page: frozenset(islice(chain(self._read.get(page, ()), names), 2 * MOST_WORKERS))
            for page, names in zip(self._pages, pages, strict=True)
        }
        self._count = min(len({self._worker}.union(*self._read.values())), MOST_WORKERS)

    def lost(self, *, was_sent: bool) -> None:
        """Keeps the last count; a name may be written twice."""
