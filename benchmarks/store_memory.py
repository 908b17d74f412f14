"""The memory of the shared store: what each kind of key takes on a real server, by what it holds.

    python benchmarks/store_memory.py

Fills a Valkey server through the exchange that workers use, and asks it for the memory of each key. Prints the table of
docs/operations.md.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from valkey_process import ValkeyProcess

from litellm_plugin.routing import AttemptStatus, Measurement
from litellm_plugin.state import MemoryStore, SharedLatency, connect
from litellm_plugin.state.exchange import Batch, Contribution, LeaseRequest
from litellm_plugin.state.redis_exchange import RedisExchange

SEED = 20_251
# The window of the statistics, its slices, and the two more for which the store keeps them.
HASHES_A_DEPLOYMENT = 12
STREAMS = (10, 100, 1_000, 10_000)
WORKERS = (1, 10, 100)


async def main(url):
    client = connect(url, timeout_s=5.0)
    exchange = RedisExchange(client, deadline_s=30.0)
    print("| key | holding | bytes | bytes of a deployment |")
    print("|---|---|---|---|")
    for streams in STREAMS:
        await client.flushall()
        await told(exchange, streams)
        (size,) = [each async for each in sizes(client, "latency:*")]
        print(f"| `latency:<id>:<slice>` | {streams:,} streams | {size:,} | {size * HASHES_A_DEPLOYMENT:,} |")
    for workers in WORKERS:
        await client.flushall()
        for number in range(workers):
            request = LeaseRequest("rpm:d1", 1_000_000, spent=10, want=10, ttl_s=600.0, window_s=60.0)
            await exchange.exchange(Batch(f"host-{number}:4711", 1, Contribution(leases=(request,))))
        (size,) = [each async for each in sizes(client, "lease:*")]
        print(f"| `lease:…` | {workers:,} worker{'s' * (workers > 1)} | {size:,} | {size:,} a limit |")
    await client.aclose()


async def told(exchange, streams):
    """One deployment's hash of one slice, as one worker tells it."""
    luck = random.Random(SEED)
    store = MemoryStore(clock=time.monotonic)
    latency = SharedLatency(store)
    for _ in range(streams):
        first_ms = luck.lognormvariate(6.2, 0.5)
        tokens = round(luck.lognormvariate(5.3, 0.8)) + 1
        token_ms = luck.lognormvariate(3.0, 0.4)
        store.record(
            Measurement(
                "a-deployment-of-openai-in-eu-west",
                AttemptStatus.SUCCESS,
                total_ms=first_ms + tokens * token_ms,
                first_token_ms=first_ms,
                output_tokens=tokens,
            )
        )
    now_s = time.time()
    batch = Batch("host:4711", 1, latency.outgoing(now_s))
    latency.incoming(await exchange.exchange(batch), now_s)


async def sizes(client, pattern):
    async for key in client.scan_iter(f"permit-router:{{state}}:*:{pattern}"):
        yield await client.memory_usage(key, samples=0)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        server = ValkeyProcess(folder)
        try:
            server.start()
            asyncio.run(main(server.url))
        finally:
            server.stop()
