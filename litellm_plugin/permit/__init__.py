"""From a token to a `Permit`: compact form, keys, signature, layout, claims, binding, freshness.

A request goes through `PermitVerifier.verify`, `check_body` and the checks of what narrows it
(`check_model`, `check_api_key`, `check_tenant`, `check_request_id`), an attempt through `recheck`; none of
them waits for anything. A background task of the caller keeps each issuer's `KeySource` current.
"""

from litellm_plugin.permit.binding import check_body
from litellm_plugin.permit.claims import ClaimPolicy, Permit
from litellm_plugin.permit.compact import CompactToken, JoseHeader, parse_compact
from litellm_plugin.permit.freshness import Revocations, check_policy_version, check_revocation, recheck
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
from litellm_plugin.permit.layout import PERMIT_TYP, ClaimConstant, ClaimPath, ClaimSource, TokenLayout
from litellm_plugin.permit.narrowing import check_api_key, check_model, check_request_id, check_tenant
from litellm_plugin.permit.replay import Claim, ReplayStore, ReplayStoreLost, SingleUse
from litellm_plugin.permit.secret import secret_keys
from litellm_plugin.permit.signature import verify_compact
from litellm_plugin.permit.verifier import IssuerTrust, PermitVerifier

__all__ = [
    "PERMIT_TYP",
    "SUPPORTED_ALGORITHMS",
    "SYMMETRIC_ALGORITHMS",
    "Claim",
    "ClaimConstant",
    "ClaimPath",
    "ClaimPolicy",
    "ClaimSource",
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
    "ReplayStore",
    "ReplayStoreLost",
    "Revocations",
    "SingleUse",
    "StaticKeys",
    "TokenLayout",
    "UrlKeys",
    "VerificationKey",
    "check_api_key",
    "check_body",
    "check_model",
    "check_policy_version",
    "check_request_id",
    "check_revocation",
    "check_tenant",
    "parse_compact",
    "parse_jwks",
    "parse_pem",
    "recheck",
    "secret_keys",
    "symmetric_keys",
    "verify_compact",
]
