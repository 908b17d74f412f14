from __future__ import annotations

import pytest
from strategy_cases import a_context, an_input, bands, terms

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.routing import Cost


def test_costs_within_the_tolerance_of_the_cheapest_are_equal():
    given = [an_input("a", cost=1.0), an_input("b", cost=1.009), an_input("c", cost=1.02)]
    assert bands(Cost().rank(given, a_context())) == [["a-1", "b-1"], ["c-1"]]
    assert bands(Cost(0.0).rank(given, a_context())) == [["a-1"], ["b-1"], ["c-1"]]


def test_a_free_endpoint_is_before_a_paid_one():
    given = [an_input("a", cost=1e-9), an_input("b", cost=0.0)]
    assert bands(Cost().rank(given, a_context())) == [["b-1"], ["a-1"]]


def test_an_unknown_price_is_last_and_a_note_names_the_deployment():
    ranking = Cost().rank([an_input("a"), an_input("b", cost=9.0)], a_context())
    assert bands(ranking) == [["b-1"], ["a-1"]]
    assert ranking.notes == ("cost: price unknown, so last: a-1",)


def test_the_cost_is_the_term():
    assert terms(Cost().rank([an_input("a"), an_input("b", cost=9.0)], a_context())) == {
        "a-1": {},
        "b-1": {"cost_usd": 9.0},
    }


@pytest.mark.parametrize("tolerance", [-0.1, 1.1, float("nan")])
def test_a_tolerance_that_is_no_share_is_refused(tolerance):
    with pytest.raises(ConfigurationError, match="tolerance: expected a number from 0 to 1"):
        Cost(tolerance)
