"""Freshness: what can end a permit between its verification and an attempt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from litellm_plugin.errors import PermitRejected, Reason
from litellm_plugin.permit.expectation import listed
from litellm_plugin.permit.policy_version import is_at_least

if TYPE_CHECKING:
    from litellm_plugin.permit.claims import ClaimPolicy, Permit


@dataclass(frozen=True, slots=True)
class Revocations:
    """What was taken back before it expired.

    Attributes:
        jti: Ids of permits, of whatever issuer.
        kid: Ids of keys; a permit that any of them signed is revoked.
        policy_versions: Policies whose decisions no longer count.
    """

    jti: frozenset[str] = frozenset()
    kid: frozenset[str] = frozenset()
    policy_versions: frozenset[str] = frozenset()


NOTHING_REVOKED: Final = Revocations()


def recheck(permit: Permit, policy: ClaimPolicy, now: float) -> None:
    """Check again, before an attempt, what may have changed since the permit was verified.

    Args:
        permit: A verified permit.
        policy: What the operator declares now.
        now: Wall clock, seconds since the epoch.

    Raises:
        PermitRejected: `expired`, `policy_stale` or `revoked`.
    """
    if not permit.is_alive(now, policy.leeway_s):
        raise expired(policy)
    check_policy_version(permit, policy)
    check_revocation(permit, policy.revocations)


def expired(policy: ClaimPolicy) -> PermitRejected:
    """The rejection of a permit whose time is over."""
    return PermitRejected(
        Reason.EXPIRED, "exp", f"an `exp` later than now, {policy.leeway_s:g} s of leeway included"
    )


def check_policy_version(permit: Permit, policy: ClaimPolicy) -> None:
    """Check the permit's policy version against the minimum and the accepted list; both count if both are set.

    Raises:
        PermitRejected: With `policy_stale`.
    """
    version, minimum, accepted = (
        permit.policy_version,
        policy.minimum_policy_version,
        policy.accepted_policy_versions,
    )
    if minimum is not None and not is_at_least(version, minimum):
        raise _stale(f"{minimum} or later, written in the same way")
    if accepted is not None and version not in accepted:
        raise _stale(f"one of the accepted policy versions: {listed(accepted)}")


def check_revocation(permit: Permit, revocations: Revocations) -> None:
    """Check that neither the permit, nor its key, nor its policy was revoked.

    Raises:
        PermitRejected: `revoked` for the permit or its key, `policy_stale` for its policy.
    """
    if permit.jti in revocations.jti:
        raise PermitRejected(Reason.REVOKED, "jti", "a permit that is not revoked")
    if permit.kid in revocations.kid:
        raise PermitRejected(Reason.REVOKED, "kid", "a signature by a key that is not revoked")
    if permit.policy_version in revocations.policy_versions:
        raise _stale("a policy version that is not revoked")


def _stale(expected: str) -> PermitRejected:
    return PermitRejected(Reason.POLICY_STALE, "policy_version", expected)
