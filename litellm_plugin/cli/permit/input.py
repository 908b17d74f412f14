"""The input of the commands: files, standard input, and how a wrong one is told."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.permit import KeyDocumentError

if TYPE_CHECKING:
    from collections.abc import Iterator

STDIN: Final = "-"
UNREADABLE: Final = 2


@contextmanager
def told_errors() -> Iterator[None]:
    """Tells a wrong input on standard error and ends the command with exit code 2."""
    try:
        yield
    except (ConfigurationError, KeyDocumentError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(UNREADABLE) from error


def read_bytes(source: str, what: str, *, limit_bytes: int = -1) -> bytes:
    """The bytes of a file, or of standard input where the source is `-`.

    Args:
        source: A path, or `-`.
        what: What is read; for the error.
        limit_bytes: No more than these are read; all of them by default.

    Raises:
        ConfigurationError: They cannot be read.
    """
    if source == STDIN:
        return sys.stdin.buffer.read(limit_bytes)
    try:
        with Path(source).open("rb") as file:
            return file.read(limit_bytes)
    # ValueError: a path with a NUL.
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(f"{what} {source!r:.200} cannot be read: {why}") from error
