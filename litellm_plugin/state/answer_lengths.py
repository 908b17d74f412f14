"""Answer lengths: how many tokens the answers of a route had, for the expected cost of the next one."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

# Callers name workloads, so that they could name any number of routes.
MOST_ROUTES: Final = 4096


class AnswerLengths:
    """The mean length of each route's answers over a rolling window, in slices that expire as a whole.

    They are one worker's alone: each worker gets answers of all routes, a mean needs few of them, and callers name
    routes, so that what was shared of them could grow with callers.

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

    def add(self, route: str, tokens: float, now_s: float) -> None:
        """Takes one answer into account; beyond the bound the route that is silent for longest goes.

        One of no tokens tells no length: its client left, or its provider reported none.
        """
        if not tokens > 0:
            return
        number = int(now_s // self._slice_s)
        slices = self._routes.pop(route, None) or deque(maxlen=self._slices)
        self._routes[route] = slices
        if not slices or slices[-1].number != number:
            slices.append(_Slice(number))
        slices[-1].add(tokens)
        if len(self._routes) > MOST_ROUTES:
            self._routes.popitem(last=False)

    def means(self, now_s: float) -> Mapping[str, float]:
        """The mean length by route, in tokens; a route that was silent for a whole window has none.

        A mean is made when it is looked up, of what was added until then: a request reads one of thousands.
        """
        return _Means(self._routes, oldest=int(now_s // self._slice_s) - self._slices + 1)


class _Means(Mapping[str, float]):
    """The means of the slices that are not older than one."""

    __slots__ = ("_oldest", "_routes")

    def __init__(self, routes: Mapping[str, deque[_Slice]], *, oldest: int) -> None:
        self._routes = routes
        self._oldest = oldest

    def __getitem__(self, route: str) -> float:
        slices = [each for each in self._routes[route] if each.number >= self._oldest]
        if not slices:
            raise KeyError(route)
        return sum(each.tokens for each in slices) / sum(each.answers for each in slices)

    def __iter__(self) -> Iterator[str]:
        return (route for route, slices in self._routes.items() if slices[-1].number >= self._oldest)

    def __len__(self) -> int:
        return sum(1 for _ in self)


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
