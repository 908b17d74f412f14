"""The strategy contract: what every strategy keeps, as a check for a strategy of your own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from litellm_plugin.routing import (
    Assessment,
    CallType,
    Candidate,
    EndpointStatistics,
    Prices,
    Ranking,
    RankingContext,
    RequestFacts,
    RoutingScope,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from litellm_plugin.routing import Strategy

_SEEDS = (0, 1, 2**63)


def check_strategy(
    strategy: Strategy, *, inputs: Sequence[Assessment] = (), facts: RequestFacts | None = None
) -> None:
    """Makes sure that a strategy only orders what it is given, the same way each time.

    It is asked with no candidate, with one, and with several that differ in every fact, prices and statistics
    that nobody knows among them, in several orders and with several seeds.

    Args:
        strategy: The strategy.
        inputs: Candidates of your own that it is asked with as well.
        facts: The request that it is asked with; a chat of 1,000 tokens by default.

    Raises:
        AssertionError: Says what the contract is and what the strategy did.
    """
    request = facts or RequestFacts(model_group="chat", call_type=CallType.CHAT, input_tokens=1_000)
    name: object = strategy.name
    _expect(isinstance(name, str) and name, "a strategy has a name, a text", name)
    for case in _cases(inputs):
        for context in _contexts(request, case):
            _check(strategy, case, context)


def _check(strategy: Strategy, inputs: tuple[Assessment, ...], context: RankingContext) -> None:
    ranking = strategy.rank(inputs, context)
    if not isinstance(ranking, Ranking):
        raise AssertionError(f"expected a Ranking, got {type(ranking).__name__}")  # noqa: TRY004 - pytest shows it as a failure
    given = {each.candidate.deployment_id: each for each in inputs}
    ids = [ranked.assessment.candidate.deployment_id for ranked in ranking]
    _expect(len(ids) == len(set(ids)), "each candidate stands in a ranking once", ids)
    _expect(
        set(ids) <= set(given),
        "a ranking holds only candidates that were given",
        sorted(set(ids) - set(given)),
    )
    changed = [
        ranked.assessment.candidate.deployment_id
        for ranked in ranking
        if ranked.assessment != given[ranked.assessment.candidate.deployment_id]
    ]
    _expect(not changed, "a ranking holds the candidates as they were given", changed)
    _expect(
        _shape(strategy.rank(inputs, context)) == _shape(ranking), "asked twice, the answer is the same", ids
    )
    for order in (inputs[::-1], inputs[1:] + inputs[:1]):
        other = strategy.rank(order, context)
        _expect(_shape(other) == _shape(ranking), "the order of the inputs does not matter", ids)


def _shape(ranking: Ranking) -> list[frozenset[str]]:
    """The bands as sets: the order within a band says nothing."""
    return [
        frozenset(ranked.assessment.candidate.deployment_id for ranked in band)
        for band in ranking.bands
        if band
    ]


def _expect(holds: object, contract: str, found: object) -> None:
    if not holds:
        raise AssertionError(f"{contract}; found {found!r}")


def _contexts(facts: RequestFacts, inputs: Sequence[Assessment]) -> Iterator[RankingContext]:
    scope = RoutingScope(
        request_id="request-1",
        endpoints=frozenset(each.candidate.endpoint for each in inputs),
        policy_version="1",
        data_classification="internal",
        tenant="acme",
        tenant_tier="pro",
        latency_class="interactive",
    )
    for seed in _SEEDS:
        for stream in (False, True):
            for budget_ms in (None, 500):
                request = replace(
                    facts, stream=stream, latency_budget_ms=facts.latency_budget_ms or budget_ms
                )
                yield RankingContext(request, scope, seed, output_tokens=512)


def _cases(own: Sequence[Assessment]) -> Iterator[tuple[Assessment, ...]]:
    several = tuple(_assessments())
    yield ()
    yield several[:1]
    yield several
    # Nothing is known of any of them.
    yield tuple(Assessment(Candidate(f"unknown-{number}", f"unknown-{number}")) for number in range(3))
    if own:
        yield tuple(own)


def _assessments() -> Iterator[Assessment]:
    known = EndpointStatistics(
        attempts=100,
        failures=1,
        total_p50_ms=800,
        total_p95_ms=1_500,
        first_token_p50_ms=90,
        first_token_p95_ms=200,
    )
    failing = replace(known, failures=100, total_p50_ms=None, total_p95_ms=None)
    cheap, dear = Prices(1e-7, 4e-7), Prices(5e-6, 15e-6)
    facts: tuple[
        tuple[Prices, EndpointStatistics | None, str | None, float | None, float | None, int], ...
    ] = (
        (cheap, known, "small", 0.4, 0.0003, 0),
        (dear, replace(known, total_p95_ms=400), "large", 0.9, 0.0127, 3),
        (cheap, failing, "small", 0.4, 0.0003, 0),
        (dear, None, "large", None, 0.0127, 0),
        (Prices(), known, None, 0.7, None, 1),
        (Prices(0.0, 0.0), EndpointStatistics(), None, None, 0.0, 0),
    )
    for number, (prices, statistics, tier, quality, cost_usd, in_flight) in enumerate(facts):
        candidate = Candidate(
            f"deployment-{number}", f"endpoint-{number // 2}", prices=prices, tier=tier, quality=quality
        )
        yield Assessment(candidate, expected_cost_usd=cost_usd, statistics=statistics, in_flight=in_flight)
