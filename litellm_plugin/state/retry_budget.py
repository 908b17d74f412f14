"""The retry budget: how many retries each endpoint's requests may cost, as counted by one worker."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final

from litellm_plugin.routing.retries import NO_RETRIES, RetryLoad

if TYPE_CHECKING:
    from collections.abc import Callable

SLICES: Final = 10
_MOST_ENDPOINTS: Final = 4096


class RetryBudget:
    """Counts first attempts and the retries that followed them, by the endpoint of the first attempt.

    Both leave the window together, so that no first attempt ever pays for two retries that failed. A retry that was
    answered is taken back: an outage at one endpoint must not deny its requests the others, and where everything
    fails nothing is taken back. Envoy's budgets, too, count the retries that are under way (RetryBudget of
    config.cluster.v3.CircuitBreakers).

    Args:
        clock: Monotonic seconds.
        window_s: Length of the window, in seconds; counts cover between this less a tenth and this.
    """

    def __init__(self, clock: Callable[[], float], window_s: float = 10.0) -> None:
        self._clock = clock
        self._slice_s = window_s / SLICES
        self._slices: OrderedDict[str, deque[list[int]]] = OrderedDict()

    def use(self, window_s: float) -> None:
        """Takes another length of the window; what was counted is forgotten where it differs."""
        if window_s / SLICES != self._slice_s:
            self._slice_s = window_s / SLICES
            self._slices.clear()

    def began(self, endpoint: str) -> None:
        """Counts the first attempt of a request."""
        self._slice(endpoint)[1] += 1

    def retried(self, endpoint: str) -> None:
        """Counts a further attempt of a request whose first one went to this endpoint."""
        self._slice(endpoint)[2] += 1

    def answered(self, endpoint: str, began_s: float) -> None:
        """Takes back a retry that was answered, while it is in the window.

        Args:
            endpoint: Where the request's first attempt went.
            began_s: When the retry began, in monotonic seconds.
        """
        number = self._number(began_s)
        for each in self._slices.get(endpoint, ()):
            # It may have begun at the very end of a slice, and been counted in the next one.
            if each[0] in {number, number + 1} and each[2] > 0:
                each[2] -= 1
                return

    def load(self, endpoint: str) -> RetryLoad:
        """What was counted in the window."""
        slices = self._slices.get(endpoint)
        if slices is None:
            return NO_RETRIES
        oldest = self._number(self._clock()) - SLICES + 1
        counted = [each for each in slices if each[0] >= oldest]
        return RetryLoad(sum(each[1] for each in counted), sum(each[2] for each in counted))

    def _slice(self, endpoint: str) -> list[int]:
        """The number, first attempts and retries of the slice that it is now."""
        number = self._number(self._clock())
        slices = self._slices.setdefault(endpoint, deque(maxlen=SLICES))
        self._slices.move_to_end(endpoint)
        if len(self._slices) > _MOST_ENDPOINTS:
            self._slices.popitem(last=False)
        if not slices or slices[-1][0] != number:
            slices.append([number, 0, 0])
        return slices[-1]

    def _number(self, at_s: float) -> int:
        return int(at_s // self._slice_s)
