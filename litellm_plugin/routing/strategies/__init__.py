"""Strategies: how the candidates that are left get their order."""

from litellm_plugin.routing.strategies.attested import Attested
from litellm_plugin.routing.strategies.balanced import BALANCED_TERMS, Balanced
from litellm_plugin.routing.strategies.composed import Composed
from litellm_plugin.routing.strategies.cost import Cost
from litellm_plugin.routing.strategies.custom import Custom
from litellm_plugin.routing.strategies.fallback import Fallback
from litellm_plugin.routing.strategies.latency import Latency
from litellm_plugin.routing.strategies.naming import named_endpoints
from litellm_plugin.routing.strategies.quality import Quality
from litellm_plugin.routing.strategies.ranking import (
    Ranked,
    Ranking,
    RankingContext,
    Strategy,
    bands_by_score,
    most_attempts,
    spread,
    tie_break,
)
from litellm_plugin.routing.strategies.reading import looked_up
from litellm_plugin.routing.strategies.static import Static
from litellm_plugin.routing.strategies.table import Table
from litellm_plugin.routing.strategies.weighted import AssignedBy, Weighted

__all__ = [
    "BALANCED_TERMS",
    "AssignedBy",
    "Attested",
    "Balanced",
    "Composed",
    "Cost",
    "Custom",
    "Fallback",
    "Latency",
    "Quality",
    "Ranked",
    "Ranking",
    "RankingContext",
    "Static",
    "Strategy",
    "Table",
    "Weighted",
    "bands_by_score",
    "looked_up",
    "most_attempts",
    "named_endpoints",
    "spread",
    "tie_break",
]
