"""Custom: a strategy of the operator's own, held so that it can only order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from litellm_plugin.routing.strategies.ranking import Ranked, Ranking

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from litellm_plugin.routing.decision import Assessment
    from litellm_plugin.routing.strategies.ranking import RankingContext, Strategy


@dataclass(frozen=True, slots=True)
class Custom:
    """Asks a strategy that somebody else wrote, and takes nothing from it but an order.

    One that raises, or answers with something else than a `Ranking`, leaves the candidates that it was given equal
    to each other. It is caught here and not further out, so that what stands before it in the rule, a static list or
    a floor, holds on.

    Attributes:
        name: What records call it.
        strategy: The strategy.
    """

    name: str
    strategy: Strategy

    def rank(self, inputs: Sequence[Assessment], context: RankingContext) -> Ranking:
        """Orders the candidates as the strategy says, or leaves them equal."""
        own = {each.candidate.deployment_id: each for each in inputs}
        try:
            ranking: Any = self.strategy.rank(tuple(inputs), context)
            bands = tuple(band for band in (tuple(_held(band, own)) for band in ranking.bands) if band)
            notes = tuple(str(note) for note in ranking.notes)
        except Exception as error:  # noqa: BLE001 - ranking fails open, DESIGN invariant 2
            note = f"strategy {self.name} failed: {type(error).__name__}; neutral order"
            return Ranking(tuple(filter(None, [tuple(Ranked(each) for each in inputs)])), (note,))
        return Ranking(bands, notes)


def _held(band: Sequence[Any], own: dict[str, Assessment]) -> Iterator[Ranked]:
    """What of a band was given to the strategy, each candidate once, as it was given."""
    for ranked in band:
        assessment = own.pop(ranked.assessment.candidate.deployment_id, None)
        if assessment is not None:
            yield Ranked(assessment, _number(ranked.score), _numbers(ranked.terms))


def _numbers(terms: Mapping[Any, Any]) -> dict[str, float]:
    read = ((str(name), _number(value)) for name, value in terms.items())
    return {name: value for name, value in read if value is not None}


def _number(value: Any) -> float | None:
    """The value where it is a finite number; a bool counts as 0 or 1."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
