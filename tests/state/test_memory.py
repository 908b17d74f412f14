from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_plugin.routing import AttemptStatus, EndpointStatistics, Measurement
from litellm_plugin.state import MemoryStore, Store
from litellm_plugin.state.memory import MOST_DEPLOYMENTS


class Clock:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(clock) -> Store:
    return MemoryStore(window_s=300, slices=10, clock=clock)


def measured(status=AttemptStatus.SUCCESS, total_ms=100.0, first_token_ms=None, deployment_id="d"):
    return Measurement(deployment_id, status, total_ms, first_token_ms)


def statistics_of(store, deployment_id="d"):
    return store.snapshot().by_deployment[deployment_id]


def test_an_empty_store_knows_nothing(store):
    snapshot = store.snapshot()
    assert (dict(snapshot.by_deployment), snapshot.taken_at_s) == ({}, 1000.0)


def test_a_success_counts_with_its_latencies(store):
    store.record(measured(total_ms=200.0, first_token_ms=20.0))
    statistics = statistics_of(store)
    assert (statistics.attempts, statistics.failures) == (1, 0)
    assert (statistics.total_p50_ms, statistics.total_p95_ms) == pytest.approx((200, 200), rel=0.02)
    assert (statistics.first_token_p50_ms, statistics.first_token_p95_ms) == pytest.approx((20, 20), rel=0.02)


def test_a_whole_answer_has_no_time_to_first_token(store):
    store.record(measured())
    assert statistics_of(store).first_token_p50_ms is None


@pytest.mark.parametrize("status", AttemptStatus)
def test_failures_are_the_outcomes_that_may_be_retried(store, status):
    store.record(measured(status))
    statistics = statistics_of(store)
    assert (statistics.attempts, statistics.failures) == (1, int(status.is_retryable))


@pytest.mark.parametrize("status", AttemptStatus)
def test_only_answers_and_timeouts_are_latencies(store, status):
    store.record(measured(status))
    is_timed = status in {AttemptStatus.SUCCESS, AttemptStatus.TIMEOUT}
    assert (statistics_of(store).total_p50_ms is not None) == is_timed


def test_an_abandoned_stream_is_no_latency(store):
    store.record(measured(AttemptStatus.ABANDONED, first_token_ms=5.0))
    assert statistics_of(store) == EndpointStatistics(attempts=1)


def test_deployments_are_kept_apart(store):
    store.record(measured(total_ms=10.0, deployment_id="fast"))
    store.record(measured(total_ms=1000.0, deployment_id="slow"))
    assert statistics_of(store, "fast").total_p50_ms < statistics_of(store, "slow").total_p50_ms


def test_measurements_leave_the_window(store, clock):
    store.record(measured(AttemptStatus.TIMEOUT, total_ms=9000.0))
    clock.now_s += 200
    store.record(measured(total_ms=100.0))
    clock.now_s += 150
    statistics = statistics_of(store)
    assert (statistics.attempts, statistics.failures) == (1, 0)
    assert statistics.total_p95_ms == pytest.approx(100, rel=0.02)


def test_a_silent_deployment_is_forgotten(store, clock):
    store.record(measured())
    clock.now_s += 301
    assert dict(store.snapshot().by_deployment) == {}


def test_what_is_younger_than_the_window_less_one_slice_is_kept(store, clock):
    store.record(measured())
    clock.now_s += 269
    assert statistics_of(store).attempts == 1


def test_a_snapshot_is_kept_for_a_tenth_of_a_second(store, clock):
    first = store.snapshot()
    store.record(measured())
    clock.now_s += 0.05
    assert store.snapshot() is first
    clock.now_s += 0.06
    assert store.snapshot().by_deployment["d"].attempts == 1


def test_a_snapshot_does_not_change(store, clock):
    store.record(measured())
    first = store.snapshot()
    clock.now_s += 1
    store.record(measured())
    store.snapshot()
    assert first.by_deployment["d"].attempts == 1


def test_the_number_of_deployments_is_bounded_and_the_most_silent_goes(store):
    for number in range(MOST_DEPLOYMENTS):
        store.record(measured(deployment_id=str(number)))
    store.record(measured(deployment_id="0"))
    store.record(measured(deployment_id="new"))
    known = store.snapshot().by_deployment
    assert len(known) == MOST_DEPLOYMENTS
    assert ("0" in known, "1" in known, "new" in known) == (True, False, True)


@pytest.mark.parametrize(
    "value", [pytest.param(v, id=str(v)) for v in (-1.0, 0.0, math.nan, math.inf, -math.inf, 1e300)]
)
def test_absurd_latencies_are_clamped(store, value):
    store.record(measured(total_ms=value, first_token_ms=value))
    assert 0 < statistics_of(store).total_p95_ms <= 3_600_000 * 1.02


@pytest.mark.parametrize(("window_s", "slices"), [(0, 10), (-1, 10), (math.nan, 10), (300, 0)])
def test_a_window_without_extent_is_refused(window_s, slices):
    with pytest.raises(ValueError, match="expected a positive window"):
        MemoryStore(window_s=window_s, slices=slices)


events = st.lists(
    st.tuples(st.floats(0, 200), st.sampled_from(AttemptStatus), st.floats(1, 1e5)), max_size=40
)


@given(events)
def test_the_window_holds_exactly_what_is_young_enough(events):
    clock = Clock()
    store = MemoryStore(window_s=300, slices=10, clock=clock)
    log = []
    for pause_s, status, total_ms in events:
        clock.now_s += pause_s
        store.record(measured(status, total_ms))
        log.append((int(clock.now_s // 30), status))
    oldest = int(clock.now_s // 30) - 9
    young = [status for number, status in log if number >= oldest]
    statistics = store.snapshot().by_deployment.get("d", EndpointStatistics())
    assert statistics.attempts == len(young)
    assert statistics.failures == sum(status.is_retryable for status in young)
