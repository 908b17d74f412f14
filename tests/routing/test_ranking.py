"""What every strategy keeps, composed ones included."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing_cases import ENDPOINTS, a_policy, any_situation, situation, words
from strategy_cases import TIERS, any_strategy, bands, complete_strategy, contexts, inputs

from litellm_plugin.routing import (
    AssignedBy,
    Balanced,
    Composed,
    Cost,
    Fallback,
    Latency,
    Quality,
    Static,
    Table,
    Weighted,
    decide,
)
from litellm_plugin.testing import check_strategy


@given(any_strategy, inputs, contexts)
def test_a_ranking_holds_only_what_was_given_and_each_once(strategy, given_inputs, context):
    ranked = [each.assessment for each in strategy.rank(given_inputs, context)]
    assert len({each.candidate.deployment_id for each in ranked}) == len(ranked)
    assert all(each in given_inputs for each in ranked)


@given(any_strategy, inputs, contexts, st.randoms())
def test_the_order_of_the_inputs_does_not_matter(strategy, given_inputs, context, random):
    shuffled = random.sample(given_inputs, len(given_inputs))
    ranking, other = strategy.rank(given_inputs, context), strategy.rank(shuffled, context)
    assert bands(other) == bands(ranking)
    assert other.notes == ranking.notes


@given(any_strategy, inputs, contexts)
def test_the_same_question_has_the_same_answer(strategy, given_inputs, context):
    assert strategy.rank(given_inputs, context) == strategy.rank(given_inputs, context)


@given(complete_strategy, inputs, contexts)
def test_cost_latency_and_balance_lose_no_candidate(strategy, given_inputs, context):
    assert len(list(strategy.rank(given_inputs, context))) == len(given_inputs)


@given(any_strategy, inputs, contexts)
def test_every_band_has_a_candidate_and_every_term_is_a_number(strategy, given_inputs, context):
    ranking = strategy.rank(given_inputs, context)
    assert all(ranking.bands)
    assert not any(math.isnan(value) for ranked in ranking for value in ranked.terms.values())


@given(any_strategy, inputs, contexts, st.data())
def test_fewer_candidates_never_make_a_longer_ranking(strategy, given_inputs, context, data):
    kept = [each for each in given_inputs if data.draw(st.booleans())]
    before = {each.assessment.candidate.deployment_id for each in strategy.rank(given_inputs, context)}
    after = {each.assessment.candidate.deployment_id for each in strategy.rank(kept, context)}
    assert after <= before


@given(any_strategy, inputs, contexts)
def test_the_seed_changes_no_band_but_for_who_explores(strategy, given_inputs, context):
    # One seed in twenty looks at what is little known.
    other = replace(context, seed=context.seed + 20)
    assert bands(strategy.rank(given_inputs, other)) == bands(strategy.rank(given_inputs, context))


@given(any_situation, any_strategy)
def test_no_strategy_leaves_the_permit(arguments, strategy):  # P1
    decision = decide(**arguments | {"policy": a_policy(strategy)})
    assert {each.endpoint for each in decision.plan} <= arguments["scope"].endpoints
    assert set(decision.plan) <= set(arguments["candidates"])
    assert (decision.verdict is None) == bool(decision.plan)


@given(situation, any_strategy, words)
def test_a_further_requirement_never_enlarges_the_plan_of_any_strategy(arguments, strategy, word):  # P2
    arguments |= {"policy": a_policy(strategy, attempts=10)}
    scope = arguments["scope"]
    stricter = arguments | {"scope": replace(scope, requirements=scope.requirements | {word})}
    assert set(decide(**stricter).plan) <= set(decide(**arguments).plan)


@given(situation, any_strategy, st.lists(st.sampled_from(ENDPOINTS), max_size=3).map(tuple))
def test_preferences_change_the_order_and_nothing_else(arguments, strategy, preferences):
    arguments |= {"policy": a_policy(strategy, attempts=10)}
    preferring = arguments | {"scope": replace(arguments["scope"], preferences=preferences)}
    assert set(decide(**preferring).plan) == set(decide(**arguments).plan)


@pytest.mark.parametrize(
    "strategy",
    [
        pytest.param(Static(("endpoint-1", "endpoint-0")), id="static"),
        pytest.param(Table("permit.tenant", {"acme": Static(("endpoint-1",))}), id="table"),
        pytest.param(Cost(), id="cost"),
        pytest.param(Quality(TIERS, tier="large", floor="small"), id="quality"),
        pytest.param(Latency(), id="latency"),
        pytest.param(Balanced({"cost": 0.5, "latency": 0.3, "quality": 0.2}, TIERS), id="balanced"),
        pytest.param(Weighted({"endpoint-0": 9, "endpoint-2": 1}, AssignedBy.TENANT, "rule"), id="weighted"),
        pytest.param(Fallback(("endpoint-2", "endpoint-0"), others_last=True), id="fallback"),
        pytest.param(Composed(Latency(), Composed(Quality(TIERS, floor="small"), Cost())), id="composed"),
    ],
)
def test_the_built_in_strategies_keep_the_public_contract(strategy):
    check_strategy(strategy)
