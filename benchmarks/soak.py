"""The soak: a proxy with the plugin and a shared store at a steady rate, and whether anything in it grows.

    python benchmarks/soak.py [--seconds 3600] [--rate 10] [--sample 30]

Runs a real LiteLLM Proxy, recording providers and a real Valkey server; a third of the requests is streamed, and their
permits name every subset of the endpoints. Samples the resident memory and the open descriptors of the proxy's process
group, and its asyncio tasks where the plugin's health answer tells them. Prints the samples, the slope of each over
what follows the warm-up (the first third), and a verdict; ends with 1 where something grew, was denied or went astray.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import statistics
import sys
import tempfile
import time
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


def soak(stage, *, seconds, rate, sample_s):
    """Gives a sample each `sample_s` seconds, for so many seconds; the stage's store is open."""
    began_s = time.monotonic()
    with Load(stage.target, rate) as load:
        while (at_s := time.monotonic() - began_s) < seconds:
            time.sleep(min(sample_s, seconds - at_s))
            yield taken(stage, load, time.monotonic() - began_s)


def taken(stage, load, at_s):
    """One sample; what was sent and answered before is forgotten, so that this process stays small as well."""
    ended = list(itertools.takewhile(lambda visit: visit.has_ended, tuple(load.visits)))
    del load.visits[: len(ended)]
    load.healths.clear()
    astray = stage.fleet.out_of_set()
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
    """How many asyncio tasks one worker has; None where the health answer does not tell."""
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


def verdict(samples):
    """What is not as it shall be; empty when all is."""
    grown = [
        f"{name} grows by {slope:.1f} an hour, at most {MOST_AN_HOUR[name]:g} expected"
        for name, slope in slopes(samples).items()
        if slope is not None and slope > MOST_AN_HOUR[name]
    ]
    denied, astray = (sum(getattr(each, name) for each in samples) for name in ("denied", "out_of_set"))
    return [*grown, *wrong(denied, "denied wrongly"), *wrong(astray, "out of set")]


def wrong(count, what):
    return [f"{count} {what}"] if count else []


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--rate", type=float, default=10.0, help="requests a second")
    parser.add_argument("--sample", type=float, default=30.0, help="seconds between samples")
    given = parser.parse_args()
    # Whoever ends this ends the proxy and the store with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    samples = []
    print("| after, s | RSS, MB | descriptors | tasks | requests | denied | out of set | p99, ms |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, Stage(folder) as stage:
        stage.open_store()
        stage.begin()
        for each in soak(stage, seconds=given.seconds, rate=given.rate, sample_s=given.sample):
            samples.append(each)
            told = "-" if each.tasks is None else each.tasks
            print(
                f"| {each.at_s:.0f} | {each.rss_mb:.1f} | {each.descriptors} | {told} | {each.requests} "
                f"| {each.denied} | {each.out_of_set} | {each.p99_ms:.0f} |",
                flush=True,
            )
    for name, slope in slopes(samples).items():
        print(f"{name}: {'not told' if slope is None else f'{slope:+.2f} an hour'} after the warm-up")
    faults = verdict(samples)
    print("; ".join(faults) or "flat; nobody was denied wrongly, nothing went out of its set")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
