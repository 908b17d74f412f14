"""Stickiness: where a conversation stays, when it leaves, and that it never widens a ranking."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing_cases import a_candidate, a_policy, a_request, a_scope, any_situation

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.routing import (
    Affinity,
    Assessment,
    Composed,
    Cost,
    EndpointStatistics,
    Fallback,
    Latency,
    Quality,
    Ranked,
    Ranking,
    RankingContext,
    Static,
    Stickiness,
    decide,
)
from litellm_plugin.routing.stickiness import stick

POLICY = Stickiness()


def ranked(name, score=None):
    return Ranked(Assessment(a_candidate(name)), score)


def a_context(session="b-1", **facts):
    return RankingContext(a_request(**facts), a_scope(), seed=1, affinity=Affinity(session))


def stuck(*bands, context=None, policy=POLICY):
    ranking = Ranking(tuple(bands))
    order, notes = stick(policy, list(ranking), ranking, context or a_context())
    return [each.assessment.candidate.endpoint for each in order], notes


def test_a_session_stays_where_moving_gains_little():
    order, (note,) = stuck((ranked("a", 8.0),), (ranked("b", 10.0),), (ranked("c", 11.0),))
    assert order == ["b", "a", "c"]
    assert note == "session kept at b-1: moving to a-1 would gain 0.200, not above 0.300"


def test_it_leaves_where_moving_gains_enough():
    order, (note,) = stuck((ranked("a", 6.0),), (ranked("b", 10.0),))
    assert order == ["a", "b"]
    assert note == "session left b-1 for a-1: moving to a-1 would gain 0.400, above 0.300"


@pytest.mark.parametrize(("score", "first"), [(7.0, "b"), (6.99, "a")])
def test_the_gain_must_exceed_the_limit(score, first):
    assert stuck((ranked("a", score),), (ranked("b", 10.0),))[0][0] == first


def test_inside_a_tool_loop_it_stays_whatever_moving_gains():
    order, (note,) = stuck((ranked("a", 0.1),), (ranked("b", 10.0),), context=a_context(tool_step=2))
    assert order == ["b", "a"]
    assert note == "session kept at b-1: step 2 of a tool loop"


def test_without_scores_it_stays_among_equals():
    assert stuck((ranked("a"), ranked("b")))[0] == ["b", "a"]


def test_without_scores_it_leaves_for_what_somebody_put_before_it():
    order, (note,) = stuck((ranked("a"),), (ranked("b"),))
    assert order == ["a", "b"]
    assert note == "session left b-1 for a-1: ranked after a-1, without scores"


def test_a_score_that_is_no_number_is_none():
    assert stuck((ranked("a", 1.0),), (ranked("b", float("inf")),))[0] == ["a", "b"]


def test_a_session_that_costs_nothing_has_nothing_to_gain():
    assert stuck((ranked("a", 0.0), ranked("b", 0.0)))[0] == ["b", "a"]


def test_what_is_not_ranked_does_not_come_in():
    order, (note,) = stuck((ranked("a", 1.0),), context=a_context("gone-1"))
    assert order == ["a"]
    assert "not eligible or the strategy does not take it" in note


def test_without_a_session_nothing_is_said():
    assert stuck((ranked("a", 1.0),), context=a_context(None)) == (["a"], ())


def test_sessions_can_be_left_out():
    assert stuck((ranked("a", 9.0),), (ranked("b", 10.0),), policy=Stickiness(keeps_sessions=False)) == (
        ["a", "b"],
        (),
    )


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ConfigurationError, match="leave_at_gain"):
        Stickiness(leave_at_gain=share)


class TestDecisions:
    def decide(self, *candidates, session="b-1", strategy=None, **changes):
        return decide(
            a_policy(strategy, attempts=2),
            a_request(tool_step=changes.pop("tool_step", 0)),
            a_scope(),
            candidates,
            statistics=None,
            seed=1,
            affinity=Affinity(session, {"b-1": 7}),
            **changes,
        )

    def test_the_plan_begins_with_the_session(self):
        decision = self.decide(a_candidate("a"), a_candidate("b", price=1.2e-6), a_candidate("c"))
        assert decision.plan[0].endpoint == "b"
        assert decision.affinity == Affinity("b-1", {"b-1": 7})
        assert [each.rank for each in decision.assessments if each.candidate.endpoint == "b"] == [0]

    def test_it_is_moved_before_the_plan_is_cut(self):
        group = [a_candidate("a", f"a-{n}") for n in range(4)]
        decision = self.decide(*group, a_candidate("b", price=1.1e-6))
        assert decision.plan[0].endpoint == "b"

    @pytest.mark.parametrize("step", [0, 3])
    def test_an_endpoint_outside_the_permit_does_not_come_back(self, step):
        decision = self.decide(
            a_candidate("a"), a_candidate("outside", price=1e-9), session="outside-1", tool_step=step
        )
        assert [each.endpoint for each in decision.plan] == ["a"]

    def test_one_that_was_tried_does_not_come_back(self):
        decision = self.decide(a_candidate("a"), a_candidate("b"), tried=frozenset({"b-1"}), tool_step=1)
        assert [each.endpoint for each in decision.plan] == ["a"]

    def test_a_list_that_leaves_it_out_leaves_it_out(self):
        decision = self.decide(a_candidate("a"), a_candidate("b"), strategy=Static(("a",)), tool_step=1)
        assert [each.endpoint for each in decision.plan] == ["a"]


scores = st.none() | st.floats(allow_nan=True)
one_band = st.lists(st.tuples(st.sampled_from("abcde"), scores), max_size=3)


@given(st.lists(one_band, max_size=4), st.sampled_from("abcdef"), st.integers(0, 2), st.floats(0, 1))
def test_the_order_is_a_permutation_of_the_ranking(bands, session, tool_step, limit):
    ranking = Ranking(tuple(tuple(ranked(*each) for each in band) for band in bands))
    given_order = list(ranking)
    context = a_context(f"{session}-1", tool_step=tool_step)
    order, notes = stick(Stickiness(leave_at_gain=limit), given_order, ranking, context)
    assert sorted(map(id, order)) == sorted(map(id, given_order))
    assert len(notes) == 1


@given(any_situation, st.text(max_size=3))
def test_no_session_makes_anything_eligible(arguments, session):
    plain = decide(**arguments)
    sticky = decide(**arguments, affinity=Affinity(session))
    eligible = {each.candidate.deployment_id for each in plain.assessments if each.exclusion is None}
    assert {each.deployment_id for each in sticky.plan} <= eligible
    assert all(each.endpoint in arguments["scope"].endpoints for each in sticky.plan)
    assert len(sticky.plan) == len(plain.plan)
    assert sticky == decide(**arguments, affinity=Affinity(session))


class TestComposed:
    """What an outer strategy tells apart is not made equal by the scores inside its bands."""

    SLOW = Assessment(
        a_candidate("b", tier="small"),
        expected_cost_usd=1.0,
        statistics=EndpointStatistics(50, total_p95_ms=9000.0),
    )
    QUICK = Assessment(
        a_candidate("a", tier="large"),
        expected_cost_usd=2.0,
        statistics=EndpointStatistics(50, total_p95_ms=500.0),
    )

    def first(self, strategy, **facts):
        context = a_context(**facts)
        ranking = strategy.rank([self.SLOW, self.QUICK], context)
        order, _ = stick(POLICY, list(ranking), ranking, context)
        return order[0].assessment.candidate.endpoint

    def test_a_session_leaves_what_misses_the_budget_although_it_is_cheaper(self):
        assert self.first(Composed(Latency(), Cost()), latency_budget_ms=1000) == "a"

    def test_a_session_leaves_a_later_link_of_a_chain(self):
        assert self.first(Composed(Fallback(("a", "b")), Cost())) == "a"

    def test_a_session_leaves_a_tier_that_is_not_wanted(self):
        assert self.first(Composed(Quality(("small", "large"), tier="large"), Cost())) == "a"

    def test_within_an_outer_band_the_inner_scores_are_weighed(self):
        strategy = Composed(Latency(), Cost(tolerance=0.0))
        assert self.first(strategy, latency_budget_ms=10_000) == "b"


def test_a_permits_preference_comes_before_a_session():
    decision = decide(
        a_policy(Static(("a", "b"))),
        a_request(),
        a_scope(preferences=("a",)),
        [a_candidate("a"), a_candidate("b")],
        statistics=None,
        seed=1,
        affinity=Affinity("b-1"),
    )
    assert [each.endpoint for each in decision.plan] == ["a", "b"]
