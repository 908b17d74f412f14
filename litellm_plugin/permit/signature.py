"""The signature layer: a compact token and a key set in, the signed bytes out.

It knows nothing of claims, so it can be run on any payload.
"""

from __future__ import annotations

from typing import Final

from jwt.algorithms import Algorithm, get_default_algorithms

from litellm_plugin.errors import PermitRejected, Reason
from litellm_plugin.permit.compact import CompactToken, parse_compact
from litellm_plugin.permit.expectation import listed
from litellm_plugin.permit.keys import SUPPORTED_ALGORITHMS, SYMMETRIC_ALGORITHMS, KeySet, VerificationKey

DEFAULT_MAX_BYTES: Final = 16_384

_SIGNATURE: Final = "a signature by the issuer's key over exactly this header and payload"

_ALGORITHMS: Final[dict[str, Algorithm]] = {
    name: algorithm
    for name, algorithm in get_default_algorithms().items()
    if name in SUPPORTED_ALGORITHMS | SYMMETRIC_ALGORITHMS
}


def verify_compact(
    token: str, keys: KeySet, algorithms: frozenset[str], *, max_bytes: int = DEFAULT_MAX_BYTES
) -> bytes:
    """Check a compact token's signature and return its payload, whatever that holds (RFC 7515 §5.2).

    The header is as closed as a permit's: `alg`, `kid` and `typ` only, a `kid` of 1 to 64 of
    `A-Z a-z 0-9 . _ -`. A token without `kid`, as most published examples are, needs a `KeySet` of one key
    with `kid_optional`.

    Args:
        token: The token's text, as it came.
        keys: The keys of the issuer.
        algorithms: The issuer's allow-list of JOSE names.
        max_bytes: The longest token that is looked at.

    Raises:
        PermitRejected: `permit_malformed`, `alg_not_allowed`, `key_unknown` or `signature_invalid`.
    """
    return verify_signature(parse_compact(token, max_bytes=max_bytes), keys, algorithms)


def verify_signature(token: CompactToken, keys: KeySet, algorithms: frozenset[str]) -> bytes:
    """Check the signature of a token that is already parsed and return its payload.

    Raises:
        PermitRejected: `alg_not_allowed`, `key_unknown` or `signature_invalid`.
    """
    check_algorithm(token, algorithms)
    if not _is_signed_by(keys.find(token.header.kid, token.header.alg), token):
        raise PermitRejected(Reason.SIGNATURE_INVALID, expected=_SIGNATURE)
    return token.payload


def check_algorithm(token: CompactToken, algorithms: frozenset[str]) -> None:
    """Check a token's `alg` against an allow-list of JOSE names (RFC 8725 §3.1).

    Raises:
        PermitRejected: `alg_not_allowed`.
    """
    if token.header.alg not in algorithms:
        raise PermitRejected(Reason.ALG_NOT_ALLOWED, "alg", f"one of the algorithms {listed(algorithms)}")


def _is_signed_by(key: VerificationKey, token: CompactToken) -> bool:
    try:
        return _ALGORITHMS[token.header.alg].verify(token.signing_input, key.key, token.signature)
    except Exception as error:
        # Whatever a cryptographic library raises on hostile bytes, the token is not signed.
        raise PermitRejected(Reason.SIGNATURE_INVALID, expected=_SIGNATURE) from error
