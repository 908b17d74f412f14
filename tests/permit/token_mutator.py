"""A seeded mutator of tokens: what an attacker can make of valid ones, and what a broken gateway can sign."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from jwt.algorithms import get_default_algorithms
from permit_signing import KEY_FOR, NOW, claims, der, encode, header, jwk, pem, private_key, signed

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SIGNERS = ("ES256", "EdDSA")  # RSA signs too slowly to be asked often
ATTACKER = {"ES256": ec.generate_private_key(ec.SECP256R1()), "EdDSA": ed25519.Ed25519PrivateKey.generate()}
SECRETS = [
    pem("rsa"),
    pem("P-256"),
    der("rsa"),
    json.dumps(jwk("rsa")).encode(),
    b"",
    b"\0",
    b"rsa-1",
    b"secret",
]
# What no configuration holds, and so must not come out of a verifier; the tenant stands in every token.
MARKER = "Zq7-out-of-the-token"
MARKERS = (MARKER, "acme", "request-1")
CHARACTERS = [*'AQz09-_.=+/ \n\t\0"{}', "\u00e9", "\u200b", "\ud800", "\u0660", "\uff21", "\U0001f511"]
VALUES = [
    None, True, False, 0, -1, 1, 1.5, NOW, NOW - 10**6, NOW + 10**9, 10**18, 10**400, "", " ", "*", "none", "x" * 129,
    "x" * 5_000, "\ud800", "\u0000", "../a", "\u0430zure", "9999999999", [], [None], ["a", "a"], ["*"], [["a"]], {},
    {"a": 1}, ["a"] * 65, MARKER, [MARKER, MARKER], {MARKER: 1}, MARKER * 9, "phi", "pro", ["local-llama"], "0f" * 32,
]  # fmt: skip
HEADERS = [
    ("alg", "none"), ("alg", "None"), ("alg", "HS256"), ("alg", "HS512"), ("alg", "es256"), ("alg", "RS256"),
    ("alg", "PS256"), ("alg", "ES256K"), ("alg", "EdDSA"), ("alg", None), ("alg", ["ES256"]), ("alg", ""),
    ("typ", "JWT"), ("typ", None), ("typ", ["permit+jwt"]), ("typ", "PERMIT+JWT"), ("kid", "rsa-1"), ("kid", "ed-1"),
    ("kid", "../../dev/null"), ("kid", "x' OR 1=1"), ("kid", None), ("kid", 7), ("kid", "k" * 65), ("kid", "\u0000"),
    ("kid", "unknown"), ("crit", []), ("crit", ["b64"]), ("crit", "exp"), ("b64", False), ("b64", "false"),
    ("zip", "DEF"), ("cty", "JWT"), ("jku", "https://evil.example/jwks"), ("x5u", "https://evil.example/x"),
    ("x5c", ["MIIB"]), ("x5t", "AA"), ("nonce", "a"), ("\ud800", 1),
    ("alg", MARKER), ("typ", MARKER), ("kid", MARKER), (MARKER, MARKER),
]  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A token, how it was made, and whether it may be admitted."""

    kind: str
    token: str
    may_be_admitted: bool


class TokenMutator:
    """Makes mutants of a few valid tokens; the same seed and number make the same choice."""

    def __init__(self, seed):
        self.seed = seed
        self.genuine = [
            signed(header(alg), claims(jti=f"{alg}-{n}", **extra), private_key(KEY_FOR[alg]), alg)
            for n, extra in enumerate(
                [{}, {"nbf": NOW, "sub": "jörg"}, {"models": ["m"], "max_cost_usd": 0.5}]
            )
            for alg in KEY_FOR
            if alg != "PS256"
        ]
        self.inputs = {token.rpartition(".")[0] for token in self.genuine}
        self.attacker_jwk = jwk_of(ATTACKER["ES256"])

    def mutant(self, number):
        rng = random.Random(f"{self.seed}:{number}")  # noqa: S311 - choices, not secrets
        make = rng.choice(MUTATIONS)
        token = make(self, rng)
        # The same header and claims under a valid signature are the gateway's own word, however it is spelt.
        is_genuine = token.rpartition(".")[0] in self.inputs
        return Mutant(make.__name__, token, is_genuine or make is signed_values)

    def any(self, rng):
        return rng.choice(self.genuine)


def jwk_of(key):
    return get_default_algorithms()["ES256"].to_jwk(key.public_key(), as_dict=True)


def decode(segment):
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def parts_of(token):
    head, payload, _ = token.split(".")
    return json.loads(decode(head)), json.loads(decode(payload))


def dumped(value):
    return json.dumps(value).encode()


def put_together(rng, head, payload, original):
    """Header and payload with a signature that only an attacker would make."""
    signing_input = f"{encode(head)}.{encode(payload)}"
    match rng.randrange(6):
        case 0:
            signature = ""
        case 1:
            signature = original.rpartition(".")[2]
        case 2:
            signature = encode(bytes(rng.choice([1, 32, 64, 256])))
        case 3:
            digest = rng.choice([hashlib.sha256, hashlib.sha512])
            signature = encode(hmac.new(rng.choice(SECRETS), signing_input.encode(), digest).digest())
        case _:
            alg = rng.choice(SIGNERS)
            signature = encode(get_default_algorithms()[alg].sign(signing_input.encode(), ATTACKER[alg]))
    return f"{signing_input}.{signature}"


def gateways(rng, head, payload):
    """Header and payload as a broken gateway would sign them."""
    alg = rng.choice(SIGNERS)
    return signed(head(alg), payload, private_key(KEY_FOR[alg]), alg)


def nothing(mutator, rng):
    return mutator.any(rng)


def flipped_bits(mutator, rng):
    changed = bytearray(mutator.any(rng).encode())
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return changed.decode("latin-1")


def edited_characters(mutator, rng):
    text = mutator.any(rng)
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(["", *CHARACTERS]) + text[at + rng.randrange(3) :]
    return text


def spliced_segments(mutator, rng):
    segments = [segment for _ in range(2) for segment in mutator.any(rng).split(".")]
    if rng.random() < 0.5:
        first, second = mutator.any(rng).split("."), mutator.any(rng).split(".")
        segments = [rng.choice(pair) for pair in zip(first, second, strict=True)]
        return ".".join(segments)
    rng.shuffle(segments)
    return ".".join(segments[: rng.randrange(7)])


def another_size(mutator, rng):
    token = mutator.any(rng)
    if rng.random() < 0.5:
        return token[: rng.randrange(len(token))]
    return token + rng.choice(CHARACTERS) * rng.choice([1, 100, 16_384 - len(token), 16_385, 100_000])


def another_encoding(mutator, rng):
    token = mutator.any(rng)
    segments = token.split(".")
    at = rng.randrange(3)
    raw = decode(segments[at])
    segments[at] = rng.choice(
        [
            segments[at] + "=" * (-len(segments[at]) % 4 or 1),
            base64.b64encode(raw).decode(),
            encode(encode(raw).encode()),
            encode(raw.decode("latin-1").encode("utf-16")),
            encode(b"\xef\xbb\xbf" + raw),
            encode(raw + rng.choice([b" ", b"\n", b"\0", b"{}", b"x"])),
            raw.hex(),
            "".join(f"%{ord(character):02x}" for character in segments[at]),
            segments[at].translate({code: code + 0xFEE0 for code in range(0x30, 0x7B)}),
            segments[at].swapcase(),
        ]
    )
    wrap = rng.choice(["{}"] * 6 + ["Bearer {}", '"{}"', " {}", "{}\n", "{}.", ".{}", "{0}.{0}"])
    return wrap.format(".".join(segments))


def another_header(mutator, rng):
    token = mutator.any(rng)
    head, payload = parts_of(token)
    for name, value in rng.sample(HEADERS, rng.choice([1, 1, 2])):
        head[name] = value
    if rng.random() < 0.1:
        head["jwk"] = mutator.attacker_jwk
    if rng.random() < 0.1:
        head.pop(rng.choice([*head]))
    return put_together(rng, dumped(head), dumped(payload), token)


def other_claims(mutator, rng):
    token = mutator.any(rng)
    head, payload = parts_of(token)
    payload[rng.choice([*payload, "regions", "preferences", "x"])] = rng.choice(VALUES)
    payload["authorized_endpoints"] = [*claims()["authorized_endpoints"], "evil"]
    return put_together(rng, dumped(head), dumped(payload), token)


def another_signature(mutator, rng):
    token = mutator.any(rng)
    signing_input, _, segment = token.rpartition(".")
    signature = decode(segment)
    half = len(signature) // 2
    r, s = int.from_bytes(signature[:half]), int.from_bytes(signature[half:])
    forged = [
        bytes(len(signature)), signature[:-1], signature + bytes(1), bytes(1) + signature, signature[::-1],
        signature[:half] + bytes(half), bytes(half) + signature[half:], encode_dss_signature(r, s),
        P256_ORDER.to_bytes(32) * 2, signature[:half] + (2**256 - 1).to_bytes(32), rng.randbytes(len(signature)),
    ]  # fmt: skip
    return f"{signing_input}.{encode(rng.choice(forged))}"


def confused_algorithm(mutator, rng):
    """What is public, taken as the secret of a symmetric algorithm (RFC 8725 §2.1)."""
    head, payload = parts_of(mutator.any(rng))
    alg, digest = rng.choice(
        [("HS256", hashlib.sha256), ("HS384", hashlib.sha384), ("HS512", hashlib.sha512)]
    )
    signing_input = f"{encode(dumped({**head, 'alg': alg}))}.{encode(dumped(payload))}"
    return f"{signing_input}.{encode(hmac.new(rng.choice(SECRETS), signing_input.encode(), digest).digest())}"


def other_half_of_a_signature(mutator, rng):
    """(r, n - s): as valid as (r, s) under ECDSA, so it must be the same permit and never a second one."""
    token = rng.choice([token for token in mutator.genuine if parts_of(token)[0]["alg"] == "ES256"])
    signing_input, _, segment = token.rpartition(".")
    signature = decode(segment)
    s = P256_ORDER - int.from_bytes(signature[32:])
    return f"{signing_input}.{encode(signature[:32] + s.to_bytes(32))}"


def signed_header_with_more(_mutator, rng):
    more = rng.choice([(name, value) for name, value in HEADERS if name not in {"alg", "kid", "typ"}])
    return gateways(rng, lambda alg: {**header(alg), more[0]: more[1]}, claims())


def signed_ambiguity(_mutator, rng):
    """What two readers would read differently; the gateway's signature does not make it one thing."""
    text = dumped(claims())
    evil = rng.choice(
        [
            text[:-1] + b', "authorized_endpoints": ["evil"]}',
            b'{"exp": 1, ' + text[1:],
            text[:-1] + b', "tenant": "globex", "tenant": "acme"}',
            text[:-1] + b', "max_cost_usd": NaN}',
            text[:-1] + b', "max_cost_usd": 1e400}',
            text + rng.choice([b"x", b"{}", b"\0", text]),
            b"\xef\xbb\xbf" + text,
            text.decode().encode(rng.choice(["utf-16", "utf-16-le", "utf-32"])),
            text.replace(b"acme", b"ac\xffme"),
            b"[" * rng.choice([1, 10, 9_000]),
            b"[" + text + b"]",
            rng.choice([b"null", b'""', b"0", b"true", b"[]", b"{}"]),
            text[: rng.randrange(len(text))] or b"{",
        ]
    )
    if rng.random() < 0.2:
        return gateways(rng, lambda alg: dumped(header(alg))[:-1] + b', "kid": "ed-1"}', text)
    return gateways(rng, header, evil)


def signed_unknown_claims(_mutator, rng):
    name = rng.choice(
        ["roles", "Authorized_Endpoints", "scope", "", "\ud800", MARKER, "ext", "__proto__", "x" * 200]
    )
    return gateways(rng, header, claims(**{name: rng.choice(VALUES)}))


def signed_without_a_claim(_mutator, rng):
    return gateways(rng, header, claims(**{rng.choice([*claims()]): rng.choice([..., None])}))


def signed_out_of_time(_mutator, rng):
    shift = rng.choice([-(10**6), -3_600, -66, 6, 3_600, 10**9])
    return gateways(rng, header, claims(iat=NOW + shift, exp=NOW + 60 + shift))


def signed_values(_mutator, rng):
    """Any values under the gateway's signature; some are fine, none may raise another error."""
    names = [*claims(), "nbf", "sub", "body_sha256", "api_key_hash", "models", "regions", "max_cost_usd"]
    changed = {name: rng.choice(VALUES) for name in rng.sample(names, rng.choice([1, 1, 2, 4]))}
    return gateways(rng, header, claims(**changed))


MUTATIONS = [
    nothing,
    *[flipped_bits] * 3,
    *[edited_characters] * 3,
    *[spliced_segments] * 2,
    another_size,
    *[another_encoding] * 2,
    *[another_header] * 4,
    *[other_claims] * 2,
    another_signature,
    confused_algorithm,
    other_half_of_a_signature,
    signed_header_with_more,
    *[signed_ambiguity] * 2,
    signed_unknown_claims,
    signed_without_a_claim,
    signed_out_of_time,
    *[signed_values] * 2,
]
