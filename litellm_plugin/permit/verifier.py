"""The verifier: a token in, a `Permit` or a reason out."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from litellm_plugin.errors import ConfigurationError, KeysUnavailable, PermitRejected, Reason
from litellm_plugin.permit.claims import ClaimPolicy, Permit, parse_claims, read_issuer
from litellm_plugin.permit.compact import CompactToken, parse_compact
from litellm_plugin.permit.expectation import DECLARED_ISSUER, listed
from litellm_plugin.permit.keys import SUPPORTED_ALGORITHMS, SYMMETRIC_ALGORITHMS, KeySet
from litellm_plugin.permit.layout import NATIVE, TokenLayout
from litellm_plugin.permit.signature import DEFAULT_MAX_BYTES, verify_signature

if TYPE_CHECKING:
    from collections.abc import Iterable

    from litellm_plugin.permit.key_source import KeySource

__all__ = ["ClaimPolicy", "IssuerTrust", "PermitVerifier"]

_logger = logging.getLogger("LiteLLM Proxy").getChild("permit_router")


@dataclass(frozen=True, slots=True)
class IssuerTrust:
    """What is accepted from one issuer.

    Attributes:
        issuer: The exact `iss`.
        audience: The exact `aud`.
        algorithms: The allow-list of JOSE names.
        keys: Where its keys come from.
        kid_optional: Whether a token without a `kid` is checked with the issuer's only key.
        layout: How its tokens are read.

    Raises:
        ConfigurationError: No algorithm is named, one is not supported, or HS256 stands beside others.
    """

    issuer: str
    audience: str
    algorithms: frozenset[str]
    keys: KeySource
    kid_optional: bool = False
    layout: TokenLayout = NATIVE

    def __post_init__(self) -> None:
        if not self.algorithms or not (
            self.algorithms <= SUPPORTED_ALGORITHMS or self.algorithms <= SYMMETRIC_ALGORITHMS
        ):
            raise ConfigurationError(
                f"algorithms of issuer {self.issuer!r}: expected some of {sorted(SUPPORTED_ALGORITHMS)}, "
                f"or only {sorted(SYMMETRIC_ALGORITHMS)}, got {sorted(self.algorithms)}"
            )


class PermitVerifier:
    """Verifies permits of the declared issuers; immutable but for what it has logged.

    Args:
        issuers: Each issuer once.
        policy: What permits may say.
        max_token_bytes: The longest token that is looked at.

    Raises:
        ConfigurationError: An issuer is declared twice.
    """

    def __init__(
        self,
        issuers: Iterable[IssuerTrust],
        policy: ClaimPolicy,
        max_token_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        self._trusts: dict[str, IssuerTrust] = {}
        for trust in issuers:
            if trust.issuer in self._trusts:
                raise ConfigurationError(f"issuer {trust.issuer!r} is declared twice")
            self._trusts[trust.issuer] = trust
        self._policy = policy
        self._max_token_bytes = max_token_bytes
        self._logged: set[type[Exception]] = set()

    def verify(self, token: str, now: float, monotonic_s: float) -> Permit:
        """Verify a token; does no I/O.

        Args:
            token: The token's text, as it came.
            now: Wall clock, seconds since the epoch, for `exp`, `nbf` and `iat`.
            monotonic_s: Monotonic seconds, for the age of keys.

        Raises:
            PermitRejected: The token is not a valid permit; `internal_error` for what nobody foresaw.
            KeysUnavailable: The issuer's keys were never loaded, or are too old.
        """
        try:
            return self._verify(token, now, monotonic_s)
        except (PermitRejected, KeysUnavailable):
            raise
        except Exception as error:
            self._log_once(error)
            raise PermitRejected(Reason.INTERNAL_ERROR) from error

    def _verify(self, token: str, now: float, monotonic_s: float) -> Permit:
        compact = parse_compact(token, max_bytes=self._max_token_bytes)
        trust = self._trust_for(compact)
        keys = trust.keys.current(monotonic_s).with_rule(kid_optional=trust.kid_optional)
        return parse_claims(
            _verified_payload(compact, trust, keys, monotonic_s),
            kid=_signer(compact, keys),
            issuer=trust.issuer,
            audience=trust.audience,
            policy=self._policy,
            now=now,
            read=trust.layout.read,
        )

    def _trust_for(self, compact: CompactToken) -> IssuerTrust:
        trust = self._trusts.get(read_issuer(compact.payload))
        if trust is None:
            raise PermitRejected(Reason.ISS_MISMATCH, "iss", DECLARED_ISSUER)
        if compact.header.typ not in trust.layout.typs:
            expected = f"one of the exact values {listed(trust.layout.typs)}"
            raise PermitRejected(Reason.TYP_NOT_ALLOWED, "typ", expected)
        return trust

    def _log_once(self, error: Exception) -> None:
        if type(error) not in self._logged:
            self._logged.add(type(error))
            _logger.error(
                "verifying a permit failed unexpectedly; further ones of this type are not logged",
                exc_info=error,
            )


def _verified_payload(compact: CompactToken, trust: IssuerTrust, keys: KeySet, monotonic_s: float) -> bytes:
    try:
        return verify_signature(compact, keys, trust.algorithms)
    except PermitRejected as rejected:
        if rejected.reason is Reason.KEY_UNKNOWN and compact.header.kid is not None:
            trust.keys.note_unknown_kid(monotonic_s)
        raise


def _signer(compact: CompactToken, keys: KeySet) -> str | None:
    """The id of the key that signed; a token without `kid` must not escape the revocation of its key."""
    return keys.find(compact.header.kid, compact.header.alg).kid or compact.header.kid
