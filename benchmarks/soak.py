"""The soak: a proxy with the plugin and a shared store at a steady rate, and whether anything in it grows.

    python benchmarks/soak.py [--seconds 3600] [--rate 4] [--sample 60]

Runs a real LiteLLM Proxy with the plugin and a real Valkey server, beside it one without the plugin, each with
recording providers and this many requests a second; a third of the requests is streamed, and their permits name every
subset of the endpoints. Samples the resident memory and the open descriptors of each proxy's process group, and its
asyncio tasks where the plugin's health answer tells them. Prints the samples, the slope of each over what follows the
warm-up (the first third), and a verdict on the proxy with the plugin; ends with 1 where something grew faster than in
LiteLLM alone, was denied or went astray.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
_TESTS = Path(__file__).parent.parent / "tests"
sys.path[:0] = [str(_TESTS), str(_TESTS / "enforcement"), str(_TESTS / "chaos")]

import httpx  # noqa: E402 - found on the path above
from chaos_ends import group_of  # noqa: E402
from chaos_load import Load  # noqa: E402
from chaos_run import p99  # noqa: E402
from chaos_stage import Stage  # noqa: E402

WARM_UP = 1 / 3
# What a slope may come to in an hour: above the noise of an allocator, far below what a leak a request would make.
MOST_AN_HOUR = {"rss_mb": 50.0, "descriptors": 20.0, "tasks": 20.0}
OURS, ALONE = "with the plugin", "LiteLLM alone"
# The other logger is there in both.
ROLES = {OURS: {}, ALONE: {"callbacks": ["other_logger.logger"]}}
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Sample:
    """What the proxy held at one moment, and what went through it since the sample before."""

    at_s: float
    rss_mb: float
    descriptors: int
    tasks: int | None
    requests: int
    denied: int
    out_of_set: int
    p99_ms: float


def soak(stage, *, seconds, rate, sample_s, ending=None):
    """Gives a sample each `sample_s` seconds, for so many seconds or until `ending`; the stage's store is open."""
    ending = ending or threading.Event()
    began_s = time.monotonic()
    with Load(stage.target, rate) as load:
        while (at_s := time.monotonic() - began_s) < seconds:
            if ending.wait(min(sample_s, seconds - at_s)):
                break
            yield taken(stage, load, time.monotonic() - began_s)


def taken(stage, load, at_s):
    """One sample; what was sent and answered before is forgotten, so that this process stays small as well."""
    ended = list(itertools.takewhile(lambda visit: visit.has_ended, tuple(load.visits)))
    del load.visits[: len(ended)]
    load.healths.clear()
    # Without the plugin nothing keeps a request inside its permit.
    astray = stage.fleet.out_of_set() if stage.has_plugin else ()
    for provider in stage.fleet.providers.values():
        provider.clear()
    pids = group_of(stage.fleet.proxy.pid)
    return Sample(
        at_s=at_s,
        rss_mb=sum(map(rss_mb, pids)),
        descriptors=sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids),
        tasks=tasks(stage),
        requests=len(ended),
        denied=sum(visit.is_denied for visit in ended),
        out_of_set=len(astray),
        p99_ms=p99([visit.took_s for visit in ended] or [0.0]) * 1000,
    )


def rss_mb(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES / 1e6


def tasks(stage):
    """How many asyncio tasks one worker has; None where nothing tells."""
    if not stage.has_plugin:
        return None
    answer = httpx.get(f"{stage.fleet.proxy.url}/permit-router/v1/health", trust_env=False, timeout=10)
    return answer.json().get("tasks")


def slopes(samples):
    """By how much each measure grows in an hour, after the warm-up, by least squares; None for what was not told."""
    after = [sample for sample in samples if sample.at_s >= samples[-1].at_s * WARM_UP]
    times_h = [sample.at_s / 3600 for sample in after]
    found = {}
    for name in MOST_AN_HOUR:
        values = [getattr(sample, name) for sample in after]
        told = len(values) > 1 and None not in values
        found[name] = statistics.linear_regression(times_h, values).slope if told else None
    return found


def verdict(samples, alone=()):
    """What is not as it shall be; empty when all is.

    Args:
        samples: Those of the proxy with the plugin.
        alone: Those of LiteLLM without it, whose own growth is not the plugin's.
    """
    own = slopes(alone) if alone else {}
    grown = []
    for name, slope in slopes(samples).items():
        most = MOST_AN_HOUR[name] + max(0.0, own.get(name) or 0.0)
        if slope is not None and slope > most:
            grown.append(f"{name} grows by {slope:.1f} an hour, at most {most:g} expected")
    denied, astray = (sum(getattr(each, name) for each in samples) for name in ("denied", "out_of_set"))
    return [*grown, *wrong(denied, "denied wrongly"), *wrong(astray, "out of set")]


def wrong(count, what):
    return [f"{count} {what}"] if count else []


def row(who, sample):
    told = "-" if sample.tasks is None else sample.tasks
    return (
        f"| {who} | {sample.at_s:.0f} | {sample.rss_mb:.1f} | {sample.descriptors} | {told} | {sample.requests} "
        f"| {sample.denied} | {sample.out_of_set} | {sample.p99_ms:.0f} |"
    )


def soaked(who, given, ending):
    """The samples of one proxy, each printed as it comes."""
    has_plugin = who != ALONE
    samples = []
    with tempfile.TemporaryDirectory() as folder, Stage(folder, has_plugin=has_plugin, **ROLES[who]) as stage:
        stage.open_store()
        stage.begin()
        for each in soak(stage, seconds=given.seconds, rate=given.rate, sample_s=given.sample, ending=ending):
            samples.append(each)
            print(row(who, each), flush=True)
    return samples


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--rate", type=float, default=4.0, help="requests a second")
    parser.add_argument("--sample", type=float, default=60.0, help="seconds between samples")
    given = parser.parse_args()
    ending = threading.Event()
    # Whoever ends this ends the proxies and the stores with it.
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    print("| proxy | after, s | RSS, MB | descriptors | tasks | requests | denied | out of set | p99, ms |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    with ThreadPoolExecutor(len(ROLES)) as pool:
        found = dict(zip(ROLES, pool.map(lambda who: soaked(who, given, ending), ROLES), strict=True))
    if ending.is_set():
        return True
    for who, samples in found.items():
        for name, slope in slopes(samples).items():
            told = "not told" if slope is None else f"{slope:+.2f} an hour"
            print(f"{who}: {name}: {told} after the warm-up")
    faults = verdict(found[OURS], found[ALONE])
    print("; ".join(faults) or "flat; nobody was denied wrongly, nothing went out of its set")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
