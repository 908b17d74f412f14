"""Where an issuer's keys come from: a file, a URL, or a set that is given once.

A request reads `current`, which never waits. One background task of the caller asks `is_due` and
awaits `refresh`; whatever goes wrong there, the last good keys stay until they are too old.
"""

from __future__ import annotations

import abc
import asyncio
import enum
import ipaddress
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

import httpx

from litellm_plugin.errors import ConfigurationError, KeysUnavailable
from litellm_plugin.permit.keys import (
    MAX_KEY_DOCUMENT_BYTES,
    KeyDocumentError,
    KeySet,
    parse_jwks,
    parse_pem,
)

if TYPE_CHECKING:
    from pathlib import Path

_logger = logging.getLogger("LiteLLM Proxy").getChild("permit_router")

_FIRST_LOAD_RETRY_S: Final = 2.0
_HTTP_OK: Final = 200


class KeyFormat(enum.StrEnum):
    """How a file holds keys."""

    JWKS = "jwks"
    PEM = "pem"


@dataclass(frozen=True, slots=True)
class RefreshTimes:
    """How often keys are loaded, how long that may take and how long they count; all in seconds.

    Attributes:
        interval_s: From one load to the next.
        max_stale_s: The age at which the last good keys stop counting.
        cooldown_s: The least time between two early loads for an unknown `kid`, and between retries.
        timeout_s: The longest that one fetch may take in all.
    """

    interval_s: float = 300.0
    max_stale_s: float = 3_600.0
    cooldown_s: float = 30.0
    timeout_s: float = 5.0


class KeySource(Protocol):
    """The keys of one issuer, kept current by somebody else than the request."""

    def current(self, now_s: float) -> KeySet:
        """The keys that count now; never waits.

        Raises:
            KeysUnavailable: They were never loaded, or are older than `max_stale_s`.
        """

    async def refresh(self, now_s: float) -> None:
        """Load the keys; on any failure the last good ones stay."""

    def note_unknown_kid(self, now_s: float) -> None:
        """Wish for an early refresh; counts at most once per cooldown."""

    def is_due(self, now_s: float) -> bool:
        """Whether `refresh` should be awaited now."""

    def age_s(self, now_s: float) -> float | None:
        """Seconds since the keys were last loaded; None when they never were."""


class StaticKeys:
    """Keys that are given once and never age, such as the secret of a symmetric issuer."""

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys

    def current(self, now_s: float) -> KeySet:  # noqa: ARG002 - the protocol's signature
        """The keys that were given."""
        return self._keys

    async def refresh(self, now_s: float) -> None:
        """Nothing to load."""

    def note_unknown_kid(self, now_s: float) -> None:
        """Nothing to wish for."""

    def is_due(self, now_s: float) -> bool:  # noqa: ARG002 - the protocol's signature
        """Never."""
        return False

    def age_s(self, now_s: float) -> float | None:  # noqa: ARG002 - the protocol's signature
        """Always fresh."""
        return 0.0


class _LoadedKeys(abc.ABC):
    """The last good keys and the moments that decide when to load again."""

    def __init__(self, issuer: str, times: RefreshTimes) -> None:
        self._issuer = issuer
        self._times = times
        self._keys: KeySet | None = None
        self._loaded_s: float | None = None
        self._attempted_s: float | None = None
        self._wished_s: float | None = None
        self._is_wished = False
        self._is_failing = False

    @abc.abstractmethod
    async def _fetch(self) -> KeySet:
        """Load the keys from where they are; raise whatever goes wrong."""

    def current(self, now_s: float) -> KeySet:
        """The last good keys; never waits.

        Raises:
            KeysUnavailable: They were never loaded, or are older than `max_stale_s`.
        """
        age_s = self.age_s(now_s)
        if self._keys is None or age_s is None or age_s > self._times.max_stale_s:
            raise KeysUnavailable(self._issuer)
        return self._keys

    def age_s(self, now_s: float) -> float | None:
        """Seconds since the keys were last loaded; None when they never were."""
        return None if self._loaded_s is None else now_s - self._loaded_s

    def note_unknown_kid(self, now_s: float) -> None:
        """Wish for an early refresh; counts at most once per cooldown."""
        if self._wished_s is None or now_s - self._wished_s >= self._times.cooldown_s:
            self._wished_s = now_s
            self._is_wished = True

    def is_due(self, now_s: float) -> bool:
        """Whether the keys were never asked for, an early refresh is wished, or the interval is over."""
        if self._attempted_s is None or self._is_wished:
            return True
        wait_s = self._times.interval_s
        if self._is_failing:
            wait_s = min(wait_s, self._times.cooldown_s)
        if self._keys is None:
            # Nothing is served until the first load, so it is worth asking often.
            wait_s = min(wait_s, _FIRST_LOAD_RETRY_S)
        return now_s - self._attempted_s >= wait_s

    async def refresh(self, now_s: float) -> None:
        """Load the keys; on any failure the last good ones stay, and the change is logged once."""
        self._attempted_s = now_s
        self._is_wished = False
        try:
            keys = await self._fetch()
        except Exception as error:  # noqa: BLE001 - the outer guard of a background task
            self._note_failure(error)
        else:
            self._store(keys, now_s)

    def _store(self, keys: KeySet, now_s: float) -> None:
        if self._keys is None or self._is_failing:
            _logger.info("keys of issuer %r are loaded: %d", self._issuer, len(keys.keys))
        if keys.skipped and (self._keys is None or keys.skipped != self._keys.skipped):
            _logger.warning(
                "%d keys of issuer %r cannot be used: %s",
                len(keys.skipped),
                self._issuer,
                "; ".join(keys.skipped)[:500],
            )
        self._keys = keys
        self._attempted_s = self._loaded_s = now_s
        self._is_failing = False

    def _note_failure(self, error: Exception) -> None:
        if not self._is_failing:
            _logger.warning(
                "keys of issuer %r could not be loaded; %s: %s",
                self._issuer,
                "its permits are refused until they are"
                if self._keys is None
                else f"the last good ones count for {self._times.max_stale_s:g} s at most",
                # A foreign message may quote the URL, and with it a password.
                error if isinstance(error, KeyDocumentError) else type(error).__name__,
            )
        self._is_failing = True


class FileKeys(_LoadedKeys):
    """Keys in a file that is read again at every refresh.

    Args:
        path: A JSON Web Key Set, or one public key in PEM form; at most 256 KiB.
        key_format: Which of the two.
        issuer: Whose keys they are; for errors and logs.
        algorithms: The issuer's allow-list of JOSE names.
        kid: The id of a PEM key; a JSON Web Key Set names its own.
        times: When to read again.
    """

    def __init__(
        self,
        path: Path,
        key_format: KeyFormat,
        *,
        issuer: str,
        algorithms: frozenset[str],
        kid: str | None = None,
        times: RefreshTimes = RefreshTimes(),
    ) -> None:
        super().__init__(issuer, times)
        self._path = path
        self._format = key_format
        self._algorithms = algorithms
        self._kid = kid

    def load(self, now_s: float) -> None:
        """Read the file at once, for the start.

        Raises:
            KeyDocumentError: The file cannot be read, or holds no usable key.
        """
        self._store(self._read(), now_s)

    async def _fetch(self) -> KeySet:
        return await asyncio.to_thread(self._read)

    def _read(self) -> KeySet:
        try:
            with self._path.open("rb") as file:
                data = file.read(MAX_KEY_DOCUMENT_BYTES + 1)
        except OSError as error:
            raise KeyDocumentError(f"{self._path}: {error.strerror}") from error
        match self._format:
            case KeyFormat.JWKS:
                return parse_jwks(data, self._algorithms)
            case KeyFormat.PEM:
                return parse_pem(data, self._algorithms, kid=self._kid)


class UrlKeys(_LoadedKeys):
    """A JSON Web Key Set behind a URL; empty until the first refresh.

    A fetch takes `timeout_s` and 256 KiB at most, follows no redirect and accepts no content encoding.

    Args:
        url: Must be https, unless the host is loopback or `allow_http` is set.
        issuer: Whose keys they are; for errors and logs.
        algorithms: The issuer's allow-list of JOSE names.
        times: When to fetch again.
        allow_http: Whether plain http is accepted from any host.

    Raises:
        ConfigurationError: The URL is not one that keys may come from.
    """

    def __init__(
        self,
        url: str,
        *,
        issuer: str,
        algorithms: frozenset[str],
        times: RefreshTimes = RefreshTimes(),
        allow_http: bool = False,
    ) -> None:
        super().__init__(issuer, times)
        _refuse_unsafe_url(url, issuer, allow_http=allow_http)
        self._url = url
        self._algorithms = algorithms
        # Loading the trust store blocks for tens of milliseconds: once, not at every refresh.
        self._tls = httpx.create_ssl_context()

    async def _fetch(self) -> KeySet:
        timeout_s = self._times.timeout_s
        async with (
            asyncio.timeout(timeout_s),
            httpx.AsyncClient(verify=self._tls, timeout=timeout_s, follow_redirects=False) as client,
            client.stream("GET", self._url, headers={"accept-encoding": "identity"}) as response,
        ):
            return parse_jwks(await _read_bounded(response), self._algorithms)


async def _read_bounded(response: httpx.Response) -> bytes:
    if response.status_code != _HTTP_OK:
        raise KeyDocumentError(f"the answer has status {response.status_code}, expected {_HTTP_OK}")
    # A compressed answer could unpack to any size.
    if response.headers.get("content-encoding", "identity") != "identity":
        raise KeyDocumentError("the answer is compressed")
    data = bytearray()
    async for chunk in response.aiter_raw():
        data += chunk
        if len(data) > MAX_KEY_DOCUMENT_BYTES:
            raise KeyDocumentError(f"longer than {MAX_KEY_DOCUMENT_BYTES} bytes")
    return bytes(data)


def _refuse_unsafe_url(url: str, issuer: str, *, allow_http: bool) -> None:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host and parts.scheme == "https":
        return
    if host and parts.scheme == "http" and (allow_http or _is_loopback(host)):
        return
    raise ConfigurationError(
        f"the key URL of issuer {issuer!r}: expected https (plain http only to a loopback host, "
        f"or with allow_http), got scheme {parts.scheme[:20]!r}"
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
