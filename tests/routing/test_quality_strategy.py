from __future__ import annotations

import pytest
from strategy_cases import TIERS, a_context, an_input, bands, terms

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.routing import Composed, Cost, Quality

FLEET = [
    an_input("a", tier="small", quality=0.3, cost=1.0),
    an_input("b", tier="medium", quality=0.6, cost=3.0),
    an_input("c", tier="large", quality=0.9, cost=6.0),
    an_input("d", cost=0.1),
]
MIDDLE = [*FLEET, an_input("e", tier="medium", cost=2.0)]


def ranked(given=FLEET, **options):
    return Quality(TIERS, **options).rank(given, a_context())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({"tier": "large"}, [["c-1"], ["b-1"], ["a-1"], ["d-1"]], id="down from the top"),
        pytest.param({"tier": "small"}, [["a-1"], ["b-1"], ["c-1"], ["d-1"]], id="up from the bottom"),
        pytest.param({"tier": "medium"}, [["b-1"], ["c-1"], ["a-1"], ["d-1"]], id="up, then down"),
        pytest.param({"tier": "medium", "floor": "medium"}, [["b-1"], ["c-1"]], id="never below the floor"),
        pytest.param({"floor": "medium"}, [["b-1", "c-1"]], id="all above a floor are equal"),
        pytest.param({"minimum_quality": 0.6}, [["b-1", "c-1"]], id="declared quality"),
        pytest.param({"tier": "large", "minimum_quality": 0.5}, [["c-1"], ["b-1"]], id="both"),
    ],
)
def test_the_wanted_tier_is_first_then_up_then_down(options, expected):
    assert bands(ranked(**options)) == expected


def test_the_cheapest_of_a_tier_is_first_with_cost_behind_it():
    strategy = Composed(Quality(TIERS, tier="medium"), Cost())
    assert bands(strategy.rank(MIDDLE, a_context()))[:2] == [["e-1"], ["b-1"]]


def test_what_is_left_out_is_named():
    assert ranked(floor="medium").notes == ("quality: below the floor or undeclared, so left out: a-1, d-1",)


def test_another_tier_than_the_wanted_one_is_said():
    (note,) = ranked(FLEET[:2], tier="large").notes
    assert note == "quality: no candidate of tier 'large'; the first is of tier 'medium'"


def test_candidates_without_a_tier_are_said_to_have_none():
    (note,) = ranked(FLEET[3:], tier="large").notes
    assert note == "quality: no candidate of tier 'large'; the first is of no declared tier"


def test_the_terms_are_the_declared_facts():
    assert terms(ranked(tier="large"))["b-1"] == {"tier_level": 1, "quality": 0.6}
    assert terms(ranked(tier="large"))["d-1"] == {}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param({}, "expected `tier`, `floor` or `minimum_quality`", id="nothing asked"),
        pytest.param({"tier": "huge"}, "tier: expected one of small, medium, large; got 'huge'", id="tier"),
        pytest.param({"floor": "huge"}, "floor: expected one of", id="floor"),
        pytest.param({"tier": "small", "floor": "large"}, "lies above the wanted tier", id="contradiction"),
        pytest.param({"minimum_quality": 7}, "minimum_quality: expected a number from 0 to 1", id="share"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, said):
    with pytest.raises(ConfigurationError, match=said):
        Quality(TIERS, **options)
