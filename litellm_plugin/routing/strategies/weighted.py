"""Weighted: a stable share of sessions, requests or tenants for each endpoint."""

from __future__ import annotations

import enum
import hashlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.routing.strategies.ranking import Ranked, Ranking, bands_by_endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from litellm_plugin.routing.decision import Assessment
    from litellm_plugin.routing.strategies.ranking import RankingContext

_DIGEST_BITS: Final = 64


class AssignedBy(enum.StrEnum):
    """What keeps its endpoint."""

    SESSION = "session"
    REQUEST_ID = "request_id"
    TENANT = "permit.tenant"


@dataclass(frozen=True, slots=True)
class Weighted:
    """Gives each session, request or tenant one endpoint, in the proportions of the weights.

    Each endpoint draws an exponential time with its weight as the rate, and the earliest wins: an endpoint's share
    is its weight's. Changing a weight moves only what that endpoint gains or loses; the same key stays where it is
    in a roll-out from 5 to 10 and on to 100 per cent once it has moved.

    Source: weighted rendezvous hashing, Schindelhauer and Schomaker, SPAA 2005.

    Attributes:
        weights: Shares by endpoint name; only their proportions matter. 0 takes no share and serves as the last of
            the fallbacks.
        by: What keeps its endpoint. A request without a session goes by its request id.
        salt: Makes the draws of one experiment independent of another's: the rule's name.
        assigned_only: Whether nobody takes over when the assigned endpoint cannot serve, so that an experiment
            stays clean; else the others follow, the heaviest first, and those without a weight last.

    Raises:
        ConfigurationError: A weight is negative or not finite, or none is above 0.
    """

    name: ClassVar[str] = "weighted"

    weights: Mapping[str, float] = field(hash=False)
    by: AssignedBy = AssignedBy.REQUEST_ID
    salt: str = ""
    assigned_only: bool = False

    def __post_init__(self) -> None:
        for endpoint, weight in self.weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ConfigurationError(f"weights: {endpoint}: expected 0 or more, got {weight!r}")
        if not any(self.weights.values()):
            raise ConfigurationError("weights: expected one above 0, got none")

    def rank(self, inputs: Sequence[Assessment], context: RankingContext) -> Ranking:
        """Puts the assigned endpoint first."""
        key, notes = self._key(context)
        draws = {endpoint: self._draw(endpoint, key) for endpoint in self.weights}
        assigned = min(self.weights, key=lambda endpoint: (draws[endpoint], endpoint))
        rest = sorted(
            (endpoint for endpoint in self.weights if endpoint != assigned),
            key=lambda endpoint: (-self.weights[endpoint], draws[endpoint], endpoint),
        )
        if all(each.candidate.endpoint != assigned for each in inputs):
            notes = (*notes, f"weighted: the assigned endpoint {assigned} is not among the candidates")
        bands = bands_by_endpoint(inputs, [assigned] if self.assigned_only else [assigned, *rest])
        others = tuple(Ranked(each) for each in inputs if each.candidate.endpoint not in self.weights)
        if others and not self.assigned_only:
            bands = (*bands, others)
        return Ranking(
            tuple(tuple(self._with_terms(each, assigned) for each in band) for band in bands), notes
        )

    def _key(self, context: RankingContext) -> tuple[str, tuple[str, ...]]:
        match self.by:
            case AssignedBy.TENANT:
                return context.scope.tenant, ()
            case AssignedBy.SESSION if context.facts.session is not None:
                return context.facts.session, ()
            case AssignedBy.SESSION:
                return context.scope.request_id, ("weighted: no session, assigned by the request id",)
            case AssignedBy.REQUEST_ID:
                return context.scope.request_id, ()

    def _draw(self, endpoint: str, key: str) -> float:
        """An exponential time with the endpoint's weight as the rate; infinite for a weight of 0."""
        weight = self.weights[endpoint]
        if weight == 0:
            return math.inf
        # Neither rule nor endpoint names hold a NUL, so no two triples give one text.
        text = f"{self.salt}\0{endpoint}\0{key}".encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(text, digest_size=_DIGEST_BITS // 8).digest()
        uniform = (int.from_bytes(digest, "big") + 0.5) / 2**_DIGEST_BITS
        return -math.log(min(uniform, 1 - 2**-53)) / weight

    def _with_terms(self, ranked: Ranked, assigned: str) -> Ranked:
        endpoint = ranked.assessment.candidate.endpoint
        share = self.weights.get(endpoint, 0.0) / sum(self.weights.values())
        return Ranked(ranked.assessment, terms={"share": share, "is_assigned": int(endpoint == assigned)})
