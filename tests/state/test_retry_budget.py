"""The retry budget: what is counted, and what it bounds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_plugin.routing import NO_RETRIES, RetryBudgetRule, RetryLoad
from litellm_plugin.state import RetryBudget
from litellm_plugin.testing import FakeClock

RULE = RetryBudgetRule()


@pytest.mark.parametrize(
    ("first_attempts", "retries", "is_allowed"),
    [
        (0, 0, True),
        (1, 2, True),
        (1, 3, False),
        (20, 3, True),
        (20, 4, False),
        (19, 3, False),
        (1000, 199, True),
        (1000, 200, False),
    ],
)
def test_retries_are_a_share_of_first_attempts_and_a_few(first_attempts, retries, is_allowed):
    assert RULE.allows(RetryLoad(first_attempts, retries)) is is_allowed


def test_no_budget_grants_none():
    assert not RetryBudgetRule(ratio=0.0, minimum=0).allows(RetryLoad(1000, 0))


def test_each_endpoint_has_its_own():
    budget = RetryBudget(FakeClock().monotonic)
    budget.began("a")
    budget.retried("a")
    assert (budget.load("a"), budget.load("b")) == (RetryLoad(1, 1), NO_RETRIES)


def test_what_left_the_window_does_not_count():
    clock = FakeClock()
    budget = RetryBudget(clock.monotonic)
    budget.began("a")
    budget.retried("a")
    clock.advance(9)
    assert budget.load("a") == RetryLoad(1, 1)
    clock.advance(1)
    assert budget.load("a") == NO_RETRIES


def test_what_is_remembered_is_bounded():
    budget = RetryBudget(FakeClock().monotonic)
    for number in range(5000):
        budget.began(f"e{number}")
    assert len(budget._slices) == 4096


def test_a_retry_that_was_answered_is_taken_back_once():
    clock = FakeClock()
    budget = RetryBudget(clock.monotonic)
    budget.began("a")
    began_s = clock.monotonic()
    budget.retried("a")
    clock.advance(2)
    budget.retried("a")
    budget.answered("a", began_s)
    assert budget.load("a") == RetryLoad(1, 1)
    budget.answered("a", began_s)
    budget.answered("b", began_s)
    assert budget.load("a") == RetryLoad(1, 1)


def test_an_answer_after_the_window_takes_nothing_back():
    clock = FakeClock()
    budget = RetryBudget(clock.monotonic)
    began_s = clock.monotonic()
    budget.retried("a")
    clock.advance(11)
    budget.retried("a")
    budget.answered("a", began_s)
    assert budget.load("a").retries == 1


bursts = st.lists(st.tuples(st.floats(0, 12), st.integers(1, 60)), min_size=1, max_size=30)


@pytest.mark.parametrize("attempts", [pytest.param(3, id="C34-three"), pytest.param(10, id="C34-ten")])
@given(bursts=bursts)
def test_with_everything_failing_upstream_calls_are_bounded(attempts, bursts):
    clock = FakeClock()
    began_s = clock.monotonic()
    budget = RetryBudget(clock.monotonic, RULE.window_s)
    requests = calls = 0
    for pause_s, count in bursts:
        clock.advance(pause_s)
        for _ in range(count):
            requests += 1
            calls += 1
            budget.began("e")
            for _ in range(attempts - 1):
                if not RULE.allows(budget.load("e")):
                    break
                budget.retried("e")
                calls += 1
    # A window covers at least nine of its ten slices.
    windows = math.floor((clock.monotonic() - began_s) / (0.9 * RULE.window_s)) + 1
    assert calls <= (1 + RULE.ratio) * requests + RULE.minimum * windows
