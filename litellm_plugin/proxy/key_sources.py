"""Key sources: where an issuer's keys come from, by what its block says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.permit import FileKeys, KeyDocumentError, KeyFormat, RefreshTimes, UrlKeys
from litellm_plugin.permit.secret import secret_keys

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from litellm_plugin.permit import KeySource
    from litellm_plugin.settings import IssuerBlock


def key_source(
    block: IssuerBlock, *, base: Path, environment: Mapping[str, str], monotonic_s: float
) -> KeySource:
    """The source of an issuer's keys; from files and the environment they are loaded at once, from a URL later.

    Args:
        block: The issuer.
        base: The folder that relative key files are taken from.
        environment: Where a symmetric issuer's secret stands.
        monotonic_s: The time of the first load.

    Raises:
        ConfigurationError: A key file, a secret or the URL cannot be used.
    """
    algorithms = frozenset(block.algorithms)
    times = RefreshTimes(interval_s=block.refresh_seconds, max_stale_s=block.max_stale_seconds)
    if block.jwks_url:
        return UrlKeys(
            block.jwks_url,
            issuer=block.issuer,
            algorithms=algorithms,
            times=times,
            allow_http=block.allow_http,
        )
    try:
        if block.secret_env:
            return secret_keys(block.secret_env, environment, kid=block.kid)
        key_format = KeyFormat.JWKS if block.jwks_file else KeyFormat.PEM
        path = base / (block.jwks_file or block.public_key_file or "")
        keys = FileKeys(
            path, key_format, issuer=block.issuer, algorithms=algorithms, kid=block.kid, times=times
        )
        keys.load(monotonic_s)
    except KeyDocumentError as error:
        raise ConfigurationError(f"keys of issuer {block.issuer!r}: {error}") from error
    return keys
