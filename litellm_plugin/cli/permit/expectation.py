"""The expectation that a token failed: in words, what the router expects and what it found."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from litellm_plugin.cli.permit.description import is_moment, moment, shown
from litellm_plugin.errors import PermitRejected, Reason
from litellm_plugin.permit.claims import CLAIM_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from litellm_plugin.permit import ClaimPolicy, CompactToken, IssuerTrust, KeySet
    from litellm_plugin.settings import PolicySnapshot

_ID: Final = "1 to 128 of A-Z a-z 0-9 . _ : / -"
_NAMES: Final = f"a list of 1 to 64 distinct names, each {_ID}, without '..'"
_SHA256: Final = "64 lowercase hexadecimal digits"
_SECONDS: Final = "whole seconds since the epoch"
# docs/permit.md says the same of each claim.
_FORMS: Final = {
    "iss": "text",
    "aud": "text, or a list of one",
    "iat": _SECONDS,
    "nbf": _SECONDS,
    "exp": _SECONDS,
    "jti": _ID,
    "request_id": _ID,
    "authorized_endpoints": _NAMES,
    "policy_version": _ID,
    "data_classification": _ID,
    "tenant": _ID,
    "tenant_tier": _ID,
    "latency_class": _ID,
    "sub": "1 to 255 characters, none of them a control character",
    "body_sha256": _SHA256,
    "api_key_hash": _SHA256,
    "models": _NAMES,
    "regions": _NAMES,
    "max_cost_usd": "a JSON number above 0",
    "idempotency_key": _ID,
    "preferences": _NAMES.replace("1 to 64", "up to 64"),
}


@dataclass(frozen=True, slots=True)
class Expectation:
    """Two halves of a sentence: what is expected, and what stands there."""

    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class Case:
    """A token and what it is held against.

    Attributes:
        compact: The parsed token.
        members: The payload's members.
        now: Seconds since the epoch.
        keys: The keys that were at hand.
        snapshot: The policy; None when only the signature is checked.
        trust: What is accepted from the token's issuer, if it is a declared one.
        body: The body, if one was given.
    """

    compact: CompactToken
    members: Mapping[str, object]
    now: float
    keys: KeySet | None = None
    snapshot: PolicySnapshot | None = None
    trust: IssuerTrust | None = None
    body: bytes | None = None

    @property
    def algorithms(self) -> frozenset[str]:
        """What the token may be signed with."""
        if self.trust is not None:
            return self.trust.algorithms
        keys = () if self.keys is None else self.keys.keys
        return frozenset[str]().union(*(key.algorithms for key in keys))

    @property
    def kids(self) -> tuple[str, ...]:
        """The ids of the keys that were at hand."""
        keys = () if self.keys is None else self.keys.keys
        return tuple(key.kid for key in keys if key.kid is not None)


def expectation(  # noqa: PLR0911 - one return a reason
    rejected: PermitRejected, case: Case
) -> Expectation:
    """What the failing check expected of this token, and what it found."""
    header = case.compact.header
    match rejected.reason:
        case Reason.TYP_NOT_ALLOWED:
            typs = case.trust.layout.typs if case.trust else ()
            return Expectation(f"typ {_one_of(typs)}", _found(header.typ))
        case Reason.ALG_NOT_ALLOWED if rejected.detail == "alg":
            return Expectation(f"alg {_one_of(case.algorithms)}", _found(header.alg))
        case Reason.ALG_NOT_ALLOWED:
            return Expectation(f"the algorithm of the key {_found(header.kid)}", _found(header.alg))
        case Reason.KEY_UNKNOWN:
            return Expectation(f"kid {_one_of(case.kids)}", _found(header.kid))
        case Reason.SIGNATURE_INVALID:
            return Expectation(
                f"a signature by the key {_found(header.kid)} over exactly this header and payload",
                "another one: another key with this kid signed, or the token was changed",
            )
        case Reason.INTERNAL_ERROR:
            return Expectation("a token that the verifier can judge", "an unforeseen error; please report it")
    if case.snapshot is None:
        return Expectation("another token", str(rejected))
    return _claim_expectation(rejected, case, case.snapshot)


def _claim_expectation(  # noqa: C901, PLR0911 - one return a reason
    rejected: PermitRejected, case: Case, snapshot: PolicySnapshot
) -> Expectation:
    claims = _by_our_names(case)
    name, policy = rejected.detail, snapshot.claims
    found = _found(claims.get(name))
    match rejected.reason:
        case Reason.ISS_MISMATCH:
            return Expectation(f"iss {_one_of(block.issuer for block in snapshot.permit.issuers)}", found)
        case Reason.AUD_MISMATCH:
            return Expectation(f"aud {_found(case.trust.audience if case.trust else None)}", found)
        case Reason.EXPIRED:
            return Expectation(
                f"exp later than now, {policy.leeway_s:g} s of leeway included",
                _time(claims.get(name), case.now),
            )
        case Reason.NOT_YET_VALID:
            return Expectation(
                f"{name} at most {policy.leeway_s:g} s after now", _time(claims.get(name), case.now)
            )
        case Reason.POLICY_STALE:
            return Expectation(f"policy_version {_versions(policy)}", found)
        case Reason.REVOKED:
            value = case.compact.header.kid if name == "kid" else claims.get(name)
            return Expectation(f"a {name} that permit.revoked does not list", _found(value))
        case Reason.BINDING_MISMATCH if claims.get("body_sha256") is None:
            return Expectation("body_sha256, since permit.binding is 'body'", "absent")
        case Reason.BINDING_MISMATCH:
            return Expectation(f"the body with SHA-256 {claims['body_sha256']}", _body(case.body or b""))
        case Reason.CLAIM_MISSING:
            return Expectation(f"the claim {name}: {_FORMS.get(name, 'a value')}", found)
    if name not in CLAIM_NAMES:
        return Expectation("known claims only, or ones that ignore_claims names", _unread(case))
    return _value_expectation(name, claims, policy)


def _value_expectation(name: str, claims: Mapping[str, object], policy: ClaimPolicy) -> Expectation:
    value, issued_at = claims.get(name), claims.get("iat")
    declared = {
        "data_classification": policy.classifications,
        "tenant_tier": policy.tenant_tiers,
        "latency_class": policy.latency_classes,
    }
    if name in declared:
        return Expectation(f"{name} {_one_of(declared[name])}, as declared", _found(value))
    if name == "exp" and is_moment(value) and is_moment(issued_at):
        return Expectation(
            f"a lifetime, exp - iat, above 0 s and at most {policy.max_lifetime_s:g} s",
            f"{value - issued_at} s",
        )
    if name == "nbf" and is_moment(value):
        return Expectation("nbf at iat or later, and before exp", _found(value))
    return Expectation(f"{name}: {_FORMS[name]}", _found(value))


def _by_our_names(case: Case) -> Mapping[str, object]:
    if case.trust is None:
        return case.members
    try:
        return case.trust.layout.read(dict(case.members))
    except PermitRejected:
        return case.members


def _unread(case: Case) -> str:
    """The members at the top level that the issuer's layout does not read."""
    layout = case.trust.layout if case.trust else None
    if layout is None or layout.is_native:
        return ", ".join(_found(name) for name in case.members if name not in CLAIM_NAMES)
    unread = []
    for name, value in case.members.items():
        try:
            layout.read({name: value})
        except PermitRejected:
            unread.append(_found(name))
    return f"{', '.join(unread)}, or something in it"


def _versions(policy: ClaimPolicy) -> str:
    conditions = []
    if policy.minimum_policy_version is not None:
        conditions.append(f"{policy.minimum_policy_version!r} or later")
    if policy.accepted_policy_versions is not None:
        conditions.append(_one_of(policy.accepted_policy_versions))
    if policy.revocations.policy_versions:
        conditions.append(f"none of the revoked {', '.join(sorted(policy.revocations.policy_versions))}")
    return " and ".join(conditions)


def _body(body: bytes) -> str:
    return f"{len(body)} bytes with SHA-256 {hashlib.sha256(body).hexdigest()}"


def _time(value: object, now: float) -> str:
    return f"{value}, {moment(value, now)}" if is_moment(value) else _found(value)


def _one_of(values: Iterable[str]) -> str:
    names = sorted(values)
    return shown(names[0]) if len(names) == 1 else f"one of {', '.join(map(shown, names)) or 'none'}"


def _found(value: object) -> str:
    return "absent" if value is None else shown(value)
