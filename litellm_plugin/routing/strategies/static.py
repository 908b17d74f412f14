"""Static: endpoints that somebody wrote down, in the order in which they stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from litellm_plugin.routing.strategies.ranking import Ranking, absent, bands_by_endpoint, listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litellm_plugin.routing.decision import Assessment
    from litellm_plugin.routing.strategies.ranking import RankingContext


@dataclass(frozen=True, slots=True)
class Static:
    """The listed endpoints and no others, in the listed order; the deployments of one endpoint are equal.

    Attributes:
        endpoints: Endpoint names, the preferred one first.
        are_equal: Whether the order says nothing, so that load or the strategy behind `then` decides.
    """

    name: ClassVar[str] = "static"

    endpoints: tuple[str, ...]
    are_equal: bool = False

    def rank(self, inputs: Sequence[Assessment], context: RankingContext) -> Ranking:  # noqa: ARG002 - the protocol's
        """Orders the candidates by the place of their endpoint in the list."""
        places = dict.fromkeys(self.endpoints)
        bands = bands_by_endpoint(inputs, places)
        if self.are_equal and bands:
            bands = (tuple(ranked for band in bands for ranked in band),)
        missing = absent(places, inputs)
        notes = (f"static: not among the candidates, so not used: {listed(missing)}",) if missing else ()
        return Ranking(bands, notes)
