"""The policy loader: reads the policy and its shadow from their files again, and says when these changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.proxy.config_file import read_config_files, resolved
from litellm_plugin.proxy.selfcheck import read_policy, read_shadow
from litellm_plugin.settings import policy_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from litellm_plugin.settings import Flags, PolicySnapshot

Signature: TypeAlias = tuple[tuple[str, tuple[int, int, int] | None], ...]
"""Each file with its time of change in ns, its size and its inode; None for one that is not there."""


@dataclass(frozen=True, slots=True)
class LoadedPolicy:
    """A policy that was validated in full, and its shadow.

    Attributes:
        policy: The policy.
        shadow: The second policy, which is only computed; None without.
    """

    policy: PolicySnapshot
    shadow: PolicySnapshot | None


class PolicyLoader:
    """Reads the policy as the start did; LiteLLM's own settings stay those of the start.

    Args:
        config: LiteLLM's whole configuration as it was loaded, environment references resolved.
        path: LiteLLM's YAML; None when its configuration came from elsewhere.
        flags: The environment flags of the start.
        base: The folder that relative paths are taken from.
        environment: Where references of LiteLLM's YAML are looked up.
        forgive: Takes faults of LiteLLM's own settings that do not stop a start which enforces nothing; None
            where they are errors.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        path: Path | None,
        flags: Flags,
        base: Path,
        environment: Mapping[str, str],
        forgive: Callable[[str], None] | None = None,
    ) -> None:
        self._config = dict(config)
        self._path = path
        self._flags = flags
        self._base = base
        self._environment = environment
        self._forgive = forgive
        self._files: tuple[Path, ...] = ()
        self._shadow: str | None = None
        self._follow(_block(config), _files(path) if flags.policy is None else ())

    @property
    def base(self) -> Path:
        """The folder that relative paths are taken from."""
        return self._base

    @property
    def is_file(self) -> bool:
        """Whether there is a file to read again."""
        return bool(self._files)

    def start(self) -> LoadedPolicy:
        """The policy of the configuration that LiteLLM loads at its start.

        Raises:
            ConfigurationError: All faults of the block and of the configuration, a line each.
        """
        return self._read(self._config, _files(self._path) if self._flags.policy is None else ())

    def load(self) -> LoadedPolicy:
        """Reads the files again; it may take a second, so not where requests are served.

        Raises:
            ConfigurationError: There is no file, or what it says is wrong.
        """
        if not self._files:
            raise ConfigurationError(
                "LiteLLM's configuration comes from no file here, so there is nothing to read again; "
                "PERMIT_ROUTER_POLICY names a policy file"
            )
        if self._flags.policy is not None or self._path is None:
            return self._read(self._config)
        document, read = read_config_files(self._path)
        block = _block(resolved(document, self._environment))
        settings = {**_section(self._config), "permit_router": block}
        return self._read({**self._config, "litellm_settings": settings}, read)

    def signature(self) -> Signature:
        """What tells a changed file from an unchanged one; one look at each."""
        return tuple((str(path), _stamp(path)) for path in self._files)

    def _read(self, config: Mapping[str, Any], read: tuple[Path, ...] = ()) -> LoadedPolicy:
        try:
            policy = read_policy(config, self._flags, base=self._base, forgive=self._forgive)
            self._shadow = policy.shadow
        finally:
            # A table may be all that is wrong: it is watched from here on.
            self._follow(_block(config), read)
        return LoadedPolicy(policy, read_shadow(policy, config, self._flags, base=self._base))

    def _follow(self, block: object, read: tuple[Path, ...]) -> None:
        """Notes which files the policy and its tables stand in; a shadow stays noted until a policy without it was read."""
        named = [*read, *policy_files(block, self._flags, base=self._base)]
        if self._shadow is not None:
            own = self._flags.model_copy(update={"policy": None})
            named.extend(policy_files(self._shadow, own, base=self._base))
        self._files = tuple(dict.fromkeys(named))


def _block(config: Mapping[str, Any]) -> object:
    return _section(config).get("permit_router")


def _section(config: Mapping[str, Any]) -> Mapping[str, Any]:
    section = config.get("litellm_settings")
    return section if isinstance(section, Mapping) else {}


def _files(path: Path | None) -> tuple[Path, ...]:
    """LiteLLM's YAML with what it includes; by itself where that cannot be read now."""
    if path is None:
        return ()
    try:
        return read_config_files(path)[1]
    except ConfigurationError:
        return (path,)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
