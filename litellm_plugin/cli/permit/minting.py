"""A development permit, and the command `permit-router permit mint` that makes one."""

from __future__ import annotations

import hashlib
import json
import sys
import time
import uuid
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, Final

import jwt
import typer
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from litellm_plugin.cli.permit.input import read_bytes, told_errors
from litellm_plugin.cli.permit.key_pair import JWKS_FILE, KeyAlgorithm, PrivateKey
from litellm_plugin.errors import ConfigurationError
from litellm_plugin.permit import (
    PERMIT_TYP,
    SUPPORTED_ALGORITHMS,
    KeyDocumentError,
    VerificationKey,
    parse_jwks,
)
from litellm_plugin.permit.strict_json import StrictJsonError, parse_strict_json

if TYPE_CHECKING:
    from collections.abc import Iterable

_KEY_LIMIT_BYTES: Final = 256 * 1024
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}  # RFC 7518 §3.4


def mint(  # noqa: PLR0917 - typer makes options of them
    key: Annotated[Path, typer.Option(help="The private key, PEM; `permit keys` makes one.")],
    issuer: Annotated[str, typer.Option(help="`iss`: as the router's configuration has it.")],
    audience: Annotated[str, typer.Option(help="`aud`: as the router's configuration has it.")],
    endpoint: Annotated[list[str], typer.Option(help="An authorized endpoint; may be repeated.")],
    body: Annotated[
        str | None, typer.Option(help="Bind the permit to these exact bytes: a file, or - for stdin.")
    ] = None,
    tenant: Annotated[str, typer.Option()] = "acme",
    tier: Annotated[str, typer.Option(help="`tenant_tier`.")] = "pro",
    classification: Annotated[str, typer.Option(help="`data_classification`.")] = "internal",
    latency_class: Annotated[str, typer.Option()] = "interactive",
    policy_version: Annotated[str, typer.Option()] = "42",
    expires_in: Annotated[int, typer.Option(min=1, max=86_400, help="Seconds from now to `exp`.")] = 60,
    request_id: Annotated[str | None, typer.Option(help="Default: a new UUID.")] = None,
    claim: Annotated[
        list[str] | None,
        typer.Option(help="A further claim, or another value, as name=json; may be repeated."),
    ] = None,
    kid: Annotated[
        str | None, typer.Option(help="The key's id (default: what jwks.json beside the key says).")
    ] = None,
    algorithm: Annotated[
        KeyAlgorithm | None,
        typer.Option(help="Default: what jwks.json beside the key says, else what fits the key."),
    ] = None,
) -> None:
    """Mints a DEVELOPMENT permit and prints it, alone, on standard output.

    Nobody decided what it says: for trying a router out, never in place of a policy gateway.
    """
    now = int(time.time())
    with told_errors():
        claims: dict[str, Any] = {
            "iss": issuer,
            "aud": audience,
            "iat": now,
            "exp": now + expires_in,
            "jti": str(uuid.uuid4()),
            "request_id": request_id or str(uuid.uuid4()),
            "authorized_endpoints": endpoint,
            "policy_version": policy_version,
            "data_classification": classification,
            "tenant": tenant,
            "tenant_tier": tier,
            "latency_class": latency_class,
        }
        if body is not None:
            claims["body_sha256"] = hashlib.sha256(read_bytes(body, "the body")).hexdigest()
        token = _signed(claims | _parsed(claim or ()), key, kid=kid, algorithm=algorithm)
    bound = "bound to one body" if body is not None else "bound to no body"
    print(
        f"DEVELOPMENT permit, decided by no policy: good for {expires_in} s, {bound}; do not use it in production.",
        file=sys.stderr,
    )
    print(token)


def _parsed(given: Iterable[str]) -> dict[str, object]:
    return dict(_parsed_one(text) for text in given)


def _parsed_one(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    try:
        return _named(name, equals), parse_strict_json(value.encode())
    except StrictJsonError as error:
        raise ConfigurationError(
            f"--claim {text[:80]!r}: {error}; name=json is expected, such as max_cost_usd=0.25, "
            """regions='["eu-west"]' or, for text, sub='"alice"'"""
        ) from error


def _named(name: str, equals: str) -> str:
    if not name or not equals:
        raise StrictJsonError("no name=value")
    return name


def _signed(claims: dict[str, Any], path: Path, *, kid: str | None, algorithm: KeyAlgorithm | None) -> str:
    private = _load(path)
    published = _published(path, private)
    if algorithm is not None:
        alg = algorithm.value
    elif published is not None and len(published.algorithms) == 1:
        (alg,) = published.algorithms
    else:
        alg = _usual_algorithm(private)
    if kid is None and published is not None:
        kid = published.kid
    if not kid:
        raise ConfigurationError(
            f"the key's id is not known: {str(path.with_name(JWKS_FILE))!r} does not name it; "
            "--kid is expected, as the router's configuration has it"
        )
    VerificationKey(kid, frozenset({alg}), private.public_key())
    payload = json.dumps(claims, separators=(",", ":")).encode()
    # Not jwt.encode: it refuses some claims that a router should be shown, too.
    return jwt.PyJWS().encode(payload, private, alg, headers={"typ": PERMIT_TYP, "kid": kid})


def _load(path: Path) -> PrivateKey:
    data = read_bytes(str(path), "the private key", limit_bytes=_KEY_LIMIT_BYTES)
    try:
        private = load_pem_private_key(data, password=None)
    # TypeError: the key is encrypted.
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(
            f"--key {str(path)!r}: a private key in PEM form without a password is expected"
        ) from error
    if isinstance(private, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        return private
    raise ConfigurationError(f"--key {str(path)!r}: an RSA, EC or Ed25519 key is expected")


def _published(path: Path, private: PrivateKey) -> VerificationKey | None:
    """What the key set beside the private key says of it; None where there is none, or it has other keys."""
    try:
        found = parse_jwks(path.with_name(JWKS_FILE).read_bytes(), SUPPORTED_ALGORITHMS).keys
    except (OSError, KeyDocumentError):
        return None
    public = private.public_key()
    return next((key for key in found if key.key == public), None)


def _usual_algorithm(private: PrivateKey) -> str:
    match private:
        case rsa.RSAPrivateKey():
            return "RS256"
        case ed25519.Ed25519PrivateKey():
            return "EdDSA"
        case ec.EllipticCurvePrivateKey():
            if private.curve.name not in _CURVES:
                raise ConfigurationError(
                    f"--key: curve {private.curve.name}: one of {', '.join(_CURVES)} is expected"
                )
            return _CURVES[private.curve.name]
