from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing_cases import (
    ENDPOINTS,
    a_candidate,
    a_policy,
    a_request,
    a_scope,
    any_situation,
    situation,
    words,
)

from litellm_plugin.errors import ConfigurationError, Reason
from litellm_plugin.routing import (
    CandidateGroup,
    Cost,
    EndpointStatistics,
    Ranked,
    Ranking,
    RoutingPolicy,
    Rule,
    RuleSet,
    Static,
    StatisticsSnapshot,
    compile_condition,
    decide,
)

ABC = [a_candidate("a", price=1e-6), a_candidate("b", price=2e-6), a_candidate("c", price=3e-6)]
OUTSIDE = a_candidate("outside", price=0.0)


def decided(candidates=ABC, *, policy=None, request=None, scope=None, tried=(), statistics=None):
    return decide(
        policy or a_policy(),
        request or a_request(),
        scope or a_scope(),
        candidates,
        statistics=statistics,
        seed=1,
        tried=frozenset(tried),
    )


def planned(*args, **kwargs):
    return [each.deployment_id for each in decided(*args, **kwargs).plan]


@dataclass(frozen=True)
class Rogue:
    """Returns what it was told to, whatever it is given."""

    answer: tuple
    name = "rogue"

    def rank(self, inputs, context):
        return Ranking((tuple(Ranked(replace(inputs[0], candidate=each)) for each in self.answer),))


def test_the_plan_is_the_strategys_order():
    assert planned() == ["a-1", "b-1", "c-1"]


def test_the_plan_holds_as_many_candidates_as_there_are_attempts():
    assert planned(policy=a_policy(attempts=2)) == ["a-1", "b-1"]


def test_what_was_tried_does_not_come_back():
    assert planned(tried={"a-1"}) == ["b-1", "c-1"]


def test_a_listed_endpoint_outside_the_permit_is_not_there():
    assert planned([OUTSIDE, *ABC], policy=a_policy(Static(("outside", "b")))) == ["b-1"]


def test_a_strategy_cannot_add_a_candidate():
    assert planned([OUTSIDE, *ABC], policy=a_policy(Rogue((OUTSIDE, ABC[1], ABC[1])))) == ["b-1"]


def test_a_strategy_cannot_rename_a_candidate():
    forged = replace(OUTSIDE, endpoint="a"), replace(ABC[0], endpoint="outside")
    assert decided([OUTSIDE, *ABC], policy=a_policy(Rogue(forged))).plan == (ABC[0],)


def test_ranks_are_the_places_in_the_plan():
    decision = decided(list(reversed(ABC)), policy=a_policy(attempts=2))
    assert [each.rank for each in decision.assessments] == [None, 1, 0]


def test_the_decision_keeps_what_it_was_made_from():
    statistics = StatisticsSnapshot({"b-1": EndpointStatistics(attempts=9)}, taken_at_s=0.0)
    decision = decided(statistics=statistics)
    assert (decision.facts, decision.scope, decision.seed) == (a_request(), a_scope(), 1)
    assert [each.statistics and each.statistics.attempts for each in decision.assessments] == [None, 9, None]


def test_the_rule_that_matches_picks_the_strategy():
    pinned = Rule("pinned", compile_condition('permit.tenant == "acme"'), Static(("c",)))
    decision = decided(policy=a_policy(Cost(), pinned))
    assert (decision.chosen, decision.rule.name) == (ABC[2], "pinned")
    assert decision.rule.values == {"permit.tenant": "acme"}


PREFERS_C = a_scope(preferences=("outside", "c", "b"))


def test_the_permits_preferences_come_first_in_their_order():
    decision = decided(scope=PREFERS_C)
    assert [each.endpoint for each in decision.plan] == ["c", "b", "a"]
    assert decision.notes == ("the permit's preferences reordered the plan: outside, c, b",)


def test_preferences_that_change_nothing_need_no_note():
    assert decided(scope=a_scope(preferences=("a",))).notes == ()


def test_preferences_reorder_before_the_plan_is_cut():
    assert planned(policy=a_policy(attempts=1), scope=PREFERS_C) == ["c-1"]


def test_preferences_widen_neither_the_permit_nor_the_rule():
    policy = a_policy(Static(("b",)))
    assert planned([OUTSIDE, *ABC], policy=policy, scope=PREFERS_C) == ["b-1"]


def test_the_operator_can_switch_preferences_off():
    policy = replace(a_policy(), follows_preferences=False)
    assert planned(policy=policy, scope=PREFERS_C) == ["a-1", "b-1", "c-1"]


def down(candidate):
    return replace(candidate, is_available=False)


NEEDS_BAA = a_scope(requirements=frozenset({"baa"}))
STATIC_A = a_policy(Static(("a",)))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        pytest.param({"candidates": []}, Reason.NOT_AUTHORIZED, id="R62 no candidates"),
        pytest.param({"candidates": [OUTSIDE]}, Reason.NOT_AUTHORIZED, id="R61 none authorized"),
        pytest.param({"scope": NEEDS_BAA}, Reason.NOT_ELIGIBLE, id="R67 all filtered"),
        pytest.param(
            {"candidates": [down(ABC[0])], "scope": NEEDS_BAA}, Reason.NOT_ELIGIBLE, id="filtered and down"
        ),
        pytest.param({"candidates": [down(each) for each in ABC]}, Reason.UNAVAILABLE, id="all down"),
        pytest.param({"tried": {"a-1", "b-1", "c-1"}}, Reason.CHAIN_EXHAUSTED, id="all tried"),
        pytest.param(
            {"candidates": [down(each) for each in ABC], "tried": {"a-1"}},
            Reason.CHAIN_EXHAUSTED,
            id="tried, then cooled down",
        ),
        pytest.param(
            {"policy": a_policy(Static(("x",)))}, Reason.NOT_ELIGIBLE, id="rule lists nothing eligible"
        ),
        pytest.param(
            {"policy": STATIC_A, "candidates": [down(ABC[0]), ABC[1]]},
            Reason.UNAVAILABLE,
            id="what the rule lists is down",
        ),
        pytest.param(
            {"policy": STATIC_A, "tried": {"a-1"}},
            Reason.CHAIN_EXHAUSTED,
            id="what the rule lists was tried",
        ),
        pytest.param(
            {"policy": STATIC_A, "candidates": [down(ABC[0]), ABC[1]], "tried": {"b-1"}},
            Reason.UNAVAILABLE,
            id="what was tried is not what the rule lists",
        ),
    ],
)
def test_the_verdict_of_an_empty_plan(arguments, reason):
    decision = decided(**arguments)
    assert (decision.plan, decision.chosen) == ((), None)
    assert decision.verdict.reason is reason


def test_attempts_below_one_are_refused():
    with pytest.raises(ConfigurationError, match="attempts: expected 1 or more, got 0"):
        RoutingPolicy(RuleSet((), Rule("default", None, Cost())), attempts=0)


@given(any_situation)
def test_nothing_leaves_the_permit(arguments):  # P1
    decision = decide(**arguments)
    assert {each.endpoint for each in decision.plan} <= arguments["scope"].endpoints
    assert set(decision.plan) <= set(arguments["candidates"])
    assert not {each.deployment_id for each in decision.plan} & arguments["tried"]
    assert len(decision.plan) <= arguments["policy"].attempts
    assert (decision.verdict is None) == bool(decision.plan)


@given(any_situation)
def test_a_deployment_id_of_the_plan_means_an_authorized_endpoint_only(arguments):
    ids = {each.deployment_id for each in decide(**arguments).plan}
    endpoints = {each.endpoint for each in arguments["candidates"] if each.deployment_id in ids}
    assert endpoints <= arguments["scope"].endpoints


@given(any_situation)
def test_the_same_input_gives_the_same_decision(arguments):
    assert decide(**arguments) == decide(**arguments)


@given(situation, words)
def test_a_further_requirement_never_enlarges_the_plan(arguments, word):  # P2
    scope = arguments["scope"]
    stricter = replace(scope, requirements=scope.requirements | {word})
    before, after = decide(**arguments).plan, decide(**arguments | {"scope": stricter}).plan
    assert len(after) <= len(before)
    if arguments["policy"].attempts >= len(arguments["candidates"]):
        assert set(after) <= set(before)


@given(situation, st.frozensets(st.sampled_from(ENDPOINTS)))
def test_a_smaller_permit_never_enlarges_the_plan(arguments, kept):  # P2
    scope = arguments["scope"]
    arguments |= {"policy": replace(arguments["policy"], attempts=10)}
    narrower = arguments | {"scope": replace(scope, endpoints=scope.endpoints & kept)}
    assert set(decide(**narrower).plan) <= set(decide(**arguments).plan)


@given(situation)
def test_an_unknown_price_is_never_before_a_known_one(arguments):
    # A permit's preferences may want the one that is unknown.
    scope = replace(arguments["scope"], preferences=())
    decision = decide(**arguments | {"policy": a_policy(Cost(), attempts=10), "scope": scope})
    ranked = sorted(
        (each.rank, each.expected_cost_usd is None) for each in decision.assessments if each.rank is not None
    )
    is_unknown = [unknown for _, unknown in ranked]
    assert is_unknown == sorted(is_unknown)


class TestLargeGroups:
    """A group of many candidates costs no more than the permit's part of it."""

    GROUP = tuple(a_candidate("outside", f"outside-{number}") for number in range(500))

    def test_all_authorized_candidates_are_assessed_and_the_first_of_the_others(self):
        candidates = [*self.GROUP, *ABC, *self.GROUP]
        assessed = decided(candidates).assessments
        assert [each.candidate for each in assessed if each.exclusion is None] == ABC
        assert [each.candidate.deployment_id for each in assessed[:64]] == [f"outside-{n}" for n in range(64)]
        assert len(assessed) == 67

    def test_the_decision_knows_every_id(self):
        assert decided([*self.GROUP, *ABC]).deployment_ids == {
            *(each.deployment_id for each in self.GROUP),
            "a-1",
            "b-1",
            "c-1",
        }

    def test_an_index_made_before_gives_the_same_decision(self):
        group = CandidateGroup.of([*self.GROUP, *ABC])
        assert decided(group) == decided([*self.GROUP, *ABC])

    def test_an_id_shared_with_an_endpoint_far_outside_is_not_authorized(self):
        twin = a_candidate("outside", "a-1")
        assessment = decided([ABC[0], *self.GROUP, twin]).assessment_of("a-1")
        assert assessment.detail == "deployment id is not unique"
