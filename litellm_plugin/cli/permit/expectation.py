"""The expectation that a token failed: in words, what the router expects and what it found."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from litellm_plugin.cli.permit.description import is_moment, moment, shown
from litellm_plugin.errors import PermitRejected, Reason
from litellm_plugin.permit.claims import CLAIM_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from litellm_plugin.permit import CompactToken, IssuerTrust, KeySet
    from litellm_plugin.settings import PolicySnapshot


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
    def kids(self) -> tuple[str, ...]:
        """The ids of the keys that were at hand."""
        keys = () if self.keys is None else self.keys.keys
        return tuple(key.kid for key in keys if key.kid is not None)


def expectation(rejected: PermitRejected, case: Case) -> Expectation:
    """What the failing check expected of this token, and what it found."""
    return Expectation(_expected(rejected, case), _finding(rejected, case))


def _expected(rejected: PermitRejected, case: Case) -> str:
    """What the rejection says, or more where only the operator may know it."""
    match rejected.reason:
        case Reason.ISS_MISMATCH if case.snapshot is not None:
            return f"iss {_one_of(block.issuer for block in case.snapshot.permit.issuers)}"
        case Reason.KEY_UNKNOWN:
            return f"kid {_one_of(case.kids)}"
        case Reason.INTERNAL_ERROR:
            return "a token that the verifier can judge"
    return rejected.expected


def _finding(  # noqa: PLR0911 - one return a reason
    rejected: PermitRejected, case: Case
) -> str:
    header, claims, name = case.compact.header, _by_our_names(case), rejected.detail
    match rejected.reason:
        case Reason.TYP_NOT_ALLOWED:
            return _found(header.typ)
        case Reason.ALG_NOT_ALLOWED:
            return _found(header.alg)
        case Reason.KEY_UNKNOWN:
            return _found(header.kid)
        case Reason.REVOKED if name == "kid":
            return _found(header.kid)
        case Reason.SIGNATURE_INVALID:
            return f"another one: another key signed (kid: {_found(header.kid)}), or the token was changed"
        case Reason.BINDING_MISMATCH:
            return _body(case.body or b"", claims.get("body_sha256"))
        case Reason.INTERNAL_ERROR:
            return "an unforeseen error; please report it"
        case Reason.CLAIM_INVALID if name not in CLAIM_NAMES:
            return _unread(case)
    return _value(rejected, claims, case.now)


def _value(rejected: PermitRejected, claims: Mapping[str, object], now: float) -> str:
    value, issued_at = claims.get(rejected.detail), claims.get("iat")
    match rejected.reason, rejected.detail:
        case ((Reason.EXPIRED | Reason.NOT_YET_VALID), _):
            return _time(value, now)
        case Reason.CLAIM_INVALID, "exp" if is_moment(value) and is_moment(issued_at):
            return f"{value - issued_at} s"
    return _found(value)


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


def _body(body: bytes, claimed: object) -> str:
    if claimed is None:
        return "absent"
    return f"{len(body)} bytes with SHA-256 {hashlib.sha256(body).hexdigest()}, not {claimed}"


def _time(value: object, now: float) -> str:
    return f"{value}, {moment(value, now)}" if is_moment(value) else _found(value)


def _one_of(values: Iterable[str]) -> str:
    names = sorted(values)
    return shown(names[0]) if len(names) == 1 else f"one of {', '.join(map(shown, names)) or 'none'}"


def _found(value: object) -> str:
    return "absent" if value is None else shown(value)
