"""The ends: what needs a proxy of its own: two workers, hooks registered twice, and a proxy that dies in a crowd."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

from chaos_faults import Fault, killed
from chaos_load import Load
from chaos_run import Outcome, attempted, run
from chaos_stage import Stage

from litellm_plugin.records import verify_chain

WORKERS = 2
CROWD = 40
TWICE = ["litellm_plugin.permit_router", "other_logger.logger", "litellm_plugin.permit_router"]
# Each worker tells its own log lines.
CROWDED = Fault(
    "C40-C42", "two workers, hooks registered twice", killed, changes=lambda _: 2 * WORKERS, cuts_off=True
)


def run_ends(folder, pace):
    """C39, C40, C42: gives a row for each; the proxy is killed, started again, and told to end."""
    with Stage(folder, workers=WORKERS, callbacks=TWICE) as stage:
        stage.open_store()
        yield attempted(CROWDED.name, stage, lambda: run_workers(stage, pace))
        yield attempted("C39-SIGKILL", stage, lambda: run_end(stage, signal.SIGKILL, pace))
        # In the test suite nothing follows the last end: a start takes its longest.
        is_last = not pace.keeps_lengths
        yield attempted("C39-SIGTERM", stage, lambda: run_end(stage, signal.SIGTERM, pace, is_last=is_last))


def run_workers(stage, pace):
    """C40, C42: the store of two workers is killed; each has connections of its own, each request one decision."""
    outcome = run(stage, CROWDED, pace)
    held = store_connections(stage)
    if len(held) != WORKERS or set.intersection(*held.values()):
        outcome.others.append(f"connections to the store by process: {held}")
    admitted = Counter(
        record["request_id"] for record in stage.fleet.records() if record["type"] == "decision"
    )
    arrived = sum(stage.fleet.calls().values())
    if set(admitted.values()) != {1} or len(admitted) != arrived:
        outcome.others.append(f"{len(admitted)} requests, {admitted.total()} decisions, {arrived} arrivals")
    return outcome


def store_connections(stage):
    """The sockets to the store that each process of the proxy holds, by their inodes."""
    to_store = {
        fields[9]
        for fields in map(str.split, Path("/proc/net/tcp").read_text().splitlines()[1:])
        if fields[2].endswith(f":{stage.server.port:04X}") and fields[3] == "01"
    }
    found = {}
    for pid in group_of(stage.fleet.proxy.pid):
        links = (str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir())
        held = {link[8:-1] for link in links if link.startswith("socket:[")} & to_store
        if held:
            found[pid] = held
    return found


def group_of(leader):
    """The processes of a group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if int(fields[2]) == leader and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def run_end(stage, number, pace, *, is_last=False):
    """C39: the proxy ends while a crowd's records are being written; another takes its place and its log, if any does.

    Requests that the end cut off have no answer, and are not denied.
    """
    stage.begin()
    with Load(stage.target, pace.rate) as load:
        time.sleep(pace.before_s)
        load.burst(CROWD)
        recorded = len(stage.fleet.records())
        stage.fleet.wait_for(lambda: len(stage.fleet.records()) > recorded + CROWD // 4)
        ended_s = time.monotonic()
        os.killpg(stage.fleet.proxy.pid, number)
        stage.fleet.proxy.wait_exit()
    left = verify_chain(stage.fleet.log_path.read_bytes().splitlines())
    later, recovery_s = ([], 0.0) if is_last else served_on(stage, pace, ended_s)
    whole = verify_chain(stage.fleet.log_path.read_bytes().splitlines())
    told = {record["request_id"] for record in stage.fleet.records()}
    answered = [visit for visit in load.visits if visit.status is not None]
    return Outcome(
        fault=f"C39-{number.name}",
        what=f"the proxy gets {number.name} with a crowd inside",
        requests=len(load.visits) + len(later),
        denied=[visit for visit in (*answered, *later) if visit.is_denied],
        out_of_set=stage.fleet.out_of_set(),
        recovery_s=recovery_s,
        others=[
            *(f"the log's chain: {broken}" for broken in (*left.broken, *whole.broken)),
            *(f"{v.request_id} was answered without a record" for v in answered if v.request_id not in told),
        ],
    )


def served_on(stage, pace, ended_s):
    """Another proxy in the ended one's place: what was sent to it, and how long nobody served, in seconds."""
    stage.restart()
    recovery_s = time.monotonic() - ended_s
    with Load(stage.target, pace.rate) as load:
        time.sleep(pace.after_s)
    return load.visits, recovery_s
