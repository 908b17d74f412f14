"""Cost: the cheapest expected cost first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from litellm_plugin.routing.strategies.ranking import Ranked, Ranking, bands_by_score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litellm_plugin.routing.decision import Assessment
    from litellm_plugin.routing.strategies.ranking import RankingContext


@dataclass(frozen=True, slots=True)
class Cost:
    """Cheapest expected cost first; an unknown cost after every known one."""

    name: ClassVar[str] = "cost"

    def rank(self, inputs: Sequence[Assessment], context: RankingContext) -> Ranking:  # noqa: ARG002 - the protocol's
        """Orders the candidates by expected cost."""
        return Ranking(bands_by_score([Ranked(each, each.expected_cost_usd) for each in inputs]))
