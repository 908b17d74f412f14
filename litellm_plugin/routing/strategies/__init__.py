"""Strategies: how the candidates that are left get their order."""

from litellm_plugin.routing.strategies.cost import Cost
from litellm_plugin.routing.strategies.ranking import (
    Ranked,
    Ranking,
    RankingContext,
    Strategy,
    bands_by_score,
    spread,
    tie_break,
)
from litellm_plugin.routing.strategies.static import Static

__all__ = [
    "Cost",
    "Ranked",
    "Ranking",
    "RankingContext",
    "Static",
    "Strategy",
    "bands_by_score",
    "spread",
    "tie_break",
]
