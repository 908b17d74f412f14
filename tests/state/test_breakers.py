"""Breakers: what one worker does with outcomes, probes, waits and a store that answers or does not."""

from __future__ import annotations

import logging

import pytest
from breaker_fleet import FAILED, SUCCESS, FakeStore, Worker, a_worker

from litellm_plugin.routing import AttemptStatus
from litellm_plugin.routing.health import HEALTHY, BreakerState
from litellm_plugin.state.exchange import Contribution, HashChange

NOTHING_OF_HEALTH = [
    AttemptStatus.CLIENT_ERROR,
    AttemptStatus.CONTEXT_WINDOW,
    AttemptStatus.CONTENT_FILTER,
    AttemptStatus.ABANDONED,
    AttemptStatus.RATE_LIMITED,
]


def half_open(**changes):
    """A worker whose deployment is half open since this moment."""
    store, worker = a_worker(**changes)
    worker.record(FAILED, times=5)
    worker.turn()
    store.now_s += 10
    assert worker.health().breaker is BreakerState.HALF_OPEN
    return store, worker


def test_failures_in_a_row_open_at_once():
    _, worker = a_worker()
    worker.record(FAILED, times=4)
    assert worker.health() == HEALTHY
    worker.record(FAILED)
    found = worker.health()
    assert (found.breaker, found.cause, found.retry_after_s) == (
        BreakerState.OPEN,
        "5 failures in a row",
        10.0,
    )


def test_an_answer_between_starts_the_row_again():
    _, worker = a_worker()
    worker.record(FAILED, times=4)
    worker.record(SUCCESS, times=9)
    worker.record(FAILED, times=4)
    assert worker.health() == HEALTHY


def test_health_of_long_ago_hides_no_failures_of_now():
    store, worker = a_worker()
    worker.record(SUCCESS, times=60)
    store.now_s += 15
    for _ in range(5):
        worker.record(SUCCESS)
        worker.record(FAILED)
    assert worker.health().cause == "5 of 10 attempts failed within 10 s"


def test_a_failure_rate_opens():
    _, worker = a_worker()
    for _ in range(5):
        worker.record(SUCCESS)
        worker.record(FAILED)
    assert worker.health().cause == "5 of 10 attempts failed within 30 s"


def test_failures_that_left_the_window_do_not_count():
    store, worker = a_worker(consecutive_failures=100)
    worker.record(FAILED, times=9)
    store.now_s += 30
    worker.record(FAILED)
    assert worker.health() == HEALTHY


@pytest.mark.parametrize("status", NOTHING_OF_HEALTH)
def test_what_says_nothing_never_opens(status):
    _, worker = a_worker()
    worker.record(status, times=1000, retry_after_s=0.0)
    assert worker.health() == HEALTHY


def test_a_429_is_waited_for_and_is_no_ill_health():
    store, worker = a_worker()
    worker.record(AttemptStatus.RATE_LIMITED, retry_after_s=30.0)
    found = worker.health()
    assert (found.breaker, found.waits, found.retry_after_s) == (BreakerState.CLOSED, "429", 30.0)
    store.now_s += 30
    assert worker.health() == HEALTHY


def test_the_longest_wait_holds():
    _, worker = a_worker()
    worker.record(AttemptStatus.RATE_LIMITED, retry_after_s=30.0)
    worker.record(AttemptStatus.RATE_LIMITED, retry_after_s=1.0)
    assert worker.health().retry_after_s == 30.0


def test_a_failure_with_retry_after_stays_open_that_long():
    _, worker = a_worker()
    worker.record(FAILED, times=5, retry_after_s=60.0)
    assert worker.health().retry_after_s == 60.0


@pytest.mark.parametrize("status", [AttemptStatus.PROVIDER_AUTH, AttemptStatus.MISCONFIGURED])
def test_a_fault_of_the_operator_is_told_once_and_sets_aside(status, caplog):
    _, worker = a_worker()
    with caplog.at_level(logging.INFO):
        worker.record(status, times=5)
        assert worker.health().cause == status
        assert worker.breakers.report(worker.now_s)["alerts"] == {"d": status}
        worker.record(SUCCESS)
    assert [each.levelname for each in caplog.records] == ["ERROR", "WARNING", "INFO"]
    assert not worker.breakers.report(worker.now_s)["alerts"]


def test_what_failed_for_this_workers_own_reasons_does_not_count():
    _, worker = a_worker()
    worker.record(AttemptStatus.TIMEOUT, times=100, is_excused=True)
    assert worker.health() == HEALTHY


def test_an_attempt_from_before_a_change_says_nothing():
    store, worker = half_open()
    worker.record(FAILED, duration_s=60.0)
    assert worker.health().breaker is BreakerState.HALF_OPEN
    worker.probe(SUCCESS)
    worker.probe(SUCCESS)
    store.now_s += 10
    worker.record(FAILED, times=100, duration_s=60.0)
    assert worker.health() == HEALTHY


def test_a_closed_breaker_forgets_the_failures_that_opened_it():
    store, worker = half_open(window_s=600.0, consecutive_failures=3)
    worker.probe(SUCCESS)
    worker.probe(SUCCESS)
    store.now_s += 100
    worker.record(FAILED)
    assert worker.health() == HEALTHY


def test_probes_that_succeed_close_it_and_each_change_is_told_once(caplog):
    with caplog.at_level(logging.INFO):
        _, worker = half_open()
        worker.probe(SUCCESS)
        assert worker.health().breaker is BreakerState.HALF_OPEN
        worker.probe(SUCCESS)
    assert worker.health() == HEALTHY
    assert [each.levelname for each in caplog.records] == ["WARNING", "INFO"]
    assert worker.breakers.report(worker.now_s)["changes"] == {"opened": 1, "closed": 1}


def test_a_probe_that_fails_opens_it_for_longer():
    _, worker = half_open()
    worker.probe(FAILED)
    found = worker.health()
    assert (found.breaker, found.cause, found.retry_after_s) == (BreakerState.OPEN, "a probe failed", 20.0)


def test_an_attempt_without_a_probe_counts_while_half_open():
    _, worker = half_open(probes_to_close=1)
    worker.record(SUCCESS)
    assert worker.health() == HEALTHY


def test_nobody_holds_a_probe_that_nobody_wants():
    _, worker = half_open()
    assert {each.want for each in worker.turn().leases} == {0}
    assert not worker.health().may_probe


def seldom(every_s, requests, **changes):
    """Requests that are further apart than demand is remembered, each answered well where it is let through."""
    store, worker = half_open(**changes)
    for _ in range(requests):
        for _ in range(every_s):
            store.now_s += 1
            worker.turn()
        worker.want()
        if worker.health().may_probe:
            worker.record(SUCCESS, is_probe=worker.take())
        yield worker.health().breaker


def test_requests_that_are_far_apart_close_it():
    assert list(seldom(15, 2)) == [BreakerState.HALF_OPEN, BreakerState.CLOSED]


def test_what_is_taken_before_it_is_asked_for_is_one_requests():
    store, worker = half_open()
    for _ in range(4):
        store.now_s += 1
        worker.turn()
    assert [worker.take(), worker.take()] == [True, False]
    worker.turn()
    assert not worker.take()
    worker.breakers.give_back_probe("d")
    assert worker.take()


@pytest.mark.parametrize("was_sent", [True, False])
def test_what_nobody_held_before_the_store_fell_silent_says_nothing(was_sent):
    store, worker = half_open()
    for _ in range(4):
        store.now_s += 1
        worker.turn()
    worker.lose(was_sent=was_sent)
    assert [worker.take(), worker.take()] == [True, False]


def test_a_worker_hears_of_few_deployments_that_nobody_asks():
    store, worker = a_worker()
    for number in range(100):
        worker.record(FAILED, f"d{number:02}", times=5)
    store.now_s += 10
    worker.want("d99")
    told = [(each.resource, each.want) for each in worker.turn().leases]
    assert len(told) == 65
    assert told[-1] == ("probe:d99", 1)


def test_a_probe_is_one_requests():
    _, worker = half_open()
    worker.want()
    worker.turn()
    assert worker.health().may_probe
    assert worker.take()
    assert not worker.health().may_probe
    assert not worker.take()


def test_what_is_not_half_open_has_no_probes():
    _, worker = a_worker()
    assert not worker.take()
    worker.record(FAILED, times=5)
    assert not worker.take()


def given_up(worker, how):
    match how:
        case "cancelled":
            worker.breakers.give_back_probe("d")
        case "abandoned":
            worker.record(AttemptStatus.ABANDONED, is_probe=True)
        case "rate_limited":
            worker.record(AttemptStatus.RATE_LIMITED, is_probe=True, retry_after_s=1.0)
        case "refused":
            worker.record(AttemptStatus.CLIENT_ERROR, is_probe=True)
        case "hung":
            worker.store.now_s += 30


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(how, id=f"C33-{how}")
        for how in ["cancelled", "abandoned", "rate_limited", "refused", "hung"]
    ],
)
def test_a_probe_that_told_nothing_makes_room_for_another(how):
    store, worker = half_open()
    worker.want()
    worker.turn()
    assert worker.take()
    given_up(worker, how)
    store.now_s += 1
    worker.want()
    worker.turn()
    assert worker.health().breaker is BreakerState.HALF_OPEN
    assert worker.take()


def test_a_429_to_a_probe_is_waited_for():
    _, worker = half_open()
    worker.probe(AttemptStatus.RATE_LIMITED, retry_after_s=7.0)
    found = worker.health()
    assert (found.breaker, found.waits, found.retry_after_s) == (BreakerState.HALF_OPEN, "429", 7.0)


@pytest.mark.parametrize(
    "was_sent", [pytest.param(True, id="C02-was-sent"), pytest.param(False, id="C01-was-not-sent")]
)
def test_without_a_store_a_worker_grants_itself_a_probe_a_period(was_sent):
    store, worker = half_open()
    worker.lose(was_sent=was_sent)
    assert worker.take()
    assert not worker.take()
    worker.record(SUCCESS, is_probe=True)
    assert not worker.take()
    store.now_s += 1
    worker.lose(was_sent=was_sent)
    assert worker.take()
    worker.record(SUCCESS, is_probe=True)
    assert worker.health() == HEALTHY


@pytest.mark.parametrize("failures", [pytest.param(5, id="C41")])
def test_without_a_background_task_a_worker_decides_alone(failures):
    store, worker = a_worker()
    worker.record(FAILED, times=failures)
    store.now_s += 10
    assert worker.take()
    worker.record(FAILED, is_probe=True)
    assert worker.health().retry_after_s == 20.0


@pytest.mark.parametrize(
    "jump_s", [pytest.param(3600.0, id="C12-ahead"), pytest.param(-3600.0, id="C36-back")]
)
def test_a_clock_that_jumps_keeps_nobody_out_for_long(jump_s):
    store, worker = a_worker()
    worker.record(FAILED, times=5)
    worker.record(AttemptStatus.RATE_LIMITED, retry_after_s=100.0)
    worker.turn()
    store.now_s += jump_s
    worker.turn()
    assert (worker.health().retry_after_s or 0.0) <= 300.0
    store.now_s += 301
    worker.want()
    worker.turn()
    assert worker.take()


def spoil(worker, key, **fields):
    worker.ask(Contribution(changes=(HashChange(key, 600.0, put=fields),)))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[1,", id="C06-truncated"),
        pytest.param("nonsense", id="C06-foreign"),
        pytest.param('[2,9,"closed",0,0,0,0,""]', id="C06-future"),
    ],
)
def test_a_value_that_is_none_is_skipped_counted_and_written_over(text):
    _, worker = a_worker()
    worker.record(FAILED, times=5)
    worker.turn()
    spoil(worker, "breakers", d=text)
    worker.turn()
    assert worker.breakers.report(worker.now_s)["skipped"] == 1
    (change,) = (each for each in worker.turn().changes if each.key == "breakers")
    assert change.put["d"].startswith('[1,1,"open"')


@pytest.mark.parametrize("value", ["-5", "NaN", "1e308", "x", "9" * 40, ""])
def test_counts_that_are_none_are_skipped(value):
    store, worker = a_worker()
    number = int(store.now_s // 5)
    spoil(worker, f"health:{number}", **{"bad:d": value, "worse:d": "5", "bad:": "5"})
    worker.turn()
    assert worker.health() == HEALTHY
    assert worker.breakers.report(store.now_s)["skipped"] == 3


@pytest.mark.parametrize("value", ["nan", "inf", "-1e308", "soon", "1" * 40])
def test_waits_that_are_none_are_skipped(value):
    _, worker = a_worker()
    spoil(worker, "waits", d=value)
    worker.turn()
    assert worker.health() == HEALTHY


@pytest.mark.parametrize(
    "value", [pytest.param("1e300", id="C14-absurd"), pytest.param("9999999999", id="C14-far")]
)
def test_a_wait_of_another_tenant_is_clamped(value):
    _, worker = a_worker()
    spoil(worker, "waits", d=value)
    worker.turn()
    assert worker.health().retry_after_s == 300.0


def test_what_is_remembered_is_bounded():
    store = FakeStore()
    worker = Worker(store, most=10)
    for number in range(100):
        worker.record(FAILED, f"d{number}", times=5)
        worker.turn()
    assert len(worker.breakers.health(store.now_s)) == 10


def test_a_healthy_fleet_tells_of_no_breakers():
    _, worker = a_worker()
    worker.record(SUCCESS, times=1000)
    sent = worker.turn()
    assert [each.key for each in sent.changes] == [f"health:{int(worker.now_s // 5)}"]
    assert sent.changes[0].add == {"ok:d": 1000}
    assert worker.turn().changes == ()
    assert len(worker.turn().reads) == 4


def test_a_switched_off_breaker_lets_all_pass():
    store = FakeStore()
    worker = Worker(store, policy=None)
    worker.record(FAILED, times=100)
    worker.record(AttemptStatus.RATE_LIMITED)
    assert worker.health() == HEALTHY
    assert worker.turn() == Contribution()


def test_another_policy_holds_from_then_on():
    _, worker = a_worker()
    worker.record(FAILED, times=5)
    worker.breakers.use(None)
    assert worker.health() == HEALTHY
