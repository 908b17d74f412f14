"""The store protocol: what replicas know together about deployments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from litellm_plugin.routing.attempts import Measurement
    from litellm_plugin.routing.candidates import StatisticsSnapshot


class Store(Protocol):
    """Where measurements go and statistics come from; neither call waits for anything."""

    def record(self, measurement: Measurement) -> None:
        """Takes one ended attempt into account; absurd values are clamped, never raised."""

    def begin(self, deployment_id: str) -> None:
        """Counts an attempt that is under way from now on."""

    def end(self, deployment_id: str) -> None:
        """Counts an attempt as ended; what never began is left alone."""

    def snapshot(self) -> StatisticsSnapshot:
        """Gives the statistics of the rolling window, and this worker's attempts under way."""
