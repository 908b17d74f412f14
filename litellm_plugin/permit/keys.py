"""The keys that may have signed a permit: loaded once, checked at load, immutable after."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError

from litellm_plugin.errors import PermitRejected, PermitRouterError, Reason
from litellm_plugin.permit.compact import KID_PATTERN
from litellm_plugin.permit.strict_json import StrictJsonError, parse_strict_json

if TYPE_CHECKING:
    from collections.abc import Mapping

PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

MAX_KEY_DOCUMENT_BYTES: Final = 256 * 1024

_RSA_ALGORITHMS: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES: Final = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}  # RFC 7518 §3.4

SUPPORTED_ALGORITHMS: Final = _RSA_ALGORITHMS | _CURVES.keys() | {"EdDSA"}
SYMMETRIC_ALGORITHMS: Final = frozenset({"HS256"})

_MIN_SECRET_BYTES: Final = 32  # RFC 7518 §3.2: at least the hash's size
_MIN_RSA_BITS: Final = 2048  # RFC 7518 §3.3
_MAX_RSA_BITS: Final = 8192  # a longer modulus makes every verification slow
_RSA_EXPONENT: Final = 65537
_FITTING_ALG: Final = "an algorithm that fits the key which `kid` names"
_PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})  # RFC 7518 §6
_FOREIGN_KEY_ERRORS: Final = (
    InvalidKeyError,
    UnsupportedAlgorithm,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
)


class KeyDocumentError(PermitRouterError):
    """A key, or a document of keys, cannot be used; the message never quotes key material."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One key and the algorithms it may be used with.

    Attributes:
        kid: The key's id (RFC 7517 §4.5), or None for a key without one.
        algorithms: JOSE names, each of them fitting the key's type and curve.
        key: A loaded public key, or the secret's bytes for HS256.

    Raises:
        KeyDocumentError: No algorithm is named, one does not fit the key, or the key is weak.
    """

    kid: str | None
    algorithms: frozenset[str]
    key: PublicKey | bytes = field(repr=False)

    def __post_init__(self) -> None:
        _refuse_weak(self.key)
        if not self.algorithms or self.algorithms != _fitting(self.algorithms, self.key):
            raise KeyDocumentError("the key does not fit the algorithms")


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys of one issuer at one moment.

    Attributes:
        keys: The usable keys; a `kid` occurs once.
        kid_optional: Whether a token may come without a `kid`, and an only key without one may serve any.
        skipped: Why each unusable key of the document was left out, in its order.

    Raises:
        KeyDocumentError: There is no key, or two have the same `kid`.
    """

    keys: tuple[VerificationKey, ...]
    kid_optional: bool = False
    skipped: tuple[str, ...] = ()
    _by_kid: Mapping[str, VerificationKey] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        named = {key.kid: key for key in self.keys if key.kid is not None}
        if not self.keys:
            raise KeyDocumentError("no usable key")
        if len(named) != sum(key.kid is not None for key in self.keys):
            raise KeyDocumentError("two keys have the same kid")
        object.__setattr__(self, "_by_kid", named)

    def find(self, kid: str | None, alg: str) -> VerificationKey:
        """The one key that a token with this header is checked with.

        Raises:
            PermitRejected: `key_unknown` when there is no such key, `alg_not_allowed` when there is one
                that is not for this algorithm.
        """
        key = self._by_kid.get(kid) if kid is not None else None
        if key is None:
            key = self._only_key(kid)
        if key is None:
            raise PermitRejected(Reason.KEY_UNKNOWN, "kid", self._expected_kid(kid))
        if alg not in key.algorithms:
            raise PermitRejected(Reason.ALG_NOT_ALLOWED, "alg does not fit the key", _FITTING_ALG)
        return key

    def with_rule(self, *, kid_optional: bool) -> KeySet:
        """The same keys under the issuer's rule for tokens without a `kid`."""
        if kid_optional == self.kid_optional:
            return self
        return KeySet(self.keys, kid_optional=kid_optional, skipped=self.skipped)

    def _only_key(self, kid: str | None) -> VerificationKey | None:
        if not self.kid_optional or len(self.keys) != 1:
            return None
        only = self.keys[0]
        return only if kid is None or only.kid is None else None

    def _expected_kid(self, kid: str | None) -> str:
        """What a token without a known `kid` lacks; it names no key, for nobody has verified the token."""
        if kid is not None:
            return "the `kid` of a key that this issuer uses now"
        return "a key id (`kid`)" + (": this issuer has several keys" if len(self.keys) > 1 else "")


def parse_jwks(document: bytes, algorithms: frozenset[str]) -> KeySet:
    """Load a JSON Web Key Set (RFC 7517 §5), leaving out every key that is not safe to use.

    A key is left out when it is symmetric or private, is not for verifying, is too weak, lies off its
    curve, fits none of the algorithms, or shares its `kid` with another; `KeySet.skipped` says which.

    Args:
        document: At most 256 KiB of JSON.
        algorithms: The issuer's allow-list of JOSE names.

    Raises:
        KeyDocumentError: The document is not a key set, or no key of it can be used.
    """
    usable: list[VerificationKey] = []
    skipped: list[str] = []
    for index, entry in enumerate(_entries(document)):
        try:
            usable.append(_load_jwk(entry, algorithms))
        except KeyDocumentError as error:
            skipped.append(f"key {index}: {error}")
    counts = Counter(key.kid for key in usable if key.kid is not None)
    distinct = tuple(key for key in usable if key.kid is None or counts[key.kid] == 1)
    skipped += [f"kid {kid!r}: {count} keys have it" for kid, count in counts.items() if count > 1]
    if not distinct:
        raise KeyDocumentError(f"no usable key ({'; '.join(skipped)[:500] or 'the set is empty'})")
    return KeySet(distinct, skipped=tuple(skipped))


def parse_pem(data: bytes, algorithms: frozenset[str], *, kid: str | None = None) -> KeySet:
    """Load one public key in PEM form (SubjectPublicKeyInfo, RFC 7468 §13).

    Args:
        data: At most 256 KiB that hold exactly one `PUBLIC KEY` block.
        algorithms: The issuer's allow-list of JOSE names.
        kid: The id that tokens name this key by; without one, the issuer's `kid_optional` must be set.

    Raises:
        KeyDocumentError: The data are something else, or the key is weak or fits no algorithm.
    """
    _refuse_oversized(data)
    if data.count(b"-----BEGIN ") != 1 or b"-----BEGIN PUBLIC KEY-----" not in data:
        raise KeyDocumentError("expected exactly one PEM block of a public key")
    try:
        key = load_pem_public_key(data)
    except _FOREIGN_KEY_ERRORS as error:
        raise KeyDocumentError("not a readable public key") from error
    return KeySet((_named_key(kid, algorithms, key),))


def symmetric_keys(secret: bytes, *, kid: str | None = None) -> KeySet:
    """The key set of an issuer that is declared symmetric: one secret of 32 bytes or more, for HS256.

    Raises:
        KeyDocumentError: The secret is too short, or is a public key or a certificate by mistake.
    """
    return KeySet((VerificationKey(kid, SYMMETRIC_ALGORITHMS, secret),))


def _entries(document: bytes) -> list[object]:
    _refuse_oversized(document)
    try:
        parsed = parse_strict_json(document)
    except StrictJsonError as error:
        raise KeyDocumentError(f"not a JSON Web Key Set: {error}") from error
    entries = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(entries, list):
        raise KeyDocumentError("not a JSON Web Key Set: no list 'keys'")
    return entries


def _load_jwk(entry: object, algorithms: frozenset[str]) -> VerificationKey:
    if not isinstance(entry, dict):
        raise KeyDocumentError("not an object")
    _refuse_wrong_use(entry)
    return _named_key(_kid_of(entry), _declared(entry, algorithms), _public_key(entry))


def _refuse_wrong_use(entry: Mapping[str, object]) -> None:
    if entry.keys() & _PRIVATE_MEMBERS:
        raise KeyDocumentError("private or symmetric key material")
    if entry.get("use", "sig") != "sig":
        raise KeyDocumentError("use is not 'sig'")
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise KeyDocumentError("key_ops without 'verify'")


def _kid_of(entry: Mapping[str, object]) -> str | None:
    if "kid" not in entry:
        return None
    kid = entry["kid"]
    if not isinstance(kid, str) or not KID_PATTERN.fullmatch(kid):
        raise KeyDocumentError(f"kid does not match {KID_PATTERN.pattern}")
    return kid


def _declared(entry: Mapping[str, object], algorithms: frozenset[str]) -> frozenset[str]:
    if "alg" not in entry:
        return algorithms
    alg = entry["alg"]
    if not isinstance(alg, str) or alg not in algorithms:
        raise KeyDocumentError("alg is not one of the issuer's algorithms")
    return frozenset({alg})


def _public_key(entry: dict[str, object]) -> object:
    try:
        match entry.get("kty"):
            case "RSA":
                return RSAAlgorithm.from_jwk(entry)
            case "EC":
                return ECAlgorithm.from_jwk(entry)
            case "OKP":
                return OKPAlgorithm.from_jwk(entry)
    except _FOREIGN_KEY_ERRORS as error:
        raise KeyDocumentError("not a readable public key") from error
    raise KeyDocumentError("kty is not RSA, EC or OKP")


def _named_key(kid: str | None, algorithms: frozenset[str], key: object) -> VerificationKey:
    if not isinstance(key, RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey):
        raise KeyDocumentError("not an RSA, EC or Ed25519 key")
    return VerificationKey(kid, _fitting(algorithms, key), key)


def _fitting(algorithms: frozenset[str], key: PublicKey | bytes) -> frozenset[str]:
    match key:
        case bytes():
            return algorithms & SYMMETRIC_ALGORITHMS
        case RSAPublicKey():
            return algorithms & _RSA_ALGORITHMS
        case EllipticCurvePublicKey():
            return frozenset(name for name in algorithms if _CURVES.get(name) == key.curve.name)
        case Ed25519PublicKey():
            return algorithms & {"EdDSA"}


def _refuse_weak(key: PublicKey | bytes) -> None:
    if isinstance(key, bytes):
        _refuse_weak_secret(key)
    elif isinstance(key, RSAPublicKey):
        if not _MIN_RSA_BITS <= key.key_size <= _MAX_RSA_BITS:
            raise KeyDocumentError(f"RSA key of {key.key_size} bits, not {_MIN_RSA_BITS} to {_MAX_RSA_BITS}")
        if key.public_numbers().e != _RSA_EXPONENT:
            raise KeyDocumentError(f"RSA exponent is not {_RSA_EXPONENT}")


def _refuse_weak_secret(secret: bytes) -> None:
    if len(secret) < _MIN_SECRET_BYTES:
        raise KeyDocumentError(f"secret of {len(secret)} bytes, {_MIN_SECRET_BYTES} or more expected")
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except InvalidKeyError as error:
        raise KeyDocumentError("a public key or certificate is no secret") from error


def _refuse_oversized(data: bytes) -> None:
    if len(data) > MAX_KEY_DOCUMENT_BYTES:
        raise KeyDocumentError(f"longer than {MAX_KEY_DOCUMENT_BYTES} bytes")
