"""The decision log: one JSON line a record, appended to one file by any number of workers."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import secrets
import stat
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from litellm_plugin.errors import ConfigurationError, RecordNotWritten
from litellm_plugin.records.chain import HashChain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LOGGER = logging.getLogger("LiteLLM Proxy").getChild("permit_router")
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, allow_nan=False)
_ROTATION_CHECK_S = 1.0
_NEWLINE = b"\n"


class DecisionLog(Protocol):
    """Takes records."""

    @property
    def lost(self) -> int:
        """How many records could not be written."""

    def write(self, record: Mapping[str, object]) -> None:
        """Writes one record.

        Raises:
            RecordNotWritten: It could not be written and the operator requires it.
        """

    def close(self) -> None:
        """Releases what the log holds; later records are lost."""


class NullDecisionLog:
    """The log of an operator who wants none."""

    @property
    def lost(self) -> int:
        """Always 0: nothing was to be written."""
        return 0

    def write(self, record: Mapping[str, object]) -> None:
        """Leaves the record out."""

    def close(self) -> None:
        """Does nothing."""


class FileDecisionLog:
    """Appends each record to a file as one line, by one write; safe between threads, forks and processes.

    A rotated or removed file is followed. Lines are not synced to the disk one by one.

    Attributes:
        writer: The name of this process run; chain and all, a fork or a restart begins a new one.

    Raises:
        ConfigurationError: The file cannot be appended to, or is not a regular file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        required: bool,
        chain: bool,
        writer: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._required = required
        self._is_chained = chain
        self._writer_name = writer
        self._is_failing = False
        try:
            self._file = _AppendedFile(Path(path).absolute(), clock)
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"decision_log.file: got {os.fspath(path)!r}, "
                f"expected a regular file that can be created or appended to ({error})"
            ) from error
        self._begin()
        _OPEN_LOGS.add(self)

    @property
    def lost(self) -> int:
        """How many records this process could not write."""
        return self._lost

    def write(self, record: Mapping[str, object]) -> None:
        """Writes one record.

        Raises:
            RecordNotWritten: It could not be written and `required` is set.
        """
        with self._lock:
            try:
                self._append(record)
            # TypeError and ValueError: a value without a JSON form, or a closed log.
            except (OSError, TypeError, ValueError) as error:
                self._lost += 1
                self._note_failure(error)
                if self._required:
                    raise RecordNotWritten(f"decision log {str(self._file.path)!r}: {error}") from error
            else:
                self._note_success()

    def close(self) -> None:
        """Closes the file; later records are lost."""
        with self._lock:
            self._file.close()

    def _begin(self) -> None:
        """Starts a writer of its own; also in a fork, whose copy of the lock may be held for ever."""
        self._lock = threading.Lock()
        # The random part tells runs apart where every container's process has the same id.
        self.writer = f"{self._writer_name}:{os.getpid()}:{secrets.token_hex(4)}"
        self._chain = HashChain(self.writer) if self._is_chained else None
        self._lost = 0

    def _append(self, record: Mapping[str, object]) -> None:
        if self._chain is None:
            self._file.append(_line(record))
            return
        sealed = self._chain.seal(record)
        self._file.append(_line(sealed))
        self._chain.advance(sealed)

    def _note_failure(self, error: Exception) -> None:
        if not self._is_failing:
            self._is_failing = True
            _LOGGER.warning("decision log %s does not take records: %s", self._file.path, error)

    def _note_success(self) -> None:
        if self._is_failing:
            self._is_failing = False
            _LOGGER.info("decision log %s takes records again; %d lost so far", self._file.path, self._lost)


class _AppendedFile:
    """A regular file that whole lines are appended to, followed when it is rotated or removed."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self.path = path
        self._clock = clock
        self._is_closed = False
        self._ends_torn = False
        self._checked_at_s = clock()
        self._descriptor: int | None = self._open()

    def append(self, line: bytes) -> None:
        """Raises OSError when the line is not in the file as a whole, ValueError when the file is closed."""
        descriptor = self._current()
        data = _NEWLINE + line if self._ends_torn else line
        written = os.write(descriptor, data)
        if written:
            self._ends_torn = data[written - 1 : written] != _NEWLINE
        if self._ends_torn:
            self._end_line(descriptor)
        # Without its newline the record itself is whole: calling it lost would give its number away twice.
        if written < len(data) - 1:
            raise OSError(errno.ENOSPC, f"short write, {written} of {len(data)} bytes")

    def close(self) -> None:
        self._is_closed = True
        self._release()

    def _end_line(self, descriptor: int) -> None:
        """Ends a torn line at once, before another process appends to it; else the next line does."""
        with contextlib.suppress(OSError):
            self._ends_torn = os.write(descriptor, _NEWLINE) != 1

    def _current(self) -> int:
        if self._is_closed:
            raise ValueError("the decision log is closed")
        if self._descriptor is not None and self._is_replaced(self._descriptor):
            self._release()
        if self._descriptor is None:
            self._descriptor = self._open()
        return self._descriptor

    def _is_replaced(self, descriptor: int) -> bool:
        opened = os.fstat(descriptor)
        if opened.st_nlink == 0:
            return True
        now = self._clock()
        if now - self._checked_at_s < _ROTATION_CHECK_S:
            return False
        self._checked_at_s = now
        try:
            return not os.path.samestat(opened, self.path.stat())
        except FileNotFoundError:
            return True

    def _open(self) -> int:
        # O_NONBLOCK: a FIFO in the file's place must not hold up the worker until it is refused below.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY
        descriptor = os.open(self.path, flags, 0o600)
        try:
            self._ends_torn = _ends_torn(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _release(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)


def _ends_torn(descriptor: int) -> bool:
    """Whether a crash left the last line without its end; raises OSError unless the file is regular."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    return status.st_size > 0 and os.pread(descriptor, 1, status.st_size - 1) != _NEWLINE


def _line(record: Mapping[str, object]) -> bytes:
    # The encoder leaves U+007F as it is, the only control character it does not escape.
    return _ENCODER.encode(record).replace("\x7f", "\\u007f").encode("ascii") + _NEWLINE


_OPEN_LOGS: weakref.WeakSet[FileDecisionLog] = weakref.WeakSet()


def _begin_in_child() -> None:
    for log in list(_OPEN_LOGS):
        log._begin()  # noqa: SLF001 - this hook is the class's own, and runs before the child has threads


os.register_at_fork(after_in_child=_begin_in_child)
