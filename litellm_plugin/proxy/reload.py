"""The reload: takes a changed policy while the proxy runs; a broken change keeps the one in force.

A change is seen by the background task's look at the files, by SIGHUP and by `POST /permit-router/v1/reload`.
Every worker looks for itself, so all of them follow within a period.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import signal
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.proxy.in_force import has_keys, in_force
from litellm_plugin.proxy.shadow import Shadow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

    from litellm_plugin.permit import KeySource
    from litellm_plugin.proxy.egress import EgressTable
    from litellm_plugin.proxy.in_force import InForce
    from litellm_plugin.proxy.policy_loader import LoadedPolicy, PolicyLoader
    from litellm_plugin.proxy.runtime import Runtime
    from litellm_plugin.settings import IssuerBlock, PolicySnapshot

_logger = logging.getLogger("LiteLLM Proxy").getChild("permit_router")

# How long a change waits that only lacked an issuer's keys: their server may be back, the file does not change.
_KEYS_RETRY_S: Final = 10.0
# What of an issuer's block says where its keys come from and how they are read.
_KEY_SETTINGS: Final = {
    "issuer",
    "jwks_url",
    "jwks_file",
    "public_key_file",
    "secret_env",
    "kid",
    "algorithms",
    "allow_http",
    "refresh_seconds",
    "max_stale_seconds",
}


class ReloadResult(enum.StrEnum):
    """What came of a reload."""

    SWAPPED = "swapped"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class ReloadReport:
    """How one reload went.

    Attributes:
        result: What came of it.
        at: When it ended, ISO 8601 in UTC.
        before, after: The hashes of the policy in force.
        error: Why it was refused; it may quote the policy, so it is for the operator alone.
    """

    result: ReloadResult
    at: str
    before: str | None
    after: str | None
    error: str | None = None


class _KeysMissing(ConfigurationError):  # noqa: N818 - a state, not a mistake
    """The keys of an issuer could not be loaded now."""


class Reload:
    """Reads the policy again and puts it in force, one reload at a time.

    Args:
        runtime: What this worker knows; its policy is in force.
        loader: Reads the policy.
        egress: Joins what LiteLLM's configuration names with what a policy clears.
        opened: Makes of a policy what says which of its opened paths are wrong.
    """

    def __init__(
        self,
        runtime: Runtime,
        loader: PolicyLoader,
        *,
        egress: Callable[[PolicySnapshot], EgressTable],
        opened: Callable[[PolicySnapshot], Callable[[], list[str]]],
    ) -> None:
        self._runtime = runtime
        self._loader = loader
        self._egress = egress
        self._opened = opened
        self._seen = loader.signature()
        self._is_asked = False
        self._retry_s: float | None = None
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[ReloadReport] | None = None
        self._report: ReloadReport | None = None
        self._told: str | None = None
        self._counts = dict.fromkeys(map(str, ReloadResult), 0)

    def look(self) -> None:
        """Starts a reload when the files changed or somebody asked for one; one look at each file."""
        if self._task is not None and not self._task.done():
            return
        is_due = self._retry_s is not None and self._runtime.clock.monotonic() >= self._retry_s
        if self._is_asked or is_due or self._loader.signature() != self._seen:
            self._task = asyncio.get_running_loop().create_task(self.run(), name="permit-router-reload")

    async def run(self) -> ReloadReport:
        """Reads the policy again; what is not whole and right changes nothing."""
        async with self._lock:
            self._is_asked, self._retry_s = False, None
            # Before the files are read: what changes while they are is seen at the next look.
            self._seen = self._loader.signature()
            before = self._hash()
            result, error = ReloadResult.REFUSED, None
            try:
                result = await self._swap()
            except ConfigurationError as refused:
                error = str(refused)
                if isinstance(refused, _KeysMissing):
                    self._retry_s = self._runtime.clock.monotonic() + _KEYS_RETRY_S
            except Exception as unforeseen:
                _logger.exception("The reload of the policy failed")
                error = f"{type(unforeseen).__name__}; this worker's log says where"
            at = datetime.fromtimestamp(self._runtime.clock.wall(), UTC).isoformat(timespec="seconds")
            report = ReloadReport(result, at, before, self._hash(), error)
            self._note(report)
            return report

    async def stop(self) -> None:
        """Ends a reload that is under way; the policy in force stays."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def ask(self, *_: object) -> None:
        """Asks for a reload within a period; safe in a signal handler."""
        self._is_asked = True

    def listen(self) -> None:
        """Takes SIGHUP as such a request, and hands it on to whoever took it before; says so where it cannot."""
        number = getattr(signal, "SIGHUP", None)
        if number is None:
            _logger.warning("SIGHUP is not known on this system; the policy's files are watched all the same")
            return
        former = signal.getsignal(number)

        def hear(received: int, frame: FrameType | None) -> None:
            self.ask()
            if callable(former):
                former(received, frame)

        try:
            signal.signal(number, hear)
        except ValueError as error:
            # Python lets the main thread alone set handlers.
            _logger.warning(
                "SIGHUP reloads nothing here (%s); the policy's files are watched all the same", error
            )

    def health(self) -> Mapping[str, object]:
        """What the health answer tells: never what stood in a policy."""
        last = self._report
        return {
            "is_watching": self._loader.is_file,
            "at": last.at if last else None,
            "result": str(last.result) if last else None,
            "error": _PUBLIC_ERROR if last and last.error else None,
            "counts": dict(self._counts),
        }

    def _hash(self) -> str | None:
        policy = self._runtime.policy
        return policy.config_hash if policy else None

    async def _swap(self) -> ReloadResult:
        current = self._runtime.in_force
        if current is None:
            raise ConfigurationError("no policy is in force yet; the proxy's start loads the first one")
        loaded = await asyncio.to_thread(self._loader.load)
        _check_fixed(current.policy, loaded.policy)
        shadow = Shadow(loaded.shadow) if loaded.shadow else None
        if current.hashes == (loaded.policy.config_hash, shadow.config_hash if shadow else None):
            return ReloadResult.UNCHANGED
        made = await self._made(current, loaded)
        if (
            shadow is not None
            and current.shadow is not None
            and shadow.config_hash == current.shadow.config_hash
        ):
            shadow = current.shadow  # its counts go on
        made = replace(made, shadow=shadow)
        await asyncio.to_thread(self._runtime.load_models, made)
        self._runtime.swap(made)
        return ReloadResult.SWAPPED

    async def _made(self, current: InForce, loaded: LoadedPolicy) -> InForce:
        """Makes everything that goes with a policy, with the keys that are loaded already."""
        policy = loaded.policy
        known = dict(zip(map(_keys_of, current.policy.permit.issuers), current.sources, strict=True))
        sources = [
            known.get(_keys_of(block)) or await self._new_source(block) for block in policy.permit.issuers
        ]
        opened = self._opened(policy)
        wrong = opened()
        if wrong:
            raise ConfigurationError("\n".join(wrong))
        return replace(in_force(policy, tuple(sources)), egress=self._egress(policy), opened=opened)

    async def _new_source(self, block: IssuerBlock) -> KeySource:
        """The keys of a new or changed issuer, loaded before anything depends on them.

        Raises:
            ConfigurationError: They cannot be loaded.
        """
        source = await asyncio.to_thread(self._runtime.key_source, block, self._loader.base)
        now_s = self._runtime.clock.monotonic()
        if not has_keys(source, now_s):
            await source.refresh(now_s)
        if not has_keys(source, now_s):
            raise _KeysMissing(f"keys of issuer {block.issuer!r} could not be loaded; they are tried again")
        return source

    def _note(self, report: ReloadReport) -> None:
        self._counts[str(report.result)] += 1
        if report.result is ReloadResult.UNCHANGED and self._report is not None and not self._report.error:
            return
        self._report = report
        if report.error is None:
            if report.result is ReloadResult.SWAPPED:
                _logger.info("The policy was reloaded: %s follows %s", report.after, report.before)
            self._told = None
        elif report.error != self._told:
            self._told = report.error
            _logger.error("The changed policy is refused, the one in force stays: %s", report.error)


_PUBLIC_ERROR: Final = "the changed policy was refused and the one in force stays; the log says why"


def _keys_of(block: IssuerBlock) -> str:
    return block.model_dump_json(include=_KEY_SETTINGS)


def _check_fixed(current: PolicySnapshot, changed: PolicySnapshot) -> None:
    """Refuses a change of what is opened once, at the start.

    Raises:
        ConfigurationError: Names the key.
    """
    if changed.decision_log != current.decision_log:
        raise ConfigurationError(
            "litellm_settings.permit_router.decision_log cannot change while the proxy runs: the log is one chain of "
            "records a worker; restart the proxy for it, or take the change back"
        )
