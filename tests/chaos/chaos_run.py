"""The run: one fault under a steady load, judged at the providers, at the clients and in the proxy's log."""

from __future__ import annotations

import math
import statistics
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


@dataclass(frozen=True)
class Added:
    """How much longer requests took while a fault lasted than under the same load before it, in milliseconds.

    Attributes:
        p50: The median of whole requests.
        p99: Of whole requests.
        own_p99: Of what the plugin itself took, by its own records.
    """

    p50: float
    p99: float
    own_p99: float | None


@dataclass
class Outcome:
    """One row of the table, and what it is made of."""

    fault: str
    what: str
    requests: int
    denied: list = field(default_factory=list)
    out_of_set: list = field(default_factory=list)
    added: Added | None = None
    slowest_s: float = 0.0
    recovery_s: float = 0.0
    lines: list[str] = field(default_factory=list)
    most_lines: int = 0
    tracebacks: str = ""
    is_met: bool = True
    breakers: dict = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def details(self):
        """What a failed test shows: whole, where pytest would cut it."""
        return "\n".join(
            [
                *self.faults,
                *(
                    f"denied {v.request_id}, {v.endpoints}: {v.status} {v.error} {v.text}"
                    for v in self.denied
                ),
                *(f"out of set: {each}" for each in self.out_of_set),
                *self.lines,
                self.tracebacks,
            ]
        )

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
    before = [visit for visit in load.visits if visit.at_s < began_s]
    during = [visit for visit in load.visits if began_s <= visit.at_s < ended_s and not visit.leaves]
    is_compared = fault.has_p99 and before and during
    return Outcome(
        fault=fault.name,
        what=fault.what,
        requests=len(load.visits),
        denied=[visit for visit in load.visits if visit.is_denied],
        out_of_set=stage.fleet.out_of_set(),
        added=_added(before, during, _own_ms(stage)) if is_compared else None,
        slowest_s=max((visit.took_s for visit in load.visits if not visit.leaves), default=0.0),
        recovery_s=recovery_s,
        lines=own_lines(told),
        most_lines=2 * fault.changes(seconds),
        tracebacks=told[told.index("Traceback") :][:4000] if "Traceback" in told else "",
        # The providers never fail, so whatever opens a breaker is a mistake.
        breakers=load.healths[-1][1]["shared_state"]["breakers"]["changes"],
        is_met=not fault.cuts_off or stage.unread_s > seconds - 0.5,
    )


def attempted(fault, stage, act):
    """The row that `act` gives; one that says what went wrong where it gives none, and then the store is put back."""
    try:
        return act()
    except Exception as error:  # noqa: BLE001 - whatever went wrong with one row, the others are run
        stage.restore()
        return failed(fault, error)


def failed(fault, error):
    first, _, rest = f"{type(error).__name__}: {error}".partition("\n")
    return Outcome(fault, "it went wrong", requests=0, tracebacks=rest, others=[first])


def _added(before, during, own_ms):
    took = [[visit.took_s * 1000 for visit in visits] for visits in (before, during)]
    own = [[own_ms[v.request_id] for v in visits if v.request_id in own_ms] for visits in (before, during)]
    return Added(
        p50=statistics.median(took[1]) - statistics.median(took[0]),
        p99=p99(took[1]) - p99(took[0]),
        own_p99=p99(own[1]) - p99(own[0]) if all(own) else None,
    )


def _own_ms(stage):
    """How long the plugin took with each request until its first decision, in milliseconds."""
    decisions = [record for record in stage.fleet.records() if record["type"] == "decision"]
    return {record["request_id"]: sum(record["timings_ms"].values()) for record in reversed(decisions)}


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
        "median added, ms",
        "p99 added, ms",
        "p99 added in the plugin, ms",
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
            *_added_columns(outcome.added),
            f"{outcome.recovery_s:.1f}",
            "holds" if not outcome.faults else "; ".join(outcome.faults),
        )
        for outcome in outcomes
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, tuple("-" * width for width in widths), *rows]
    return ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines]


def _added_columns(added):
    if added is None:
        return ("-", "-", "-")
    return (
        f"{added.p50:+.0f}",
        f"{added.p99:+.0f}",
        "-" if added.own_p99 is None else f"{added.own_p99:+.2f}",
    )
