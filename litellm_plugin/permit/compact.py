"""The compact form: three base64url segments whose header holds `alg`, `kid` and `typ` only.

Everything that PyJWT leaves to its caller is closed here (RFC 7515 §3.1, RFC 8725 §3): nothing of a
token reaches a key or a cryptographic function before this module has accepted its shape.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final

from litellm_plugin.errors import PermitRejected, Reason
from litellm_plugin.permit.expectation import STRICT_OBJECT
from litellm_plugin.permit.strict_json import StrictJsonError, parse_strict_json

KID_PATTERN: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

_COMPACT: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_HEADER_NAMES: Final = frozenset({"alg", "kid", "typ"})

_THREE_PARTS: Final = "a compact JWS of three base64url parts"
_BARE: Final = "the permit's text alone, without a scheme such as 'Bearer'"
_BASE64URL: Final = "base64url without padding or stray bits (RFC 7515 §2)"


@dataclass(frozen=True, slots=True)
class JoseHeader:
    """The protected header; nothing else may stand in it."""

    alg: str
    kid: str | None = None
    typ: str | None = None


@dataclass(frozen=True, slots=True)
class CompactToken:
    """A well-formed token whose signature nobody has checked yet.

    Attributes:
        header: The parsed header.
        payload: The decoded second segment; untrusted.
        signature: The decoded third segment.
        signing_input: The first two segments with their dot, as they came.
    """

    header: JoseHeader
    payload: bytes
    signature: bytes
    signing_input: bytes


def parse_compact(token: str, *, max_bytes: int) -> CompactToken:
    """Split and decode a compact token.

    Args:
        token: The token's text, as it came.
        max_bytes: The longest token that is looked at; a longer one costs one comparison.

    Raises:
        PermitRejected: With `permit_malformed`; the detail names the part.
    """
    if len(token) > max_bytes:
        raise _malformed("longer than the limit", f"at most {max_bytes} characters")
    segments = _COMPACT.fullmatch(token)
    if segments is None:
        raise _malformed("not three base64url segments", _expected_form(token))
    header, payload, signature = segments.groups()
    return CompactToken(
        header=_parse_header(_decode(header, "header")),
        payload=_decode(payload, "payload"),
        signature=_decode(signature, "signature"),
        signing_input=f"{header}.{payload}".encode("ascii"),
    )


def _decode(segment: str, part: str) -> bytes:
    try:
        decoded = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except binascii.Error as error:
        raise _malformed(part, _BASE64URL) from error
    # The unused trailing bits must be zero (RFC 4648 §3.5), else one signature has several spellings.
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != segment.encode("ascii"):
        raise _malformed(part, _BASE64URL)
    return decoded


def _expected_form(token: str) -> str:
    """What a text that is no compact token should have been; the scheme that it may begin with is not quoted."""
    _, _, rest = token.partition(" ")
    return _BARE if _COMPACT.fullmatch(rest.strip()) else _THREE_PARTS


def _parse_header(data: bytes) -> JoseHeader:
    try:
        header = parse_strict_json(data)
    except StrictJsonError as error:
        raise _malformed("header", STRICT_OBJECT) from error
    if not isinstance(header, dict):
        raise _malformed("header", STRICT_OBJECT)
    if not header.keys() <= _HEADER_NAMES:
        raise _malformed("header holds more than alg, kid and typ", "the header exactly alg, kid and typ")
    return JoseHeader(alg=_text(header, "alg"), kid=_kid(header), typ=_optional_text(header, "typ"))


def _kid(header: dict[str, object]) -> str | None:
    kid = _optional_text(header, "kid")
    if kid is not None and not KID_PATTERN.fullmatch(kid):
        raise _malformed("kid", "a key id of 1 to 64 characters (A-Z a-z 0-9 . _ -)")
    return kid


def _optional_text(header: dict[str, object], name: str) -> str | None:
    return _text(header, name) if name in header else None


def _text(header: dict[str, object], name: str) -> str:
    value = header.get(name)
    if not isinstance(value, str):
        raise _malformed(name, "a JSON string")
    return value


def _malformed(detail: str, expected: str) -> PermitRejected:
    return PermitRejected(Reason.PERMIT_MALFORMED, detail, expected)
