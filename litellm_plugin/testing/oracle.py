"""The ledger: which endpoints each prompt was permitted to reach, judged at the providers."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from litellm_plugin.testing.providers import RecordedRequest, RecordingProvider

# What `marker` gives is found by its form: a search for each known marker would take the square of a long run's time.
_OWN: Final = re.compile(rb"marker-[0-9a-f]{32}")


def marker() -> str:
    """Return a fresh string to put into one prompt; it survives JSON encoding unchanged."""
    return f"marker-{uuid.uuid4().hex}"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What reached the providers.

    Attributes:
        arrivals: How many requests the providers recorded.
        out_of_set: The requests that no permit allowed at the endpoint they reached.
        by_marker: For each marker that arrived, the endpoints it reached, in order of arrival.
    """

    arrivals: int
    out_of_set: tuple[RecordedRequest, ...]
    by_marker: dict[str, list[str]]


class Ledger:
    """Maps each prompt's marker to the endpoints that its permit names."""

    def __init__(self) -> None:
        self._permits: dict[str, frozenset[str]] = {}
        self._others: list[str] = []

    def allow(self, marker: str, endpoints: Iterable[str]) -> None:
        """Record that the prompt carrying `marker` may reach `endpoints` and no others.

        Raises:
            ValueError: The marker is empty, known already, or part of another one, so that a request
                could not be told from another.
        """
        if not marker:
            raise ValueError("expected a marker, got an empty string")
        is_own = _OWN.fullmatch(marker.encode(errors="replace")) is not None
        # Two of one form and length are part of each other only where they are the same.
        rivals = [*self._others, marker] if is_own else list(self._permits)
        for known in rivals:
            if known in self._permits and (marker in known or known in marker):
                raise ValueError(f"marker {marker!r} cannot be told from {known!r}")
        if not is_own:
            self._others.append(marker)
        self._permits[marker] = frozenset(endpoints)

    def judge(self, providers: Iterable[RecordingProvider]) -> Judgement:
        """Compare every request that the providers recorded with the permits.

        A request is inside its set when its raw body carries at least one known marker and every known
        marker in it names the endpoint; a request without a known marker is out of set.
        """
        requests = sorted(
            (request for provider in providers for request in provider.requests),
            key=lambda request: request.at,
        )
        out_of_set = []
        by_marker: dict[str, list[str]] = {}
        for request in requests:
            found = self._markers_in(request.body)
            for known in found:
                by_marker.setdefault(known, []).append(request.endpoint)
            if not found or any(request.endpoint not in self._permits[known] for known in found):
                out_of_set.append(request)
        return Judgement(len(requests), tuple(out_of_set), by_marker)

    def _markers_in(self, body: bytes) -> list[str]:
        own = dict.fromkeys(found.decode() for found in _OWN.findall(body))
        return [
            *(found for found in own if found in self._permits),
            *(known for known in self._others if known.encode() in body),
        ]
