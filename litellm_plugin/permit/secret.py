"""The secret of a symmetric issuer, out of an environment variable."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

from litellm_plugin.permit.key_source import StaticKeys
from litellm_plugin.permit.keys import KeyDocumentError, symmetric_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

_BASE64: Final = "base64:"


def secret_keys(variable: str, environ: Mapping[str, str], *, kid: str | None = None) -> StaticKeys:
    """The key of a symmetric issuer.

    The variable holds 32 bytes or more: `base64:` and their base64 (RFC 4648 §4 or §5, padded or not), or
    any other text, which counts as its UTF-8 bytes. White space around either is not part of it.

    Args:
        variable: The environment variable's name.
        environ: The environment.
        kid: The id that permits name the key by.

    Raises:
        KeyDocumentError: The variable is not set, or holds no usable secret; the message quotes neither,
            for a secret may have been written where its variable's name belongs.
    """
    text = environ.get(variable, "").strip()
    if not text:
        raise KeyDocumentError("secret_env names an environment variable that is not set")
    return StaticKeys(symmetric_keys(_decoded(text), kid=kid))


def _decoded(text: str) -> bytes:
    if not text.startswith(_BASE64):
        # An environment may hold bytes that are no UTF-8; they come as surrogates and go back as they were.
        return text.encode("utf-8", "surrogateescape")
    digits = text.removeprefix(_BASE64).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except ValueError as error:
        raise KeyDocumentError(
            "secret_env names a variable whose text after 'base64:' is no base64"
        ) from error
