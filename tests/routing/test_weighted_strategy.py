from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing_cases import a_scope
from strategy_cases import a_context, an_input, bands, terms

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.routing import AssignedBy, Weighted

AB = [an_input("a"), an_input("b")]
ABC = [*AB, an_input("c")]
KEYS = [f"request-{number}" for number in range(4_000)]


def rank(strategy, key="R", given_inputs=ABC, **facts):
    return strategy.rank(
        given_inputs, a_context(scope=a_scope(request_id=key, tenant=f"tenant-{key}"), **facts)
    )


def assigned(strategy, key):
    return next(iter(rank(strategy, key))).assessment.candidate.endpoint


def assignments(weights, salt="rule", keys=KEYS):
    strategy = Weighted(weights, salt=salt)
    return {key: assigned(strategy, key) for key in keys}


@pytest.mark.parametrize(
    "weights", [{"a": 95, "b": 5}, {"a": 1, "b": 1, "c": 1}, {"a": 0.5, "b": 0.3, "c": 0.2}]
)
def test_shares_are_those_of_the_weights(weights):
    counts = Counter(assignments(weights).values())
    for endpoint, weight in weights.items():
        share = weight / sum(weights.values())
        # Five standard deviations of a binomial share; the keys and the salt are fixed, so this is no chance.
        assert abs(counts[endpoint] / len(KEYS) - share) < 5 * math.sqrt(share * (1 - share) / len(KEYS))


def test_a_growing_share_moves_only_what_it_gains():
    steps = [assignments({"a": 100 - share, "b": share}) for share in (0, 5, 10, 50, 100)]
    for before, after in itertools.pairwise(steps):
        moved = [(before[key], after[key]) for key in KEYS if before[key] != after[key]]
        assert set(moved) <= {("a", "b")}
    assert [len({key for key in KEYS if step[key] == "b"}) for step in (steps[0], steps[-1])] == [
        0,
        len(KEYS),
    ]
    moved = sum(steps[1][key] != steps[2][key] for key in KEYS)
    assert abs(moved / len(KEYS) - 0.05) < 5 * math.sqrt(0.05 * 0.95 / len(KEYS))


def test_experiments_are_independent_of_each_other():
    one, other = (assignments({"a": 1, "b": 1}, salt) for salt in ("one", "other"))
    both = sum(one[key] == other[key] for key in KEYS)
    assert abs(both / len(KEYS) - 0.5) < 5 * math.sqrt(0.25 / len(KEYS))


def test_the_assignment_does_not_depend_on_who_else_is_a_candidate():
    strategy = Weighted({"a": 1, "b": 1, "c": 1}, salt="rule")
    for key in KEYS[:200]:
        mine = assigned(strategy, key)
        alone = [each for each in ABC if each.candidate.endpoint == mine]
        assert next(iter(rank(strategy, key, alone))).assessment.candidate.endpoint == mine


@given(st.text(max_size=8), st.sampled_from(AssignedBy))
def test_any_text_can_be_a_key(key, by):
    assert len(list(rank(Weighted({"a": 1, "b": 2}, by), key, session=key))) == 3


@pytest.mark.parametrize(
    ("by", "same", "other"),
    [
        pytest.param(AssignedBy.SESSION, {"session": "s1", "key": "R2"}, {"session": "s2"}, id="session"),
        pytest.param(AssignedBy.REQUEST_ID, {"session": "s2"}, {"key": "R2"}, id="request id"),
        pytest.param(AssignedBy.TENANT, {"session": "s2"}, {"key": "R2"}, id="tenant"),
    ],
)
def test_what_it_goes_by_keeps_its_endpoint(by, same, other):
    weights = {f"e{number}": 1 for number in range(64)}
    given_inputs = [an_input(endpoint) for endpoint in weights]

    def first(**fields):
        ranking = rank(Weighted(weights, by), given_inputs=given_inputs, **{"session": "s1"} | fields)
        return bands(ranking)[0]

    assert first(**same) == first()
    assert first(**other) != first()


def test_without_a_session_the_request_id_decides_and_a_note_says_so():
    ranking = rank(Weighted({"a": 1}, AssignedBy.SESSION))
    assert ranking.notes == ("weighted: no session, assigned by the request id",)


def test_the_others_follow_by_weight_and_those_without_one_come_last():
    strategy = Weighted({"a": 1, "b": 0, "c": 3})
    fleet = [*ABC, an_input("d")]
    for key in KEYS[:50]:
        order = bands(rank(strategy, key, fleet))
        assert order[1:] in ([["a-1"], ["b-1"], ["d-1"]], [["c-1"], ["b-1"], ["d-1"]])


def test_a_clean_experiment_has_no_fallback():
    strategy = Weighted({"a": 1, "b": 1}, assigned_only=True)
    assert {tuple(map(tuple, bands(rank(strategy, key)))) for key in KEYS[:50]} == {(("a-1",),), (("b-1",),)}


def test_an_assigned_endpoint_that_is_no_candidate_is_named():
    ranking = rank(Weighted({"b": 1, "a": 0}), given_inputs=ABC[:1])
    assert bands(ranking) == [["a-1"]]
    assert ranking.notes == ("weighted: the assigned endpoint b is not among the candidates",)


def test_share_and_assignment_are_the_terms():
    assert terms(rank(Weighted({"a": 3, "b": 0}), given_inputs=AB)) == {
        "a-1": {"share": 1.0, "is_assigned": 1},
        "b-1": {"share": 0.0, "is_assigned": 0},
    }


@pytest.mark.parametrize(
    ("weights", "said"),
    [({"a": -1}, "a: expected 0 or more"), ({"a": math.nan}, "a: expected 0"), ({"a": 0}, "one above 0")],
)
def test_weights_that_cannot_be_meant_are_refused(weights, said):
    with pytest.raises(ConfigurationError, match=said):
        Weighted(weights)
