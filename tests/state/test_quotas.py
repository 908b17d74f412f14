"""Quotas: what may be sent to a deployment in a minute, by all workers together."""

from __future__ import annotations

import pytest

from litellm_plugin.state.leases import FIRST_SHARE, STORE_LOST_AFTER_S, LeaseBook
from litellm_plugin.state.quotas import UNLIMITED, Quota, QuotaLeft, Quotas, QuotaUse
from litellm_plugin.testing import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def alone(clock):
    """The quotas of a worker whose store is gone: the whole limits are its own."""
    quotas = Quotas(LeaseBook(clock=clock.monotonic))
    clock.advance(STORE_LOST_AFTER_S + 0.1)
    quotas.declare(
        {"both": Quota(10, 1_000), "requests": Quota(10), "tokens": Quota(None, 1_000), "none": Quota()}
    )
    return quotas


@pytest.mark.parametrize(
    ("deployment", "left"),
    [
        ("both", QuotaLeft(10, 1_000)),
        ("requests", QuotaLeft(10, None)),
        ("tokens", QuotaLeft(None, 1_000)),
        ("none", UNLIMITED),
        ("undeclared", UNLIMITED),
    ],
)
def test_what_is_left_without_use_is_the_limit(alone, deployment, left):
    assert alone.left(deployment) == left


def test_an_attempt_takes_a_request_and_its_tokens(alone):
    alone.reserve("both", 300)
    assert alone.left("both") == QuotaLeft(9, 700)


def test_what_has_no_quota_is_reserved_for_nothing(alone):
    assert alone.reserve("undeclared", 10**9) == QuotaUse()


def test_nothing_is_taken_where_the_tokens_are_too_many(alone):
    assert alone.reserve("both", 1_001) is None
    assert alone.left("both") == QuotaLeft(10, 1_000)


def test_nothing_is_taken_where_no_request_is_left(alone):
    for _ in range(10):
        alone.reserve("both", 1)
    assert alone.reserve("both", 1) is None
    assert alone.left("both") == QuotaLeft(0, 990)


def test_an_attempt_that_is_made_all_the_same_counts(alone):
    alone.spend("both", 1_200)
    assert alone.left("both") == QuotaLeft(9, 0)
    assert alone.spend("undeclared", 5) == QuotaUse()


@pytest.mark.parametrize(("real", "left"), [(50, 950), (400, 600), (None, 700)])
def test_the_real_tokens_replace_the_expected_ones(alone, real, left):
    use = alone.reserve("both", 300)
    alone.settle(use, real)
    alone.settle(use, real)
    assert alone.left("both") == QuotaLeft(9, left)


def test_what_was_never_sent_is_given_back(alone):
    use = alone.reserve("both", 300)
    alone.release(use)
    alone.settle(use, 500)
    assert alone.left("both") == QuotaLeft(10, 1_000)


def test_what_was_spent_counts_against_a_new_limit(alone):
    alone.reserve("both", 300)
    alone.declare({"both": Quota(5, 400)})
    assert alone.left("both") == QuotaLeft(4, 100)


def test_a_worker_that_begins_has_a_tenth(clock):
    quotas = Quotas(LeaseBook(clock=clock.monotonic))
    quotas.declare({"both": Quota(100, 1_000)})
    assert quotas.left("both") == QuotaLeft(100 // FIRST_SHARE, 1_000 // FIRST_SHARE)


def test_a_limit_that_is_none_is_an_error(alone):
    with pytest.raises(ValueError, match=r"expected a limit from 0 .* for rpm:both, got -1"):
        alone.declare({"both": Quota(-1)})
