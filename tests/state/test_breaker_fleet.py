"""Breakers of several workers over one exchange: what they know together, and what they decide alone."""

from __future__ import annotations

import pytest
from breaker_fleet import FAILED, SUCCESS, Worker, workers
from hypothesis import given, settings
from hypothesis import strategies as st

from litellm_plugin.routing import AttemptStatus
from litellm_plugin.routing.health import HEALTHY, BreakerState


def turn(fleet, times=1):
    for _ in range(times):
        for worker in fleet:
            worker.turn()


def half_open(count, **changes):
    store, fleet = workers(count, **changes)
    fleet[0].record(FAILED, times=5)
    turn(fleet)
    store.now_s += 10
    return store, fleet


def test_what_one_worker_found_all_know_after_an_exchange():
    _, fleet = workers(3)
    fleet[0].record(FAILED, times=5)
    turn(fleet)
    assert {worker.health().breaker for worker in fleet} == {BreakerState.OPEN}
    assert {worker.health().cause for worker in fleet} == {"5 failures in a row"}


def test_failures_that_each_saw_few_of_count_together():
    _, fleet = workers(5)
    for worker in fleet:
        worker.record(SUCCESS)
        worker.record(FAILED, times=2)
    turn(fleet, 2)
    assert {worker.health().breaker for worker in fleet} == {BreakerState.OPEN}


def test_what_all_see_is_counted_once():
    _, fleet = workers(3, consecutive_failures=100, minimum_attempts=31)
    for worker in fleet:
        worker.record(FAILED, times=10)
    turn(fleet, 5)
    assert [worker.health() for worker in fleet] == [HEALTHY] * 3


@pytest.mark.parametrize("was_sent", [True, False])
def test_what_a_lost_exchange_told_is_told_once(was_sent):
    _, (one, other) = workers(2, consecutive_failures=100, minimum_attempts=11)
    one.record(FAILED, times=10)
    one.lose(was_sent=was_sent)
    turn([one, other], 3)
    assert other.health() == HEALTHY
    other.record(FAILED)
    assert other.health().cause == "11 of 11 attempts failed within 30 s"


def test_a_wait_is_every_workers():
    _, fleet = workers(3)
    fleet[0].record(AttemptStatus.RATE_LIMITED, retry_after_s=60.0)
    turn(fleet)
    assert [worker.health().waits for worker in fleet] == ["429"] * 3


def test_one_probe_is_under_way_among_all_workers():
    _, fleet = half_open(4)
    for worker in fleet:
        worker.want()
    turn(fleet, 3)
    assert [worker.take() for worker in fleet].count(True) == 1
    turn(fleet, 3)
    assert not any(worker.health().may_probe for worker in fleet)


def test_as_many_probes_as_configured_are_under_way():
    _, fleet = half_open(4, probes=3)
    for worker in fleet:
        worker.want()
    turn(fleet, 3)
    taken = 0
    for _ in range(5):
        taken += sum(worker.take() for worker in fleet)
        turn(fleet)
    assert taken == 3


def test_a_probe_goes_to_the_worker_that_needs_it():
    _, fleet = half_open(8)
    fleet[5].want()
    turn(fleet)
    assert [worker.health().may_probe for worker in fleet] == [False] * 5 + [True] + [False] * 2


def test_what_nobody_wants_the_first_to_come_takes_and_tells():
    store, fleet = half_open(3)
    for _ in range(4):
        store.now_s += 1
        turn(fleet)
    assert fleet[1].take()
    for _ in range(2):
        # Those whose turn came before its own hear of it with the next.
        turn(fleet)
    assert [worker.health().may_probe for worker in fleet] == [False] * 3


def test_a_probe_that_a_silent_worker_holds_comes_back():
    store, (dead, alive) = half_open(2)
    dead.want()
    dead.turn()
    assert dead.take()
    for _ in range(12):
        store.now_s += 1
        alive.want()
        alive.turn()
    assert alive.take()


@pytest.mark.parametrize("status", [SUCCESS, FAILED])
def test_what_a_probe_found_all_know_after_an_exchange(status):
    _, fleet = half_open(3, probes_to_close=1)
    fleet[1].probe(status)
    turn(fleet, 2)
    wanted = BreakerState.CLOSED if status is SUCCESS else BreakerState.OPEN
    assert {worker.health().breaker for worker in fleet} == {wanted}


def test_of_two_probes_that_disagree_the_failure_holds():
    _, fleet = half_open(3, probes=2, probes_to_close=1)
    good, bad, _ = fleet
    for worker in (good, bad):
        worker.want()
    turn(fleet, 2)
    assert good.take()
    assert bad.take()
    good.record(SUCCESS, is_probe=True)
    bad.record(FAILED, is_probe=True)
    turn(fleet, 2)
    assert {worker.health().breaker for worker in fleet} == {BreakerState.OPEN}


@pytest.mark.parametrize("when", [pytest.param("open", id="C12-flushall")])
def test_what_the_store_forgot_is_told_again(when):
    store, fleet = workers(2)
    fleet[0].record(FAILED, times=5)
    turn(fleet)
    store.flush()
    turn(fleet, 2)
    newcomer = Worker(store, "new")
    newcomer.turn()
    assert newcomer.health().breaker == when


def test_a_worker_that_begins_with_a_forgotten_term_still_opens():
    store, (veteran, _) = half_open(2, probes_to_close=1)
    for _ in range(3):
        veteran.probe(FAILED)
        veteran.turn()
        store.now_s += 100
    veteran.probe(SUCCESS)
    veteran.turn()
    newcomer = Worker(store, "new")
    newcomer.record(FAILED, times=5)
    for _ in range(2):
        newcomer.turn()
    newcomer.record(FAILED, times=5)
    assert newcomer.health().breaker is BreakerState.OPEN


@pytest.mark.parametrize(
    "jump_s", [pytest.param(-3600.0, id="C12-back"), pytest.param(3600.0, id="C12-ahead")]
)
def test_a_store_whose_clock_jumps_keeps_no_breaker_open_for_long(jump_s):
    store, fleet = workers(3)
    fleet[0].record(FAILED, times=5)
    fleet[0].record(AttemptStatus.RATE_LIMITED, retry_after_s=250.0)
    turn(fleet)
    store.now_s += jump_s
    for _ in range(302):
        store.now_s += 1
        turn(fleet)
    assert all(worker.health().breaker is not BreakerState.OPEN for worker in fleet)
    assert all(worker.health().waits == "" for worker in fleet)


def test_what_is_sent_does_not_grow_with_requests():
    _, (worker,) = workers(1)
    sizes = []
    for requests in (1, 10_000):
        worker.record(SUCCESS, times=requests)
        sent = worker.turn()
        sizes.append((len(sent.changes), len(sent.reads), len(sent.leases)))
    assert sizes == [(1, 8, 0), (1, 4, 0)]


steps = st.lists(
    st.tuples(
        st.integers(0, 2), st.sampled_from(["fail", "answer", "turn", "lose", "probe", "wait", "flush"])
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(steps)
def test_workers_that_hear_each_other_agree(listed):
    store, fleet = workers(3, probes_to_close=1)
    for number, step in listed:
        worker = fleet[number]
        match step:
            case "fail":
                worker.record(FAILED, times=5)
            case "answer":
                worker.record(SUCCESS)
            case "turn":
                worker.turn()
            case "lose":
                worker.lose(was_sent=number == 0)
            case "probe":
                worker.want()
                worker.record(FAILED if number else SUCCESS, is_probe=worker.take())
            case "wait":
                store.now_s += 7
            case "flush":
                store.flush()
    turn(fleet, 5)
    assert len({(worker.health().breaker, worker.health().retry_after_s) for worker in fleet}) == 1
