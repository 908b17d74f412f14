"""Candidates: the deployments of a model group with everything that routing may know of them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from litellm_plugin.routing.budgets import BudgetAccount
    from litellm_plugin.routing.facts import Capability
    from litellm_plugin.routing.health import EndpointHealth


@dataclass(frozen=True, slots=True)
class PriceStep:
    """What tokens cost once a prompt is longer than a limit; every token of the request costs that much.

    Attributes:
        above_tokens: The step holds for prompts of more tokens than this.
        input_usd, output_usd, cached_input_usd: Per token; None where the step changes nothing.
    """

    above_tokens: int
    input_usd: float | None = None
    output_usd: float | None = None
    cached_input_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices in USD; None means unknown, which is never read as free.

    Attributes:
        input_usd: Per input token.
        output_usd: Per output token.
        request_usd: Fixed, per request.
        cached_input_usd: Per input token that the provider reads from its cache.
        image_input_usd: Per image in the request.
        image_output_usd: Per image that is made.
        audio_input_usd: Per second of audio in the request.
        character_usd: Per character of text that is spoken.
        query_usd: Per search query of a ranking.
        steps: What longer prompts cost, the lowest limit first.
    """

    input_usd: float | None = None
    output_usd: float | None = None
    request_usd: float | None = 0.0
    cached_input_usd: float | None = None
    image_input_usd: float | None = None
    image_output_usd: float | None = None
    audio_input_usd: float | None = None
    character_usd: float | None = None
    query_usd: float | None = None
    steps: tuple[PriceStep, ...] = ()

    def at(self, input_tokens: int) -> Prices:
        """The prices of a prompt of this many tokens."""
        if not self.steps or input_tokens <= self.steps[0].above_tokens:
            return self
        found = self
        for step in self.steps:
            if input_tokens > step.above_tokens:
                found = found._after(step)
        return found

    def _after(self, step: PriceStep) -> Prices:
        def changed(price: float | None, to: float | None) -> float | None:
            return price if to is None else to

        return replace(
            self,
            input_usd=changed(self.input_usd, step.input_usd),
            output_usd=changed(self.output_usd, step.output_usd),
            cached_input_usd=changed(self.cached_input_usd, step.cached_input_usd),
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """One deployment that could answer.

    Attributes:
        deployment_id: LiteLLM's id of the deployment.
        endpoint: The name that a permit authorizes; several deployments may share it.
        model: The provider's model that answers, as configured; None when unknown.
        provider: LiteLLM's name of the provider, such as `azure`; None when unknown.
        clearances: The classifications it may receive; None when the operator declared none.
        attributes: Declared attributes such as `baa`; an undeclared one is absent.
        latency_classes: The latency classes it serves; None when undeclared: all of them.
        capabilities: What it is known to support; an unknown capability is absent.
        languages: The languages it covers, ISO 639-1; None when undeclared: all of them.
        max_input_tokens: Its context window for input; None when unknown.
        max_output_tokens: The longest answer it gives; None when unknown.
        prices: What it costs.
        tier_prices: What it costs the tenants of a tier, where that differs.
        region: Where it runs, as declared.
        tier: Its quality tier, as declared.
        quality: Its quality, as declared, from 0 to 1; None when undeclared.
        cache_lifetime_s: How long the provider keeps a cached prefix; None when it caches none.
        is_available: Whether LiteLLM currently offers it (not paused, blocked or cooling down).
    """

    deployment_id: str
    endpoint: str
    model: str | None = None
    clearances: frozenset[str] | None = None
    attributes: frozenset[str] = frozenset()
    latency_classes: frozenset[str] | None = None
    capabilities: frozenset[Capability] = frozenset()
    languages: frozenset[str] | None = None
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    prices: Prices = Prices()
    tier_prices: Mapping[str, Prices] = field(default_factory=dict, hash=False)
    region: str | None = None
    tier: str | None = None
    quality: float | None = None
    cache_lifetime_s: float | None = None
    is_available: bool = True
    provider: str | None = None

    def prices_for(self, tenant_tier: str) -> Prices:
        """What it costs a tenant of this tier."""
        return self.tier_prices.get(tenant_tier, self.prices)


@dataclass(frozen=True, slots=True)
class CandidateGroup:
    """The candidates of a model group, indexed so that a decision looks at the authorized ones and few others.

    Attributes:
        candidates: All of them, in the group's order.
        by_endpoint: The places of an endpoint's candidates in that order.
        deployment_ids: The ids of all.
        shared_ids: The endpoints behind each id that several endpoints share.
    """

    candidates: tuple[Candidate, ...]
    by_endpoint: Mapping[str, tuple[int, ...]]
    deployment_ids: frozenset[str]
    shared_ids: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, candidates: Iterable[Candidate]) -> CandidateGroup:
        """Indexes the candidates."""
        listed = tuple(candidates)
        places: defaultdict[str, list[int]] = defaultdict(list)
        endpoints: defaultdict[str, set[str]] = defaultdict(set)
        for place, candidate in enumerate(listed):
            places[candidate.endpoint].append(place)
            endpoints[candidate.deployment_id].add(candidate.endpoint)
        return cls(
            candidates=listed,
            by_endpoint={endpoint: tuple(each) for endpoint, each in places.items()},
            deployment_ids=frozenset(endpoints),
            shared_ids={name: frozenset(each) for name, each in endpoints.items() if len(each) > 1},
        )

    def places(self, endpoints: Iterable[str], outside: int) -> list[int]:
        """Where the candidates of these endpoints stand, and the first others, at most so many of those."""
        inside = {place for endpoint in endpoints for place in self.by_endpoint.get(endpoint, ())}
        others = islice((place for place in range(len(self.candidates)) if place not in inside), outside)
        return sorted((*inside, *others))


@dataclass(frozen=True, slots=True)
class EndpointStatistics:
    """What was measured of one deployment in the rolling window; None where nothing was.

    Latencies are quantiles, within 2 % of the exact ones, in which what is older may weigh less.

    Attributes:
        attempts: Number of attempts.
        failures: Number of failed attempts.
        total_p50_ms, total_p95_ms, total_p99_ms: Time to the whole answer.
        first_token_p50_ms, first_token_p95_ms, first_token_p99_ms: Time to the first token of streams.
        output_token_p50_ms, output_token_p95_ms, output_token_p99_ms: Time per output token, after the first one
            where it is known.
    """

    attempts: int = 0
    failures: int = 0
    total_p50_ms: float | None = None
    total_p95_ms: float | None = None
    total_p99_ms: float | None = None
    first_token_p50_ms: float | None = None
    first_token_p95_ms: float | None = None
    first_token_p99_ms: float | None = None
    output_token_p50_ms: float | None = None
    output_token_p95_ms: float | None = None
    output_token_p99_ms: float | None = None


@dataclass(frozen=True, slots=True)
class StatisticsSnapshot:
    """The statistics that a decision reads, by deployment id, and the time they were taken.

    Attributes:
        by_deployment: Statistics by deployment id.
        taken_at_s: Monotonic seconds.
        in_flight: How many attempts of this worker are under way, by deployment id; no entry for none.
        output_tokens: The expected length of an answer in tokens, by route (`route_of`); it may be made when it
            is looked up.
        health: Whether deployments may be asked now, by deployment id; no entry for a healthy one without limits.
        budgets: What is left of budgets in USD, by account; no entry where nobody keeps count. It may be reckoned when
            it is looked up.
    """

    by_deployment: Mapping[str, EndpointStatistics]
    taken_at_s: float
    in_flight: Mapping[str, int] = field(default_factory=dict, hash=False)
    output_tokens: Mapping[str, float] = field(default_factory=dict, hash=False)
    health: Mapping[str, EndpointHealth] = field(default_factory=dict, hash=False)
    budgets: Mapping[BudgetAccount, float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Affinity:
    """What earlier requests of the same tenant and classification left where.

    Attributes:
        session_deployment: The id of the deployment that served this session last; None when none did.
        warm_tokens: How many input tokens of this prompt a deployment has likely cached, by deployment id.
    """

    session_deployment: str | None = None
    warm_tokens: Mapping[str, int] = field(default_factory=dict, hash=False)


NO_AFFINITY = Affinity()
