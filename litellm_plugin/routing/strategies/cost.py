"""Cost: the cheapest expected cost first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from litellm_plugin.routing.strategies.ranking import (
    Ranked,
    Ranking,
    bands_by_score,
    check_share,
    listed_candidates,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litellm_plugin.routing.decision import Assessment
    from litellm_plugin.routing.strategies.ranking import RankingContext


@dataclass(frozen=True, slots=True)
class Cost:
    """Cheapest expected cost first; an unknown cost after every known one.

    Attributes:
        tolerance: How far a cost may lie above the cheapest and still be equal to it, as a share of it. A cost
            rests on an estimate of tokens, so that a difference of a hundredth is none.

    Raises:
        ConfigurationError: The tolerance is not a share.
    """

    name: ClassVar[str] = "cost"

    tolerance: float = 0.01

    def __post_init__(self) -> None:
        check_share("tolerance", self.tolerance)

    def rank(self, inputs: Sequence[Assessment], context: RankingContext) -> Ranking:  # noqa: ARG002 - the protocol's
        """Orders the candidates by expected cost."""
        unknown = [each for each in inputs if each.expected_cost_usd is None]
        notes = (f"cost: price unknown, so last: {listed_candidates(unknown)}",) if unknown else ()
        return Ranking(bands_by_score([_ranked(each) for each in inputs], self.tolerance), notes)


def _ranked(assessment: Assessment) -> Ranked:
    cost_usd = assessment.expected_cost_usd
    return Ranked(assessment, cost_usd, {} if cost_usd is None else {"cost_usd": cost_usd})
