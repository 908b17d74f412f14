"""The errors of this package and the reasons a request can end with.

PermitRouterError
├── ConfigurationError     the policy block, an environment flag or a file is wrong; stops the start
├── PermitRejected         a token is not a valid permit; carries a Reason
├── KeysUnavailable        an issuer's keys were never loaded or are too old
├── StoreUnavailable       what replicas share cannot be read or written now
├── ReplayStoreLost        single use cannot be judged, and the operator denies then; see permit/replay.py
├── RequestDenied          the request ends here; carries the Verdict that the client gets (or a router's caller)
└── RecordNotWritten       the decision log could not take a record that the operator requires
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Reason(enum.StrEnum):
    """Why a request ended; the same word in the client's body, the decision log and metric labels."""

    PERMIT_MISSING = "permit_missing"
    PERMIT_MALFORMED = "permit_malformed"
    ALG_NOT_ALLOWED = "alg_not_allowed"
    TYP_NOT_ALLOWED = "typ_not_allowed"
    KEY_UNKNOWN = "key_unknown"
    SIGNATURE_INVALID = "signature_invalid"
    CLAIM_MISSING = "claim_missing"
    CLAIM_INVALID = "claim_invalid"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    ISS_MISMATCH = "iss_mismatch"
    AUD_MISMATCH = "aud_mismatch"
    ENDPOINTS_INVALID = "endpoints_invalid"
    BINDING_MISMATCH = "binding_mismatch"
    REPLAYED = "replayed"
    REVOKED = "revoked"
    CLAIM_MISMATCH = "claim_mismatch"

    BODY_INVALID = "body_invalid"
    BODY_TOO_LARGE = "body_too_large"

    NOT_AUTHORIZED = "not_authorized"
    NOT_ELIGIBLE = "not_eligible"
    LATENCY_BUDGET = "latency_budget"
    BUDGET_EXCEEDED = "budget_exceeded"
    EGRESS_NOT_CLEARED = "egress_not_cleared"
    PATH_NOT_PERMITTED = "path_not_permitted"
    POLICY_STALE = "policy_stale"
    DESTINATION_MISMATCH = "destination_mismatch"
    NO_CONTEXT = "no_context"

    CHAIN_EXHAUSTED = "chain_exhausted"
    UNAVAILABLE = "unavailable"
    NOT_REPEATED = "not_repeated"
    KEYS_UNAVAILABLE = "keys_unavailable"
    NOT_READY = "not_ready"
    LOG_UNAVAILABLE = "log_unavailable"

    LITELLM_REFUSED = "litellm_refused"
    INTERNAL_ERROR = "internal_error"

    @property
    def status(self) -> int:
        """The HTTP status that goes with this reason: 401, 403, 400, 413, 500 or 503."""
        return _STATUS.get(self, 401)

    @property
    def is_temporary(self) -> bool:
        """Whether the same request may succeed later, so that Retry-After makes sense.

        What may have taken effect at a provider must not be sent again by itself.
        """
        return self.status == _UNAVAILABLE and self is not Reason.NOT_REPEATED


_UNAVAILABLE = 503
_STATUS = {
    Reason.BODY_INVALID: 400,
    Reason.BODY_TOO_LARGE: 413,
    Reason.CLAIM_MISMATCH: 403,
    Reason.NOT_AUTHORIZED: 403,
    Reason.NOT_ELIGIBLE: 403,
    Reason.LATENCY_BUDGET: 403,
    Reason.BUDGET_EXCEEDED: 403,
    Reason.EGRESS_NOT_CLEARED: 403,
    Reason.PATH_NOT_PERMITTED: 403,
    Reason.POLICY_STALE: 403,
    Reason.DESTINATION_MISMATCH: 403,
    Reason.NO_CONTEXT: 403,
    Reason.CHAIN_EXHAUSTED: _UNAVAILABLE,
    Reason.UNAVAILABLE: _UNAVAILABLE,
    Reason.NOT_REPEATED: _UNAVAILABLE,
    Reason.KEYS_UNAVAILABLE: _UNAVAILABLE,
    Reason.NOT_READY: _UNAVAILABLE,
    Reason.LOG_UNAVAILABLE: _UNAVAILABLE,
    Reason.LITELLM_REFUSED: 500,
    Reason.INTERNAL_ERROR: 500,
}


class PermitRouterError(Exception):
    """The root of every error that this package raises."""


class ConfigurationError(PermitRouterError):
    """Says which key of the configuration is wrong, what stood there and what was expected."""


class PermitRejected(PermitRouterError):  # noqa: N818 - named for what happened, as RFC 7519 texts do
    """A token is not a valid permit.

    Attributes:
        reason: The closed-set reason.
        detail: Which part failed (a claim's name, a header's name); never text from the token.
        expected: What would have been right, after the word "expected"; made of constants and the
            operator's configuration, never of text from the token, never secret. It may be empty.
    """

    def __init__(self, reason: Reason, detail: str = "", expected: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail
        self.expected = expected


class KeysUnavailable(PermitRouterError):  # noqa: N818 - a state, not a mistake
    """The keys of an issuer were never loaded, or the last good set is older than its `max_stale`."""

    def __init__(self, issuer: str) -> None:
        super().__init__(f"no usable keys for issuer {issuer!r}")
        self.issuer = issuer


class StoreUnavailable(PermitRouterError):  # noqa: N818 - a state, not a mistake
    """A store that replicas share does not answer, refuses or has no room.

    Attributes:
        was_sent: Whether the store may have done what it was asked for all the same.
        is_silent: Whether nothing came from it, rather than a refusal.
    """

    def __init__(self, message: str, *, was_sent: bool = True, is_silent: bool = False) -> None:
        super().__init__(message)
        self.was_sent = was_sent
        self.is_silent = is_silent


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a request ends.

    Attributes:
        reason: Fixes the status.
        message: A sentence for the caller.
        retry_after_s: When what kept it from being served may have passed, in seconds; None when nobody knows.
    """

    reason: Reason
    message: str
    retry_after_s: float | None = None

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return self.reason.status


class RequestDenied(PermitRouterError):  # noqa: N818 - a verdict, not a mistake
    """The request ends with this verdict."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(f"{verdict.reason}: {verdict.message}")
        self.verdict = verdict


class RecordNotWritten(PermitRouterError):  # noqa: N818 - a state, not a mistake
    """The decision log did not take a record although `decision_log.required` is set."""
