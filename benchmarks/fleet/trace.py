"""The trace: when requests come and how long they are, the same in every run of a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """One request: its place in the trace, its time, its tokens."""

    number: int
    at_s: float
    input_tokens: int
    output_tokens: int

    @property
    def text(self) -> str:
        """A prompt of about this many tokens; its first words tell the fleet what it is."""
        head = f"{self.number} {self.input_tokens} {self.output_tokens} "
        return head + "word " * max(self.input_tokens - 8, 0)


def trace(seed: int, *, seconds: float, per_second: float) -> list[Request]:
    """Poisson arrivals; log-normal lengths of prompts (median 600 tokens) and answers (median 200)."""
    dice = random.Random(seed)
    requests: list[Request] = []
    at_s = dice.expovariate(per_second)
    while at_s < seconds:
        input_tokens = min(8_000, int(dice.lognormvariate(6.4, 0.9)) + 16)
        output_tokens = min(2_000, int(dice.lognormvariate(5.3, 0.8)) + 1)
        requests.append(Request(len(requests), at_s, input_tokens, output_tokens))
        at_s += dice.expovariate(per_second)
    return requests
