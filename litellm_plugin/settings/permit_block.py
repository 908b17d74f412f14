"""The part of the policy block that says which permits count."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from litellm_plugin.permit import (
    PERMIT_TYP,
    SUPPORTED_ALGORITHMS,
    SYMMETRIC_ALGORITHMS,
    ClaimConstant,
    ClaimPath,
    ClaimSource,
    IssuerTrust,
    KeySource,
    TokenLayout,
)
from litellm_plugin.settings.explanation import unknown
from litellm_plugin.settings.model import Name, StrictModel

_KEY_SOURCES: Final = ("jwks_url", "jwks_file", "public_key_file", "secret_env")


def _segments(value: object) -> object:
    """`a.b` is the path a, b; a name that holds dots itself is written as a list."""
    return value.split(".") if isinstance(value, str) else value


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Kid = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
ClaimSegments = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=256)]],
    BeforeValidator(_segments),
    Field(min_length=1, max_length=8),
]
Typs = Annotated[
    list[Annotated[str, Field(pattern=r"^[A-Za-z0-9.+/_-]{1,64}$")]],
    BeforeValidator(_listed),
    Field(min_length=1, max_length=8),
]


class ClaimSourceBlock(StrictModel):
    """Where a claim stands in an issuer's tokens, or the one value that it always has."""

    path: ClaimSegments | None = None
    """The members on the way to the claim: a text with dots between them, or a list where a name holds dots itself."""
    split: str | None = Field(default=None, min_length=1, max_length=1)
    """The one character that separates the values of a claim that is one text."""
    const: Name | None = None
    """The one value that the claim always has."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        """A path alone, as text or as a list, needs no mapping around it."""
        return {"path": value} if isinstance(value, str | list) else value

    @model_validator(mode="after")
    def _is_one_of_two(self) -> ClaimSourceBlock:
        if (self.path is None) == (self.const is None) or (self.split is not None and self.path is None):
            raise ValueError("either `path`, with or without `split`, or `const` is expected")
        return self

    @property
    def source(self) -> ClaimSource:
        """The same for the verifier."""
        if self.const is not None:
            return ClaimConstant(self.const)
        return ClaimPath(tuple(self.path or ()), self.split)


class IssuerBlock(StrictModel):
    """One gateway that may sign permits, and where its keys are."""

    issuer: str = Field(min_length=1, max_length=512)
    """The exact `iss`."""
    jwks_url: str | None = None
    """A JSON Web Key Set by https; plain http only from loopback, or with `allow_http: true`. Exactly one of the four sources is given."""
    jwks_file: str | None = None
    """A JSON Web Key Set in a file."""
    public_key_file: str | None = None
    """One public key in PEM form, with the `kid` that permits name it by."""
    secret_env: str | None = None
    """The name of an environment variable, in capitals, that holds a symmetric issuer's secret: 32 bytes or more as `base64:…` or as plain text; with a `kid`. The secret itself never stands in the YAML."""
    kid: Kid | None = None
    """The id that permits name the one key of `public_key_file` or `secret_env` by."""
    audience: str | None = Field(default=None, min_length=1)
    """This issuer's own, instead of `permit.audience`."""
    typ: Typs | None = None
    """This issuer's own, instead of `permit.typ`."""
    claims: dict[str, ClaimSourceBlock] | None = None
    """This issuer's own, instead of `permit.claims`."""
    ignore_claims: list[ClaimSegments] | None = None
    """This issuer's own, instead of `permit.ignore_claims`."""
    algorithms: list[str] = Field(min_length=1)
    """Out of RS256/384/512, PS256/384/512, ES256/384/512, EdDSA; with `secret_env` only HS256."""
    kid_optional: bool = False
    """Whether a permit without `kid` is checked with the issuer's only key."""
    allow_http: bool = False
    """Whether `jwks_url` may be plain http to a host that is not loopback."""
    refresh_seconds: Annotated[float, Field(strict=False, ge=1, le=86_400)] = 300.0
    """How often keys are loaded again, in the background."""
    max_stale_seconds: Annotated[float, Field(strict=False, ge=1, le=604_800)] = 3_600.0
    """How long the last good keys count when they cannot be loaded."""

    @field_validator("secret_env", mode="before")
    @classmethod
    def _names_a_variable(cls, value: object) -> object:
        # Capitals only, so that most secrets written here by mistake are told apart from a name.
        if not isinstance(value, str) or not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,63}", value):
            raise ValueError(
                "the name of an environment variable is expected, in capitals, digits and _; never the secret itself"
            )
        return value

    @field_validator("audience", "typ", "claims", "ignore_claims", mode="before")
    @classmethod
    def _is_said(cls, value: object) -> object:
        if value is None:
            raise ValueError(
                "nothing stands here; leave the key out to take what `permit` says for all issuers"
            )
        return value

    @field_validator("algorithms")
    @classmethod
    def _are_supported(cls, value: list[str], info: ValidationInfo) -> list[str]:
        known = SYMMETRIC_ALGORITHMS if info.data.get("secret_env") else SUPPORTED_ALGORITHMS
        for algorithm in value:
            if algorithm not in known:
                raise ValueError(unknown("algorithm", algorithm, sorted(known)))
        return value

    @model_validator(mode="after")
    def _is_refreshed_in_time(self) -> IssuerBlock:
        if self.refresh_seconds > self.max_stale_seconds:
            raise ValueError(
                f"refresh_seconds ({self.refresh_seconds:g}) is longer than max_stale_seconds "
                f"({self.max_stale_seconds:g}): the keys would stop counting before they are loaded again"
            )
        return self

    @model_validator(mode="after")
    def _has_one_source(self) -> IssuerBlock:
        given = [name for name in _KEY_SOURCES if getattr(self, name)]
        if len(given) != 1:
            unset = "" if given else "; a reference to an environment variable that is not set gives none"
            raise ValueError(
                f"exactly one of {', '.join(_KEY_SOURCES)} is expected, {len(given)} are given{unset}"
            )
        scheme = urlsplit(self.jwks_url).scheme if self.jwks_url else "https"
        if scheme not in {"https", "http"}:
            raise ValueError(f"jwks_url is expected to be an http or https URL, not one of {scheme[:80]!r}")
        has_one_key = self.public_key_file is not None or self.secret_env is not None
        if has_one_key != (self.kid is not None) and not self.kid_optional:
            raise ValueError(
                "a public_key_file or secret_env needs `kid`, the id that permits name it by, or `kid_optional: true`; no other source takes `kid`"
            )
        return self


class RevokedBlock(StrictModel):
    """What was taken back before it expired."""

    jti: list[Name] = Field(default=[], max_length=10_000)
    """Permits by their `jti`; they get 401 `revoked`."""
    kid: list[Kid] = Field(default=[], max_length=10_000)
    """Keys by their id; permits signed with them get 401 `revoked`."""
    policy_versions: list[Name] = Field(default=[], max_length=10_000)
    """Policies; permits decided by them get 403 `policy_stale`."""


class PermitBlock(StrictModel):
    """How a permit comes in and what makes it valid."""

    header: str = Field(default="x-llm-permit", pattern=r"^[a-z0-9-]{1,64}$")
    """The header that carries the permit. With `authorization` the permit is a Bearer token and LiteLLM's key travels in `x-litellm-api-key`, on every path, the administrative ones included."""
    audience: str = Field(min_length=1)
    """The exact `aud` that permits must carry."""
    binding: Literal["body", "single_use", "none"]
    """`body`: a permit carries one request body, by its SHA-256. `single_use`: it is answered once; the same body may be sent again, twice at most, after a try that ended without an answer (official clients repeat on 5xx). `none`: whoever holds a permit can send any body with it until it expires; said at start."""
    single_use_when_unavailable: Literal["deny", "admit"] = "deny"
    """With `binding: single_use`: what a request gets when the store that knows which permits were used does not answer (each reply has 50 ms, and a use that meets silence is asked for again, three or four times in all, which takes a quarter of a second, or one where no connection comes about; in a burst it waits in line for up to 30 seconds while the store answers others): 503, or (`admit`) its answer."""
    request_id_header: str | None = Field(default=None, pattern=r"^[a-z0-9-]{1,64}$")
    """A header whose value must be the permit's `request_id`."""
    tenant_is_team: bool = False
    """Whether the permit's `tenant` must be the `team_id` of the LiteLLM key in use. A key without a team, the master key among them, gets 403 `claim_mismatch` then."""
    issuers: list[IssuerBlock] = Field(min_length=1)
    """Who may sign, see below."""
    when_missing: Literal["deny"] = "deny"
    """What a request without a permit gets; only `deny` so far."""
    typ: Typs = [PERMIT_TYP]
    """The accepted `typ` of the token's header: a text or a list of texts, exact."""
    claims: dict[str, ClaimSourceBlock] = {}
    """Where claims stand in tokens of another layout, see [permit.md](permit.md#other-layouts)."""
    ignore_claims: list[ClaimSegments] = []
    """Members of such tokens that restrict nothing here: names, or paths as in `claims`."""
    minimum_policy_version: str | None = None
    """Permits decided by an older policy get 403 `policy_stale`. Compared as integers, dotted numbers or ISO dates; versions of different kinds cannot be compared and are refused."""
    accepted_policy_versions: list[Name] | None = Field(default=None, min_length=1, max_length=1_000)
    """A list of exact versions; permits decided by any other policy get 403 `policy_stale`."""
    revoked: RevokedBlock = RevokedBlock()
    """What was taken back. What the shared store revokes counts beside it, see [permit.md](permit.md#policy-versions-and-revocation)."""
    preferences: Literal["reorder", "ignore"] = "reorder"
    """Whether a permit's `preferences` reorder the plan; `ignore` leaves them unread."""
    max_lifetime_seconds: int = Field(default=300, ge=1, le=86_400)
    """The longest `exp - iat`."""
    leeway_seconds: int = Field(default=5, ge=0, le=60)
    """How far clocks may differ."""
    max_permit_bytes: int = Field(default=16_384, ge=1_024, le=65_536)
    """Longer permits are refused unread."""
    max_body_bytes: int = Field(default=32 * 1024 * 1024, ge=1_024)
    """Longer bodies get 413 `body_too_large`; a websocket's frames have the same limit. What a body may hold besides: [limits of a body](enforcement.md#limits-of-a-body)."""

    @field_validator("issuers")
    @classmethod
    def _are_distinct(cls, value: list[IssuerBlock]) -> list[IssuerBlock]:
        names = [block.issuer for block in value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"issuer {name[:80]!r} is listed twice")
        return value

    def trust(self, block: IssuerBlock, keys: KeySource) -> IssuerTrust:
        """What is accepted from one of the issuers; what its own block leaves out is taken from here.

        Args:
            block: One of `issuers`.
            keys: Where its keys come from.

        Raises:
            ConfigurationError: Its mapping contradicts itself, or would ignore what restricts a permit.
        """
        return IssuerTrust(
            issuer=block.issuer,
            audience=self.audience if block.audience is None else block.audience,
            algorithms=frozenset(block.algorithms),
            keys=keys,
            kid_optional=block.kid_optional,
            layout=self.layout(block),
        )

    def layout(self, block: IssuerBlock) -> TokenLayout:
        """How the tokens of one of the issuers are read.

        Raises:
            ConfigurationError: The mapping contradicts itself, or would ignore what restricts a permit.
        """
        claims = self.claims if block.claims is None else block.claims
        ignored = self.ignore_claims if block.ignore_claims is None else block.ignore_claims
        return TokenLayout(
            typs=frozenset(self.typ if block.typ is None else block.typ),
            claims={name: entry.source for name, entry in claims.items()},
            ignored=frozenset(tuple(path) for path in ignored),
        )
