from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
from routing_cases import a_candidate, a_policy, a_request, a_scope
from strategy_cases import a_context, an_input, bands, terms

from litellm_plugin.routing import Assessment, Composed, Cost, Custom, Ranked, Ranking, Static, decide
from litellm_plugin.testing import check_strategy

AB = [an_input("a", cost=2.0), an_input("b", cost=1.0)]
OUTSIDE = Assessment(a_candidate("outside"))


@dataclass(frozen=True)
class Answers:
    """Answers what it was told to."""

    answer: object
    name = "mine"

    def rank(self, inputs, context):
        return self.answer(inputs) if callable(self.answer) else self.answer


def custom(answer):
    return Custom("mine", Answers(answer))


def fails(inputs):
    raise ZeroDivisionError


def test_a_strategy_of_ones_own_ranks():
    mine = custom(
        lambda inputs: Ranking(tuple((Ranked(each),) for each in sorted(inputs, key=repr)), ("noted",))
    )
    ranking = mine.rank(AB, a_context())
    assert bands(ranking) == [["a-1"], ["b-1"]]
    assert ranking.notes == ("noted",)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(fails, "ZeroDivisionError", id="raises"),
        pytest.param(None, "AttributeError", id="nothing"),
        pytest.param([["a-1"]], "AttributeError", id="a list"),
        pytest.param(Ranking((("a-1",),)), "AttributeError", id="ids"),
        pytest.param(Ranking((Ranked(AB[0]),)), "TypeError", id="no bands"),
        pytest.param(
            Ranking(((Ranked(AB[0], terms={"x": "y" * 9}, score="x"),),), notes=3), "TypeError", id="notes"
        ),
    ],
)
def test_one_that_fails_leaves_its_candidates_equal_and_says_so(answer, error):
    ranking = custom(answer).rank(AB, a_context())
    assert bands(ranking) == [["a-1", "b-1"]]
    assert ranking.notes == (f"strategy mine failed: {error}; neutral order",)


def test_one_that_fails_opens_nothing_that_stands_before_it():
    ranking = Composed(Static(("b",)), custom(fails)).rank(AB, a_context())
    assert bands(ranking) == [["b-1"]]


def test_it_can_neither_add_nor_change_nor_repeat_a_candidate():
    forged = replace(AB[0], candidate=replace(AB[0].candidate, endpoint="outside"))
    answer = Ranking(((Ranked(OUTSIDE), Ranked(forged)), (Ranked(AB[0]),), (Ranked(OUTSIDE),)))
    ranking = custom(answer).rank(AB, a_context())
    assert [ranked.assessment for ranked in ranking] == [AB[0]]
    assert len(ranking.bands) == 1


def test_terms_that_are_no_numbers_are_dropped():
    answer = Ranking(((Ranked(AB[0], math.nan, {"a": 1, "b": "x", "c": math.inf, 4: True}),),))
    ranking = custom(answer).rank(AB, a_context())
    assert terms(ranking) == {"a-1": {"a": 1.0, "4": 1.0}}
    assert next(iter(ranking)).score is None


def test_a_failing_strategy_still_gives_a_plan_inside_the_permit():
    candidates = [a_candidate("outside", price=0.0), a_candidate("a"), a_candidate("b")]
    decision = decide(a_policy(custom(fails)), a_request(), a_scope(), candidates, statistics=None, seed=1)
    assert {each.endpoint for each in decision.plan} == {"a", "b"}
    assert decision.notes == ("strategy mine failed: ZeroDivisionError; neutral order",)


def test_one_that_fails_on_no_candidate_gives_none():
    assert custom(fails).rank([], a_context()).bands == ()


@dataclass(frozen=True)
class ByPosition:
    name = "by-position"

    def rank(self, inputs, context):
        return Ranking(tuple((Ranked(each),) for each in inputs))


@dataclass(frozen=True)
class Eager:
    name = "eager"

    def rank(self, inputs, context):
        return Ranking(((Ranked(OUTSIDE),),))


@dataclass(frozen=True)
class Twice:
    name = "twice"

    def rank(self, inputs, context):
        return Ranking(tuple((Ranked(each),) for each in (*inputs, *inputs)))


@dataclass(frozen=True)
class Renames:
    name = "renames"

    def rank(self, inputs, context):
        return Ranking((tuple(Ranked(replace(each, in_flight=99)) for each in inputs),))


class Counts:
    name = "counts"

    def __init__(self):
        self.asked = 0

    def rank(self, inputs, context):
        self.asked += 1
        turned = inputs if self.asked % 2 else inputs[::-1]
        return Ranking(tuple((Ranked(each),) for each in turned))


@dataclass(frozen=True)
class PricesAreKnown:
    name = "prices-are-known"

    def rank(self, inputs, context):
        return Ranking(
            (tuple(sorted(map(Ranked, inputs), key=lambda each: each.assessment.expected_cost_usd)),)
        )


class TestContract:
    def test_a_good_strategy_keeps_it(self):
        check_strategy(Cost(), inputs=AB, facts=a_request())

    @pytest.mark.parametrize(
        ("strategy", "said"),
        [
            pytest.param(ByPosition(), "the order of the inputs does not matter", id="position"),
            pytest.param(Eager(), "only candidates that were given; found ['outside-1']", id="adds"),
            pytest.param(Twice(), "each candidate stands in a ranking once", id="repeats"),
            pytest.param(Renames(), "as they were given", id="changes"),
            pytest.param(Counts(), "asked twice, the answer is the same", id="remembers"),
            pytest.param(Answers(None), "expected a Ranking, got NoneType", id="nothing"),
            pytest.param(replace(Cost(), tolerance=0.5), None, id="tolerant"),
        ],
    )
    def test_a_breach_is_named(self, strategy, said):
        if said is None:
            check_strategy(strategy)
            return
        with pytest.raises(AssertionError) as caught:
            check_strategy(strategy)
        assert said in str(caught.value)

    def test_one_that_cannot_do_without_prices_fails_it(self):
        with pytest.raises(TypeError):
            check_strategy(PricesAreKnown())

    def test_a_strategy_without_a_name_fails_it(self):
        nameless = Answers(None)
        object.__setattr__(nameless, "name", "")
        with pytest.raises(AssertionError, match="a strategy has a name"):
            check_strategy(nameless)
