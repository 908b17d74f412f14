"""Reading: which facts a strategy looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litellm_plugin.routing.expressions import KNOWN_NAMES
from litellm_plugin.routing.strategies.attested import Attested
from litellm_plugin.routing.strategies.balanced import Balanced
from litellm_plugin.routing.strategies.composed import Composed
from litellm_plugin.routing.strategies.cost import Cost
from litellm_plugin.routing.strategies.fallback import Fallback
from litellm_plugin.routing.strategies.latency import Latency
from litellm_plugin.routing.strategies.quality import Quality
from litellm_plugin.routing.strategies.static import Static
from litellm_plugin.routing.strategies.table import Table
from litellm_plugin.routing.strategies.weighted import Weighted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from litellm_plugin.routing.strategies.ranking import Strategy


def looked_up(strategy: Strategy) -> Iterator[str]:
    """The facts that a strategy looks up by name; one that is not of this package may look at any."""
    match strategy:
        case Table(by=by, otherwise=otherwise):
            yield by
            if otherwise is not None:
                yield from looked_up(otherwise)
        case Composed(first=first, then=then):
            yield from looked_up(first)
            yield from looked_up(then)
        case Static() | Attested() | Cost() | Quality() | Latency() | Balanced() | Weighted() | Fallback():
            return
        case _:
            yield from KNOWN_NAMES
