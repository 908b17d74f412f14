"""Foreign names: what the store says of deployments that nobody configured takes neither memory nor time."""

from __future__ import annotations

import pytest
from breaker_fleet import FAILED, FakeStore, Worker

from litellm_plugin.routing.health import HEALTHY, BreakerState
from litellm_plugin.state.breaker_rules import Breaker
from litellm_plugin.state.exchange import Batch, Contribution, HashChange


def flood(worker, count=12_000, **fields):
    """Writes failures of deployments that nobody has into the five slices that a worker reads first."""
    counts = {f"bad:x{number}": 5 for number in range(count)} | fields
    slices = [int(worker.now_s // 5) - back for back in range(5)]
    changes = [HashChange(f"health:{each}", 60.0, add=counts) for each in slices]
    tell(worker, *changes)


def tell(worker, *changes):
    waiting = worker.store.exchange.exchange(Batch("attacker", 1, Contribution(changes=changes)))
    with pytest.raises(StopIteration):
        waiting.send(None)


def skipped(worker):
    return worker.breakers.report(worker.now_s)["skipped"]


@pytest.fixture
def worker():
    made = Worker(FakeStore())
    made.breakers.know(["d"])
    return made


def test_counts_of_foreign_names_are_skipped_and_counted(worker):
    """C14"""
    flood(worker)
    worker.turn()
    assert worker.breakers.health(worker.now_s) == {}
    assert (len(worker.breakers._known), skipped(worker)) == (0, 60_000)


def test_those_of_a_configured_deployment_count_in_the_flood(worker):
    """C14"""
    flood(worker, **{"bad:d": 20})
    worker.turn()
    assert worker.health().breaker is BreakerState.OPEN


@pytest.mark.parametrize("configured", [["d"], None], ids=["configured", "not yet"])
def test_a_flood_costs_neither_memory_nor_what_was_known(configured):
    """C14"""
    worker = Worker(FakeStore(), most=10)
    if configured:
        worker.breakers.know(configured)
    worker.record(FAILED, times=5)
    flood(worker)
    worker.turn()
    assert worker.health().breaker is BreakerState.OPEN
    assert len(worker.breakers._known) <= 10


def test_a_breaker_of_a_foreign_name_is_skipped_and_counted(worker):
    """C14"""
    other = Worker(worker.store, "other")
    other.record(FAILED, "x", times=5)
    other.turn()
    worker.turn()
    assert worker.health("x") == HEALTHY
    assert skipped(worker) == 2


def test_a_deployment_that_this_worker_asks_is_heard_of_whatever_is_configured(worker):
    other = Worker(worker.store, "other")
    worker.record(FAILED, "new")
    other.record(FAILED, "new", times=5)
    other.turn()
    worker.turn()
    assert worker.health("new").breaker is BreakerState.OPEN
    assert skipped(worker) == 0


def test_before_the_configuration_is_known_everything_is_heard_of():
    store = FakeStore()
    worker, other = Worker(store), Worker(store, "other")
    other.record(FAILED, "x", times=5)
    other.turn()
    worker.turn()
    assert worker.health("x").breaker is BreakerState.OPEN


def test_what_is_not_configured_is_forgotten_once_that_is_known():
    worker = Worker(FakeStore())
    for name in ("d", "x"):
        worker.record(FAILED, name, times=5)
    worker.breakers.know(["d"])
    assert worker.health().breaker is BreakerState.OPEN
    assert worker.health("x") == HEALTHY
    assert [each.put.keys() for each in worker.turn().changes if each.key == "breakers"] == [{"d"}]


def test_what_is_forged_makes_no_line_of_the_log(worker, caplog):
    """C14"""
    forged = Breaker(1, True, worker.now_s + 10, worker.now_s, cause="it broke\nCRITICAL forged").text()
    tell(worker, HashChange("breakers", 60.0, put={"d": forged}))
    with caplog.at_level("DEBUG"):
        worker.turn()
    assert worker.health().breaker is BreakerState.OPEN
    assert not any("\n" in line for line in caplog.messages)
