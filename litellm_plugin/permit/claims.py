"""The claims of a permit: from the verified payload to a `Permit`, or to a reason why not."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from litellm_plugin.errors import ConfigurationError, PermitRejected, Reason
from litellm_plugin.permit.expectation import (
    CLAIM_FORMS,
    DECLARED_ISSUER,
    KNOWN_CLAIMS,
    STRICT_OBJECT,
    listed,
)
from litellm_plugin.permit.freshness import (
    NOTHING_REVOKED,
    Revocations,
    check_policy_version,
    check_revocation,
    expired,
)
from litellm_plugin.permit.policy_version import order_of
from litellm_plugin.permit.strict_json import StrictJsonError, parse_strict_json
from litellm_plugin.routing.facts import RoutingScope

if TYPE_CHECKING:
    from collections.abc import Callable

_JTI_HASH_DIGITS: Final = 16
_LAST_SECOND_OF_YEAR_9999: Final = 253_402_300_799

LIST_CLAIMS: Final = ("authorized_endpoints", "models", "regions", "preferences")
CLAIM_REASONS: Final = {
    "iss": Reason.ISS_MISMATCH,
    "aud": Reason.AUD_MISMATCH,
    "authorized_endpoints": Reason.ENDPOINTS_INVALID,
}

_Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:/-]{1,128}$")]
_Seconds = Annotated[int, Field(ge=0, le=_LAST_SECOND_OF_YEAR_9999)]
_Names = Annotated[list[_Id], Field(min_length=1, max_length=64)]
_Usd = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Sha256Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# RFC 7519 §4.1.2 leaves the subject free; control characters would only forge log lines.
_Subject = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\p{C}]+$")]


class _Claims(BaseModel):
    """The claims by their names in the token."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    iss: str
    aud: str | list[str]
    iat: _Seconds
    nbf: _Seconds | None = None
    exp: _Seconds
    jti: _Id
    request_id: _Id
    authorized_endpoints: _Names
    policy_version: _Id
    data_classification: _Id
    tenant: _Id
    tenant_tier: _Id
    latency_class: _Id
    sub: _Subject | None = None
    body_sha256: _Sha256Hex | None = None
    api_key_hash: _Sha256Hex | None = None
    models: _Names | None = None
    regions: _Names | None = None
    max_cost_usd: _Usd | None = None
    idempotency_key: _Id | None = None
    preferences: Annotated[list[_Id], Field(max_length=64)] | None = None


CLAIM_NAMES: Final = frozenset(_Claims.model_fields)
_REQUIRED: Final = frozenset(name for name, info in _Claims.model_fields.items() if info.is_required())


@dataclass(frozen=True, slots=True)
class ClaimPolicy:
    """What the operator declares that permits may say.

    Attributes:
        classifications: The declared data classifications.
        tenant_tiers: The declared tenant tiers.
        latency_classes: The declared latency classes.
        max_lifetime_s: The longest `exp - iat`, in seconds.
        leeway_s: How far clocks may differ, in seconds.
        minimum_policy_version: The oldest policy whose decisions still count: an integer, a dotted
            number or an ISO date.
        accepted_policy_versions: The only policies whose decisions count, exact; None accepts any.
        revocations: What was taken back before it expired.

    Raises:
        ConfigurationError: The minimum policy version has no order.
    """

    classifications: frozenset[str]
    tenant_tiers: frozenset[str]
    latency_classes: frozenset[str]
    max_lifetime_s: float = 300
    leeway_s: float = 5
    minimum_policy_version: str | None = None
    accepted_policy_versions: frozenset[str] | None = None
    revocations: Revocations = NOTHING_REVOKED

    def __post_init__(self) -> None:
        minimum = self.minimum_policy_version
        if minimum is not None and order_of(minimum) is None:
            raise ConfigurationError(
                f"minimum_policy_version: expected an integer, a dotted number or a date, got {minimum[:80]!r}"
            )


@dataclass(frozen=True, slots=True)
class Permit:
    """A verified permit.

    Attributes:
        issuer: `iss`.
        jti: The permit's id; `(issuer, jti)` is its identity, its text never is.
        kid: The id of the key that signed it; None for a key without one.
        request_id: The gateway's id of the request.
        endpoints: The authorized endpoint names, in the token's order.
        policy_version: The version of the policy that decided.
        data_classification: A declared classification.
        tenant: The tenant's id.
        tenant_tier: A declared tier.
        latency_class: A declared latency class.
        issued_at: `iat`, seconds since the epoch.
        not_before: `nbf`, seconds since the epoch.
        expires_at: `exp`, seconds since the epoch.
        subject: `sub`; for the record only.
        body_sha256: SHA-256 of the raw body it is bound to, 64 lowercase hexadecimal digits.
        api_key_hash: SHA-256 of the LiteLLM key it may be used with, 64 lowercase hexadecimal digits.
        models: The model groups that may be asked for; None when any may.
        regions: The regions that endpoints may be in; None when any may.
        max_cost_usd: The highest expected cost of the request, in USD; None when there is no limit.
        idempotency_key: What makes a repeated request safe to send again.
        preferences: Authorized endpoint names in the gateway's order of preference; they may reorder a
            choice and never widen it, so a name that is not authorized is left out here.
    """

    issuer: str
    jti: str
    kid: str | None
    request_id: str
    endpoints: tuple[str, ...]
    policy_version: str
    data_classification: str
    tenant: str
    tenant_tier: str
    latency_class: str
    issued_at: int
    not_before: int | None
    expires_at: int
    subject: str | None = None
    body_sha256: str | None = None
    api_key_hash: str | None = None
    models: frozenset[str] | None = None
    regions: frozenset[str] | None = None
    max_cost_usd: float | None = None
    idempotency_key: str | None = None
    preferences: tuple[str, ...] = ()

    @property
    def jti_hash(self) -> str:
        """The permit's identity for logs: the first 16 hexadecimal digits of SHA-256(iss NUL jti)."""
        return hashlib.sha256(f"{self.issuer}\0{self.jti}".encode()).hexdigest()[:_JTI_HASH_DIGITS]

    def is_alive(self, now: float, leeway_s: float) -> bool:
        """Whether the permit has not expired at `now`, seconds since the epoch."""
        return now < self.expires_at + leeway_s

    def scope(self, requirements: frozenset[str]) -> RoutingScope:
        """What the permit opens for routing, without issuer, subject or key.

        Args:
            requirements: The attributes that its classification demands of an endpoint.
        """
        return RoutingScope(
            request_id=self.request_id,
            endpoints=frozenset(self.endpoints),
            policy_version=self.policy_version,
            data_classification=self.data_classification,
            tenant=self.tenant,
            tenant_tier=self.tenant_tier,
            latency_class=self.latency_class,
            requirements=requirements,
            regions=self.regions,
            max_cost_usd=self.max_cost_usd,
            preferences=self.preferences,
        )


def read_issuer(payload: bytes) -> str:
    """The `iss` of a payload that nobody has verified; good for picking an issuer's keys, nothing else.

    Raises:
        PermitRejected: The payload is not an object, or has no `iss` that is a string.
    """
    issuer = parse_payload(payload).get("iss")
    if issuer is None:
        raise PermitRejected(Reason.CLAIM_MISSING, "iss", CLAIM_FORMS["iss"])
    if not isinstance(issuer, str):
        raise _invalid("iss")
    return issuer


def parse_claims(
    payload: bytes,
    *,
    kid: str | None,
    issuer: str,
    audience: str,
    policy: ClaimPolicy,
    now: float,
    read: Callable[[dict[str, object]], dict[str, object]] = dict,
) -> Permit:
    """Turn a verified payload into a permit.

    Args:
        payload: The signed bytes.
        kid: The id of the key that signed them.
        issuer: The `iss` that this key may speak for.
        audience: The `aud` that is ours.
        policy: What the operator declares.
        now: Seconds since the epoch.
        read: Finds the claims, by our names, among the payload's members (`TokenLayout.read`).

    Raises:
        PermitRejected: `permit_malformed` when the payload is not strict JSON of an object; else the
            claim's own reason, with the claim's name as the detail.
    """
    claims = _validate(read(parse_payload(payload)))
    _check_addressees(claims, issuer, audience)
    _check_times(claims, policy, now)
    _check_names(claims)
    _check_declared(claims, policy)
    permit = _permit(claims, kid)
    check_policy_version(permit, policy)
    check_revocation(permit, policy.revocations)
    return permit


def parse_payload(payload: bytes) -> dict[str, object]:
    """The members of a payload, verified or not; their values are not looked at.

    Raises:
        PermitRejected: `permit_malformed` when it is not strict JSON of an object.
    """
    try:
        parsed = parse_strict_json(payload)
    except StrictJsonError as error:
        raise PermitRejected(Reason.PERMIT_MALFORMED, f"payload: {error}", STRICT_OBJECT) from error
    if not isinstance(parsed, dict):
        raise PermitRejected(Reason.PERMIT_MALFORMED, "payload: not an object", STRICT_OBJECT)
    return parsed


def _validate(members: dict[str, object]) -> _Claims:
    # pydantic reads null as "absent" where a claim is optional; a restriction of null is none we know.
    for name in sorted(_Claims.model_fields.keys() & members.keys()):
        if members[name] is None and name in _REQUIRED:
            raise PermitRejected(Reason.CLAIM_MISSING, name, CLAIM_FORMS[name])
        if members[name] is None:
            raise _invalid(name, f"{CLAIM_FORMS[name]}; or no such claim, rather than null")
    try:
        return _Claims.model_validate(members)
    except ValidationError as error:
        raise _rejected(error) from error


def _rejected(error: ValidationError) -> PermitRejected:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    if name not in _Claims.model_fields:
        return PermitRejected(Reason.CLAIM_INVALID, "a claim is not known", KNOWN_CLAIMS)
    if first["type"] == "missing":
        return PermitRejected(Reason.CLAIM_MISSING, name, CLAIM_FORMS[name])
    return _invalid(name)


def _invalid(name: str, expected: str = "") -> PermitRejected:
    """The rejection of a claim's value; where no more is said, its form was expected."""
    return PermitRejected(CLAIM_REASONS.get(name, Reason.CLAIM_INVALID), name, expected or CLAIM_FORMS[name])


def _check_addressees(claims: _Claims, issuer: str, audience: str) -> None:
    if claims.iss != issuer:
        raise _invalid("iss", DECLARED_ISSUER)
    if claims.aud not in (audience, [audience]):
        raise _invalid("aud", f"{audience!r:.200}, as text or a list of one")


def _check_times(claims: _Claims, policy: ClaimPolicy, now: float) -> None:
    if now >= claims.exp + policy.leeway_s:
        raise expired(policy)
    if claims.iat > now + policy.leeway_s:
        raise _early("iat", policy)
    if not 0 < claims.exp - claims.iat <= policy.max_lifetime_s:
        raise _invalid("exp", f"a lifetime of at most {policy.max_lifetime_s:g} s, with `exp` after `iat`")
    if claims.nbf is None:
        return
    if not claims.iat <= claims.nbf < claims.exp:
        raise _invalid("nbf", "`nbf` at `iat` or later, and before `exp`")
    if claims.nbf > now + policy.leeway_s:
        raise _early("nbf", policy)


def _early(claim: str, policy: ClaimPolicy) -> PermitRejected:
    return PermitRejected(
        Reason.NOT_YET_VALID, claim, f"`{claim}` at most {policy.leeway_s:g} s of leeway after now"
    )


def _check_names(claims: _Claims) -> None:
    for claim in LIST_CLAIMS:
        names = getattr(claims, claim) or ()
        if len(set(names)) != len(names) or any(".." in name for name in names):
            raise _invalid(claim)


def _check_declared(claims: _Claims, policy: ClaimPolicy) -> None:
    if claims.data_classification not in policy.classifications:
        raise _undeclared("data_classification", "data classifications", policy.classifications)
    if claims.tenant_tier not in policy.tenant_tiers:
        raise _undeclared("tenant_tier", "tenant tiers", policy.tenant_tiers)
    if claims.latency_class not in policy.latency_classes:
        raise _undeclared("latency_class", "latency classes", policy.latency_classes)


def _undeclared(claim: str, what: str, declared: frozenset[str]) -> PermitRejected:
    return _invalid(claim, f"one of the declared {what}: {listed(declared)}")


def _permit(claims: _Claims, kid: str | None) -> Permit:
    return Permit(
        issuer=claims.iss,
        jti=claims.jti,
        kid=kid,
        request_id=claims.request_id,
        endpoints=tuple(claims.authorized_endpoints),
        policy_version=claims.policy_version,
        data_classification=claims.data_classification,
        tenant=claims.tenant,
        tenant_tier=claims.tenant_tier,
        latency_class=claims.latency_class,
        issued_at=claims.iat,
        not_before=claims.nbf,
        expires_at=claims.exp,
        subject=claims.sub,
        body_sha256=claims.body_sha256,
        api_key_hash=claims.api_key_hash,
        models=_set(claims.models),
        regions=_set(claims.regions),
        max_cost_usd=claims.max_cost_usd,
        idempotency_key=claims.idempotency_key,
        preferences=tuple(name for name in claims.preferences or () if name in claims.authorized_endpoints),
    )


def _set(names: list[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)
