"""Endpoints: what a simulated model costs, how long it takes, and when it goes wrong."""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import litellm
from litellm import CustomLLM, ModelResponse, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.virtual_time import VirtualClock

PROVIDER = "fleet"
# The heavy tail of waiting times: one request in a hundred waits a multiple of the usual.
TAIL_SHARE = 0.01
TAIL_SHAPE = 1.5
FAILURE_S = 0.2


@dataclass(frozen=True)
class Episode:
    """A stretch of time in which an endpoint is not itself."""

    start_s: float
    end_s: float
    slower: float = 1.0
    failing: float = 0.0


@dataclass(frozen=True)
class Endpoint:
    """One simulated deployment.

    Attributes:
        name: Its id and endpoint name.
        priced_as: The entry of LiteLLM's cost map whose prices it has.
        first_token_s, output_token_s: Medians of log-normal times.
        spread: Sigma of both.
        capacity: How many requests it serves side by side before each slows the others.
        rpm: Requests a minute before it answers 429.
        drift: How far its speed swings, as a share, in `drift_period_s`.
    """

    name: str
    priced_as: str
    first_token_s: float
    output_token_s: float
    spread: float = 0.45
    capacity: int = 30
    rpm: int = 100_000
    failing: float = 0.002
    drift: float = 0.0
    drift_period_s: float = 300.0
    tier: str = "medium"
    episodes: tuple[Episode, ...] = ()

    @property
    def prices(self) -> tuple[float, float]:
        """USD per input and output token."""
        entry = litellm.model_cost[self.priced_as]
        return float(entry["input_cost_per_token"]), float(entry["output_cost_per_token"])

    def deployment(self, group: str) -> dict[str, Any]:
        """The entry for LiteLLM's model list."""
        price_in, price_out = self.prices
        return {
            "model_name": group,
            "litellm_params": {
                "model": f"{PROVIDER}/{self.name}",
                "api_key": "none",
                "input_cost_per_token": price_in,
                "output_cost_per_token": price_out,
                "rpm": self.rpm,
                "tpm": self.rpm * 2_000,
            },
            "model_info": {"id": self.name, "endpoint": self.name, "quality_tier": self.tier},
        }


@dataclass
class _Load:
    in_flight: int = 0
    minute: int = -1
    in_minute: int = 0


@dataclass(frozen=True)
class Sent:
    """One request as an endpoint received it."""

    at_s: float
    endpoint: str
    request: int


@dataclass
class Fleet(CustomLLM):  # type: ignore[misc]
    """Answers for every endpoint; the same request meets the same luck at the same endpoint in every run."""

    endpoints: tuple[Endpoint, ...]
    clock: VirtualClock
    seed: int
    sent: list[Sent] = field(default_factory=list)
    cost_usd: float = 0.0
    rate_limited: int = 0
    _loads: dict[str, _Load] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self._by_name = {endpoint.name: endpoint for endpoint in self.endpoints}
        self._loads = {endpoint.name: _Load() for endpoint in self.endpoints}

    async def acompletion(self, *args: Any, **kwargs: Any) -> ModelResponse:
        model = kwargs.get("model") or args[0]
        messages = kwargs.get("messages") or args[1]
        endpoint = self._by_name[model.removeprefix(f"{PROVIDER}/")]
        number, input_tokens, output_tokens = map(int, messages[0]["content"].split(maxsplit=3)[:3])
        self.sent.append(Sent(self.clock.now_s, endpoint.name, number))
        load = self._loads[endpoint.name]
        self._admit(endpoint, load)
        load.in_flight += 1
        try:
            seconds, is_failing = self._fate(endpoint, load, number, output_tokens)
            await asyncio.sleep(seconds)
        finally:
            load.in_flight -= 1
        if is_failing:
            response = _response(500)
            raise litellm.InternalServerError(
                "injected", llm_provider=PROVIDER, model=endpoint.name, response=response
            ) from _answered(response)
        price_in, price_out = endpoint.prices
        self.cost_usd += input_tokens * price_in + output_tokens * price_out
        usage = Usage(
            prompt_tokens=input_tokens,
            completion_tokens=output_tokens,
            total_tokens=input_tokens + output_tokens,
        )
        return ModelResponse(
            model=endpoint.name,
            choices=[{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "."}}],
            usage=usage,
        )

    def _admit(self, endpoint: Endpoint, load: _Load) -> None:
        minute = int(self.clock.now_s // 60)
        if load.minute != minute:
            load.minute, load.in_minute = minute, 0
        load.in_minute += 1
        if load.in_minute > endpoint.rpm:
            self.rate_limited += 1
            left_s = math.ceil(60 * (minute + 1) - self.clock.now_s)
            response = _response(429, {"retry-after": str(left_s)})
            raise litellm.RateLimitError(
                "too many requests", llm_provider=PROVIDER, model=endpoint.name, response=response
            ) from _answered(response)

    def _fate(self, endpoint: Endpoint, load: _Load, number: int, output_tokens: int) -> tuple[float, bool]:
        """How long this request takes there, and whether it fails; a failure comes after a fifth of a second."""
        luck = _luck(self.seed, endpoint.name, number)
        now_s = self.clock.now_s
        episodes = [each for each in endpoint.episodes if each.start_s <= now_s < each.end_s]
        first_s = endpoint.first_token_s * luck.lognormvariate(0.0, endpoint.spread)
        rest_s = output_tokens * endpoint.output_token_s * luck.lognormvariate(0.0, endpoint.spread / 2)
        if luck.random() < TAIL_SHARE:
            first_s *= luck.paretovariate(TAIL_SHAPE) * 2
        if luck.random() < max([endpoint.failing, *(each.failing for each in episodes)]):
            return FAILURE_S, True
        swing = 1.0 + endpoint.drift * math.sin(2 * math.pi * now_s / endpoint.drift_period_s)
        crowd = max(1.0, load.in_flight / endpoint.capacity)
        return (first_s + rest_s) * math.prod(each.slower for each in episodes) * swing * crowd, False


def _response(status: int, headers: Mapping[str, str] | None = None) -> httpx.Response:
    request = httpx.Request("POST", "https://fleet.invalid/v1/chat/completions")
    return httpx.Response(status, headers={"server": PROVIDER, **(headers or {})}, request=request)


def _answered(response: httpx.Response) -> httpx.HTTPStatusError:
    """What stands behind LiteLLM's exceptions where a provider was asked."""
    return httpx.HTTPStatusError(str(response.status_code), request=response.request, response=response)


def _luck(seed: int, name: str, number: int) -> random.Random:
    text = f"{seed}:{name}:{number}".encode()
    return random.Random(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()))
