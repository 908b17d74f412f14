"""The table of faults: every one of them under load, at full length.

    python tests/chaos/chaos_table.py [--only C03 ...] [--rate 10] [--seconds 15] [--crowd 10000]

A row's verdict says what did not hold; the command ends with 1 then. What is added is the figure of the requests while
the fault lasted, less that of the same load before it: of whole requests, and of what the plugin took by its own
records. The row "none" is such a difference without any fault. Recovery is from the fault's end until every worker
has read the store again, 0 where it never ceased; C39's is until another proxy serves.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
_TESTS = Path(__file__).parent.parent
sys.path[:0] = [str(_TESTS), str(_TESTS / "enforcement"), str(Path(__file__).parent)]

from chaos_crowd import run_crowd  # noqa: E402 - found on the path above
from chaos_ends import run_ends  # noqa: E402
from chaos_faults import FAULTS, FIRST  # noqa: E402
from chaos_run import LONG, attempted, failed, run, table  # noqa: E402
from chaos_stage import Stage  # noqa: E402

CROWD = 10_000


def outcomes(pace, only, crowd):
    """The rows, as they come; a name in `only` stands for all that begin with it."""

    def is_wanted(name):
        return not only or name.startswith(tuple(only))

    parts = (
        ((FIRST.name, *(fault.name for fault in FAULTS)), lambda folder: run_store(folder, pace, is_wanted)),
        (("C39", "C40", "C42"), lambda folder: run_ends(folder, pace)),
        (("C13-SINGLE-USE", "C38"), lambda folder: run_crowd(folder, pace, crowd)),
    )
    with tempfile.TemporaryDirectory() as folder:
        for number, (names, begin) in enumerate(parts):
            if any(map(is_wanted, names)):
                yield from whole(names[-1], begin(_made(folder, str(number))))


def run_store(folder, pace, is_wanted):
    with Stage(folder, shifts_clock=True) as stage:
        # The store is down until this one ends.
        yield attempted(FIRST.name, stage, lambda: run(stage, FIRST, pace))
        for fault in FAULTS:
            if is_wanted(fault.name):
                yield attempted(fault.name, stage, lambda fault=fault: run(stage, fault, pace))


def whole(name, rows):
    """The rows of a part; one more where its stage could not be set up, or taken down."""
    try:
        yield from rows
    except Exception as error:  # noqa: BLE001 - whatever went wrong with one part, the others are run
        yield failed(name, error)


def _made(folder, name):
    path = Path(folder, name)
    path.mkdir()
    return path


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", default=[], metavar="ID")
    parser.add_argument("--rate", type=float, default=LONG.rate, help="requests a second")
    parser.add_argument("--seconds", type=float, default=LONG.during_s, help="how long a fault lasts")
    parser.add_argument("--crowd", type=int, default=CROWD, help="how many come at once in C38")
    given = parser.parse_args()
    # Whoever ends this ends the proxy and the store with it.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    pace = replace(LONG, rate=given.rate, during_s=given.seconds)
    found = []
    began_s = time.monotonic()
    for outcome in outcomes(pace, given.only, given.crowd):
        after_s = time.monotonic() - began_s
        said = "; ".join(outcome.faults) or "holds"
        print(f"{after_s:.0f} s, {outcome.fault}: {said}", file=sys.stderr, flush=True)  # noqa: T201
        if outcome.faults:
            print(outcome.details[:20_000], file=sys.stderr, flush=True)  # noqa: T201
        found.append(outcome)
    print("\n".join(table(found)))  # noqa: T201
    for outcome in found:
        if outcome.notes:
            print(f"\n{outcome.fault}: {'; '.join(outcome.notes)}.")  # noqa: T201
    return any(outcome.faults for outcome in found)


if __name__ == "__main__":
    sys.exit(main())
