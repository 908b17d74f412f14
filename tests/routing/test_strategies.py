from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from routing_cases import a_candidate, a_request, a_scope, candidates_of, strategies

from litellm_plugin.routing import Cost, RankingContext, Static, assess
from litellm_plugin.routing.strategies import spread


def ranked(strategy, candidates, seed=0):
    scope = a_scope(endpoints=frozenset(each.endpoint for each in candidates))
    inputs = assess(candidates, a_request(), scope)
    ranking = strategy.rank(inputs, RankingContext(a_request(), scope, seed))
    order = (ranked for band in ranking.bands for ranked in spread(band, seed))
    return [ranked.assessment.candidate.deployment_id for ranked in order]


def test_static_keeps_the_listed_order_and_leaves_out_the_rest():
    candidates = [a_candidate("a"), a_candidate("b"), a_candidate("c")]
    assert ranked(Static(("c", "missing", "a")), candidates) == ["c-1", "a-1"]


def test_static_takes_the_first_place_of_an_endpoint_listed_twice():
    assert ranked(Static(("a", "b", "a")), [a_candidate("b"), a_candidate("a")]) == ["a-1", "b-1"]


def test_static_spreads_the_deployments_of_one_endpoint_by_seed():
    pool = [a_candidate("a", str(number)) for number in range(3)]
    first = Counter(ranked(Static(("a",)), pool, seed)[0] for seed in range(600))
    assert min(first.values()) > 140


def test_cost_puts_the_cheapest_first_and_the_unknown_last():
    candidates = [a_candidate("a", price=None), a_candidate("b", price=2e-6), a_candidate("c", price=1e-6)]
    assert ranked(Cost(), candidates) == ["c-1", "b-1", "a-1"]


def test_cost_spreads_equal_candidates_by_seed():
    equal = [a_candidate("a"), a_candidate("b"), a_candidate("c")]
    first = Counter(ranked(Cost(), equal, seed)[0] for seed in range(600))
    assert min(first.values()) > 140


@given(strategies, candidates_of(st.uuids().map(str)), st.integers(), st.randoms())
def test_the_order_of_the_inputs_does_not_matter(strategy, candidates, seed, random):
    shuffled = random.sample(candidates, len(candidates))
    assert ranked(strategy, shuffled, seed) == ranked(strategy, candidates, seed)
