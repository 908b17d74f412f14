"""The cost of a permit: verifying one beside a bare `jwt.decode`, and refusing one of any size.

    python benchmarks/permit.py [--quick]

Prints the tables of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import base64
import gc
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import jwt

from litellm_plugin.errors import PermitRejected
from litellm_plugin.permit import ClaimPolicy, IssuerTrust, PermitVerifier, StaticKeys, parse_jwks
from litellm_plugin.testing.issuer import Algorithm, PermitIssuer

if TYPE_CHECKING:
    from collections.abc import Callable

ALGORITHMS: tuple[Algorithm, ...] = ("RS256", "ES256", "EdDSA")
SIZES = {
    "1 KB": 1_000,
    "4 KB": 4_000,
    "16 KB": 16_000,
    "17 KB": 17_000,
    "100 KB": 100_000,
    "1 MB": 1_000_000,
    "10 MB": 10_000_000,
    "50 MB": 50_000_000,
}
POLICY = ClaimPolicy(
    classifications=frozenset({"internal"}),
    tenant_tiers=frozenset({"pro"}),
    latency_classes=frozenset({"interactive"}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Times the verification of permits.")
    parser.add_argument("--quick", action="store_true", help="fewer repeats, for a first look")
    is_quick = parser.parse_args().quick
    repeats, calls = (5, 100) if is_quick else (41, 200)
    print(f"{_processor()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    print(f"{repeats} repeats of {calls} calls each, interleaved; medians over the repeats, processor time")
    gc.disable()
    print("\n| algorithm | verify | bare `jwt.decode` | ratio | difference | token |")
    print("|---|---|---|---|---|---|")
    for algorithm in ALGORITHMS:
        print(_verification_row(algorithm, repeats, calls), flush=True)
    print("\n| token | no JWS at all | well-formed, signature wrong |")
    print("|---|---|---|")
    for name, size in SIZES.items():
        print(_rejection_row(name, size, repeats, calls // 2), flush=True)


def _verification_row(algorithm: Algorithm, repeats: int, calls: int) -> str:
    issuer = PermitIssuer(algorithm=algorithm)
    verifier = _verifier(issuer)
    token = issuer.mint([f"endpoint-{number}" for number in range(8)], body=b"{}", exp=int(time.time()) + 250)
    public_key = issuer.private_key.public_key()
    ours, bare = _interleaved(
        [
            # The clocks are read in both: jwt.decode reads its own.
            lambda: verifier.verify(token, time.time(), time.monotonic()),
            lambda: jwt.decode(
                token, public_key, algorithms=[algorithm], audience=issuer.audience, issuer=issuer.issuer
            ),
        ],
        repeats,
        calls,
    )
    ratio = statistics.median(mine / theirs for mine, theirs in zip(ours, bare, strict=True))
    more = statistics.median(mine - theirs for mine, theirs in zip(ours, bare, strict=True))
    return (
        f"| {algorithm} | {_us(statistics.median(ours))} | {_us(statistics.median(bare))} "
        f"| {ratio:.2f} | {_us(more)} | {len(token)} bytes |"
    )


def _rejection_row(name: str, size: int, repeats: int, calls: int) -> str:
    issuer = PermitIssuer(algorithm="ES256")
    verifier = _verifier(issuer)
    tokens = ["A" * size, _forged(issuer, size)]
    seconds = _interleaved([_refusal(verifier, token) for token in tokens], repeats, calls)
    return f"| {name} | " + " | ".join(_us(statistics.median(column)) for column in seconds) + " |"


def _verifier(issuer: PermitIssuer) -> PermitVerifier:
    algorithms = frozenset({issuer.algorithm})
    keys = StaticKeys(parse_jwks(json.dumps(issuer.jwks()).encode(), algorithms))
    return PermitVerifier([IssuerTrust(issuer.issuer, issuer.audience, algorithms, keys)], POLICY)


def _forged(issuer: PermitIssuer, size: int) -> str:
    """A token of about this size with all that a permit has, but a signature of zeros."""
    header = {"alg": issuer.algorithm, "kid": issuer.kid, "typ": "permit+jwt"}
    claims = issuer.claims(authorized_endpoints=["endpoint-1"], sub="")
    signature = base64.urlsafe_b64encode(bytes(64)).rstrip(b"=")
    least = len(b".".join((_segment(header), _segment(claims), signature)))
    claims["sub"] = "x" * ((size - least) * 3 // 4)
    return b".".join((_segment(header), _segment(claims), signature)).decode()


def _segment(part: dict[str, object]) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")


def _refusal(verifier: PermitVerifier, token: str) -> Callable[[], None]:
    def refuse() -> None:
        try:
            verifier.verify(token, time.time(), time.monotonic())
        except PermitRejected:
            return
        raise AssertionError("a forged token was admitted")

    return refuse


def _interleaved(works: list[Callable[[], object]], repeats: int, calls: int) -> list[list[float]]:
    """Seconds of processor time per call of each work, one figure a repeat.

    The works take turns at going first; the first repeat is warm-up. Processor time, since on a shared
    machine the wall clock also counts what others do.
    """
    seconds: list[list[float]] = [[] for _ in works]
    for repeat in range(repeats + 1):
        turns = list(zip(works, seconds, strict=True))
        for work, column in turns if repeat % 2 else reversed(turns):
            started = time.process_time()
            for _ in range(calls):
                work()
            if repeat:
                column.append((time.process_time() - started) / calls)
    return seconds


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} µs"


def _processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


if __name__ == "__main__":
    main()
