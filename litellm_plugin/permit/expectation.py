"""The expectations of the verifier in words: the form of each claim, and lists of what is declared.

They tell a caller what would have been right. They are made of constants and of the operator's configuration
alone: nothing of a token and no key material stands in one, and before a signature is verified nothing that
the issuer's own callers could not know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST_LISTED: Final = 10

_ID: Final = "an id of 1 to 128 characters (A-Z a-z 0-9 . _ : / -)"
_SECONDS: Final = "a JSON integer of seconds since the epoch"
_SHA256: Final = "64 lowercase hexadecimal digits"
# docs/permit.md says the same of each claim.
CLAIM_FORMS: Final = {
    "iss": "the issuer as text, at the top level",
    "aud": "the configured audience, as text or a list of one",
    "iat": _SECONDS,
    "nbf": _SECONDS,
    "exp": _SECONDS,
    "jti": _ID,
    "request_id": _ID,
    "authorized_endpoints": f"1 to 64 endpoint names without repetition or '..', each {_ID}",
    "policy_version": _ID,
    "data_classification": _ID,
    "tenant": _ID,
    "tenant_tier": _ID,
    "latency_class": _ID,
    "sub": "a text of 1 to 255 characters, none of them a control character",
    "body_sha256": _SHA256,
    "api_key_hash": _SHA256,
    "models": f"1 to 64 model groups without repetition or '..', each {_ID}",
    "regions": f"1 to 64 regions without repetition or '..', each {_ID}",
    "max_cost_usd": "a JSON number above 0",
    "idempotency_key": _ID,
    "preferences": f"up to 64 endpoint names without repetition or '..', each {_ID}",
}
KNOWN_CLAIMS: Final = "only claims that are known, mapped under `claims` or listed under `ignore_claims`"
STRICT_OBJECT: Final = "one JSON object in UTF-8, without repeated names"
DECLARED_ISSUER: Final = "the exact `iss` of an issuer that is declared here"


def listed(names: Iterable[str]) -> str:
    """Names in alphabetical order, ten at most."""
    ordered = sorted(names)
    more = ", …" if len(ordered) > _MOST_LISTED else ""
    return ", ".join(ordered[:_MOST_LISTED]) + more
