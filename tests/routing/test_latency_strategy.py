from __future__ import annotations

import pytest
from strategy_cases import a_context, an_input, bands, seen, terms

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.routing import Composed, Cost, Latency


def a_measured(endpoint, total_ms, *, attempts=100, failures=0, **fields):
    return an_input(endpoint, statistics=seen(attempts, failures, total_p95_ms=float(total_ms)), **fields)


FLEET = [a_measured("a", 900, cost=3.0), a_measured("b", 1400, cost=1.0), a_measured("c", 4000, cost=0.5)]


def ranked(given, strategy=None, **context):
    return (strategy or Latency()).rank(given, a_context(**context))


def test_without_a_budget_the_fastest_is_first():
    assert bands(ranked(FLEET)) == [["a-1"], ["b-1"], ["c-1"]]


def test_latencies_within_the_tolerance_are_equal():
    assert bands(ranked([a_measured("a", 1000), a_measured("b", 1099)])) == [["a-1", "b-1"]]


def test_those_that_meet_the_budget_are_equal_and_the_others_follow():
    ranking = ranked(FLEET, latency_budget_ms=1500)
    assert bands(ranking) == [["a-1", "b-1"], ["c-1"]]
    assert ranking.notes == ()


def test_cost_chooses_among_those_that_meet_the_budget():
    ranking = ranked(FLEET, Composed(Latency(), Cost()), latency_budget_ms=1500)
    assert bands(ranking) == [["b-1"], ["a-1"], ["c-1"]]


def test_if_none_meets_the_budget_the_least_bad_is_first_and_a_note_says_so():
    ranking = ranked(FLEET, latency_budget_ms=100)
    assert bands(ranking) == [["a-1"], ["b-1"], ["c-1"]]
    assert ranking.notes == ("latency: no candidate meets the budget of 100 ms; the least bad comes first",)


def test_streams_are_measured_to_the_first_token():
    slow_start = an_input("a", statistics=seen(total_p95_ms=1000, first_token_p95_ms=900))
    quick_start = an_input("b", statistics=seen(total_p95_ms=5000, first_token_p95_ms=100))
    assert bands(ranked([slow_start, quick_start], stream=True)) == [["b-1"], ["a-1"]]
    assert bands(ranked([slow_start, quick_start], stream=False)) == [["a-1"], ["b-1"]]


@pytest.mark.parametrize(
    ("output_tokens", "first"),
    [
        pytest.param(1_024, "a-1", id="whole answers up to 1,024 tokens"),
        pytest.param(1_025, "b-1", id="per token from there on"),
        pytest.param(None, "a-1", id="no answer text"),
    ],
)
def test_long_answers_are_measured_per_token(output_tokens, first):
    terse = an_input("a", statistics=seen(total_p95_ms=800, first_token_p95_ms=100, output_token_p95_ms=30))
    fluent = an_input("b", statistics=seen(total_p95_ms=2000, first_token_p95_ms=300, output_token_p95_ms=5))
    assert bands(ranked([terse, fluent], output_tokens=output_tokens))[0] == [first]


def test_a_long_answer_where_no_time_per_token_is_known_goes_by_whole_answers():
    assert bands(ranked(FLEET, output_tokens=9_000)) == [["a-1"], ["b-1"], ["c-1"]]


def test_an_endpoint_that_fails_fast_does_not_look_fast():
    failing = a_measured("a", 50, attempts=100, failures=98)
    assert bands(ranked([failing, a_measured("b", 900)])) == [["b-1"], ["a-1"]]


def test_an_endpoint_of_which_only_failures_are_known_comes_after_what_works():
    failing = an_input("a", statistics=seen(30, 30))
    assert bands(ranked([failing, a_measured("b", 900)], latency_budget_ms=1500)) == [["b-1"], ["a-1"]]


def test_one_failure_doubles_the_expected_time():
    ranking = ranked([an_input("a", statistics=seen(1, 1)), a_measured("b", 900)])
    assert terms(ranking)["a-1"] == {"expected_tries": 2.0, "is_measured": 0, "latency_ms": 1800.0}


@pytest.mark.parametrize("statistics", [None, seen(0), seen(4, total_p95_ms=9000.0)])
def test_an_endpoint_that_was_hardly_seen_shares_the_first_place_of_a_few_requests(statistics):
    newcomer = an_input("d", statistics=statistics)
    assert bands(ranked([*FLEET, newcomer], seed=40))[0] == ["a-1", "d-1"]
    assert bands(ranked([*FLEET, newcomer], seed=40, latency_budget_ms=1300))[0] == ["a-1", "d-1"]
    assert bands(ranked([*FLEET, newcomer], seed=41)) == [["a-1"], ["b-1", "d-1"], ["c-1"]]


def test_one_request_in_twenty_looks_at_what_is_not_known():
    given = [*FLEET, an_input("d")]
    firsts = [bands(ranked(given, seed=seed))[0] for seed in range(400)]
    assert firsts.count(["a-1", "d-1"]) == 20


@pytest.mark.parametrize(("others", "prior_ms"), [(FLEET, 1400), (FLEET[1:], 2700), (FLEET[:1], 900)])
def test_what_was_never_seen_needs_no_prior_in_the_statistics(others, prior_ms):
    """The candidates of this request are the prior, and the record shows that nothing was measured."""
    ranking = ranked([*others, an_input("d")], seed=41)
    assert terms(ranking)["d-1"] == {"expected_tries": 1.0, "is_measured": 0, "latency_ms": prior_ms}


class TestWithoutABudget:
    """Medians, per token."""

    def test_the_usual_time_decides_and_not_the_tail(self):
        steady = an_input("a", statistics=seen(total_p50_ms=900.0, total_p95_ms=1000.0))
        jumpy = an_input("b", statistics=seen(total_p50_ms=300.0, total_p95_ms=5000.0))
        assert bands(ranked([steady, jumpy])) == [["b-1"], ["a-1"]]
        assert bands(ranked([steady, jumpy], latency_budget_ms=2000)) == [["a-1"], ["b-1"]]

    def test_an_endpoint_that_was_given_longer_answers_does_not_look_slower(self):
        long = an_input("a", statistics=seen(total_p50_ms=4000.0, output_token_p50_ms=5.0))
        short = an_input("b", statistics=seen(total_p50_ms=800.0, output_token_p50_ms=20.0))
        assert bands(ranked([long, short], output_tokens=200)) == [["a-1"], ["b-1"]]

    def test_streams_go_by_their_first_token(self):
        quick = an_input("a", statistics=seen(first_token_p50_ms=100.0, output_token_p50_ms=50.0))
        slow = an_input("b", statistics=seen(first_token_p50_ms=400.0, output_token_p50_ms=5.0))
        assert bands(ranked([quick, slow], stream=True, output_tokens=200)) == [["a-1"], ["b-1"]]

    def test_five_answers_are_enough(self):
        known = an_input("d", statistics=seen(5, total_p50_ms=9000.0))
        assert bands(ranked([*FLEET, known]))[-1] == ["d-1"]


@pytest.mark.parametrize("least", [20, 5])
def test_enough_samples_make_it_stand_on_its_own_against_a_budget(least):
    def last(attempts):
        given = [*FLEET, a_measured("d", 9000, attempts=attempts)]
        return bands(ranked(given, Latency(minimum_samples=least), seed=40, latency_budget_ms=1500))[-1]

    assert (last(least), last(least - 1)) == (["d-1"], ["c-1"])


def test_where_nothing_is_measured_failures_decide():
    ranking = ranked(
        [an_input("a"), an_input("b", statistics=seen(3, 3)), an_input("c")], latency_budget_ms=1
    )
    assert bands(ranking) == [["a-1", "c-1"], ["b-1"]]
    assert ranking.notes == ("latency: nothing is measured yet; failures alone decide",)


def test_every_number_that_decided_is_a_term():
    assert terms(ranked(FLEET[:1], latency_budget_ms=1500)) == {
        "a-1": {"expected_tries": 1.0, "is_measured": 1, "latency_ms": 900.0, "latency_budget_ms": 1500}
    }


@pytest.mark.parametrize(
    ("options", "said"), [({"tolerance": 2}, "tolerance"), ({"minimum_samples": 0}, "minimum_samples")]
)
def test_options_out_of_range_are_refused(options, said):
    with pytest.raises(ConfigurationError, match=f"{said}: expected"):
        Latency(**options)
