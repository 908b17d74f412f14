"""Breaker rules: what counts, when a breaker opens and for how long, which of two values holds."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_plugin.routing import AttemptStatus
from litellm_plugin.routing.health import BreakerState
from litellm_plugin.state.breaker_rules import (
    CLOCK_SLACK_S,
    SIGNS,
    UNTOUCHED,
    Breaker,
    BreakerPolicy,
    Counts,
    Sign,
    cause_to_open,
    wait_s,
)

POLICY = BreakerPolicy()
NOW_S = 1_000.0


def opened(times=1, *, breaker=UNTOUCHED, chance=0.0, asked_s=0.0, policy=POLICY):
    for _ in range(times):
        breaker = breaker.opened(NOW_S, policy, cause="it failed", chance=chance, asked_s=asked_s)
    return breaker


@pytest.mark.parametrize(
    "status",
    [
        AttemptStatus.RATE_LIMITED,
        AttemptStatus.CLIENT_ERROR,
        AttemptStatus.CONTEXT_WINDOW,
        AttemptStatus.CONTENT_FILTER,
        AttemptStatus.ABANDONED,
    ],
)
def test_what_is_no_fault_of_the_endpoint_says_nothing(status):
    assert status not in SIGNS


@pytest.mark.parametrize(
    ("window", "in_a_row", "cause"),
    [
        pytest.param(Counts(), {}, None, id="nothing-seen"),
        pytest.param(Counts(), {Sign.BAD: 4}, None, id="four-in-a-row"),
        pytest.param(Counts(), {Sign.BAD: 5}, "5 failures in a row", id="five-in-a-row"),
        pytest.param(Counts(ok=0, bad=5), {}, "5 failures in a row", id="all-that-anyone-saw"),
        pytest.param(Counts(ok=1, bad=5), {}, None, id="someone-saw-an-answer"),
        pytest.param(Counts(ok=5, bad=4), {}, None, id="few-attempts"),
        pytest.param(Counts(ok=5, bad=5), {}, "5 of 10 attempts failed within 30 s", id="half-of-ten"),
        pytest.param(Counts(ok=6, bad=5), {}, None, id="less-than-half"),
        pytest.param(Counts(ok=90, bad=5, provider_auth=90), {}, None, id="faults-are-no-rate"),
        pytest.param(Counts(), {Sign.PROVIDER_AUTH: 5}, "provider_auth", id="key-refused"),
        pytest.param(Counts(misconfigured=5), {}, "misconfigured", id="model-is-not-there"),
        pytest.param(Counts(ok=1, provider_auth=99), {}, None, id="key-refused-now-and-then"),
    ],
)
def test_a_breaker_opens_for_a_cause(window, in_a_row, cause):
    assert cause_to_open(POLICY, window, Counts(), in_a_row) == cause


def test_the_newest_third_is_looked_at_by_itself():
    window, recent = Counts(ok=40, bad=6), Counts(ok=4, bad=6)
    assert cause_to_open(POLICY, window, recent, {}) == "6 of 10 attempts failed within 10 s"
    assert cause_to_open(POLICY, window, Counts(ok=3, bad=6), {}) is None


@pytest.mark.parametrize(("times", "open_s"), [(1, 10), (2, 20), (3, 40), (5, 160), (6, 300), (64, 300)])
def test_open_times_double_up_to_the_cap(times, open_s):
    assert opened(times).until_s == NOW_S + open_s


def test_chance_shortens_an_open_time_by_a_fifth_at_most():
    assert opened(chance=1.0).until_s == NOW_S + 8


def test_a_long_closed_time_begins_anew():
    closed = replace(opened(4), is_open=False, since_s=NOW_S - POLICY.reset_after_s)
    assert opened(breaker=closed).trips == 1
    assert opened(breaker=replace(closed, since_s=closed.since_s + 1)).trips == 5


@pytest.mark.parametrize(("asked_s", "open_s"), [(5, 10), (120, 120), (1e9, 300)])
def test_a_retry_after_is_the_least_open_time_up_to_the_cap(asked_s, open_s):
    assert opened(asked_s=asked_s).until_s == NOW_S + open_s


def test_as_many_probes_as_configured_close_it():
    once = opened().probed(NOW_S + 11, POLICY)
    assert once.state(NOW_S + 11) is BreakerState.HALF_OPEN
    twice = once.probed(NOW_S + 12, POLICY)
    assert (twice.state(NOW_S + 12), twice.term) == (BreakerState.CLOSED, 2)


@pytest.mark.parametrize(
    ("asked_s", "waited_s"),
    [
        pytest.param(None, 5, id="C25-absent"),
        pytest.param(30.0, 30, id="C25-seconds"),
        pytest.param(0.0, 0, id="C25-zero"),
        pytest.param(-1.0, 5, id="C25-negative"),
        pytest.param(math.nan, 5, id="C25-nan"),
        pytest.param(math.inf, 5, id="C25-infinite"),
        pytest.param(1e9, 300, id="C25-cap"),
    ],
)
def test_a_429_is_waited_for(asked_s, waited_s):
    assert wait_s(POLICY, asked_s) == waited_s


finite = st.floats(allow_nan=False, allow_infinity=False)
breakers = st.builds(
    Breaker,
    term=st.integers(1, 2**53),
    is_open=st.booleans(),
    until_s=finite,
    since_s=finite,
    trips=st.integers(0, 64),
    successes=st.integers(0, 100),
    cause=st.text(max_size=20),
)


@given(breakers)
def test_what_is_told_is_what_is_read(breaker):
    assert Breaker.read(breaker.text()) == breaker


@given(breakers, breakers)
def test_of_two_values_every_worker_takes_the_same(one, other):
    assert not (one.is_newer_than(other) and other.is_newer_than(one))


def test_of_two_changes_at_once_the_careful_one_holds():
    closed = Breaker(term=7, is_open=False, until_s=NOW_S, since_s=NOW_S)
    assert Breaker(term=7, is_open=True, until_s=NOW_S, since_s=NOW_S).is_newer_than(closed)


FOREIGN = [2, 7, "open", 1.0, 1.0, 1, 0, "x"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="C06-empty"),
        pytest.param("[1,7,", id="C06-truncated"),
        pytest.param('{"state": "open"}', id="C06-foreign"),
        pytest.param("7", id="C06-number"),
        pytest.param(json.dumps(FOREIGN), id="C06-future-version"),
        pytest.param("[" * 100_000, id="C06-deep"),
        *(
            pytest.param(json.dumps([1, *FOREIGN[1:place], value, *FOREIGN[place + 1 :]]), id=name)
            for place, value, name in [
                (1, -1, "C14-negative-term"),
                (1, 10**400, "C14-huge-term"),
                (1, True, "C14-term-no-number"),
                (2, "ajar", "C14-state"),
                (2, [], "C14-state-a-list"),
                (3, math.nan, "C14-nan"),
                (3, math.inf, "C14-infinite"),
                (3, "soon", "C14-text"),
                (5, 65, "C14-trips"),
                (6, -1, "C14-successes"),
                (7, None, "C14-cause"),
            ]
        ),
    ],
)
def test_what_is_no_breaker_is_not_read(text):
    assert Breaker.read(text) is None


@given(breakers, st.floats(0, 2e9))
def test_no_jump_of_the_clock_keeps_a_breaker_open_for_long(breaker, now_s):
    clamped = breaker.clamped(now_s, POLICY)
    assert clamped.until_s <= now_s + POLICY.bound_s + CLOCK_SLACK_S
    assert clamped.since_s <= now_s + CLOCK_SLACK_S
