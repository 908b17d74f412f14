"""The policy that a permit is explained by: out of LiteLLM's YAML, or out of a policy file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml

from litellm_plugin.cli.permit.input import read_bytes
from litellm_plugin.errors import ConfigurationError
from litellm_plugin.permit import (
    SUPPORTED_ALGORITHMS,
    FileKeys,
    KeyDocumentError,
    KeyFormat,
    KeySet,
    KeySource,
    UrlKeys,
    parse_jwks,
    secret_keys,
)
from litellm_plugin.permit.keys import MAX_KEY_DOCUMENT_BYTES
from litellm_plugin.proxy.selfcheck import declared_endpoints
from litellm_plugin.settings import Flags, IssuerBlock, PolicySnapshot, load_policy

if TYPE_CHECKING:
    from pathlib import Path

_REFERENCE: Final = "os.environ/"
_BLOCK: Final = "litellm_settings.permit_router"


@dataclass(frozen=True, slots=True)
class Policy:
    """What a permit is held against.

    Attributes:
        snapshot: The validated policy.
        folder: The folder that relative key files are taken from.
        endpoints: The endpoints of LiteLLM's model list; None where it has none, or a policy stands alone.
    """

    snapshot: PolicySnapshot
    folder: Path
    endpoints: frozenset[str] | None = None


def read_policy(config: Path | None, policy: Path | None) -> Policy | None:
    """Reads the policy that the proxy would have with this configuration, or the one in a policy file.

    Args:
        config: LiteLLM's YAML; the environment flags and `os.environ/NAME` count as they do for the proxy.
        policy: A file that holds the policy block alone.

    Raises:
        ConfigurationError: Both are given, or one of them is wrong.
    """
    if config is not None and policy is not None:
        raise ConfigurationError("--config and --policy: one of them is expected, not both")
    if config is not None:
        document = _document(config)
        snapshot = load_policy(_block(document), Flags(), base=config.parent)
        return Policy(snapshot, config.parent, frozenset(declared_endpoints(document)) or None)
    if policy is not None:
        # A file that is named here wins over the one that the environment names.
        flags = Flags().model_copy(update={"policy": None})
        return Policy(load_policy(policy.name, flags, base=policy.parent), policy.parent)
    return None


def offline_keys(block: IssuerBlock, folder: Path) -> tuple[KeySource, str]:
    """An issuer's keys as far as they can be had without a network.

    Returns:
        The source, and why it has no keys; empty when it has them.

    Raises:
        ConfigurationError: The keys' URL is not one that keys may come from.
    """
    algorithms = frozenset(block.algorithms)
    if block.jwks_url:
        source = UrlKeys(
            block.jwks_url, issuer=block.issuer, algorithms=algorithms, allow_http=block.allow_http
        )
        return source, "its keys are behind a URL, which is not asked; --jwks FILE gives them"
    key_format = KeyFormat.JWKS if block.jwks_file else KeyFormat.PEM
    path = folder / (block.jwks_file or block.public_key_file or "")
    files = FileKeys(path, key_format, issuer=block.issuer, algorithms=algorithms, kid=block.kid)
    try:
        if block.secret_env:
            return secret_keys(block.secret_env, os.environ, kid=block.kid), ""
        files.load(0)
    except KeyDocumentError as error:
        return files, f"its keys cannot be loaded: {error}"
    return files, ""


def given_keys(jwks: Path, algorithms: frozenset[str] = SUPPORTED_ALGORITHMS) -> KeySet:
    """The keys of a JSON Web Key Set that the command line names.

    Raises:
        ConfigurationError: It cannot be read, or has no usable key.
    """
    data = read_bytes(str(jwks), "the key set", limit_bytes=MAX_KEY_DOCUMENT_BYTES + 1)
    try:
        return parse_jwks(data, algorithms)
    except KeyDocumentError as error:
        raise ConfigurationError(
            f"--jwks {str(jwks)!r}: a JSON Web Key Set with a public key for {', '.join(sorted(algorithms))} "
            f"is expected: {error}"
        ) from error


def _document(config: Path) -> Mapping[str, Any]:
    try:
        document = yaml.safe_load(read_bytes(str(config), "the configuration"))
    # ValueError: an impossible date; RecursionError: lists nested thousands deep.
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigurationError(f"--config {str(config)!r} cannot be read as YAML: {error}") from error
    return _mapping(document, str(config))


def _block(document: Mapping[str, Any]) -> object:
    settings = document.get("litellm_settings")
    return _resolved(_mapping(settings, "litellm_settings").get("permit_router"), _BLOCK)


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{where}: a mapping is expected, {type(value).__name__} stands there")
    return value


def _resolved(value: object, where: str) -> object:
    """The value with the environment in place of each `os.environ/NAME`, as LiteLLM reads it."""
    if isinstance(value, Mapping):
        return {name: _resolved(inner, f"{where}.{name}") for name, inner in value.items()}
    if isinstance(value, list):
        return [_resolved(inner, f"{where}.{position}") for position, inner in enumerate(value)]
    if not isinstance(value, str) or not value.startswith(_REFERENCE):
        return value
    name = value.removeprefix(_REFERENCE)
    if name not in os.environ:
        raise ConfigurationError(
            f"{where}: the environment variable {name[:80]!r} is expected to be set, and is not"
        )
    return os.environ[name]
