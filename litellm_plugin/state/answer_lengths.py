"""Answer lengths: how many tokens the answers of a route had, for the expected cost of the next one."""

from __future__ import annotations

from collections import OrderedDict, deque
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

# Callers name workloads, so that they could name any number of routes.
MOST_ROUTES: Final = 1024


class AnswerLengths:
    """The mean length of each route's answers over a rolling window, in slices that expire as a whole.

    Args:
        window_s: Length of the window in seconds. Lengths follow from the work and not from an endpoint's
            health: the window may be longer than that of latencies.
        slices: Into how many slices the window is cut.

    Raises:
        ValueError: The window is not positive, or has no slices.
    """

    def __init__(self, window_s: float = 3600.0, slices: int = 12) -> None:
        if not window_s > 0 or slices < 1:
            raise ValueError(f"expected a positive window and 1 slice or more, got {window_s} s and {slices}")
        self._slice_s = window_s / slices
        self._slices = slices
        self._routes: OrderedDict[str, deque[_Slice]] = OrderedDict()
        self._means: Mapping[str, float] | None = None
        self._means_of = 0

    def add(self, route: str, tokens: float, now_s: float) -> None:
        """Takes one answer into account; beyond the bound the route that is silent for longest goes."""
        number = int(now_s // self._slice_s)
        slices = self._routes.pop(route, None) or deque()
        self._routes[route] = slices
        if not slices or slices[-1].number != number:
            slices.append(_Slice(number))
        slices[-1].add(tokens)
        if len(self._routes) > MOST_ROUTES:
            self._routes.popitem(last=False)
        self._means = None

    def means(self, now_s: float) -> Mapping[str, float]:
        """The mean length by route, in tokens; a route that was silent for a whole window has none."""
        number = int(now_s // self._slice_s)
        if self._means is None or self._means_of != number:
            self._expire(before=number - self._slices + 1)
            self._means = MappingProxyType({name: _mean(slices) for name, slices in self._routes.items()})
            self._means_of = number
        return self._means

    def _expire(self, *, before: int) -> None:
        for name, slices in tuple(self._routes.items()):
            while slices and slices[0].number < before:
                slices.popleft()
            if not slices:
                del self._routes[name]


class _Slice:
    """The answers of a stretch of time."""

    __slots__ = ("answers", "number", "tokens")

    def __init__(self, number: int) -> None:
        self.number = number
        self.answers = 0
        self.tokens = 0.0

    def add(self, tokens: float) -> None:
        self.answers += 1
        self.tokens += tokens


def _mean(slices: deque[_Slice]) -> float:
    return sum(each.tokens for each in slices) / sum(each.answers for each in slices)
