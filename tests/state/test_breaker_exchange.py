"""Breakers over every kind of exchange: one life of a breaker, from failures to the probe that closes it."""

from __future__ import annotations

import pytest
from breaker_fleet import FAILED, SUCCESS

from litellm_plugin.routing import AttemptStatus
from litellm_plugin.routing.health import HEALTHY, BreakerState
from litellm_plugin.state import BreakerPolicy, Breakers, Outcome
from litellm_plugin.state.exchange import Batch


class Workers:
    """Two workers at one exchange; their time moves when a test says so, the server's by itself."""

    def __init__(self, exchange, **changes):
        self.exchange, self.now_s, self.sequence = exchange, 1_700_000_000.0, 0
        self.all = [Breakers(BreakerPolicy(**changes), lambda: 0.0) for _ in range(2)]

    def record(self, number, status, times=1, **fields):
        for _ in range(times):
            self.all[number].record(Outcome("d", status, **fields), self.now_s)

    async def turn(self, times=1):
        for _ in range(times):
            self.sequence += 1
            for number, each in enumerate(self.all):
                batch = Batch(f"w{number}", self.sequence, each.outgoing(self.now_s))
                each.incoming(await self.exchange.exchange(batch), self.now_s)

    async def wait(self, seconds):
        self.now_s += seconds
        await self.turn()

    def health(self):
        return [each.health(self.now_s).get("d", HEALTHY) for each in self.all]

    def states(self):
        return [each.breaker for each in self.health()]

    def take(self):
        for each in self.all:
            each.want(["d"], self.now_s)
        return [each.take_probe("d", self.now_s) for each in self.all]


@pytest.fixture
def pair(exchange):
    return Workers(exchange, probes_to_close=1)


async def test_failures_count_together(pair):
    for number in range(2):
        pair.record(number, SUCCESS)
        pair.record(number, FAILED, times=4)
    await pair.turn(2)
    assert pair.states() == [BreakerState.OPEN] * 2


async def test_a_wait_is_shared(pair):
    pair.record(0, AttemptStatus.RATE_LIMITED, retry_after_s=60.0)
    await pair.turn()
    assert [each.waits for each in pair.health()] == ["429"] * 2


@pytest.mark.parametrize("end", [SUCCESS, FAILED])
async def test_one_probe_decides_for_all(pair, end):
    pair.record(0, FAILED, times=5)
    await pair.turn(2)
    await pair.wait(10)
    assert pair.states() == [BreakerState.HALF_OPEN] * 2
    assert pair.take() == [False, False]
    await pair.turn(2)
    taken = pair.take()
    assert sorted(taken) == [False, True]
    pair.record(taken.index(True), end, is_probe=True)
    await pair.turn(2)
    assert pair.states() == [BreakerState.CLOSED if end is SUCCESS else BreakerState.OPEN] * 2


@pytest.mark.parametrize(
    "how", [pytest.param("hung", id="C33-hung"), pytest.param("cancelled", id="C33-cancelled")]
)
async def test_a_probe_that_told_nothing_makes_room(pair, how):
    pair.record(0, FAILED, times=5)
    await pair.turn(2)
    await pair.wait(10)
    pair.take()
    await pair.turn(2)
    taken = pair.take()
    if how == "hung":
        await pair.wait(31)
        assert pair.take() == [False, False]
    else:
        pair.all[taken.index(True)].give_back_probe("d")
    await pair.turn(3)
    assert sorted(pair.take()) == [False, True]
