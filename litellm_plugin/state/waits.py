"""Waits: which deployments answered 429 and until when they are left alone, as all workers heard it."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from litellm_plugin.state.breaker_rules import CLOCK_SLACK_S
from litellm_plugin.state.exchange import Contribution, HashChange

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEY: Final = "waits"
_LIFETIME_S: Final = 600.0
_MOST: Final = 4096
_MOST_CHARS: Final = 32
# Times are told in milliseconds.
_ROUNDED_S: Final = 0.002


class Waits:
    """Until when deployments are left alone, in seconds on the shared clock; the longest wait holds.

    Which of them a provider asked for is known to the worker that heard it: others are told times alone.
    """

    def __init__(self) -> None:
        self._until_s: OrderedDict[str, float] = OrderedDict()
        self._asked_s: dict[str, float] = {}
        self._to_tell: set[str] = set()
        self._telling: set[str] = set()

    def __len__(self) -> int:
        return len(self._until_s)

    def add(self, deployment_id: str, until_s: float, now_s: float, *, is_asked: bool = True) -> None:
        """Takes the answer of one attempt into account; a time that passed is none.

        Args:
            deployment_id: Who answered.
            until_s: Until when it is left alone.
            now_s: The time.
            is_asked: Whether the provider named that time.
        """
        if is_asked and until_s > max(now_s, self._asked_s.get(deployment_id, now_s)):
            self._asked_s[deployment_id] = until_s
        if until_s > max(now_s, self._until_s.get(deployment_id, now_s)):
            self._put(deployment_id, until_s)
            self._to_tell.add(deployment_id)

    def names(self, now_s: float) -> set[str]:
        """The deployments that are left alone now."""
        return {name for name, until_s in self._until_s.items() if until_s > now_s}

    def until_s(self, deployment_id: str, now_s: float, longest_s: float) -> float | None:
        """Until when it is left alone; None when it is not."""
        until_s = self._until_s.get(deployment_id)
        if until_s is None or until_s <= now_s:
            return None
        return min(until_s, now_s + longest_s)

    def is_asked(self, deployment_id: str, now_s: float) -> bool:
        """Whether this worker heard the provider ask to be left alone now."""
        return self._asked_s.get(deployment_id, now_s) > now_s

    def outgoing(self) -> Contribution:
        """The waits that the others do not know, and the hash to read."""
        self._telling, self._to_tell = self._to_tell, set()
        told = {name: f"{self._until_s[name]:.3f}" for name in sorted(self._telling) if name in self._until_s}
        changes = (HashChange(_KEY, _LIFETIME_S, put=told),) if told else ()
        return Contribution(changes=changes, reads=(_KEY,))

    def incoming(self, hashes: Mapping[str, Mapping[str, str]], now_s: float, longest_s: float) -> int:
        """Takes what the others heard; gives how many fields it skipped."""
        self._telling = set()
        skipped = 0
        told: dict[str, float] = {}
        for name, text in list(hashes.get(_KEY, {}).items())[:_MOST]:
            until_s = _time(text)
            if until_s is None:
                skipped += 1
                continue
            if until_s > now_s + longest_s + CLOCK_SLACK_S:
                # Written over, for else it would be capped again at every exchange, and never end.
                if name not in self._until_s:
                    self._put(name, now_s + longest_s)
                continue
            told[name] = until_s
            if until_s > max(now_s, self._until_s.get(name, now_s)):
                self._put(name, until_s)
        for name, until_s in list(self._until_s.items()):
            if until_s <= now_s:
                del self._until_s[name]
                self._asked_s.pop(name, None)
                continue
            # The clock may have jumped back since it was written down.
            if until_s > now_s + longest_s + CLOCK_SLACK_S:
                self._until_s[name] = now_s + longest_s
            if told.get(name, 0.0) < self._until_s[name] - _ROUNDED_S:
                self._to_tell.add(name)
        return skipped

    def lost(self) -> None:
        """The last `outgoing` failed; to tell a time twice does no harm."""
        self._to_tell |= self._telling
        self._telling = set()

    def _put(self, deployment_id: str, until_s: float) -> None:
        self._until_s[deployment_id] = until_s
        self._until_s.move_to_end(deployment_id)
        if len(self._until_s) > _MOST:
            gone, _ = self._until_s.popitem(last=False)
            self._to_tell.discard(gone)
            self._asked_s.pop(gone, None)


def _time(text: str) -> float | None:
    if len(text) > _MOST_CHARS:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
