"""Strategies: LiteLLM's own beside this plugin's, on the same simulated fleet and the same trace.

    python benchmarks/strategies.py [--quick] [--seeds 3] [--only NAME ...]

Every run is a `litellm.Router` of its own process, in virtual time, with the same requests, the same endpoints and
the same luck: whatever request meets whatever endpoint, it takes as long there in every run. LiteLLM's strategies
have its retries and cooldowns as they are set by default; this plugin has its plans of three attempts, and the breakers,
waits, limits, retry budget and exchange with a store in memory that every worker of it has.
Prints the tables of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

GROUP = "chat"
WEIGHTS = dict.fromkeys(
    ("azure-eu-4o", "openai-us-4o", "mini-a", "mini-b", "haiku", "flash", "deepseek", "mistral"), 1
)
BUDGET_S = 6.0
SECONDS = 600.0
EPISODE = (280.0, 400.0)
# An endpoint was left when it gets less than a tenth of the traffic in ten seconds in a row.
WINDOW_S = 10.0
LEFT_SHARE = 0.1
COST_AND_LATENCY = {"cost": 0.4, "latency": 0.4, "reliability": 0.2}
LOAD_AND_LATENCY = {"load": 0.3, "latency": 0.5, "reliability": 0.2}
OUR_POLICY: dict[str, Any] = {
    "permit": {"audience": "llm-router", "binding": "none", "issuers": []},
    "classifications": {"internal": {}},
    "latency_classes": {"interactive": {}},
    "tenant_tiers": ["pro"],
    "resilience": {"attempts": 3},
}


@dataclass(frozen=True)
class System:
    """A way to choose: one of LiteLLM's strategies, or a strategy block of the plugin."""

    name: str
    litellm: str | None = None
    use: dict[str, Any] = field(default_factory=dict)


SYSTEMS = (
    System("litellm simple-shuffle", "simple-shuffle"),
    System("litellm least-busy", "least-busy"),
    System("litellm usage-based-v2", "usage-based-routing-v2"),
    System("litellm latency-based", "latency-based-routing"),
    System("litellm cost-based", "cost-based-routing"),
    System("permit-router cost", use={"strategy": "cost"}),
    System("permit-router latency", use={"strategy": "latency"}),
    System(
        "permit-router balanced, cost and latency", use={"strategy": "balanced", "weights": COST_AND_LATENCY}
    ),
    System(
        "permit-router balanced, load and latency", use={"strategy": "balanced", "weights": LOAD_AND_LATENCY}
    ),
    System("permit-router weighted", use={"strategy": "weighted", "weights": WEIGHTS}),
)


@dataclass
class Result:
    """What one run gave."""

    cost_usd: float
    latencies_s: list[float]
    errors: int
    upstream: int
    rate_limited: int
    left_after_s: float | None
    shares: dict[str, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the time, one seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", action="append", help="part of a system's name")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        (system,) = (each for each in SYSTEMS if each.name == arguments.one)
        json.dump(_run(system, arguments.seed, quick=arguments.quick).__dict__, sys.stdout)
        return
    seeds = range(1, 2 if arguments.quick else arguments.seeds + 1)
    wanted = [
        each for each in SYSTEMS if not arguments.only or any(part in each.name for part in arguments.only)
    ]
    print(f"{len(seeds)} seeds; median over the seeds (smallest to largest)\n")
    print(
        "| strategy | cost, USD | p50, s | p95, s | p99, s | within 6 s | errors | sent upstream | 429 | left after, s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    with ThreadPoolExecutor(2) as pool:
        runs = {
            each.name: [pool.submit(_in_process, each.name, seed, arguments.quick) for seed in seeds]
            for each in wanted
        }
        for name, futures in runs.items():
            print(_row(name, [future.result() for future in futures]), flush=True)


def _in_process(name: str, seed: int, quick: bool) -> Result:  # noqa: FBT001
    command = [sys.executable, __file__, "--one", name, "--seed", str(seed), *(["--quick"] if quick else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - this very file
    if done.returncode:
        raise RuntimeError(f"{name}, seed {seed}: {done.stderr[-2_000:]}")
    return Result(**json.loads(done.stdout.splitlines()[-1]))


def _row(name: str, results: list[Result]) -> str:
    def quantile(share: float) -> list[float]:
        return [sorted(each.latencies_s)[int(share * (len(each.latencies_s) - 1))] for each in results]

    within = [
        100 * sum(s <= BUDGET_S for s in each.latencies_s) / (len(each.latencies_s) + each.errors)
        for each in results
    ]
    left = [each.left_after_s for each in results]
    return " | ".join(
        (
            f"| {name}",
            _spread([each.cost_usd for each in results], 3),
            *(_spread(quantile(share), 2) for share in (0.5, 0.95, 0.99)),
            _spread(within, 1) + " %",
            _spread([float(each.errors) for each in results], 0),
            _spread([float(each.upstream) for each in results], 0),
            _spread([float(each.rate_limited) for each in results], 0),
            "never" if None in left else _spread([each for each in left if each is not None], 0),
            "",
        )
    ).rstrip(" ")


def _spread(values: list[float], digits: int) -> str:
    middle = f"{statistics.median(values):.{digits}f}"
    if len(values) == 1 or min(values) == max(values):
        return middle
    return f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def _run(system: System, seed: int, *, quick: bool) -> Result:
    import litellm  # noqa: PLC0415 - seconds to import, and only a run needs it
    from fleet.trace import trace  # noqa: PLC0415
    from fleet.virtual_time import run_virtually  # noqa: PLC0415

    litellm.suppress_debug_info = True
    random.seed(seed)  # LiteLLM's strategies draw from it
    scale = 0.2 if quick else 1.0
    requests = trace(seed, seconds=SECONDS * scale, per_second=3.0)

    async def whole(clock: Any) -> Result:
        return await _serve(system, requests, clock, seed, scale)

    result: Result = run_virtually(whole)
    return result


async def _serve(system: System, requests: list[Any], clock: Any, seed: int, scale: float) -> Result:
    import litellm  # noqa: PLC0415
    from fleet.endpoints import PROVIDER, Fleet  # noqa: PLC0415
    from fleet.scenario import endpoints  # noqa: PLC0415

    episode = (EPISODE[0] * scale, EPISODE[1] * scale)
    members = endpoints(episode)
    fleet = Fleet(members, clock, seed)
    litellm.custom_provider_map = [{"provider": PROVIDER, "custom_handler": fleet}]
    model_list = [member.deployment(GROUP) for member in members]
    latencies: list[float] = []
    errors: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        call = (
            _litellm_call(system, model_list)
            if system.litellm
            else _our_call(system, model_list, clock, Path(folder), seed)
        )

        async def one(request: Any) -> None:
            await asyncio.sleep(request.at_s - clock.now_s)
            began_s = clock.now_s
            try:
                await call(request)
            except Exception as error:  # noqa: BLE001 - whatever the caller would see
                errors.append(type(error).__name__)
            else:
                latencies.append(clock.now_s - began_s)

        await asyncio.gather(*(one(request) for request in requests))
    print(f"{system.name}: {sorted(set(errors))}", file=sys.stderr)
    return Result(
        cost_usd=fleet.cost_usd,
        latencies_s=latencies,
        errors=len(errors),
        upstream=len(fleet.sent),
        rate_limited=fleet.rate_limited,
        left_after_s=_left_after(fleet, members, episode),
        shares=dict(Counter(each.endpoint for each in fleet.sent)),
    )


def _litellm_call(system: System, model_list: list[dict[str, Any]]) -> Any:
    import litellm  # noqa: PLC0415

    router = litellm.Router(model_list=model_list, routing_strategy=system.litellm, num_retries=2)

    async def call(request: Any) -> None:
        await router.acompletion(model=GROUP, messages=[{"role": "user", "content": request.text}])

    return call


def _our_call(system: System, model_list: list[dict[str, Any]], clock: Any, folder: Path, seed: int) -> Any:
    import litellm  # noqa: PLC0415

    from litellm_plugin import PermitRoutingStrategy  # noqa: PLC0415
    from litellm_plugin.testing import PermitIssuer  # noqa: PLC0415

    issuer = PermitIssuer(algorithm="EdDSA", now=clock.wall)
    issuer.write_jwks(folder / "jwks.json")
    policy = {
        **OUR_POLICY,
        "permit": {
            **OUR_POLICY["permit"],
            "issuers": [
                {"issuer": issuer.issuer, "jwks_file": str(folder / "jwks.json"), "algorithms": ["EdDSA"]}
            ],
        },
        "default": system.use,
        "decision_log": {"file": str(folder / "decisions.jsonl")},
    }
    router = litellm.Router(model_list=model_list, disable_cooldowns=True)
    strategy = PermitRoutingStrategy(router, policy, clock=clock)
    names = [entry["model_info"]["id"] for entry in model_list]

    async def call(request: Any) -> None:
        token = issuer.mint(names, request_id=f"{seed}-{request.number}", jti=f"{seed}-{request.number}")
        with strategy.permit(token):
            await router.acompletion(model=GROUP, messages=[{"role": "user", "content": request.text}])

    return call


def _left_after(fleet: Any, members: Any, episode: tuple[float, float]) -> float | None:
    """Seconds from the start of an episode until its endpoint gets less than a tenth of the traffic; None for never.

    Where several endpoints have one, the slowest to be left counts; one that had no traffic was left at once.
    """
    start_s, end_s = episode
    found: list[float] = []
    for member in members:
        if not member.episodes:
            continue
        moment_s = start_s
        while moment_s + WINDOW_S <= end_s:
            window = [each for each in fleet.sent if moment_s <= each.at_s < moment_s + WINDOW_S]
            mine = sum(each.endpoint == member.name for each in window)
            if mine < LEFT_SHARE * len(window):
                break
            moment_s += 1.0
        else:
            return None
        found.append(moment_s - start_s)
    return max(found, default=0.0)


if __name__ == "__main__":
    main()
