"""The table of faults: every one of them under load, at full length.

    python tests/chaos/chaos_table.py [--only C03 ...] [--rate 10] [--seconds 15]

It takes about a quarter of an hour. A row's verdict says what did not hold; the command ends with 1 then. p99 is that
of the requests while the fault lasted, less that of the same load before it. Recovery is from the fault's end until
every worker has read the store again, 0 where it never ceased; C39's is until another proxy serves.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
_TESTS = Path(__file__).parent.parent
sys.path[:0] = [str(_TESTS), str(_TESTS / "enforcement"), str(Path(__file__).parent)]

from chaos_ends import run_ends  # noqa: E402 - found on the path above
from chaos_faults import FAULTS, FIRST  # noqa: E402
from chaos_run import LONG, run, table  # noqa: E402
from chaos_stage import Stage  # noqa: E402


def outcomes(pace, only):
    """The rows, as they come; a name in `only` stands for all that begin with it."""

    def is_wanted(name):
        return not only or name.startswith(tuple(only))

    with tempfile.TemporaryDirectory() as folder:
        faults = [fault for fault in FAULTS if is_wanted(fault.name)]
        if faults or is_wanted(FIRST.name):
            with Stage(_made(folder, "stage"), shifts_clock=True) as stage:
                yield run(stage, FIRST, pace)
                for fault in faults:
                    yield run(stage, fault, pace)
        if any(map(is_wanted, ("C39", "C40", "C42"))):
            yield from run_ends(_made(folder, "ends"), pace)


def _made(folder, name):
    path = Path(folder, name)
    path.mkdir()
    return path


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", default=[], metavar="ID")
    parser.add_argument("--rate", type=float, default=LONG.rate, help="requests a second")
    parser.add_argument("--seconds", type=float, default=LONG.during_s, help="how long a fault lasts")
    given = parser.parse_args()
    # Whoever ends this ends the proxy and the store with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    pace = replace(LONG, rate=given.rate, during_s=given.seconds)
    found = []
    for outcome in outcomes(pace, given.only):
        print(f"{outcome.fault}: {'; '.join(outcome.faults) or 'holds'}", file=sys.stderr, flush=True)  # noqa: T201
        found.append(outcome)
    print("\n".join(table(found)))  # noqa: T201
    return any(outcome.faults for outcome in found)


if __name__ == "__main__":
    sys.exit(main())
