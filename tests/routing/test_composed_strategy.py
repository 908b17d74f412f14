from __future__ import annotations

import pytest
from strategy_cases import TIERS, a_context, an_input, bands, seen, terms

from litellm_plugin.routing import (
    Composed,
    Cost,
    Fallback,
    Latency,
    Quality,
    Static,
    Table,
    Weighted,
    named_endpoints,
)

FLEET = [
    an_input("a", cost=1.0, tier="small", statistics=seen(total_p95_ms=800.0)),
    an_input("b", cost=3.0, tier="medium", statistics=seen(total_p95_ms=400.0)),
    an_input("c", cost=2.0, tier="large", statistics=seen(total_p95_ms=4000.0)),
]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        pytest.param(
            Composed(Quality(TIERS, floor="medium"), Cost()),
            [["c-1"], ["b-1"]],
            id="cost with a quality floor",
        ),
        pytest.param(
            Composed(Latency(), Fallback(("c", "a", "b"))),
            [["a-1"], ["b-1"], ["c-1"]],
            id="latency with a chain",
        ),
        pytest.param(
            Composed(Static(("a", "c"), are_equal=True), Composed(Latency(), Cost())),
            [["a-1"], ["c-1"]],
            id="static, then latency, then cost",
        ),
        pytest.param(
            Table("permit.tenant", {"clinic": Static(("b",))}, Cost()),
            [["a-1"], ["c-1"], ["b-1"]],
            id="static for some tenants, cost for the others",
        ),
    ],
)
def test_the_second_decides_within_the_bands_of_the_first(strategy, expected):
    assert bands(strategy.rank(FLEET, a_context(latency_budget_ms=1000))) == expected


def test_the_second_never_brings_back_what_the_first_left_out():
    strategy = Composed(Static(("a",)), Fallback(("c", "a"), others_last=True))
    assert bands(strategy.rank(FLEET, a_context())) == [["a-1"]]


def test_terms_and_notes_of_both_are_kept():
    ranking = Composed(Quality(TIERS, floor="medium"), Composed(Cost(), Latency())).rank(FLEET, a_context())
    assert terms(ranking)["c-1"] == {
        "tier_level": 2,
        "then.cost_usd": 2.0,
        "then.then.expected_tries": 1.0,
        "then.then.is_measured": 1,
        "then.then.latency_ms": 4000.0,
    }
    assert ranking.notes == ("quality: below the floor or undeclared, so left out: a-1",)


def test_the_name_is_made_of_both():
    assert (
        Composed(Latency(), Composed(Cost(), Weighted({"a": 1}))).name == "latency, then cost, then weighted"
    )


def test_every_endpoint_that_is_named_is_told():
    strategy = Composed(
        Table("permit.tenant", {"x": Static(("a",))}, Static(("b",))),
        Composed(Fallback(("c",)), Composed(Weighted({"d": 1}), Cost())),
    )
    assert list(named_endpoints(strategy)) == ["a", "b", "c", "d"]
