"""The workers that share a store: how many there are, so that each takes its share of what is limited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from litellm_plugin.state.exchange import Contribution, HashChange

if TYPE_CHECKING:
    from litellm_plugin.state.exchange import Reply

# Who said nothing in this stretch of time and the one before is gone.
SLICE_S: Final = 15.0
# More processes than this share no store that one plugin filled.
MOST_WORKERS: Final = 100_000


class Workers:
    """Says that this worker is here and counts the others; a `Part` of the state.

    In the store each stretch of 15 seconds has a hash with a field for each worker.

    Args:
        name: This worker's, among all of them and among its own restarts.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._number = 0
        self._known = 1

    def known(self) -> int:
        """How many workers were there lately, this one included; 1 or more."""
        return self._known

    def outgoing(self, now_s: float) -> Contribution:
        """Says that this worker is here, and asks who else is."""
        self._number = int(now_s // SLICE_S)
        change = HashChange(_key(self._number), lifetime_s=3 * SLICE_S, put={self._name: "1"})
        return Contribution(changes=(change,), reads=(_key(self._number), _key(self._number - 1)))

    def incoming(self, reply: Reply, now_s: float) -> None:
        """Counts who was there."""
        del now_s
        told = (reply.hashes.get(_key(number), {}) for number in (self._number, self._number - 1))
        names = {self._name}.union(*told)
        self._known = min(len(names), MOST_WORKERS)

    def lost(self, *, was_sent: bool) -> None:
        """Keeps what was known last."""


def _key(number: int) -> str:
    return f"workers:{number}"
