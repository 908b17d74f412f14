"""The narrowing claims that are held against the request: each only binds the permit closer.

`regions` and `max_cost_usd` narrow too, but against candidates: routing filters by them.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from litellm_plugin.errors import PermitRejected, Reason

if TYPE_CHECKING:
    from litellm_plugin.permit.claims import Permit


def check_model(permit: Permit, model_group: str) -> None:
    """Check that the permit, if it names model groups, names the one that is asked for.

    Raises:
        PermitRejected: With `claim_mismatch` and the claim's name.
    """
    if permit.models is not None and model_group not in permit.models:
        raise _mismatch("models", "a request for a model group that the permit names")


def check_api_key(permit: Permit, api_key: str | None) -> None:
    """Check that the permit, if it names a LiteLLM key by its hash, names the one in use.

    Args:
        permit: A verified permit.
        api_key: The key's text without a scheme such as `Bearer`; None when the request has none.

    Raises:
        PermitRejected: With `claim_mismatch` and the claim's name.
    """
    if permit.api_key_hash is None:
        return
    # A header that is no UTF-8 must be a mismatch, not an error.
    found = hashlib.sha256((api_key or "").encode("utf-8", "surrogatepass")).hexdigest()
    if not api_key or not hmac.compare_digest(permit.api_key_hash, found):
        raise _mismatch("api_key_hash", "exactly one LiteLLM key, the one whose SHA-256 the permit holds")


def check_tenant(permit: Permit, team: str | None) -> None:
    """Check that the permit's tenant is the team that LiteLLM authenticated.

    Args:
        permit: A verified permit.
        team: The team of the LiteLLM key in use; None when it has none, which is a mismatch.

    Raises:
        PermitRejected: With `claim_mismatch` and the claim's name.
    """
    if team != permit.tenant:
        raise _mismatch("tenant", "a LiteLLM key of the team that is the permit's tenant")


def check_request_id(permit: Permit, header_value: str | None) -> None:
    """Check that the permit was issued for the request whose id the caller's header states.

    Args:
        permit: A verified permit.
        header_value: The configured header's value; None when it is absent, which is a mismatch.

    Raises:
        PermitRejected: With `claim_mismatch` and the claim's name.
    """
    if header_value != permit.request_id:
        raise _mismatch("request_id", "the permit's request id, once, in the configured request header")


def _mismatch(claim: str, expected: str) -> PermitRejected:
    return PermitRejected(Reason.CLAIM_MISMATCH, claim, expected)
