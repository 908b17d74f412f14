"""The faults: what is done to the store, the proxy and its clients while requests go on, by real means where there are.

Each takes the stage, the load and how many seconds it lasts, and ends with everything as it was before.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chaos_stage import PREFIX
from redis import Redis
from valkey_process import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

BEAT_S = 0.5
REVOKED = tuple(f"{PREFIX}revoked:{kind}" for kind in ("jti", "kid", "policy_version"))
GARBAGE = ("", "not a number", "NaN", '{"truncated": [1, 2', '{"schema": 99}', "\x00\xff", "9" * 400)
ABSURD = ("-1", "-9223372036854775808", "9223372036854775807", "nan", "inf", "-inf", "1e308", "0x10")
NEVER = "permit-router-chaos"
FILLERS = 1000
SLOTS = 16_384
MEET_S = 30.0


def nothing(stage, load, seconds):
    """Shows how much two stretches of the same load differ by themselves."""
    stage.hold(seconds)


def down(stage, load, seconds):
    """C01: begins before the store was ever there; only the first on a stage can be this one."""
    try:
        stage.hold(seconds)
    finally:
        stage.open_store()


def killed(stage, load, seconds):
    stage.server.stop()
    try:
        stage.hold(seconds)
    finally:
        stage.server.start()


def hung(stage, load, seconds):
    stage.server.hang()
    try:
        stage.hold(seconds)
    finally:
        stage.server.go_on()


def slow(stage, load, seconds):
    with stage.relayed() as relay:
        relay.delay_s = 0.2
        stage.hold(seconds)


def flapping(stage, load, seconds):
    for _ in range(max(1, round(seconds / 2))):
        killed(stage, load, 1.0)
        time.sleep(1.0)


def spoilt_keys(stage, load, seconds):
    """Whatever stands under the prefix becomes something else, again and again."""
    kinds = itertools.cycle(("string", "list", "hash", "text"))
    with stage.admin() as client:
        for _ in _beats(stage, seconds):
            for key in {*client.scan_iter(f"{PREFIX}*"), *(name.encode() for name in REVOKED)}:
                _spoil(client, key, next(kinds))
        client.delete(*REVOKED)


def _spoil(client, key, kind):
    fields = client.hkeys(key) if client.type(key) == b"hash" else [b"field"]
    ttl_ms = client.pttl(key)
    if kind != "text":
        client.delete(key)
    match kind:
        case "string":
            client.set(key, GARBAGE[3])
        case "list":
            client.rpush(key, *GARBAGE)
        case _:
            worth = itertools.cycle(GARBAGE)
            if client.type(key) in {b"hash", b"none"}:
                client.hset(key, mapping={field: next(worth) for field in fields})
    client.pexpire(key, ttl_ms if ttl_ms > 0 else 60_000)


def absurd_values(stage, load, seconds):
    """Another tenant of the server writes numbers that no worker would."""
    with stage.admin() as client:
        for _ in _beats(stage, seconds):
            for key in client.scan_iter(f"{PREFIX}*"):
                if client.type(key) == b"hash":
                    worth = itertools.cycle(ABSURD)
                    client.hset(key, mapping={field: next(worth) for field in client.hkeys(key)})
            for name in REVOKED:
                client.zadd(name, {f"{NEVER}-{n}": v for n, v in enumerate((1e308, float("inf"), -1e308))})
                client.zadd(name, {"no id: \x00\n": 1e12})
        client.delete(*REVOKED)


def foreign_version(stage, load, seconds):
    """A newer and an older version of the plugin keep keys of their own beside ours."""
    with stage.admin() as client:
        for _ in _beats(stage, seconds):
            for key in [key for key in client.scan_iter(f"{PREFIX}*") if b"}:v1:" in key]:
                for version in (b"}:v0:", b"}:v2:"):
                    client.hset(key.replace(b"}:v1:", version), mapping=dict.fromkeys(GARBAGE[:4], "1e308"))
            client.hset(f"{PREFIX}{{state}}:v2:latency:eu-a-1", mapping={"schema": "2", "p95": "1e308"})
            client.set(f"{PREFIX}{{state}}:v0:breaker", "open")


def out_of_memory(stage, load, seconds):
    with stage.admin() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1")
        try:
            stage.hold(seconds)
        finally:
            client.config_set("maxmemory", "0")


def read_only(stage, load, seconds):
    with stage.admin() as client:
        client.replicaof("127.0.0.1", "1")
        try:
            stage.hold(seconds)
        finally:
            client.replicaof("NO", "ONE")


def without_master(stage, load, seconds):
    with stage.admin() as client:
        client.config_set("replica-serve-stale-data", "no")
        try:
            read_only(stage, load, seconds)
        finally:
            client.config_set("replica-serve-stale-data", "yes")


def loading(stage, load, seconds):
    """A restart with so much to load that it takes the whole time."""
    with stage.admin() as client:
        client.mset({f"filler:{n}": "x" * 1024 for n in range(FILLERS)})
        client.save()
    delay_us = round(seconds * 1e6 / FILLERS)
    with stage.restarted(**{"key-load-delay": delay_us, "loading-process-events-interval-bytes": 1024}):
        stage.hold(seconds)


def without_slots(stage, load, seconds):
    with stage.restarted(**_cluster()):
        stage.hold(seconds)


def slots_elsewhere(stage, load, seconds):
    with stage.beside(**_cluster()) as behind, stage.restarted(**_cluster()), stage.admin() as client:
        _join(client, behind, owner=behind)
        stage.hold(seconds)


def slots_on_the_move(stage, load, seconds):
    """Every slot of ours moves to another node, and what stood there is there already."""
    with stage.beside(**_cluster()) as behind, stage.restarted(**_cluster()), stage.admin() as client:
        target = _join(client, behind, owner=stage.server)
        keys = (f"{PREFIX}{{state}}", *REVOKED)
        for slot in {client.execute_command("CLUSTER", "KEYSLOT", key) for key in keys}:
            for key in client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000):
                client.delete(key)
            client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target)
        stage.hold(seconds)


def _cluster():
    return {"cluster-enabled": "yes", "cluster-port": free_port(), "cluster-require-full-coverage": "no"}


def _join(client, behind, owner):
    """Makes both servers one Cluster, all of whose slots are the owner's; gives the other's node id."""
    with Redis.from_url(behind.url, socket_timeout=10) as other:
        holder = other if owner is behind else client
        holder.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
        bus = other.config_get("cluster-port")["cluster-port"]
        client.execute_command("CLUSTER", "MEET", "127.0.0.1", behind.port, bus)
        end_s = time.monotonic() + MEET_S
        while not all(_knows_slots(each) for each in (client, other)):
            assert time.monotonic() < end_s, "the nodes did not meet"
            time.sleep(0.05)
        return other.execute_command("CLUSTER", "MYID")


def _knows_slots(client):
    info = client.execute_command("CLUSTER", "INFO")
    text = info if isinstance(info, dict) else dict(line.split(":") for line in info.decode().split())
    return int(text["cluster_slots_assigned"]) == SLOTS and int(text["cluster_known_nodes"]) == 2


def answering(error):
    def refusing(stage, load, seconds):
        with stage.relayed() as relay:
            relay.error = error
            stage.hold(seconds)

    return refusing


def scripts_flushed(stage, load, seconds):
    with stage.admin() as client:
        for _ in _beats(stage, seconds):
            client.script_flush()


def scripts_forbidden(stage, load, seconds):
    with stage.admin() as client:
        client.execute_command("ACL", "SETUSER", "default", "-@scripting")
        try:
            stage.hold(seconds)
        finally:
            client.execute_command("ACL", "SETUSER", "default", "+@all")


def password_required(stage, load, seconds):
    with stage.admin() as client:
        client.config_set("requirepass", "somebody turned it on")
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        try:
            stage.hold(seconds)
        finally:
            client.config_set("requirepass", "")


def flushed(stage, load, seconds):
    with stage.admin() as client:
        for _ in _beats(stage, seconds):
            client.flushall()


def clock_off(stage, load, seconds):
    with stage.relayed() as relay:
        for skew_s in (3600, -3600):
            relay.skew_s = skew_s
            time.sleep(seconds / 2)


def burst(stage, load, seconds):
    load.burst(round(20 * seconds))
    stage.hold(seconds)


def clients_leave(stage, load, seconds):
    """The load does it: see `Fault.leaving`."""
    stage.hold(seconds)


def shifted(*shifts_s):
    """A permit that a jump overtakes is from another time, so none is on its way then."""

    def jumping(stage, load, seconds):
        try:
            for shift_s in shifts_s:
                with load.still():
                    stage.shift_clock(shift_s)
                time.sleep(seconds / len(shifts_s))
        finally:
            with load.still():
                stage.shift_clock(0)

    return jumping


def proxy_stopped(stage, load, seconds):
    stage.pause_proxy(2.0)
    time.sleep(max(0.0, seconds - 2.0))


def _beats(stage, seconds):
    """Turns, half a second each, until the time is over."""
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        yield
        time.sleep(BEAT_S)
    stage.hold(0)


@dataclass(frozen=True)
class Fault:
    """One row of the table.

    Attributes:
        name: Its id in the list of faults, and which of them where there are more.
        what: What happens, in a few words.
        inject: Does it for so many seconds.
        seconds: How long it lasts at least where there is time; None is the run's own length.
        leaving: Which share of the clients goes away before the answer.
        changes: How often the store, or what is known of it, changes its state in this many seconds.
        has_p99: Whether the latency of requests is comparable with the time before.
        cuts_off: Whether nothing can be read from the store meanwhile.
    """

    name: str
    what: str
    inject: Callable
    seconds: float | None = None
    leaving: float = 0.0
    changes: Callable[[float], int] = lambda _seconds: 2
    has_p99: bool = True
    cuts_off: bool = False


FIRST = Fault("C01", "the store is down at the start", down, has_p99=False, cuts_off=True)
FAULTS = (
    Fault("none", "nothing happens: the noise of this machine", nothing),
    Fault("C02", "the store is killed and restarted", killed, cuts_off=True),
    Fault("C03", "the store hangs (SIGSTOP)", hung, seconds=30, cuts_off=True),
    Fault("C04", "the store is slow, 200 ms (relay)", slow, cuts_off=True),
    Fault("C05", "the store flaps each second", flapping, seconds=60, changes=lambda s: max(2, round(s))),
    Fault("C06", "keys of other types, garbage in fields", spoilt_keys, cuts_off=True),
    Fault("C07", "out of memory, noeviction", out_of_memory),
    Fault("C08", "read only after a failover (REPLICAOF)", read_only),
    Fault("C09-LOADING", "LOADING, a restart with much to load", loading, cuts_off=True),
    Fault("C09-MASTERDOWN", "MASTERDOWN, no stale data", without_master, cuts_off=True),
    Fault("C09-CLUSTERDOWN", "CLUSTERDOWN, a Cluster's node without slots", without_slots, cuts_off=True),
    # Before the nodes have met it is CLUSTERDOWN; the exchange and each key of revocations tell both.
    Fault(
        "C09-MOVED",
        "MOVED, the slots are another node's",
        slots_elsewhere,
        changes=lambda _: 4,
        cuts_off=True,
    ),
    Fault(
        "C09-ASK",
        "ASK, the slots move to another node",
        slots_on_the_move,
        changes=lambda _: 4,
        cuts_off=True,
    ),
    Fault(
        "C09-CROSSSLOT",
        "CROSSSLOT (relay)",
        answering("CROSSSLOT Keys in request don't hash to the same slot"),
        cuts_off=True,
    ),
    Fault("C10-FLUSH", "SCRIPT FLUSH twice a second", scripts_flushed),
    Fault("C10-ACL", "scripts forbidden by ACL", scripts_forbidden),
    Fault("C11", "a password is required from now on", password_required, cuts_off=True),
    Fault("C12-FLUSHALL", "FLUSHALL twice a second", flushed),
    Fault("C12-CLOCK", "the store's clock is 1 h off, both ways (relay)", clock_off),
    Fault("C13", "a burst far beyond the pool", burst, has_p99=False),
    Fault("C14", "absurd values in the keys", absurd_values),
    Fault("C15", "another version's keys beside ours", foreign_version),
    Fault("C16", "every third client leaves", clients_leave, leaving=1 / 3),
    Fault("C36", "wall clock +1 h, -1 h, back", shifted(3600, -3600)),
    Fault("C37", "the proxy stands still for 2 s (SIGSTOP)", proxy_stopped),
)
