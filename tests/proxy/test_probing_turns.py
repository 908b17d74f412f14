"""Turns of probing in the shared state: what they take of limits, budgets and breakers, and give back."""

from __future__ import annotations

from pathlib import Path

import pytest
from proxy_cases import POLICY_BLOCK

from litellm_plugin.proxy.shared_state import Ended, SharedState
from litellm_plugin.routing import BreakerState, Candidate
from litellm_plugin.routing.attempts import AttemptStatus, Measurement
from litellm_plugin.routing.budgets import Budget, BudgetPer, BudgetPeriod, accounts_without_permit
from litellm_plugin.settings import Flags, load_policy
from litellm_plugin.state import ProbingPolicy, Quota, TurnCause
from litellm_plugin.state.leases import STORE_LOST_AFTER_S
from litellm_plugin.testing import FakeClock

POLICY = ProbingPolicy(every_s=60.0)
RESILIENCE = {"breaker": {"consecutive_failures": 1, "open_seconds": 5, "probes_to_close": 1}}
CANDIDATE = Candidate("d", "eu", provider="openai")
BUDGETS = (
    Budget("endpoint", BudgetPer.ENDPOINT, 1.0, BudgetPeriod.DAY),
    Budget("provider", BudgetPer.PROVIDER, 2.0, BudgetPeriod.DAY),
    Budget("tenant", BudgetPer.TENANT, 1.0, BudgetPeriod.DAY),
    Budget("tier", BudgetPer.TENANT_TIER, 1.0, BudgetPeriod.DAY),
    Budget("route", BudgetPer.ROUTE, 1.0, BudgetPeriod.DAY),
)
ACCOUNTS = accounts_without_permit(BUDGETS, CANDIDATE, "2026-11-22")


class Worker:
    def __init__(self, quota=None):
        self.clock = FakeClock()
        self.shared = SharedState(self.clock, "w")
        self.shared.use(load_policy({**POLICY_BLOCK, "resilience": RESILIENCE}, Flags(), base=Path()))
        self.shared.declare({"d": quota or Quota()}, ["d"])
        self.shared.probe(POLICY)

    async def period(self, seconds=1.0):
        self.clock.advance(seconds)
        await self.shared.synchronise()

    async def turn(self):
        """Waits until a turn is granted, for so long that any wait is over."""
        for _ in range(100):
            await self.period()
            if self.shared.turn is not None:
                return self.shared.turn
        return None

    def ended(self, status=AttemptStatus.SUCCESS, **facts):
        return Ended(status, began_s=self.clock.monotonic(), **facts)

    def measured(self, status=AttemptStatus.SUCCESS):
        return Measurement("d", status, 20.0, 10.0, 3)

    async def alone(self):
        """Tells the store what was spent, and loses it: what is left is then known exactly."""
        await self.period()
        self.clock.advance(STORE_LOST_AFTER_S + 0.1)

    def left(self, account):
        return self.shared.snapshot().budgets[account]


@pytest.fixture
def worker():
    return Worker()


def test_budgets_of_the_endpoint_and_of_the_provider_pay_and_no_tenants():
    assert {(each.budget, each.subject) for each in ACCOUNTS} == {("endpoint", "eu"), ("provider", "openai")}


def test_an_unknown_provider_has_no_budget():
    accounts = accounts_without_permit(BUDGETS, Candidate("d", "eu"), "2026-11-22")
    assert [each.budget for each in accounts] == ["endpoint"]


async def test_a_turn_is_measured_as_an_attempt_is(worker):
    turn = await worker.turn()
    hold = worker.shared.take_turn(turn, 32, None, ())
    worker.shared.end_turn(turn, hold, worker.ended(), worker.measured())
    worker.clock.advance(1.0)
    statistics = worker.shared.snapshot().by_deployment["d"]
    assert (statistics.attempts, statistics.failures) == (1, 0)
    assert worker.shared.report()["probing"]["last"]["d"]["ended"] == "success"
    assert worker.shared.snapshot().in_flight == {}


async def test_what_it_costs_is_settled_to_its_budgets(worker):
    turn = await worker.turn()
    hold = worker.shared.take_turn(turn, 32, 0.01, ACCOUNTS)
    worker.shared.end_turn(turn, hold, worker.ended(cost_usd=0.02), worker.measured())
    await worker.alone()
    assert [worker.left(account) for account in ACCOUNTS] == pytest.approx([0.98, 1.98])


async def test_a_spent_budget_gives_the_turn_back(worker):
    turn = await worker.turn()
    assert worker.shared.take_turn(turn, 32, 5.0, ACCOUNTS) is None
    assert worker.shared.turn is None
    assert worker.shared.report()["probing"]["asked"] == {}


async def test_it_takes_its_share_of_the_quota():
    worker = Worker(Quota(requests_per_minute=10, tokens_per_minute=1000))
    turn = await worker.turn()
    hold = worker.shared.take_turn(turn, 32, None, ())
    worker.shared.end_turn(turn, hold, worker.ended(tokens=9), worker.measured())
    await worker.alone()
    health = worker.shared.health_of("d")
    assert (health.requests_left, health.tokens_left) == (9, 991)


@pytest.mark.parametrize("quota", [Quota(requests_per_minute=0), Quota(tokens_per_minute=0)])
async def test_without_room_in_its_limits_nobody_is_asked(quota):
    assert await Worker(quota).turn() is None


async def test_tokens_that_do_not_fit_give_the_turn_back():
    worker = Worker(Quota(tokens_per_minute=20))
    turn = await worker.turn()
    assert worker.shared.take_turn(turn, 32, None, ()) is None
    assert worker.shared.turn is None


async def test_a_deployment_that_its_provider_asked_to_leave_alone_is_not_asked(worker):
    turn = await worker.turn()
    hold = worker.shared.take_turn(turn, 32, None, ())
    ended = worker.ended(AttemptStatus.RATE_LIMITED, retry_after_s=250.0)
    worker.shared.end_turn(turn, hold, ended, worker.measured(AttemptStatus.RATE_LIMITED))
    assert await worker.turn() is None


async def test_an_open_breaker_closes_by_turns_alone(worker):
    worker.shared.end("d", None, worker.ended(AttemptStatus.SERVER_ERROR))
    assert worker.shared.health_of("d").breaker is BreakerState.OPEN
    assert worker.shared.turn is None
    turn = await worker.turn()
    assert turn.cause is TurnCause.HALF_OPEN
    hold = worker.shared.take_turn(turn, 32, None, ())
    assert hold.is_probe
    worker.shared.end_turn(turn, hold, worker.ended(), worker.measured())
    assert worker.shared.health_of("d").breaker is BreakerState.CLOSED


async def test_a_turn_that_fails_opens_it_for_longer(worker):
    worker.shared.end("d", None, worker.ended(AttemptStatus.SERVER_ERROR))
    turn = await worker.turn()
    hold = worker.shared.take_turn(turn, 32, None, ())
    failed = worker.ended(AttemptStatus.SERVER_ERROR)
    worker.shared.end_turn(turn, hold, failed, worker.measured(AttemptStatus.SERVER_ERROR))
    assert worker.shared.health_of("d").breaker is BreakerState.OPEN


async def test_a_key_that_is_refused_raises_the_alert(worker):
    turn = await worker.turn()
    hold = worker.shared.take_turn(turn, 32, None, ())
    refused = worker.ended(AttemptStatus.PROVIDER_AUTH)
    worker.shared.end_turn(turn, hold, refused, worker.measured(AttemptStatus.PROVIDER_AUTH))
    assert worker.shared.report()["breakers"]["alerts"] == {"d": "provider_auth"}


async def test_one_that_was_never_made_tells_nothing_and_gives_everything_back():
    worker = Worker(Quota(tokens_per_minute=1000))
    turn = await worker.turn()
    before = worker.shared.health_of("d")
    hold = worker.shared.take_turn(turn, 32, 0.01, ACCOUNTS)
    ended = worker.ended(AttemptStatus.ABANDONED, was_sent=False, is_measured=False)
    worker.shared.end_turn(turn, hold, ended, None)
    assert worker.shared.health_of("d") == before
    assert worker.shared.report()["probing"]["last"]["d"]["ended"] == "refused"
    worker.clock.advance(1.0)
    assert "d" not in worker.shared.snapshot().by_deployment


async def test_where_nobody_takes_turns_none_is_granted(worker):
    worker.shared.probe(None)
    assert await worker.turn() is None
    assert worker.shared.report()["probing"] is None
