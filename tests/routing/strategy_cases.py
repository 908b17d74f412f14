"""Builders and Hypothesis strategies for what strategies rank."""

from __future__ import annotations

from hypothesis import strategies as st
from routing_cases import ENDPOINTS, a_candidate, a_request, a_scope

from litellm_plugin.routing import (
    BALANCED_TERMS,
    Assessment,
    AssignedBy,
    Attested,
    Balanced,
    CallType,
    Candidate,
    Composed,
    Cost,
    EndpointStatistics,
    Fallback,
    Latency,
    Quality,
    RankingContext,
    RequestFacts,
    Static,
    Table,
    Weighted,
)

TIERS = ("small", "medium", "large")


def an_input(endpoint, *, cost=None, statistics=None, in_flight=0, **fields):
    return Assessment(
        a_candidate(endpoint, **fields), expected_cost_usd=cost, statistics=statistics, in_flight=in_flight
    )


def a_context(*, seed=0, output_tokens=512, scope=None, **facts):
    return RankingContext(a_request(**facts), scope or a_scope(), seed, output_tokens=output_tokens)


def seen(attempts=100, failures=0, **latencies):
    return EndpointStatistics(attempts=attempts, failures=failures, **latencies)


def bands(ranking):
    """The deployment ids of each band; the order within one says nothing."""
    return [sorted(ranked.assessment.candidate.deployment_id for ranked in band) for band in ranking.bands]


def terms(ranking):
    return {ranked.assessment.candidate.deployment_id: dict(ranked.terms) for ranked in ranking}


names = st.sampled_from(ENDPOINTS)
name_lists = st.lists(names, max_size=4).map(tuple)
weights = st.sampled_from((0.0, 1e-3, 0.5, 1.0, 95.0))
milliseconds = st.none() | st.floats(0, 1e6) | st.floats()
statistics = st.none() | st.builds(
    EndpointStatistics,
    attempts=st.integers(0, 60),
    failures=st.integers(0, 60),
    total_p95_ms=milliseconds,
    first_token_p95_ms=milliseconds,
    output_token_p95_ms=milliseconds,
)
inputs = st.lists(
    st.builds(
        Assessment,
        candidate=st.builds(
            Candidate,
            deployment_id=st.uuids().map(str),
            endpoint=names,
            model=st.none() | st.sampled_from(("gpt-a", "gpt-b")),
            tier=st.none() | st.sampled_from((*TIERS, "unheard-of")),
            quality=st.none() | st.floats(0, 1),
        ),
        expected_cost_usd=st.none() | st.floats(0, 1e3) | st.sampled_from((0.0, 1e-6)),
        statistics=statistics,
        in_flight=st.integers(0, 5),
    ),
    max_size=8,
)
contexts = st.builds(
    RankingContext,
    facts=st.builds(
        RequestFacts,
        model_group=st.just("gpt"),
        call_type=st.just(CallType.CHAT),
        input_tokens=st.just(100),
        stream=st.booleans(),
        latency_budget_ms=st.none() | st.integers(0, 10_000),
        session=st.none() | st.text(max_size=5),
        workload=st.none() | st.sampled_from(("night", "day")),
    ),
    scope=st.builds(a_scope, request_id=st.text(max_size=5)),
    seed=st.integers(0, 2**64),
    output_tokens=st.none() | st.floats(0, 1e5),
)


def _positive(given):
    return any(given.values())


statics = st.builds(Static, name_lists, st.booleans())
qualities = st.sampled_from(
    (
        Quality(TIERS, tier="large"),
        Quality(TIERS, tier="medium", floor="medium"),
        Quality(TIERS, floor="medium"),
        Quality(minimum_quality=0.5),
    )
)
balances = st.builds(
    Balanced,
    st.dictionaries(st.sampled_from(BALANCED_TERMS), weights, min_size=1).filter(_positive),
    st.sampled_from(((), TIERS)),
)
shares = st.builds(
    Weighted,
    st.dictionaries(names, weights, min_size=1).filter(_positive),
    st.sampled_from(AssignedBy),
    st.sampled_from(("x", "y")),
    st.booleans(),
)
chains = st.builds(Fallback, name_lists, st.booleans())
complete = st.one_of(st.builds(Cost, st.floats(0, 1)), st.builds(Latency, st.floats(0, 1)), balances)
attested = st.builds(Attested, names, st.sampled_from(("gpt-a", "gpt-b")))
simple = st.one_of(complete, statics, qualities, shares, chains, attested)
tables = st.builds(
    Table,
    st.sampled_from(("permit.tenant", "request.workload")),
    st.dictionaries(st.sampled_from(("acme", "night")), statics, max_size=2),
    st.none() | simple,
)
any_strategy = st.recursive(simple | tables, lambda inner: st.builds(Composed, inner, inner), max_leaves=4)
complete_strategy = st.recursive(complete, lambda inner: st.builds(Composed, inner, inner), max_leaves=4)
