"""The key pair of a gateway, and the command `permit-router permit keys` that makes one."""

from __future__ import annotations

import base64
import enum
import hashlib
import json
import os
import sys
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated, Any, Final, TypeAlias, assert_never

import jwt
import typer
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from litellm_plugin.cli.permit.input import told_errors
from litellm_plugin.errors import ConfigurationError
from litellm_plugin.permit import parse_jwks

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

PRIVATE_FILE: Final = "private.pem"
JWKS_FILE: Final = "jwks.json"

_RSA_BITS: Final = 2048  # RFC 7518 §3.3: the least; more bits make every verification slower
_THUMBPRINT_MEMBERS: Final = ("crv", "e", "kty", "n", "x", "y")  # RFC 7638 §3.2 and RFC 8037 §2


class KeyAlgorithm(enum.StrEnum):
    """What a gateway may sign with."""

    RS256 = "RS256"
    RS384 = "RS384"
    RS512 = "RS512"
    PS256 = "PS256"
    PS384 = "PS384"
    PS512 = "PS512"
    ES256 = "ES256"
    ES384 = "ES384"
    ES512 = "ES512"
    EDDSA = "EdDSA"


def keys(
    algorithm: Annotated[KeyAlgorithm, typer.Option(help="What the gateway will sign with.")],
    out: Annotated[Path, typer.Option(help="The folder for the two files; made if it does not exist.")],
    kid: Annotated[
        str | None,
        typer.Option(help="The key's id, 1 to 64 of A-Z a-z 0-9 . _ - (default: its RFC 7638 thumbprint)."),
    ] = None,
) -> None:
    """Makes a key pair: private.pem for the gateway, jwks.json for the router; prints what the YAML needs.

    Existing files are never overwritten.
    """
    with told_errors():
        private = _new_private_key(algorithm)
        jwk = public_jwk(private, algorithm, kid)
        document = json.dumps({"keys": [jwk]}, indent=2).encode() + b"\n"
        # The router's own reader has the last word, on the kid as well.
        parse_jwks(document, frozenset({algorithm.value}))
        _write(out, private, document)
    print(f"{out / PRIVATE_FILE}: the private key; only the gateway may read it", file=sys.stderr)
    print(f"{out / JWKS_FILE}: the public key, for the router; kid {jwk['kid']}", file=sys.stderr)
    print(_yaml(out / JWKS_FILE, algorithm))


def public_jwk(private: PrivateKey, algorithm: str, kid: str | None = None) -> dict[str, Any]:
    """The public half as a JWK (RFC 7517).

    Args:
        private: The private key.
        algorithm: Its JOSE name.
        kid: The key's id; None takes its thumbprint (RFC 7638).
    """
    jwk = jwt.get_algorithm_by_name(algorithm).to_jwk(private.public_key(), as_dict=True)
    # RFC 7517 §4.3: `use` and `key_ops` should not stand together.
    jwk.pop("key_ops", None)
    return {**jwk, "kid": _thumbprint(jwk) if kid is None else kid, "alg": str(algorithm), "use": "sig"}


def _new_private_key(algorithm: KeyAlgorithm) -> PrivateKey:
    match algorithm:
        case KeyAlgorithm.RS256 | KeyAlgorithm.RS384 | KeyAlgorithm.RS512:
            return rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
        case KeyAlgorithm.PS256 | KeyAlgorithm.PS384 | KeyAlgorithm.PS512:
            return rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
        case KeyAlgorithm.ES256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyAlgorithm.ES384:
            return ec.generate_private_key(ec.SECP384R1())
        case KeyAlgorithm.ES512:
            return ec.generate_private_key(ec.SECP521R1())
        case KeyAlgorithm.EDDSA:
            return ed25519.Ed25519PrivateKey.generate()
        case _:
            assert_never(algorithm)


def _thumbprint(jwk: dict[str, Any]) -> str:
    members = {name: jwk[name] for name in _THUMBPRINT_MEMBERS if name in jwk}
    digest = hashlib.sha256(json.dumps(members, sort_keys=True, separators=(",", ":")).encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _write(folder: Path, private: PrivateKey, jwks: bytes) -> None:
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for name in (PRIVATE_FILE, JWKS_FILE):
        if (folder / name).exists():
            raise ConfigurationError(
                f"{str(folder / name)!r} exists and is not overwritten: a folder without it is expected"
            )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _create(folder / PRIVATE_FILE, pem, mode=0o600)
        _create(folder / JWKS_FILE, jwks, mode=0o644)
    except OSError as error:
        raise ConfigurationError(f"{str(folder)!r} cannot be written to: {error.strerror}") from error


def _create(path: Path, data: bytes, *, mode: int) -> None:
    # O_EXCL: neither a file nor a link that appeared meanwhile is followed or overwritten.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _yaml(jwks: Path, algorithm: KeyAlgorithm) -> str:
    return f"""\
litellm_settings:
  permit_router:
    permit:
      issuers:
        - issuer: https://policy.example.com   # exactly what the gateway writes into `iss`
          jwks_file: {json.dumps(str(jwks.resolve()))}
          algorithms: [{algorithm}]"""
