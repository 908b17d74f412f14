"""Composed: one strategy, and another one among what is equal to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from litellm_plugin.routing.strategies.ranking import Ranked, Ranking

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from litellm_plugin.routing.decision import Assessment
    from litellm_plugin.routing.strategies.ranking import RankingContext, Strategy


@dataclass(frozen=True, slots=True)
class Composed:
    """The first strategy's bands in its order, each of them ranked inside by the second.

    Attributes:
        first: What decides between bands.
        then: What decides within a band; it may leave candidates of the band out.
    """

    first: Strategy
    then: Strategy

    @property
    def name(self) -> str:
        """Both names, as in `latency, then cost`."""
        return f"{self.first.name}, then {self.then.name}"

    def rank(self, inputs: Sequence[Assessment], context: RankingContext) -> Ranking:
        """Orders by the first strategy, and where that is even by the second."""
        outer = self.first.rank(inputs, context)
        inner = [self._within(number, band, context) for number, band in enumerate(outer.bands)]
        notes = dict.fromkeys(note for ranking in (outer, *inner) for note in ranking.notes)
        return Ranking(tuple(band for ranking in inner for band in ranking.bands), tuple(notes))

    def _within(self, number: int, band: Sequence[Ranked], context: RankingContext) -> Ranking:
        outer = {ranked.assessment.candidate.deployment_id: ranked for ranked in band}
        ranking = self.then.rank([ranked.assessment for ranked in band], context)
        return Ranking(tuple(tuple(_both(number, outer, within)) for within in ranking.bands), ranking.notes)


def _both(number: int, outer: dict[str, Ranked], band: Sequence[Ranked]) -> Iterator[Ranked]:
    """The second strategy's candidates with the terms of both; the second's carry `then.` before their names."""
    for ranked in band:
        first = outer.get(ranked.assessment.candidate.deployment_id)
        if first is not None:
            yield Ranked(
                first.assessment,
                ranked.score,
                {**first.terms, **{f"then.{name}": value for name, value in ranked.terms.items()}},
                (*first.outer, (number, first.score), *ranked.outer),
            )
