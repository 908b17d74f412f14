"""Redis load: what shared statistics cost the server, against the request rate, beside LiteLLM's own strategies.

    python benchmarks/redis_load.py [--seconds 6] [--rates 1 10 50 100 500]

One Valkey server, one worker, five deployments that answer at once. LiteLLM's strategies are those of a real
`litellm.Router` with this server as its Redis; ours is everything that a worker shares, fed with one attempt a request. Prints for each rate what the server did in a second: commands, reads from its sockets
(a pipeline is one, a long one a few; the two of this program's own INFO are in them) and milliseconds of CPU. Where a
strategy does not reach a rate, its commands at that rate are what a request cost times the rate, marked with `~`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from redis.asyncio import Redis

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from valkey_process import ValkeyProcess

from litellm_plugin.proxy.clock import SystemClock
from litellm_plugin.proxy.shared_state import Ended, SharedState
from litellm_plugin.routing import AttemptStatus, Measurement
from litellm_plugin.settings import Flags, load_policy
from litellm_plugin.state import Quota, RedisExchange, connect

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

OURS = "permit-router"
LITELLM = ("latency-based-routing", "usage-based-routing-v2")
DEPLOYMENTS = tuple(f"d{number}" for number in range(5))
ISSUER = {
    "issuer": "https://gateway.example",
    "jwks_url": "https://gateway.example/jwks",
    "algorithms": ["ES256"],
}


async def at_rate(rate, seconds, request):
    """Makes requests at a steady rate and says how many."""
    began_s = time.perf_counter()
    tasks, number = set(), 0
    while (now_s := time.perf_counter() - began_s) < seconds:
        while number < now_s * rate and len(tasks) < 200:
            number += 1
            task = asyncio.ensure_future(request())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.sleep(0.001)
    await asyncio.gather(*tasks)
    return number / (time.perf_counter() - began_s)


async def load(server, rate, seconds, request):
    async with Redis.from_url(server) as operator:
        before = await operator.info()
        began_s = time.perf_counter()
        reached = await at_rate(rate, seconds, request)
        await asyncio.sleep(1.0)  # what is told after the last request belongs to it
        after = await operator.info()
        passed_s = time.perf_counter() - began_s
    names = ("total_commands_processed", "total_reads_processed", "used_cpu_user", "used_cpu_sys")
    commands, reads, user, system = ((after[name] - before[name]) / passed_s for name in names)
    return {
        "rate": rate,
        "reached": reached,
        "commands": commands,
        "reads": reads,
        "cpu_ms": 1000 * (user + system),
    }


async def synchronise(shared):
    while True:
        await shared.synchronise()
        await asyncio.sleep(shared.pause_s())


async def ours(server, rates, seconds):
    """All that a worker shares: latencies, breakers, limits, providers' limits and the count of workers."""
    client = connect(server, 1.0)
    shared = SharedState(SystemClock(), "w1")
    shared.connect(RedisExchange(client, deadline_s=5.0))
    shared.use(policy())
    shared.declare(dict.fromkeys(DEPLOYMENTS, Quota(requests_per_minute=60_000)))
    task = asyncio.create_task(synchronise(shared))

    async def request():
        name = random.choice(DEPLOYMENTS)
        shared.health_of(name)
        shared.begin(name, first=name, is_first=True)
        first_ms, total_ms = random.lognormvariate(3.5, 0.4), random.lognormvariate(6.0, 0.4)
        ended = Ended(AttemptStatus.SUCCESS, began_s=time.monotonic() - total_ms / 1000)
        shared.end(name, None, ended)
        shared.measure(Measurement(name, AttemptStatus.SUCCESS, first_ms + total_ms, first_ms, 100))

    await asyncio.sleep(1.5)
    rows = [await load(server, rate, seconds, request) for rate in rates]
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await client.aclose()
    return rows


def policy():
    """A policy as operators write it, with breakers as they are by default."""
    block = {
        "permit": {"audience": "a", "binding": "body", "issuers": [ISSUER]},
        "classifications": {"internal": {}},
        "latency_classes": {"interactive": {}},
        "tenant_tiers": ["pro"],
        "default": {"strategy": "latency"},
    }
    return load_policy(block, Flags(), base=Path.cwd())


async def litellms(strategy, server, rates, seconds):
    from litellm import Router  # noqa: PLC0415 - takes seconds, and ours needs none of it

    host, _, port = server.removeprefix("redis://").removesuffix("/0").partition(":")
    params = {"model": "openai/gpt-4o-mini", "api_key": "none", "mock_response": "yes"}
    models = [
        {"model_name": "chat", "litellm_params": {**params, "rpm": 60_000}, "model_info": {"id": name}}
        for name in DEPLOYMENTS
    ]
    router = Router(model_list=models, routing_strategy=strategy, redis_host=host, redis_port=int(port))

    async def request():
        await router.acompletion(model="chat", messages=[{"role": "user", "content": "hello"}])

    for _ in range(20):
        await request()
    return [await load(server, rate, seconds, request) for rate in rates]


async def run(strategy, server, rates, seconds):
    if strategy == OURS:
        return await ours(server, rates, seconds)
    return await litellms(strategy, server, rates, seconds)


def measured(strategy, server, arguments):
    """One strategy in a process of its own: LiteLLM's callbacks are of the whole process."""
    command = [sys.executable, __file__, "--run", strategy, "--server", server]
    command += ["--seconds", str(arguments.seconds), "--rates", *map(str, arguments.rates)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - this file
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def at_asked(row):
    """Commands a second at the rate that was asked for, and whether they are computed."""
    is_short = row["reached"] < 0.9 * row["rate"]
    return row["commands"] * (row["rate"] / row["reached"] if is_short else 1), is_short


def show(results):
    print(
        "| strategy | requests/s asked | reached | reads/s | CPU ms/s | commands/s at this rate | times ours |"
    )
    print("|---|---|---|---|---|---|---|")
    for index in range(len(results[OURS])):
        base, _ = at_asked(results[OURS][index])
        for strategy, rows in results.items():
            row = rows[index]
            commands, is_short = at_asked(row)
            print(
                f"| {strategy} | {row['rate']} | {row['reached']:.0f} | {row['reads']:.1f} | {row['cpu_ms']:.1f}"
                f" | {'~' if is_short else ''}{commands:.0f} | {commands / base:.2f} |"
            )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rates", type=int, nargs="+", default=[1, 10, 50, 100, 500])
    parser.add_argument("--run", choices=[OURS, *LITELLM])
    parser.add_argument("--server")
    arguments = parser.parse_args()
    if arguments.run:
        rows = asyncio.run(run(arguments.run, arguments.server, arguments.rates, arguments.seconds))
        print(json.dumps(rows))
        return
    with tempfile.TemporaryDirectory() as folder:
        server = ValkeyProcess(folder)
        server.start()
        try:
            show({name: measured(name, server.url, arguments) for name in (OURS, *LITELLM)})
        finally:
            server.stop()


if __name__ == "__main__":
    main()
