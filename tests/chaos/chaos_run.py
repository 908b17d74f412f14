"""The run: one fault under a steady load, judged at the providers, at the clients and in the proxy's log."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from chaos_load import Load


@dataclass(frozen=True)
class Pace:
    """How hard and how long: requests a second, and seconds before, while and after."""

    rate: float
    before_s: float
    during_s: float
    after_s: float
    keeps_lengths: bool

    def seconds(self, fault):
        return fault.seconds if fault.seconds and self.keeps_lengths else self.during_s


# What the test suite has time for, and what `make chaos` takes.
SHORT = Pace(rate=4, before_s=0.5, during_s=2.5, after_s=0.5, keeps_lengths=False)
LONG = Pace(rate=10, before_s=15, during_s=15, after_s=2, keeps_lengths=True)


@dataclass
class Outcome:
    """One row of the table, and what it is made of."""

    fault: str
    what: str
    requests: int
    denied: list = field(default_factory=list)
    out_of_set: list = field(default_factory=list)
    p99_added_ms: float | None = None
    slowest_s: float = 0.0
    recovery_s: float = 0.0
    lines: list[str] = field(default_factory=list)
    most_lines: int = 0
    tracebacks: str = ""
    is_met: bool = True
    breakers: dict = field(default_factory=dict)
    others: list[str] = field(default_factory=list)

    @property
    def faults(self):
        """What is not as it shall be; empty when all is."""
        checks = {
            "requests": self.requests > 0,
            "the store was read all the while": self.is_met,
            "denied wrongly": not self.denied,
            "out of set": not self.out_of_set,
            "log lines": len(self.lines) <= self.most_lines,
            "unhandled exceptions": not self.tracebacks,
            "a breaker opened": not self.breakers,
        }
        return [*(name for name, holds in checks.items() if not holds), *self.others]


def run(stage, fault, pace):
    """Runs one fault and gives its row; the stage is as it was before."""
    if fault.name != "C01":
        stage.begin()
    told_before = len(stage.fleet.proxy.log_text())
    seconds = pace.seconds(fault)
    with Load(stage.target, pace.rate, leaving=fault.leaving) as load:
        time.sleep(pace.before_s)
        began_s = time.monotonic()
        fault.inject(stage, load, seconds)
        ended_s = time.monotonic()
        recovery_s = stage.recovery_s(ended_s)
        time.sleep(pace.after_s)
    told = stage.fleet.proxy.log_text()[told_before:]
    before = [visit.took_s for visit in load.visits if visit.at_s < began_s]
    during = [visit.took_s for visit in load.visits if began_s <= visit.at_s < ended_s and not visit.leaves]
    added = fault.has_p99 and before and during
    return Outcome(
        fault=fault.name,
        what=fault.what,
        requests=len(load.visits),
        denied=[visit for visit in load.visits if visit.is_denied],
        out_of_set=stage.fleet.out_of_set(),
        p99_added_ms=(p99(during) - p99(before)) * 1000 if added else None,
        slowest_s=max((visit.took_s for visit in load.visits if not visit.leaves), default=0.0),
        recovery_s=recovery_s,
        lines=own_lines(told),
        most_lines=2 * fault.changes(seconds),
        tracebacks=told[told.index("Traceback") :][:4000] if "Traceback" in told else "",
        # The providers never fail, so whatever opens a breaker is a mistake.
        breakers=load.healths[-1][1]["shared_state"]["breakers"]["changes"],
        is_met=not fault.cuts_off or stage.unread_s > seconds - 0.5,
    )


def own_lines(text):
    """What the plugin told LiteLLM's log."""
    return [line for line in text.splitlines() if " Proxy.permit_router:" in line]


def p99(values):
    ordered = sorted(values)
    return ordered[math.ceil(0.99 * len(ordered)) - 1]


def table(outcomes):
    """The rows as text, in the order given."""
    head = (
        "fault",
        "",
        "requests",
        "denied wrongly",
        "out of set",
        "p99 added, ms",
        "recovery, s",
        "verdict",
    )
    rows = [
        (
            outcome.fault,
            outcome.what,
            str(outcome.requests),
            str(len(outcome.denied)),
            str(len(outcome.out_of_set)),
            "-" if outcome.p99_added_ms is None else f"{outcome.p99_added_ms:+.0f}",
            f"{outcome.recovery_s:.1f}",
            "holds" if not outcome.faults else "; ".join(outcome.faults),
        )
        for outcome in outcomes
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, tuple("-" * width for width in widths), *rows]
    return ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines]
