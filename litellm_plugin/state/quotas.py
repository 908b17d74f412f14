"""Quotas: how many requests and tokens all workers together may send to a deployment in a minute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from litellm_plugin.state.leases import Resource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litellm_plugin.state.leases import LeaseBook, Reservation

MINUTE_S: Final = 60.0
# A table without its slices holds nothing; it goes when a worker that reserved has long settled.
_LIFETIME_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Quota:
    """What the operator allows a deployment.

    Attributes:
        requests_per_minute: Requests within any minute; None for no limit.
        tokens_per_minute: Input and output tokens within any minute; None for no limit.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class QuotaLeft:
    """What this worker may still send to a deployment now.

    Attributes:
        requests: Requests; None without a limit.
        tokens: Input and output tokens; None without a limit.
    """

    requests: int | None = None
    tokens: int | None = None


UNLIMITED: Final = QuotaLeft()


@dataclass(frozen=True, slots=True)
class QuotaUse:
    """What one attempt took of a deployment's quota, to be settled or released once."""

    requests: Reservation | None = None
    tokens: Reservation | None = None


@dataclass(frozen=True, slots=True)
class _Limits:
    requests: Resource | None
    tokens: Resource | None


class Quotas:
    """The quotas of all deployments, spent from one worker's leases.

    All workers together stay within a limit and one lease each: an idle worker's lease is its share of half of what
    is left, a busy one's is four times what it spends in a period.

    Args:
        book: This worker's leases.
    """

    def __init__(self, book: LeaseBook) -> None:
        self._book = book
        self._limits: dict[str, _Limits] = {}

    def declare(self, quotas: Mapping[str, Quota]) -> None:
        """Replaces the quotas, by deployment id; what was spent under a limit counts against the new one.

        Raises:
            ValueError: A limit is negative or too large to be counted.
        """
        self._limits = {
            deployment_id: _Limits(
                _resource("rpm", deployment_id, quota.requests_per_minute),
                _resource("tpm", deployment_id, quota.tokens_per_minute),
            )
            for deployment_id, quota in quotas.items()
            if quota != Quota()
        }

    def left(self, deployment_id: str) -> QuotaLeft:
        """What may be sent there now; to ask is enough to be granted a lease by the next exchange."""
        limits = self._limits.get(deployment_id)
        if limits is None:
            return UNLIMITED
        return QuotaLeft(
            None if limits.requests is None else self._book.left(limits.requests),
            None if limits.tokens is None else self._book.left(limits.tokens),
        )

    def reserve(self, deployment_id: str, tokens: int) -> QuotaUse | None:
        """Takes one request and its expected tokens; None, and nothing taken, where either is too little.

        Raises:
            ValueError: The tokens are negative.
        """
        limits = self._limits.get(deployment_id)
        if limits is None:
            return QuotaUse()
        requests = None
        if limits.requests is not None:
            requests = self._book.reserve(limits.requests, 1)
            if requests is None:
                return None
        if limits.tokens is None:
            return QuotaUse(requests)
        reserved = self._book.reserve(limits.tokens, tokens)
        if reserved is None and requests is not None:
            self._book.release(requests)
        return None if reserved is None else QuotaUse(requests, reserved)

    def spend(self, deployment_id: str, tokens: int) -> QuotaUse:
        """Takes one request and its expected tokens whatever is left, for an attempt that is made all the same.

        Raises:
            ValueError: The tokens are negative.
        """
        limits = self._limits.get(deployment_id)
        if limits is None:
            return QuotaUse()
        return QuotaUse(
            None if limits.requests is None else self._book.spend(limits.requests, 1),
            None if limits.tokens is None else self._book.spend(limits.tokens, tokens),
        )

    def miss(self, deployment_id: str, tokens: int) -> None:
        """Asks the next exchange for a lease that covers a request for which this worker's is too small.

        Nothing is asked for where the limit itself is too small, or the lease is large enough by now.
        """
        limits = self._limits.get(deployment_id)
        resource = limits.tokens if limits is not None else None
        if resource is None or not self._book.left(resource) < tokens <= resource.limit:
            return
        reservation = self._book.reserve(resource, tokens)
        if reservation is not None:
            self._book.release(reservation)

    def settle(self, use: QuotaUse, tokens: int | None) -> None:
        """Replaces the expected tokens by the real ones; None keeps the expected. The request was made."""
        if use.tokens is not None and tokens is not None:
            self._book.settle(use.tokens, tokens)

    def release(self, use: QuotaUse) -> None:
        """Gives everything back: the provider was never asked."""
        for reservation in (use.requests, use.tokens):
            if reservation is not None:
                self._book.release(reservation)


def _resource(kind: str, deployment_id: str, limit: int | None) -> Resource | None:
    return None if limit is None else Resource(f"{kind}:{deployment_id}", limit, MINUTE_S, _LIFETIME_S)
