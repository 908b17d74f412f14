"""The configuration file: LiteLLM's YAML, read as LiteLLM reads it, without LiteLLM."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import yaml

from litellm_plugin.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

_REFERENCE: Final = "os.environ/"
_INCLUDE: Final = "include"
_INCLUDED_FILES: Final = 100
# litellm/secret_managers/main.py, str_to_bool
_BOOLEANS: Final = {"true": True, "false": False}


def read_config(path: Path) -> dict[str, Any]:
    """Reads a configuration with the files that it includes, as `read_config_files` does.

    Raises:
        ConfigurationError: A file cannot be read, or is no mapping.
    """
    return read_config_files(path)[0]


def read_config_files(path: Path) -> tuple[dict[str, Any], tuple[Path, ...]]:
    """Reads a configuration with the files that it includes; environment references stay as they are.

    Gives the configuration and the files that were read, in their order.

    As in LiteLLM (proxy/common_utils/config_includes.py), a list in an included file lengthens the list of
    that name, and anything else replaces it.

    Raises:
        ConfigurationError: A file cannot be read, or is no mapping.
    """
    config = _read(path)
    pending = [(entry, path) for entry in _includes(config, path)]
    files = [path]
    read = {path.resolve()}
    while pending:
        entry, declared_in = pending.pop(0)
        located = _located(entry, declared_in, path)
        if located.resolve() in read:
            continue
        if len(read) > _INCLUDED_FILES:
            raise ConfigurationError(f"{str(path)!r} includes more than {_INCLUDED_FILES} files")
        read.add(located.resolve())
        files.append(located)
        included = _read(located)
        pending += [(each, located) for each in _includes(included, located)]
        config = _merged(config, included)
    config.pop(_INCLUDE, None)
    return config, tuple(files)


def resolved(config: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """The configuration with each `os.environ/NAME` replaced; a variable that is not set gives None, as at start."""
    return {key: _resolved(value, environment) for key, value in config.items()}


def unset_variables(config: Mapping[str, Any], environment: Mapping[str, str]) -> list[str]:
    """The environment variables that the configuration names and that are not set, each once."""
    return sorted({name for name in _references(config) if name not in environment})


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    # ValueError: an impossible date, or a path with a NUL; RecursionError: lists nested thousands deep.
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{str(path)!r} cannot be read as YAML: {error}") from error
    if not isinstance(document, dict):
        raise ConfigurationError(
            f"{str(path)!r}: a mapping is expected, {type(document).__name__} stands there"
        )
    return document


def _includes(config: Mapping[str, Any], path: Path) -> list[str]:
    entries = config.get(_INCLUDE, [])
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise ConfigurationError(f"{str(path)!r}: `include` is expected to be a list of file paths")
    return entries


def _located(entry: str, declared_in: Path, root: Path) -> Path:
    """Beside the file that names it, else beside the first file."""
    beside = declared_in.parent / entry
    return beside if beside.exists() else root.parent / entry


def _merged(config: dict[str, Any], included: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(config)
    for key, value in included.items():
        own = merged.get(key)
        merged[key] = [*own, *value] if isinstance(own, list) and isinstance(value, list) else value
    return merged


def _resolved(value: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return resolved(value, environment)
    if isinstance(value, list):
        # LiteLLM leaves text in lists as it is.
        return [resolved(each, environment) if isinstance(each, Mapping) else each for each in value]
    if isinstance(value, str) and value.startswith(_REFERENCE):
        found = environment.get(value.removeprefix(_REFERENCE))
        return _BOOLEANS.get(found.strip().lower(), found) if found is not None else None
    return value


def _references(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            if isinstance(inner, Mapping):
                yield from _references(inner)
    elif isinstance(value, str) and value.startswith(_REFERENCE):
        yield value.removeprefix(_REFERENCE)
