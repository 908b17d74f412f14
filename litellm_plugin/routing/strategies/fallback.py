"""Fallback: a chain of endpoints, each taken when the ones before it cannot serve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from litellm_plugin.routing.strategies.ranking import Ranked, Ranking, absent, bands_by_endpoint, listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litellm_plugin.routing.decision import Assessment
    from litellm_plugin.routing.strategies.ranking import RankingContext


@dataclass(frozen=True, slots=True)
class Fallback:
    """The endpoints of a chain in their order; it knows nothing of cost or quality.

    Attributes:
        chain: Endpoint names, the first one to be tried first.
        others_last: Whether the candidates outside the chain come after it; else they are left out.
    """

    name: ClassVar[str] = "fallback"

    chain: tuple[str, ...]
    others_last: bool = False

    def rank(self, inputs: Sequence[Assessment], context: RankingContext) -> Ranking:  # noqa: ARG002 - the protocol's
        """Orders the candidates by the place of their endpoint in the chain."""
        places = dict.fromkeys(self.chain)
        bands = bands_by_endpoint(inputs, places)
        others = tuple(Ranked(each) for each in inputs if each.candidate.endpoint not in places)
        if self.others_last and others:
            bands = (*bands, others)
        skipped = absent(places, inputs)
        notes = (f"fallback: not among the candidates, so skipped: {listed(skipped)}",) if skipped else ()
        return Ranking(bands, notes)
