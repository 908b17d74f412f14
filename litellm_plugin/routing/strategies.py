"""Strategies: how the candidates that are left get their order."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litellm_plugin.routing.decision import Assessment
    from litellm_plugin.routing.facts import RequestFacts


@dataclass(frozen=True, slots=True)
class RankingContext:
    """What a strategy may know beside the candidates; neither the permit nor who sent the request.

    Attributes:
        facts: The request.
        seed: What ties are broken with.
    """

    facts: RequestFacts
    seed: int


class Strategy(Protocol):
    """Puts candidates in the order in which attempts take them."""

    @property
    def name(self) -> str:
        """The name that configuration and records use."""

    def rank(self, inputs: Sequence[Assessment], context: RankingContext) -> Sequence[Assessment]:
        """Orders `inputs`, best first; may leave some out, may not add any.

        The same inputs in any order and the same context give the same order.
        """


@dataclass(frozen=True, slots=True)
class Static:
    """The listed endpoints and no others, in the listed order; deployments of one endpoint by seed.

    Attributes:
        endpoints: Endpoint names, the preferred one first.
    """

    name: ClassVar[str] = "static"

    endpoints: tuple[str, ...]

    def rank(self, inputs: Sequence[Assessment], context: RankingContext) -> Sequence[Assessment]:
        """Orders the candidates by the place of their endpoint in the list."""
        places = {endpoint: place for place, endpoint in reversed(tuple(enumerate(self.endpoints)))}
        listed = (each for each in inputs if each.candidate.endpoint in places)
        return sorted(listed, key=lambda each: (places[each.candidate.endpoint], tie_break(each, context)))


@dataclass(frozen=True, slots=True)
class Cost:
    """Cheapest expected cost first; an unknown cost after every known one; equal costs by seed."""

    name: ClassVar[str] = "cost"

    def rank(self, inputs: Sequence[Assessment], context: RankingContext) -> Sequence[Assessment]:
        """Orders the candidates by expected cost."""
        return sorted(inputs, key=lambda each: (_cost_or_infinity(each), tie_break(each, context)))


def tie_break(assessment: Assessment, context: RankingContext) -> bytes:
    """A key that spreads equal candidates evenly over seeds, and in which none depends on the others.

    Source: rendezvous hashing, Thaler and Ravishankar, IEEE/ACM Transactions on Networking 6(1), 1998.
    """
    text = f"{context.seed}:{assessment.candidate.deployment_id}"
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _cost_or_infinity(assessment: Assessment) -> float:
    cost_usd = assessment.expected_cost_usd
    return math.inf if cost_usd is None else cost_usd
