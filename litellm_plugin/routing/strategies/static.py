"""Static: endpoints that somebody wrote down, in the order in which they stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from litellm_plugin.routing.strategies.ranking import Ranked, Ranking

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litellm_plugin.routing.decision import Assessment
    from litellm_plugin.routing.strategies.ranking import RankingContext


@dataclass(frozen=True, slots=True)
class Static:
    """The listed endpoints and no others, in the listed order; the deployments of one endpoint are equal.

    Attributes:
        endpoints: Endpoint names, the preferred one first.
    """

    name: ClassVar[str] = "static"

    endpoints: tuple[str, ...]

    def rank(self, inputs: Sequence[Assessment], context: RankingContext) -> Ranking:  # noqa: ARG002 - the protocol's
        """Orders the candidates by the place of their endpoint in the list."""
        bands = (
            tuple(Ranked(each) for each in inputs if each.candidate.endpoint == endpoint)
            for endpoint in dict.fromkeys(self.endpoints)
        )
        return Ranking(tuple(band for band in bands if band))
