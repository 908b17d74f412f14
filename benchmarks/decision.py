"""The cost of a decision: against the number of candidates, the number of rules and the size of the prompt.

    python benchmarks/decision.py [--quick]

Prints the tables of docs/benchmarks.md: processor time of one decision, as ratios to the first row of each table,
and how much memory a decision takes while it is made.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import statistics
import time
import tracemalloc
from typing import TYPE_CHECKING

from litellm_plugin.routing import (
    CallType,
    Candidate,
    CandidateGroup,
    Cost,
    EndpointStatistics,
    Prices,
    RoutingPolicy,
    RoutingScope,
    Rule,
    RuleSet,
    StatisticsSnapshot,
    compile_condition,
    decide,
    request_facts,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CANDIDATES = (3, 10, 20, 100, 300, 1_000)
RULES = (1, 3, 10, 30, 100)
PROMPTS = {"1 KB": 1_000, "10 KB": 10_000, "100 KB": 100_000, "1 MB": 1_000_000}
AUTHORIZED = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer repeats, for a first look")
    repeats = 5 if parser.parse_args().quick else 41
    print(f"{os.cpu_count()} CPUs, Python {platform.python_version()}, {repeats} repeats, medians")
    gc.disable()
    _table(
        "candidates (20 of them authorized)",
        {f"{number:,}": _with_candidates(number) for number in CANDIDATES},
        repeats,
    )
    _table(
        "rules, of which the last one matches",
        {str(number): _with_rules(number) for number in RULES},
        repeats,
    )
    _table("prompt, facts only", {name: _facts(size) for name, size in PROMPTS.items()}, repeats)


def _table(what: str, works: dict[str, Callable[[], object]], repeats: int) -> None:
    times = _times(list(works.values()), repeats)
    print(f"\n| {what} | microseconds | ratio | bytes at once |\n|---|---|---|---|")
    for (name, work), seconds in zip(works.items(), times, strict=True):
        print(f"| {name} | {seconds * 1e6:.0f} | {seconds / times[0]:.2f} | {_bytes(work):,} |", flush=True)


def _times(works: Sequence[Callable[[], object]], repeats: int, calls: int = 20) -> list[float]:
    """Seconds of processor time a call, the works interleaved so that none meets a slower machine than another."""
    samples: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for work, sample in zip(works, samples, strict=True):
            started = time.process_time()
            for _ in range(calls):
                work()
            sample.append((time.process_time() - started) / calls)
        gc.collect()
    return [statistics.median(sample) for sample in samples]


def _bytes(work: Callable[[], object]) -> int:
    work()
    tracemalloc.start()
    try:
        kept = work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        del kept
        tracemalloc.stop()


def _candidate(number: int) -> Candidate:
    return Candidate(
        deployment_id=f"deployment-{number}",
        endpoint=f"endpoint-{number}",
        attributes=frozenset({"baa"}),
        max_input_tokens=128_000,
        prices=Prices(1e-6 * (1 + number % 7), 4e-6 * (1 + number % 5)),
        region="eu",
        tier=("small", "medium", "large")[number % 3],
    )


def _scope() -> RoutingScope:
    return RoutingScope(
        request_id="request-1",
        endpoints=frozenset(f"endpoint-{number}" for number in range(AUTHORIZED)),
        policy_version="42",
        data_classification="internal",
        tenant="acme",
        tenant_tier="pro",
        latency_class="interactive",
        requirements=frozenset({"baa"}),
    )


def _decision(candidates: int, rules: Sequence[Rule]) -> Callable[[], object]:
    listed = CandidateGroup.of(_candidate(number) for number in range(candidates))
    policy = RoutingPolicy(RuleSet(tuple(rules), Rule("default", None, Cost())), 3)
    measured = EndpointStatistics(100, 1, 900.0, 2_100.0, 3_200.0, 300.0, 700.0, 1_100.0)
    snapshot = StatisticsSnapshot(dict.fromkeys(listed.deployment_ids, measured), taken_at_s=0.0)
    facts = request_facts(CallType.CHAT, "gpt", _body(1_000))
    scope = _scope()
    return lambda: decide(policy, facts, scope, listed, statistics=snapshot, seed=7)


def _with_candidates(number: int) -> Callable[[], object]:
    return _decision(number, ())


def _with_rules(number: int) -> Callable[[], object]:
    rules = [
        Rule(
            f"rule-{each}",
            compile_condition(f'permit.tenant == "tenant-{each}" && request.input_tokens > {each}'),
            Cost(),
        )
        for each in range(number - 1)
    ]
    return _decision(20, [*rules, Rule("last", compile_condition('permit.tenant == "acme"'), Cost())])


def _body(characters: int) -> dict[str, object]:
    text = "The quick brown fox jumps over the lazy dog. " * (characters // 45 + 1)
    return {"model": "gpt", "messages": [{"role": "user", "content": text[:characters]}], "max_tokens": 400}


def _facts(characters: int) -> Callable[[], object]:
    body = _body(characters)
    return lambda: request_facts(CallType.CHAT, "gpt", body)


if __name__ == "__main__":
    main()
