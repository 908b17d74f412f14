"""From a token to a `Permit`: compact form, keys, signature, claims, binding.

A request goes through `PermitVerifier.verify` and `check_body`; neither waits for anything. A
background task of the caller keeps each issuer's `KeySource` current.
"""

from litellm_plugin.permit.binding import check_body
from litellm_plugin.permit.claims import ClaimPolicy, Permit
from litellm_plugin.permit.compact import CompactToken, JoseHeader, parse_compact
from litellm_plugin.permit.key_source import (
    FileKeys,
    KeyFormat,
    KeySource,
    RefreshTimes,
    StaticKeys,
    UrlKeys,
)
from litellm_plugin.permit.keys import (
    SUPPORTED_ALGORITHMS,
    SYMMETRIC_ALGORITHMS,
    KeyDocumentError,
    KeySet,
    VerificationKey,
    parse_jwks,
    parse_pem,
    symmetric_keys,
)
from litellm_plugin.permit.signature import verify_compact
from litellm_plugin.permit.verifier import PERMIT_TYP, IssuerTrust, PermitVerifier

__all__ = [
    "PERMIT_TYP",
    "SUPPORTED_ALGORITHMS",
    "SYMMETRIC_ALGORITHMS",
    "ClaimPolicy",
    "CompactToken",
    "FileKeys",
    "IssuerTrust",
    "JoseHeader",
    "KeyDocumentError",
    "KeyFormat",
    "KeySet",
    "KeySource",
    "Permit",
    "PermitVerifier",
    "RefreshTimes",
    "StaticKeys",
    "UrlKeys",
    "VerificationKey",
    "check_body",
    "parse_compact",
    "parse_jwks",
    "parse_pem",
    "symmetric_keys",
    "verify_compact",
]
