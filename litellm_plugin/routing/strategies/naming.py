"""Naming: which endpoints a strategy was told by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litellm_plugin.routing.strategies.attested import Attested
from litellm_plugin.routing.strategies.composed import Composed
from litellm_plugin.routing.strategies.fallback import Fallback
from litellm_plugin.routing.strategies.static import Static
from litellm_plugin.routing.strategies.table import Table
from litellm_plugin.routing.strategies.weighted import Weighted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from litellm_plugin.routing.strategies.ranking import Strategy


def named_endpoints(strategy: Strategy | None) -> Iterator[str]:
    """Every endpoint name in a strategy's configuration, those of the strategies inside it included."""
    match strategy:
        case Static():
            yield from strategy.endpoints
        case Attested():
            yield strategy.endpoint
        case Fallback():
            yield from strategy.chain
        case Weighted():
            yield from strategy.weights
        case Table():
            for row in strategy.rows.values():
                yield from row.endpoints
            yield from named_endpoints(strategy.otherwise)
        case Composed():
            yield from named_endpoints(strategy.first)
            yield from named_endpoints(strategy.then)
        case _:
            return
