"""The shadow: a second policy that is computed beside the one in force, recorded, and never sent.

It sees what the decision saw and changes nothing of it. What goes wrong here ends no request: telemetry fails open.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from litellm_plugin.errors import PermitRejected, Reason, Verdict
from litellm_plugin.permit import check_revocation, recheck
from litellm_plugin.records import ShadowedDecision
from litellm_plugin.routing import decide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litellm_plugin.permit import Permit, Revocations
    from litellm_plugin.routing import Candidate, Decision
    from litellm_plugin.routing.candidates import Affinity, StatisticsSnapshot
    from litellm_plugin.routing.stickiness import Stickiness
    from litellm_plugin.settings import PolicySnapshot

_logger = logging.getLogger("LiteLLM Proxy").getChild("permit_router")


@dataclass(frozen=True, slots=True)
class Basis:
    """What a decision is made on beside the policy, the request and its permit.

    Attributes:
        candidates: What was decided over.
        statistics: What was measured of them; None when nothing was.
        tried: The deployment ids that earlier attempts took.
        affinity: What earlier requests left where, whether a policy wants it or not.
        attempts: How many candidates the plan may hold; None where the policy says.
        revoked: What is revoked whatever a policy says.
        now: Wall clock, seconds since the epoch.
    """

    candidates: Sequence[Candidate]
    statistics: StatisticsSnapshot | None
    tried: frozenset[str]
    affinity: Affinity
    attempts: int | None
    revoked: Revocations
    now: float


class Shadow:
    """Decides again under a second policy, and counts how often the two differ.

    Args:
        policy: The second policy; of its parts only those that decide on a request count.
    """

    def __init__(self, policy: PolicySnapshot) -> None:
        self._policy = policy
        self._logged: set[type[Exception]] = set()
        self._decisions = 0
        self._disagreements = 0
        self._errors = 0

    @property
    def config_hash(self) -> str:
        """The hash of the second policy."""
        return self._policy.config_hash

    def health(self) -> dict[str, object]:
        """What the health answer tells of it."""
        return {
            "config_hash": self.config_hash,
            "decisions": self._decisions,
            "disagreements": self._disagreements,
            "errors": self._errors,
        }

    def reads(self, name: str) -> bool:
        """Whether one of its rules or budgets reads the fact of this name."""
        return self._policy.routing.reads(name)

    @property
    def stickiness(self) -> Stickiness:
        """What of earlier requests counts for it."""
        return self._policy.routing.stickiness

    def decide(self, decision: Decision, permit: Permit, basis: Basis) -> ShadowedDecision | None:
        """What the second policy would have decided; None when it failed, which is logged once per type.

        Args:
            decision: What the policy in force decided.
            permit: The request's permit.
            basis: What it was decided on.
        """
        try:
            found = self._decided(decision, permit, basis)
        except Exception as error:  # the guard that the docstring names
            self._errors += 1
            if type(error) not in self._logged:
                self._logged.add(type(error))
                _logger.exception("The shadow policy failed; requests are not touched by it")
            return None
        self._decisions += 1
        self._disagreements += not found.agrees
        return found

    def _decided(self, decision: Decision, permit: Permit, basis: Basis) -> ShadowedDecision:
        refused = self._refusal(permit, basis)
        if refused is not None:
            return ShadowedDecision(self.config_hash, None, refused, decision.verdict is not None)
        routing = self._policy.routing
        own = decide(
            routing if basis.attempts is None else replace(routing, attempts=basis.attempts),
            decision.facts,
            permit.scope(self._policy.requirements[permit.data_classification]),
            basis.candidates,
            statistics=basis.statistics,
            seed=decision.seed,
            tried=basis.tried,
            affinity=routing.stickiness.sees(basis.affinity),
        )
        agrees = (_first(own), own.verdict is None) == (_first(decision), decision.verdict is None)
        return ShadowedDecision(self.config_hash, own, own.verdict, agrees)

    def _refusal(self, permit: Permit, basis: Basis) -> Verdict | None:
        """Why the permit would not count under the second policy; None when it would."""
        claims = self._policy.claims
        try:
            recheck(permit, claims, basis.now)
            check_revocation(permit, basis.revoked)
        except PermitRejected as rejected:
            return Verdict(rejected.reason, "The permit does not count under the shadow policy.")
        for name, value, declared in (
            ("data_classification", permit.data_classification, claims.classifications),
            ("tenant_tier", permit.tenant_tier, claims.tenant_tiers),
            ("latency_class", permit.latency_class, claims.latency_classes),
        ):
            if value not in declared:
                return Verdict(
                    Reason.CLAIM_INVALID, f"The shadow policy does not declare the permit's {name}."
                )
        return None


def _first(decision: Decision) -> str | None:
    return decision.chosen.deployment_id if decision.chosen else None
