"""The binding of a permit to the body it was issued for."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

from litellm_plugin.errors import PermitRejected, Reason

if TYPE_CHECKING:
    from litellm_plugin.permit.claims import Permit

_BOUND: Final = "the SHA-256 of the raw body in the permit, since `binding` is `body`"
_SAME_BYTES: Final = "the body byte for byte as it was when the permit was issued"


def check_body(permit: Permit, body_sha256_hex: str, *, required: bool) -> None:
    """Check that the body is the one the gateway saw; the claim is checked whenever it is present.

    Args:
        permit: A verified permit.
        body_sha256_hex: SHA-256 of the raw body, 64 lowercase hexadecimal digits.
        required: Whether a permit without the claim is refused (`binding: body`).

    Raises:
        PermitRejected: With `binding_mismatch`; the detail says whether the claim is absent or differs.
    """
    if permit.body_sha256 is None:
        if required:
            raise PermitRejected(Reason.BINDING_MISMATCH, "body_sha256 is absent", _BOUND)
        return
    if not hmac.compare_digest(permit.body_sha256.encode(), body_sha256_hex.encode()):
        raise PermitRejected(Reason.BINDING_MISMATCH, "body_sha256 is of another body", _SAME_BYTES)
