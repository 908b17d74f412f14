"""The permit issuer: signing keys, the JWKS that publishes them, and permits minted at will."""

from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, assert_never

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from starlette.requests import Request
    from starlette.types import ASGIApp

Algorithm: TypeAlias = Literal["RS256", "ES256", "EdDSA"]
PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

_LIFETIME_S = 60


@dataclass(frozen=True, slots=True)
class _SigningKey:
    kid: str
    private: PrivateKey


class PermitIssuer:
    """Mints permits, valid ones and, by overrides, any kind of broken one.

    Args:
        issuer: The claim `iss`.
        audience: The claim `aud`.
        algorithm: RS256 (2048 bits), ES256 (P-256) or EdDSA (Ed25519).
        now: The wall clock for `iat` and `exp`.

    Attributes:
        fetches: How often the JWKS was fetched from `app`.
    """

    def __init__(
        self,
        issuer: str = "https://policy.example.test",
        audience: str = "llm-router",
        algorithm: Algorithm = "RS256",
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.issuer = issuer
        self.audience = audience
        self.algorithm: Algorithm = algorithm
        self.fetches = 0
        self._now = now
        self._keys = [_new_key(algorithm)]
        self._app = Starlette(routes=[Route("/.well-known/jwks.json", self._serve_jwks)])

    @property
    def app(self) -> ASGIApp:
        """The ASGI app that serves GET /.well-known/jwks.json."""
        return self._app

    @property
    def kid(self) -> str:
        """The id of the key that signs now."""
        return self._keys[-1].kid

    @property
    def private_key(self) -> PrivateKey:
        """The key that signs now."""
        return self._keys[-1].private

    def rotate(self, *, drop_old: bool = False) -> str:
        """Sign with a new key from now on and return its kid.

        The older keys stay in the JWKS unless `drop_old` is set.
        """
        kept = [] if drop_old else self._keys
        self._keys = [*kept, _new_key(self.algorithm)]
        return self.kid

    def jwks(self) -> dict[str, Any]:
        """Return the public keys as a JWK set (RFC 7517)."""
        return {"keys": [self._public_jwk(key) for key in self._keys]}

    def write_jwks(self, path: str | Path) -> None:
        """Write the JWK set to a file, in one step, so that no reader sees half of it."""
        target = Path(path)
        partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}")
        partial.write_text(json.dumps(self.jwks()), encoding="utf-8")
        partial.replace(target)

    def claims(self, *, authorized_endpoints: Iterable[str], **overrides: Any) -> dict[str, Any]:
        """Return a full valid claim set with a fresh `jti` and `request_id`, then the overrides."""
        issued_at = int(self._now())
        return {
            "iss": self.issuer,
            "aud": self.audience,
            "iat": issued_at,
            "exp": issued_at + _LIFETIME_S,
            "jti": str(uuid.uuid4()),
            "request_id": str(uuid.uuid4()),
            "authorized_endpoints": list(authorized_endpoints),
            "policy_version": "42",
            "data_classification": "internal",
            "tenant": "acme",
            "tenant_tier": "pro",
            "latency_class": "interactive",
            **overrides,
        }

    def mint(
        self,
        endpoints: Iterable[str],
        *,
        body: bytes | None = None,
        headers: Mapping[str, Any] | None = None,
        drop: Iterable[str] = (),
        **overrides: Any,
    ) -> str:
        """Return a signed permit in compact form (RFC 7515).

        Args:
            endpoints: The authorized endpoint names.
            body: The raw request body to bind to; sets `body_sha256`.
            headers: Fields that replace those of the JWS header; None as a value removes the field.
                The signature is made with the issuer's own key and algorithm whatever they say.
            drop: Claims to leave out.
            overrides: Claims that replace the valid ones.
        """
        claims = self.claims(authorized_endpoints=endpoints)
        if body is not None:
            claims["body_sha256"] = hashlib.sha256(body).hexdigest()
        claims |= overrides
        for name in drop:
            claims.pop(name, None)
        header = {"alg": self.algorithm, "kid": self.kid, "typ": "permit+jwt", **(headers or {})}
        return self._sign({name: value for name, value in header.items() if value is not None}, claims)

    def _sign(self, header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
        # Not jwt.encode: it checks claims and lets the header choose the algorithm, so that it
        # cannot make the broken permits that a verifier must be shown.
        signing_input = b".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
        signature = jwt.get_algorithm_by_name(self.algorithm).sign(signing_input, self.private_key)
        return b".".join((signing_input, _base64url(signature))).decode()

    def _public_jwk(self, key: _SigningKey) -> dict[str, Any]:
        algorithm = jwt.get_algorithm_by_name(self.algorithm)
        jwk = algorithm.to_jwk(key.private.public_key(), as_dict=True)
        # RFC 7517 section 4.3: `use` and `key_ops` should not stand together.
        jwk.pop("key_ops", None)
        return {**jwk, "kid": key.kid, "alg": self.algorithm, "use": "sig"}

    async def _serve_jwks(self, _request: Request) -> JSONResponse:
        self.fetches += 1
        return JSONResponse(self.jwks())


def _new_key(algorithm: Algorithm) -> _SigningKey:
    return _SigningKey(kid=f"key-{uuid.uuid4().hex[:12]}", private=_new_private_key(algorithm))


def _new_private_key(algorithm: Algorithm) -> PrivateKey:
    match algorithm:
        case "RS256":
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case "EdDSA":
            return ed25519.Ed25519PrivateKey.generate()
        case _:
            assert_never(algorithm)


def _base64url(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
