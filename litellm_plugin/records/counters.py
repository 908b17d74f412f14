"""The counters: how many requests of this worker ended how, since it started."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from litellm_plugin.errors import Reason


class Counters:
    """Counts requests by how they ended; nothing that a permit or a caller says becomes a label.

    Attributes:
        admitted: Requests that came in with a valid permit, whatever became of them.
        unknown_endpoints: Names in the permits of admitted requests that no deployment has.
        unchecked_uses: Requests that were admitted although nobody could tell whether their permit had been used.
        would_reroute: Requests that LiteLLM sent elsewhere than would have been chosen, where nothing is enforced.
    """

    def __init__(self) -> None:
        self.admitted = 0
        self.unknown_endpoints = 0
        self.unchecked_uses = 0
        self.would_reroute = 0
        self._denied: dict[Reason, int] = {}
        self._would_deny: dict[Reason, int] = {}

    def admit(self, unknown_endpoints: int = 0) -> None:
        """Counts an admitted request.

        Args:
            unknown_endpoints: How many of its permit's endpoints no deployment has.
        """
        self.admitted += 1
        self.unknown_endpoints += unknown_endpoints

    def deny(self, reason: Reason) -> None:
        """Counts a request that ended with this reason; once a request, however many attempts it made."""
        self._denied[reason] = self._denied.get(reason, 0) + 1

    def spare(self, reason: Reason) -> None:
        """Counts a request that would have ended with this reason, where nothing is enforced; once a request."""
        self._would_deny[reason] = self._would_deny.get(reason, 0) + 1

    @property
    def would_deny(self) -> dict[str, int]:
        """How many requests each reason would have ended, as in `denied`."""
        return {str(reason): count for reason, count in sorted(self._would_deny.items())}

    @property
    def denied(self) -> dict[str, int]:
        """How many requests each reason ended, in the reasons' alphabetical order; one that ended none is absent."""
        return {str(reason): count for reason, count in sorted(self._denied.items())}
