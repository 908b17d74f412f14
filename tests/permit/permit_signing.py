"""Keys and tokens for these tests; each token is built byte by byte, so that it can be wrong."""

from __future__ import annotations

import base64
import json
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import settings
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm, get_default_algorithms

from litellm_plugin.permit import (
    ClaimPolicy,
    IssuerTrust,
    KeySet,
    PermitVerifier,
    StaticKeys,
    VerificationKey,
)

untimed = settings(deadline=None)  # a loaded machine is no fault of the verifier

ISSUER = "https://policy.example.com"
AUDIENCE = "llm-router"
NOW = 1_800_000_000
BODY_SHA256 = "0f" * 32
ALGORITHMS = frozenset({"RS256", "ES256", "EdDSA"})
POLICY = ClaimPolicy(
    classifications=frozenset({"public", "internal", "phi"}),
    tenant_tiers=frozenset({"free", "pro"}),
    latency_classes=frozenset({"interactive", "batch"}),
)


def rsa_key(bits=2048, exponent=65537):
    return rsa.generate_private_key(public_exponent=exponent, key_size=bits)


MAKERS = {
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "rsa": rsa_key,
    "rsa-1024": lambda: rsa_key(bits=1024),
    "rsa-e3": lambda: rsa_key(exponent=3),
}


@cache
def private_key(name):
    return MAKERS[name]()


KEY_FOR = {"RS256": "rsa", "PS256": "rsa", "ES256": "P-256", "EdDSA": "ed25519"}


def public_key(name):
    return private_key(name).public_key()


def pem(name):
    return public_key(name).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def der(name):
    return public_key(name).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def jwk(name, *, private=False, **members):
    key = private_key(name) if private else public_key(name)
    family = RSAAlgorithm if name.startswith("rsa") else OKPAlgorithm if name == "ed25519" else ECAlgorithm
    return {**family.to_jwk(key, as_dict=True), **members}


def jwks(*entries):
    return json.dumps({"keys": list(entries)}).encode()


def key_set(*, kid_optional=False):
    return KeySet(
        (
            VerificationKey("rsa-1", frozenset({"RS256"}), public_key("rsa")),
            VerificationKey("ec-1", frozenset({"ES256"}), public_key("P-256")),
            VerificationKey("ed-1", frozenset({"EdDSA"}), public_key("ed25519")),
        ),
        kid_optional=kid_optional,
    )


KID_FOR = {"RS256": "rsa-1", "ES256": "ec-1", "EdDSA": "ed-1"}


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def as_bytes(value):
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def signed(header, payload, key, alg):
    signing_input = f"{encode(as_bytes(header))}.{encode(as_bytes(payload))}"
    signature = get_default_algorithms()[alg].sign(signing_input.encode(), key)
    return f"{signing_input}.{encode(signature)}"


def header(alg="ES256", /, **members):
    merged = {"alg": alg, "kid": KID_FOR.get(alg, "ec-1"), "typ": "permit+jwt", **members}
    return {name: value for name, value in merged.items() if value is not ...}


def claims(**members):
    merged = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": NOW,
        "exp": NOW + 60,
        "jti": "permit-1",
        "request_id": "request-1",
        "authorized_endpoints": ["azure-eu-gpt4o", "local-llama"],
        "policy_version": "42",
        "data_classification": "internal",
        "tenant": "acme",
        "tenant_tier": "pro",
        "latency_class": "interactive",
        **members,
    }
    return {name: value for name, value in merged.items() if value is not ...}


def permit_token(alg="ES256", *, payload=None, head=None, **members):
    payload = claims(**members) if payload is None else payload
    return signed(header(alg, **(head or {})), payload, private_key(KEY_FOR[alg]), alg)


def verifier(policy=POLICY, keys=None, **trust):
    options = {"issuer": ISSUER, "audience": AUDIENCE, "algorithms": ALGORITHMS, **trust}
    return PermitVerifier([IssuerTrust(keys=keys or StaticKeys(key_set()), **options)], policy)
