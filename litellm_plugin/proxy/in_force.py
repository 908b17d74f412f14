"""What is in force: a policy and everything that was made from it, swapped as one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from litellm_plugin.errors import KeysUnavailable
from litellm_plugin.permit import ClaimPolicy, IssuerTrust, PermitVerifier, Revocations
from litellm_plugin.proxy.egress import EgressTable
from litellm_plugin.state import RevokedKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from litellm_plugin.permit import KeySource
    from litellm_plugin.proxy.shadow import Shadow
    from litellm_plugin.settings import PolicySnapshot
    from litellm_plugin.state import StoredRevocations


@dataclass(frozen=True, slots=True)
class InForce:
    """What requests are judged by; a request keeps the policy with which it was admitted.

    Attributes:
        policy: The policy.
        trusts: What is accepted from each of its issuers, in their order.
        claims: What permits may say: the policy block, with what the shared store revokes beside it.
        verifier: Verifies permits by both.
        egress: Which places beside the endpoints may receive which classification.
        opened: Says which opened paths are not what the policy says; empty when all are.
        shadow: The second policy, which is computed beside this one; None without.
        stored: What the shared store revokes, whatever a policy says.
    """

    policy: PolicySnapshot
    trusts: tuple[IssuerTrust, ...]
    claims: ClaimPolicy
    verifier: PermitVerifier
    egress: EgressTable = field(default_factory=EgressTable)
    opened: Callable[[], list[str]] = list
    shadow: Shadow | None = None
    stored: Revocations = field(default_factory=Revocations)

    @property
    def sources(self) -> tuple[KeySource, ...]:
        """Where the keys of each issuer come from."""
        return tuple(trust.keys for trust in self.trusts)

    @property
    def hashes(self) -> tuple[str, str | None]:
        """The hashes of the policy and of its shadow, which say whether anything changed."""
        return self.policy.config_hash, self.shadow.config_hash if self.shadow else None

    @property
    def reads_language(self) -> bool:
        """Whether a rule or a budget of either policy reads the language of a prompt."""
        own = self.policy.routing.reads("request.language")
        return own or (self.shadow is not None and self.shadow.reads("request.language"))

    def revoking(self, stored: StoredRevocations | None) -> InForce:
        """The same, with what the shared store revokes now."""
        revoked = _revocations(stored) if stored else Revocations()
        claims = _with_stored(self.policy.claims, revoked)
        verifier = PermitVerifier(self.trusts, claims, self.policy.permit.max_permit_bytes)
        return replace(self, claims=claims, verifier=verifier, stored=revoked)


def in_force(policy: PolicySnapshot, sources: tuple[KeySource, ...]) -> InForce:
    """What a policy and the keys of its issuers make, without anything beside them.

    Args:
        policy: The validated policy.
        sources: Where the keys of its issuers come from, in their order.
    """
    permit = policy.permit
    trusts = tuple(map(permit.trust, permit.issuers, sources))
    verifier = PermitVerifier(trusts, policy.claims, permit.max_permit_bytes)
    return InForce(policy, trusts, policy.claims, verifier)


def has_keys(source: KeySource, now_s: float) -> bool:
    """Whether an issuer's keys are loaded and not too old."""
    try:
        source.current(now_s)
    except KeysUnavailable:
        return False
    return True


def _revocations(stored: StoredRevocations) -> Revocations:
    return Revocations(
        jti=stored.names(RevokedKind.JTI),
        kid=stored.names(RevokedKind.KID),
        policy_versions=stored.names(RevokedKind.POLICY_VERSION),
    )


def _with_stored(claims: ClaimPolicy, stored: Revocations) -> ClaimPolicy:
    """What the policy block says, with the store's revocations beside the block's own."""
    own = claims.revocations
    return replace(
        claims,
        revocations=Revocations(
            jti=own.jti | stored.jti,
            kid=own.kid | stored.kid,
            policy_versions=own.policy_versions | stored.policy_versions,
        ),
    )
