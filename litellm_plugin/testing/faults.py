"""The fault: one way in which a simulated provider fails or is slow."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping


class FaultKind(enum.StrEnum):
    """What goes wrong."""

    STATUS = "status"
    HANG = "hang"
    CUT = "cut"
    DRIP = "drip"


@dataclass(frozen=True, slots=True)
class Fault:
    """How one request fails; made by `status`, `hang`, `cut` and `drip`.

    Attributes:
        kind: What goes wrong.
        code: HTTP status of `status`.
        retry_after: Value of the Retry-After header of `status`, in seconds or as a date.
        body: Body of `status`; None stands for the provider's own error shape.
        seconds: How long `hang` waits before the headers, or `drip` before each chunk.
        after_chunks: How many chunks `cut` lets through; never all of them.
        location: The base URL that a redirect points to.
    """

    kind: FaultKind
    code: int = 0
    retry_after: float | str | None = None
    body: Mapping[str, Any] | bytes | None = None
    seconds: float = 0.0
    after_chunks: int = 0
    location: str | None = None

    @classmethod
    def redirect(cls, to: str, code: int = 307) -> Self:
        """Answer with a redirect that asks to repeat the request, path and body, at another base URL."""
        return cls(FaultKind.STATUS, code=code, location=to)

    @classmethod
    def status(
        cls,
        code: int,
        retry_after: float | str | None = None,
        body: Mapping[str, Any] | bytes | None = None,
    ) -> Self:
        """Answer with this status and an error body instead of an answer."""
        return cls(FaultKind.STATUS, code=code, retry_after=retry_after, body=body)

    @classmethod
    def hang(cls, seconds: float = 60.0) -> Self:
        """Send nothing, not even headers, for so long or until the client leaves; then answer."""
        return cls(FaultKind.HANG, seconds=seconds)

    @classmethod
    def cut(cls, after_chunks: int = 2) -> Self:
        """Drop the connection after so many chunks of the body, without an end."""
        return cls(FaultKind.CUT, after_chunks=after_chunks)

    @classmethod
    def drip(cls, interval_s: float) -> Self:
        """Wait so long before each chunk of the body."""
        return cls(FaultKind.DRIP, seconds=interval_s)
