"""Quantiles that workers share, beside the exact ones of the same values; and what it takes to share them.

    python benchmarks/quantiles.py [--quick]

Prints the tables of docs/benchmarks.md. Four workers measure and tell each other through one exchange in memory.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from litellm_plugin.routing import AttemptStatus, Measurement
from litellm_plugin.state import MemoryStore, SharedLatency
from litellm_plugin.state.exchange import Batch
from litellm_plugin.state.histogram import RELATIVE_ERROR
from litellm_plugin.state.memory_exchange import MemoryExchange

if TYPE_CHECKING:
    from collections.abc import Callable

    from litellm_plugin.routing import EndpointStatistics
    from litellm_plugin.state.exchange import Contribution

WORKERS = 4
PERIODS = 60
# Told, indexed, read; and one more, for workers take turns.
SETTLE = 4
FRACTIONS = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
DISTRIBUTIONS: dict[str, Callable[[random.Random], float]] = {
    "log-normal, median 800 ms, sigma 0.8": lambda rng: rng.lognormvariate(math.log(800), 0.8),
    "log-normal, median 800 ms, sigma 2": lambda rng: rng.lognormvariate(math.log(800), 2.0),
    "Pareto from 200 ms, alpha 1.1": lambda rng: 200 * rng.paretovariate(1.1),
    "Pareto from 200 ms, alpha 2.5": lambda rng: 200 * rng.paretovariate(2.5),
    "two modes, 90 % about 300 ms, 10 % about 9 s": lambda rng: (
        rng.gauss(300, 20) if rng.random() < 0.9 else rng.gauss(9000, 500)
    ),
    "uniform, 1 ms to 60 s": lambda rng: rng.uniform(1, 60_000),
}


class Replicas:
    """Workers that share one exchange in memory, a second a period."""

    def __init__(self, workers: int = WORKERS) -> None:
        self.now_s = 1_000_000.0
        self._sequence = 0
        self._exchange = MemoryExchange(lambda: self.now_s)
        self.stores = [MemoryStore(clock=lambda: self.now_s, half_life_s=None) for _ in range(workers)]
        self.parts = [SharedLatency(store) for store in self.stores]

    async def period(self) -> list[Turn]:
        self.now_s += 1
        return [await self._turn(part) for part in self.parts]

    async def _turn(self, part: SharedLatency) -> Turn:
        began_s = time.process_time()
        contribution = part.outgoing(self.now_s)
        outgoing_ms = (time.process_time() - began_s) * 1000
        self._sequence += 1
        reply = await self._exchange.exchange(Batch("w", self._sequence, contribution))
        began_s = time.process_time()
        part.incoming(reply, reply.now_s)
        incoming_ms = (time.process_time() - began_s) * 1000
        return Turn(contribution, outgoing_ms + incoming_ms, max(outgoing_ms, incoming_ms))


@dataclass(frozen=True)
class Turn:
    """What one worker did in one period, and the processor time of its part, in milliseconds."""

    contribution: Contribution
    spent_ms: float
    longest_ms: float

    @property
    def fields(self) -> int:
        return sum(len(change.add) for change in self.contribution.changes)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures shared quantiles against exact ones.")
    parser.add_argument("--quick", action="store_true", help="one seed and fewer values, for a first look")
    is_quick = parser.parse_args().quick
    seeds, values = (1, 5) if is_quick else (20, 50)
    asyncio.run(print_errors(seeds, values))
    asyncio.run(print_work(5 if is_quick else 20))


async def print_errors(seeds: int, values: int) -> None:
    """The worst errors over the seeds and workers; `values` is per worker and period."""
    print(f"\n| {WORKERS * PERIODS * values:,} values a run, {seeds} runs | p50 | p95 | p99 |")
    print("|---|---|---|---|")
    for name, draw in DISTRIBUTIONS.items():
        worst = dict.fromkeys(FRACTIONS, 0.0)
        for seed in range(seeds):
            found, exact = await _run(random.Random(seed), draw, values)
            for fraction, right in exact.items():
                errors = [abs(getattr(each, f"total_{fraction}_ms") - right) / right for each in found]
                worst[fraction] = max(worst[fraction], *errors)
        print(f"| {name} | " + " | ".join(f"{error:.2%}" for error in worst.values()) + " |")
    print(f"\nBound of a bucket: {RELATIVE_ERROR:.1%}.")


async def _run(
    rng: random.Random, draw: Callable[[random.Random], float], values: int
) -> tuple[list[EndpointStatistics], dict[str, float]]:
    replicas = Replicas()
    drawn: list[float] = []
    for _ in range(PERIODS):
        for store in replicas.stores:
            for _ in range(values):
                drawn.append(draw(rng))
                store.record(Measurement("d", AttemptStatus.SUCCESS, drawn[-1]))
        await replicas.period()
    for _ in range(SETTLE):
        await replicas.period()
    found = [store.snapshot().by_deployment["d"] for store in replicas.stores]
    if any(each.attempts != len(drawn) for each in found):
        raise RuntimeError(
            f"expected {len(drawn)} attempts everywhere, got {[each.attempts for each in found]}"
        )
    drawn.sort()
    return found, {name: drawn[math.ceil(each * len(drawn)) - 1] for name, each in FRACTIONS.items()}


async def print_work(periods: int) -> None:
    """What a worker tells and asks a period, and how long its own part of it takes, by load."""
    print(
        "\n| deployments, attempts a second a worker | hashes told | fields told | hashes read "
        "| milliseconds a period | of that the longest step |"
    )
    print("|---|---|---|---|---|---|")
    for deployments in (1, 20, 100):
        for rate in (1, 20, 200):
            print(await _work(deployments, rate, periods))


async def _work(deployments: int, rate: int, periods: int) -> str:
    rng = random.Random(7)
    replicas = Replicas()
    draw = DISTRIBUTIONS["log-normal, median 800 ms, sigma 0.8"]
    turns: list[Turn] = []
    for _ in range(periods):
        for store in replicas.stores:
            for _ in range(rate):
                total_ms = draw(rng)
                name = f"d{rng.randrange(deployments)}"
                store.record(
                    Measurement(name, AttemptStatus.SUCCESS, total_ms, total_ms / 5, output_tokens=200)
                )
        turns += await replicas.period()
    told = statistics.mean(len(turn.contribution.changes) for turn in turns)
    fields = statistics.mean(turn.fields for turn in turns)
    reads = statistics.mean(len(turn.contribution.reads) for turn in turns)
    spent_ms = statistics.median(turn.spent_ms for turn in turns)
    longest_ms = max(turn.longest_ms for turn in turns)
    return f"| {deployments}, {rate} | {told:.0f} | {fields:,.0f} | {reads:.0f} | {spent_ms:.2f} | {longest_ms:.2f} |"


if __name__ == "__main__":
    main()
