"""Attested: one model at one endpoint, for answers that must be reproducible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from litellm_plugin.routing.strategies.ranking import Ranked, Ranking

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litellm_plugin.routing.decision import Assessment
    from litellm_plugin.routing.strategies.ranking import RankingContext


@dataclass(frozen=True, slots=True)
class Attested:
    """The one deployment of an endpoint that serves exactly this model: no routing, one attempt, no fallback.

    Attributes:
        endpoint: The endpoint's name.
        model: The provider's model as the deployment is configured with it.
    """

    name: ClassVar[str] = "attested"
    most_attempts: ClassVar[int] = 1

    endpoint: str
    model: str

    def rank(self, inputs: Sequence[Assessment], context: RankingContext) -> Ranking:  # noqa: ARG002 - the protocol's
        """Orders the endpoint's deployments with this model by their ids, so that only the configuration picks one."""
        here = [each for each in inputs if each.candidate.endpoint == self.endpoint]
        same = [each for each in here if each.candidate.model == self.model]
        if not same:
            others = sorted({each.candidate.model or "an unknown model" for each in here})
            found = (
                f"serves {', '.join(others)}, not {self.model}" if others else "is not among the candidates"
            )
            return Ranking((), (f"attested: {self.endpoint} {found}",))
        by_id = sorted(same, key=lambda each: each.candidate.deployment_id)
        note = f"attested: {self.model} at {self.endpoint} alone; no routing, no second attempt, no fallback"
        return Ranking(tuple((Ranked(each),) for each in by_id), (note,))
