"""The judgement on a token: the verifier's own answer, offline, and which checks it stands on."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from litellm_plugin.cli.permit.policy_source import given_keys, offline_keys
from litellm_plugin.errors import KeysUnavailable, PermitRejected, Reason
from litellm_plugin.permit import PermitVerifier, StaticKeys, check_body
from litellm_plugin.permit.claims import parse_claims, read_issuer
from litellm_plugin.permit.signature import check_algorithm, verify_signature

if TYPE_CHECKING:
    from pathlib import Path

    from litellm_plugin.cli.permit.policy_source import Policy
    from litellm_plugin.permit import CompactToken, IssuerTrust, KeySet, KeySource, Permit
    from litellm_plugin.settings import PolicySnapshot

_NOW_MONOTONIC_S: Final = 0.0


class Check(enum.StrEnum):
    """What a router looks at, in its order."""

    FORM = "form"
    ISSUER = "issuer"
    TYP = "typ"
    ALGORITHM = "algorithm"
    KEY = "key"
    SIGNATURE = "signature"
    CLAIMS = "claims"
    BODY = "body"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What came of the checks.

    Attributes:
        rejected: The first failing check's rejection; None when none failed.
        omitted: Why the key and the signature were not checked although a policy asks for it; empty if
            they were.
        later: What is only known with the request, and was not looked at.
        keys: The keys that were at hand.
        trust: What is accepted from the token's issuer; None when it is not declared, or nobody asked.
        permit: The permit; None when a check before its reading failed.
    """

    rejected: PermitRejected | None = None
    omitted: str = ""
    later: tuple[str, ...] = ()
    keys: KeySet | None = None
    trust: IssuerTrust | None = None
    permit: Permit | None = None

    @property
    def failed(self) -> Check | None:
        """The check that failed."""
        return None if self.rejected is None else _check_of(self.rejected)


def judge_signature(compact: CompactToken, keys: KeySet) -> PermitRejected | None:
    """Checks a signature alone, with any algorithm that fits the keys."""
    try:
        verify_signature(compact, keys, frozenset[str]().union(*(key.algorithms for key in keys.keys)))
    except PermitRejected as rejected:
        return rejected
    return None


def judge(
    token: str,
    compact: CompactToken,
    policy: Policy,
    now: float,
    *,
    jwks: Path | None,
    body_sha256: str | None,
) -> Judgement:
    """Asks the verifier about a token.

    Args:
        token: The token's text.
        compact: The same, parsed.
        policy: What it is held against.
        now: Seconds since the epoch.
        jwks: The issuer's keys instead of the configured ones.
        body_sha256: SHA-256 of the body it came with, 64 lowercase hexadecimal digits; None if there is none.

    Raises:
        ConfigurationError: The key set, or a key URL, cannot be used.
    """
    try:
        issuer = read_issuer(compact.payload)
    except PermitRejected as rejected:
        return Judgement(rejected)
    trusts, missing = _trusts(issuer, policy, jwks)
    trust = trusts.get(issuer)
    keys = None if trust is None or missing else trust.keys.current(_NOW_MONOTONIC_S)
    judgement = Judgement(keys=keys, trust=trust)
    snapshot = policy.snapshot
    verifier = PermitVerifier(trusts.values(), snapshot.claims, snapshot.permit.max_permit_bytes)
    try:
        try:
            permit = verifier.verify(token, now, _NOW_MONOTONIC_S)
        except KeysUnavailable as error:
            judgement = replace(judgement, omitted=missing)
            permit = _unsigned(compact, trusts[error.issuer], snapshot, now)
        judgement = replace(judgement, permit=permit)
        _check_body(permit, body_sha256, snapshot)
    except PermitRejected as rejected:
        return replace(judgement, rejected=rejected)
    return replace(judgement, later=_later(permit, snapshot))


def _trusts(issuer: str, policy: Policy, jwks: Path | None) -> tuple[dict[str, IssuerTrust], str]:
    """The declared issuers, and why the token's own one has no keys; empty when it has."""
    trusts: dict[str, IssuerTrust] = {}
    missing = ""
    for block in policy.snapshot.permit.issuers:
        source: KeySource
        if block.issuer == issuer and jwks is not None:
            source = StaticKeys(given_keys(jwks, frozenset(block.algorithms)))
        else:
            source, why = offline_keys(block, policy.folder)
            missing = why if block.issuer == issuer else missing
        trusts[block.issuer] = policy.snapshot.permit.trust(block, source)
    return trusts, missing


def _unsigned(compact: CompactToken, trust: IssuerTrust, snapshot: PolicySnapshot, now: float) -> Permit:
    """What the verifier does around the signature, where there are no keys to check that with."""
    check_algorithm(compact, trust.algorithms)
    return parse_claims(
        compact.payload,
        kid=compact.header.kid,
        issuer=trust.issuer,
        audience=trust.audience,
        policy=snapshot.claims,
        now=now,
        read=trust.layout.read,
    )


def _check_body(permit: Permit, body_sha256: str | None, snapshot: PolicySnapshot) -> None:
    is_required = snapshot.permit.binding == "body"
    if body_sha256 is not None:
        check_body(permit, body_sha256, required=is_required)
    elif permit.body_sha256 is None:
        # Without the claim no body fits, so none is needed to say so.
        check_body(permit, "", required=is_required)


def _later(permit: Permit, snapshot: PolicySnapshot) -> tuple[str, ...]:
    block = snapshot.permit
    open_questions = {
        "whether it was used before (binding: single_use)": block.binding == "single_use",
        f"the request's header {block.request_id_header}": block.request_id_header is not None,
        "the LiteLLM key in use (api_key_hash)": permit.api_key_hash is not None,
        "the LiteLLM team (tenant_is_team)": block.tenant_is_team,
        "the model group asked for (models)": permit.models is not None,
    }
    return tuple(question for question, is_open in open_questions.items() if is_open)


def _check_of(  # noqa: PLR0911 - one return a check
    rejected: PermitRejected,
) -> Check:
    match rejected.reason, rejected.detail:
        case Reason.PERMIT_MALFORMED, _:
            return Check.FORM
        case (Reason.ISS_MISMATCH, _) | (Reason.CLAIM_MISSING, "iss"):
            return Check.ISSUER
        case Reason.TYP_NOT_ALLOWED, _:
            return Check.TYP
        case Reason.ALG_NOT_ALLOWED, "alg":
            return Check.ALGORITHM
        case (Reason.ALG_NOT_ALLOWED | Reason.KEY_UNKNOWN, _):
            return Check.KEY
        case Reason.SIGNATURE_INVALID, _:
            return Check.SIGNATURE
        case Reason.BINDING_MISMATCH, _:
            return Check.BODY
    return Check.CLAIMS
