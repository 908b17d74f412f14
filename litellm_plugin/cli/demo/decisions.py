"""The decisions: what the demo reads back from the decision log."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from litellm_plugin.records import verify_chain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_WAIT_S: Final = 10.0
_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Decisions:
    """The records of a decision log.

    Attributes:
        by_id: The decision records, by decision id.
        attempts: The attempt records of each decision id, in order.
        lines: How many records there are.
        chain_faults: What is wrong with the hash chain.
    """

    by_id: Mapping[str, Mapping[str, Any]]
    attempts: Mapping[str, tuple[Mapping[str, Any], ...]]
    lines: int
    chain_faults: tuple[str, ...]

    def success(self, decision_id: str | None) -> Mapping[str, Any] | None:
        """The attempt that gave the answer; None when none did."""
        attempts = self.attempts.get(decision_id or "", ())
        return next((attempt for attempt in attempts if attempt["status"] == "success"), None)

    def expected_cost_usd(self, decision_id: str | None) -> float | None:
        """What the first choice was expected to cost; None when there was none, or no price."""
        decision = self.by_id.get(decision_id or "", {})
        first = next((each for each in decision.get("candidates", ()) if each["rank"] == 0), None)
        return None if first is None else first["expected_cost_usd"]


def wait_for_decisions(path: Path, answered: Iterable[str]) -> Decisions:
    """Reads the log once it tells the outcome of every answered decision, or after 10 s as it is.

    Args:
        path: The log.
        answered: The decisions that ended with an answer; LiteLLM reports their cost after it.
    """
    wanted = frozenset(answered)
    deadline_s = time.monotonic() + _WAIT_S
    while True:
        decisions = _read(path)
        if time.monotonic() >= deadline_s or all(decisions.success(each) for each in wanted):
            return decisions
        time.sleep(_POLL_S)


def _read(path: Path) -> Decisions:
    lines = path.read_bytes().splitlines() if path.exists() else []
    report = verify_chain(lines)
    decisions: dict[str, Mapping[str, Any]] = {}
    attempts: dict[str, tuple[Mapping[str, Any], ...]] = {}
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:  # The chain reports a torn line.
            continue
        name = record["decision_id"]
        if record["type"] == "decision":
            decisions[name] = record
        else:
            attempts[name] = (*attempts.get(name, ()), record)
    faults = tuple(f"line {found.line_number}: {found.what}" for found in report.broken)
    return Decisions(decisions, attempts, len(lines), faults)
