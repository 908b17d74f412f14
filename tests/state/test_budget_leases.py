"""Budgets: what all workers together spend of one, whatever they do at once, and when it begins anew."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import re
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "routing"))

from routing_cases import a_candidate, a_policy, a_request, a_scope

from litellm_plugin.errors import Reason
from litellm_plugin.routing import (
    AttemptStatus,
    Budget,
    BudgetAccount,
    BudgetPer,
    BudgetPeriod,
    Moment,
    Prices,
    Static,
    StatisticsSnapshot,
    WhenExceeded,
    decide,
)
from litellm_plugin.state.budgets import Budgets
from litellm_plugin.state.exchange import Batch
from litellm_plugin.state.leases import FIRST_SHARE, LEASE_TTL_S, STORE_LOST_AFTER_S, LeaseBook
from litellm_plugin.state.memory_exchange import MemoryExchange
from litellm_plugin.testing import FakeClock

COST_USD = 0.01
LIMIT_USD = 1.0
WORKERS = 4
# Prices of one request alone, so that what is expected is exact.
SMALL = replace(a_candidate("a"), prices=Prices(0.0, 0.0, COST_USD), provider="openai", tier="small")
LARGE = replace(a_candidate("b"), prices=Prices(0.0, 0.0, 10 * COST_USD), provider="azure", tier="large")


def an_account(**fields):
    return BudgetAccount(
        **{
            "budget": "B",
            "subject": "acme",
            "period": BudgetPeriod.MONTH,
            "period_id": "2026-11",
            "limit_usd": LIMIT_USD,
            "resets_at": "2026-12-01T00:00:00Z",
        }
        | fields
    )


def a_budget(per="tenant", period="month", **fields):
    return Budget(
        **{"name": "B", "per": BudgetPer(per), "limit_usd": LIMIT_USD, "period": BudgetPeriod(period)}
        | fields
    )


class Worker:
    """One worker: its leases, its budgets, and what it asks the exchange."""

    def __init__(self, exchange, clock, workers=1):
        self.book = LeaseBook(lambda: workers, clock.monotonic)
        self.budgets = Budgets(self.book)
        self.largest_lease_usd = 0.0
        self._exchange = exchange
        self._name = uuid.uuid4().hex
        self._sequence = self._answered = 0

    async def exchange(self):
        self._sequence += 1
        contribution = self.book.outgoing(0.0)
        batch = Batch(self._name, self._sequence, contribution, self._answered)
        reply = await self._exchange.exchange(batch)
        self._answered = self._sequence
        self.book.incoming(reply, reply.now_s)
        granted = (lease.granted for lease in reply.leases.values())
        self.largest_lease_usd = max(self.largest_lease_usd, max(granted, default=0) / 1e6)
        return reply

    def decide(self, *budgets, day="2026-11-22", candidates=(SMALL,), tenant="acme", strategy=None):
        date = dt.date.fromisoformat(day)
        return decide(
            replace(a_policy(strategy), budgets=budgets),
            a_request(moment=Moment(12, date.isoweekday(), date.month, day)),
            a_scope(tenant=tenant),
            candidates,
            statistics=StatisticsSnapshot({}, 0.0, budgets=self.budgets),
            seed=1,
        )

    def spend(self, decision):
        chosen = decision.assessment_of(decision.chosen.deployment_id)
        return self.budgets.spend(
            decision.accounts_of(decision.chosen.deployment_id), chosen.expected_cost_usd
        )

    def serve(self, *budgets, **request):
        """Answers as the proxy does: decided, reserved and billed; None where it is refused."""
        decision = self.decide(*budgets, **request)
        if decision.verdict is not None:
            self.budgets.miss(decision)
            return None
        self.budgets.settle(self.spend(decision), COST_USD)
        return decision


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def team(exchange, clock):
    return [Worker(exchange, clock, WORKERS) for _ in range(WORKERS)]


async def exchange_all(workers, clock, periods=1):
    for _ in range(periods):
        clock.advance(1.0)
        for worker in workers:
            await worker.exchange()


async def spent_usd(worker):
    """What the store knows of, after everybody told it."""
    (lease,) = (await worker.exchange()).leases.values()
    return lease.used / 1e6


async def exhaust(worker, clock, *budgets, day, periods=60):
    """Serves until a budget is spent, and gives how often."""
    served = 0
    for _ in range(periods):
        while worker.serve(*budgets, day=day):
            served += 1
        await exchange_all([worker], clock)
    return served


class TestManyAtOnce:
    BILLS_USD = (COST_USD, 0.5 * COST_USD, 1.5 * COST_USD)

    async def request(self, worker, number, bills):
        """One request of a crowd: others decide and end while it is under way; whether it was served."""
        decision = worker.decide(a_budget())
        if decision.verdict is not None:
            assert decision.verdict.reason is Reason.BUDGET_EXCEEDED
            worker.budgets.miss(decision)
            return False
        hold = worker.spend(decision)
        for _ in range(number % 7):
            await asyncio.sleep(0)
        if number % 11 == 0:
            worker.budgets.release(hold)
            return False
        bills.append(self.BILLS_USD[number % 3])
        worker.budgets.settle(hold, bills[-1])
        return True

    async def test_a_thousand_requests_for_a_hundred_spend_the_limit_and_a_lease_each(self, team, clock):
        bills, waiting = [], list(range(1000))
        for _ in range(10):
            clock.advance(1.0)
            served, *_ = await asyncio.gather(
                asyncio.gather(*(self.request(team[each % WORKERS], each, bills) for each in waiting)),
                *(worker.exchange() for worker in team),
            )
            waiting = [each for each, is_served in zip(waiting, served, strict=True) if not is_served]
        # The first spending counts as a lease, and a bill can be higher than what was expected.
        lease_usd = max(LIMIT_USD / FIRST_SHARE, *(worker.largest_lease_usd for worker in team))
        most_surprise_usd = sum(max(0.0, each - COST_USD) for each in bills)
        assert sum(bills) <= LIMIT_USD + WORKERS * lease_usd + most_surprise_usd + 1e-9
        assert sum(bills) >= 0.9 * LIMIT_USD
        await exchange_all(team, clock, 2)
        assert await spent_usd(team[0]) == pytest.approx(sum(bills))

    async def test_what_was_billed_as_expected_ends_at_the_limit_once_it_is_known(self, team, clock):
        served = 0
        for _ in range(60):
            await exchange_all(team, clock)
            for worker in team:
                while worker.serve(a_budget()):
                    served += 1
        lease_usd = max(LIMIT_USD / FIRST_SHARE, *(worker.largest_lease_usd for worker in team))
        assert LIMIT_USD * 0.9 <= served * COST_USD <= LIMIT_USD + WORKERS * lease_usd + 1e-9
        assert not any(worker.serve(a_budget()) for worker in team)


class TestReserving:
    async def test_what_is_under_way_counts(self, exchange, clock):
        worker = Worker(exchange, clock)
        worker.budgets[an_account()]
        await worker.exchange()
        left_usd = worker.budgets[an_account()]
        hold = worker.budgets.spend([an_account()], 0.02)
        assert worker.budgets[an_account()] == pytest.approx(left_usd - 0.02)
        worker.budgets.settle(hold, 0.05)
        assert worker.budgets[an_account()] == pytest.approx(left_usd - 0.05)

    @pytest.mark.parametrize("way", ["release", "settle"])
    async def test_a_hold_ends_once(self, exchange, clock, way):
        worker = Worker(exchange, clock)
        hold = worker.budgets.spend([an_account()], 0.02)
        worker.budgets.settle(hold, 0.03)
        worker.budgets.release(hold) if way == "release" else worker.budgets.settle(hold, 0.5)
        assert await spent_usd(worker) == pytest.approx(0.03)

    @pytest.mark.parametrize("bill", [None, math.nan, math.inf, -1.0])
    async def test_without_a_bill_what_was_expected_is_spent(self, exchange, clock, bill):
        worker = Worker(exchange, clock)
        worker.budgets.settle(worker.budgets.spend([an_account()], 0.02), bill)
        assert await spent_usd(worker) == pytest.approx(0.02)

    @pytest.mark.parametrize("expected", [None, math.nan, -1.0])
    async def test_an_unknown_cost_is_settled_all_the_same(self, exchange, clock, expected):
        worker = Worker(exchange, clock)
        worker.budgets.settle(worker.budgets.spend([an_account()], expected), 0.02)
        assert await spent_usd(worker) == pytest.approx(0.02)

    async def test_what_is_released_is_not_spent(self, exchange, clock):
        worker = Worker(exchange, clock)
        worker.budgets.release(worker.budgets.spend([an_account()], 0.02))
        assert await spent_usd(worker) == 0.0

    @pytest.mark.parametrize(
        ("bill", "units"),
        [(0.0, 0), (1e-9, 1), (1e-6, 1), (1.1e-6, 2), (0.07, 70_000), (0.1 + 0.2, 300_000), (1e300, 10**14)],
    )
    async def test_amounts_are_rounded_up_to_a_millionth(self, exchange, clock, bill, units):
        worker = Worker(exchange, clock)
        worker.budgets.settle(worker.budgets.spend([an_account()], None), bill)
        (lease,) = (await worker.exchange()).leases.values()
        assert lease.used == units

    async def test_every_budget_of_a_request_is_paid(self, exchange, clock):
        worker = Worker(exchange, clock)
        tenant, provider = a_budget(name="T"), a_budget("provider", name="P")
        worker.serve(tenant, provider)
        leases = (await worker.exchange()).leases
        assert {name: lease.used for name, lease in leases.items()} == {
            "budget:T:acme:2026-11": 10_000,
            "budget:P:openai:2026-11": 10_000,
        }

    async def test_what_degrades_goes_on_and_is_counted(self, exchange, clock):
        worker = Worker(exchange, clock)
        budget = a_budget(when_exceeded=WhenExceeded.CHEAPEST, limit_usd=2 * COST_USD)
        dear_first = Static(("b", "a"))
        for _ in range(5):
            decision = worker.serve(budget, candidates=(SMALL, LARGE), strategy=dear_first)
            assert decision.chosen == SMALL
        assert await spent_usd(worker) == pytest.approx(5 * COST_USD)

    async def test_a_request_that_was_larger_than_the_lease_is_covered_by_the_next(self, team, clock):
        budget, (worker, *_) = a_budget(limit_usd=25 * COST_USD), team
        candidates = (LARGE,)
        worker.budgets.spend([an_account(limit_usd=25 * COST_USD)], COST_USD)
        assert worker.serve(budget, candidates=candidates) is None
        await exchange_all(team, clock)
        assert worker.serve(budget, candidates=candidates) is not None

    async def test_a_dead_worker_s_lease_comes_back(self):
        clock = FakeClock()
        store = MemoryExchange(clock.monotonic)
        dead, living = Worker(store, clock, 2), Worker(store, clock, 2)
        dead.budgets[an_account()]
        await dead.exchange()
        dead.budgets.settle(dead.budgets.spend([an_account()], COST_USD), COST_USD)
        clock.advance(LEASE_TTL_S + 1)
        served = await exhaust(living, clock, a_budget(), day="2026-11-22")
        # What the dead one never told is lost with it.
        assert served * COST_USD == pytest.approx(LIMIT_USD)


class TestStoreLost:
    """C01, C02: losing the store denies nobody, and opens nothing that was spent."""

    def test_what_was_never_known_may_be_spent_once(self, clock):
        worker = Worker(MemoryExchange(), clock)
        clock.advance(STORE_LOST_AFTER_S + 1)
        served = 0
        while worker.serve(a_budget()):
            served += 1
        assert served * COST_USD == pytest.approx(LIMIT_USD)

    async def test_what_was_left_is_left(self, team, clock):
        served = 0
        for _ in range(3):
            served += sum(worker.serve(a_budget()) is not None for worker in team)
            await exchange_all(team, clock, 2)
        clock.advance(STORE_LOST_AFTER_S + 1)
        while team[0].serve(a_budget()):
            served += 1
        assert served * COST_USD == pytest.approx(LIMIT_USD)

    async def test_what_was_spent_stays_spent(self, exchange, clock):
        worker = Worker(exchange, clock)
        await exhaust(worker, clock, a_budget(), day="2026-11-22")
        clock.advance(STORE_LOST_AFTER_S + 1)
        assert worker.serve(a_budget()) is None


class TestTab:
    BUDGETS = (a_budget(name="T"), a_budget("provider", name="P"))

    def left(self, worker):
        decision = worker.decide(*self.BUDGETS, candidates=(SMALL, LARGE))
        return {each.account.subject: each.left_usd for each in decision.budgets}

    async def played(self, worker):
        """A tab with a plan of two attempts, and what was left before it."""
        self.left(worker)
        await worker.exchange()
        before = self.left(worker)
        decision = worker.decide(*self.BUDGETS, candidates=(SMALL, LARGE))
        tab = worker.budgets.tab()
        tab.plan(decision)
        return tab, decision, before

    def taken(self, worker, before):
        now = self.left(worker)
        return {name: round(before[name] - now[name], 9) for name in before if before[name] != now[name]}

    async def test_a_plan_reserves_its_first_attempt_before_it_begins(self, exchange, clock):
        worker = Worker(exchange, clock)
        tab, decision, before = await self.played(worker)
        assert self.taken(worker, before) == {"acme": COST_USD, "openai": COST_USD}
        tab.begin(decision, "a-1")
        assert self.taken(worker, before) == {"acme": COST_USD, "openai": COST_USD}

    async def test_another_attempt_takes_the_place_of_the_planned_one(self, exchange, clock):
        worker = Worker(exchange, clock)
        tab, decision, before = await self.played(worker)
        tab.begin(decision, "b-1")
        assert self.taken(worker, before) == {"acme": 10 * COST_USD, "azure": 10 * COST_USD}

    async def test_a_second_attempt_reserves_its_own(self, exchange, clock):
        worker = Worker(exchange, clock)
        tab, decision, before = await self.played(worker)
        worker.budgets.end(tab.begin(decision, "a-1"), AttemptStatus.SERVER_ERROR, None)
        hold = tab.begin(decision, "b-1")
        tab.close()
        assert self.taken(worker, before) == {"acme": 10 * COST_USD, "azure": 10 * COST_USD}
        worker.budgets.end(hold, AttemptStatus.SUCCESS, COST_USD)
        assert self.taken(worker, before) == {"acme": COST_USD, "azure": COST_USD}

    @pytest.mark.parametrize("how", ["closed", "planned-anew"])
    async def test_what_was_planned_and_not_begun_is_given_back(self, exchange, clock, how):
        worker = Worker(exchange, clock)
        tab, _, before = await self.played(worker)
        if how == "closed":
            tab.close()
            tab.close()
        else:
            tab.plan(worker.decide(*self.BUDGETS, candidates=()))
        assert self.taken(worker, before) == {}

    @pytest.mark.parametrize(
        ("status", "bill", "spent"),
        [
            (AttemptStatus.SUCCESS, 0.5 * COST_USD, 0.5 * COST_USD),
            (AttemptStatus.SUCCESS, 0.0, 0.0),
            (AttemptStatus.SUCCESS, None, COST_USD),
            (AttemptStatus.ABANDONED, None, COST_USD),
            (AttemptStatus.SERVER_ERROR, None, 0.0),
            (AttemptStatus.RATE_LIMITED, None, 0.0),
            (AttemptStatus.TIMEOUT, 2 * COST_USD, 2 * COST_USD),
        ],
    )
    async def test_what_counts_follows_how_the_attempt_ended(self, exchange, clock, status, bill, spent):
        worker = Worker(exchange, clock)
        tab, decision, _ = await self.played(worker)
        worker.budgets.end(tab.begin(decision, "a-1"), status, bill)
        leases = (await worker.exchange()).leases
        assert leases["budget:T:acme:2026-11"].used / 1e6 == pytest.approx(spent)


class TestSubjects:
    @pytest.mark.parametrize(
        "subject",
        [
            "a:2026-11",
            "a b",
            "",
            "t" * 65,
            "{x}",
            "~" + "0" * 32,
            "ü",
            "\ud800",
            "a\nb",
            "*",
            "budget:B:acme",
        ],
    )
    def test_any_other_text_is_a_hash_in_a_key(self, subject, clock):
        worker = Worker(MemoryExchange(), clock)
        worker.budgets[an_account(subject=subject)]
        (request,) = worker.book.outgoing(0.0).leases
        assert re.fullmatch(r"budget:B:~[0-9a-f]{32}:2026-11", request.resource)

    @given(st.lists(st.tuples(st.text(), st.sampled_from(["2026-11", "2026-12"])), unique=True, max_size=8))
    def test_each_subject_and_period_has_an_account_of_its_own(self, pairs):
        worker = Worker(MemoryExchange(), FakeClock())
        for subject, period_id in pairs:
            worker.budgets[an_account(subject=subject, period_id=period_id)]
        assert len(worker.book.outgoing(0.0).leases) == len(pairs)

    async def test_one_tenant_does_not_pay_for_another(self, exchange, clock):
        worker = Worker(exchange, clock)
        await exhaust(worker, clock, a_budget(), day="2026-11-22")
        assert worker.serve(a_budget()) is None
        assert worker.serve(a_budget(), tenant="other") is not None

    async def test_what_was_spent_counts_against_a_changed_limit(self, exchange, clock):
        worker = Worker(exchange, clock)
        await exhaust(worker, clock, a_budget(), day="2026-11-22")
        larger = a_budget(limit_usd=2 * LIMIT_USD)
        served = await exhaust(worker, clock, larger, day="2026-11-22")
        assert served * COST_USD == pytest.approx(LIMIT_USD)

    def test_it_lists_nothing(self, clock):
        assert dict(Worker(MemoryExchange(), clock).budgets) == {}


class TestRollover:
    @pytest.mark.parametrize(
        ("period", "before", "after"),
        [
            pytest.param("day", "2026-11-22", "2026-11-23", id="C36-midnight"),
            pytest.param("month", "2026-11-30", "2026-12-01", id="C36-month-end"),
            pytest.param("month", "2028-02-29", "2028-03-01", id="C36-leap-day"),
            pytest.param("day", "2028-02-28", "2028-02-29", id="C36-before-the-leap-day"),
            pytest.param("week", "2027-01-03", "2027-01-04", id="C36-iso-week-53"),
            pytest.param("day", "2026-12-31", "2027-01-01", id="C36-new-year"),
        ],
    )
    async def test_a_spent_budget_begins_anew_and_stays_spent_where_the_clock_jumps_back(
        self, exchange, clock, period, before, after
    ):
        worker, budget = Worker(exchange, clock), a_budget(period=period)
        assert await exhaust(worker, clock, budget, day=before) * COST_USD == pytest.approx(LIMIT_USD)
        assert worker.serve(budget, day=before) is None
        assert worker.serve(budget, day=after) is not None
        assert worker.serve(budget, day=before) is None
        restarted = Worker(exchange, clock)
        restarted.budgets[restarted.decide(budget, day=before).budgets[0].account]
        await restarted.exchange()
        assert restarted.serve(budget, day=before) is None

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            pytest.param("2026-12-31", "2027-01-03", id="one-week-over-new-year"),
            pytest.param("2024-12-30", "2025-01-01", id="new-year-s-week-begins-in-december"),
        ],
    )
    async def test_a_week_goes_on_over_new_year(self, exchange, clock, before, after):
        worker, budget = Worker(exchange, clock), a_budget(period="week")
        await exhaust(worker, clock, budget, day=before)
        assert worker.serve(budget, day=after) is None

    @pytest.mark.parametrize("jump_s", [-3600.0, 3600.0], ids=["C36-back", "C36-forward"])
    async def test_the_store_s_clock_may_jump(self, jump_s):
        clock = FakeClock()
        offset_s = 0.0
        store = MemoryExchange(lambda: 1e9 + clock.monotonic() + offset_s)
        worker, budget = Worker(store, clock), a_budget(period="day")
        await exhaust(worker, clock, budget, day="2026-11-22")
        offset_s = jump_s
        assert await exhaust(worker, clock, budget, day="2026-11-22", periods=5) == 0

    async def test_a_period_outlives_its_end_by_its_own_length(self):
        clock = FakeClock()
        store = MemoryExchange(clock.monotonic)
        worker, budget = Worker(store, clock), a_budget(period="day")
        await exhaust(worker, clock, budget, day="2026-11-22")
        clock.advance(86_400.0)
        late = Worker(store, clock)
        late.decide(budget, day="2026-11-22")
        await late.exchange()
        assert late.serve(budget, day="2026-11-22") is None


steps = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["spend", "settle", "release", "exchange"]),
        st.integers(0, 200_000),
    ),
    max_size=40,
)


@settings(max_examples=100)
@given(steps)
def test_the_store_knows_what_was_billed_and_nothing_else(taken):
    async def play():
        clock = FakeClock()
        store = MemoryExchange(clock.monotonic)
        workers = [Worker(store, clock, 3) for _ in range(3)]
        open_holds, billed = [[] for _ in workers], 0
        for number, step, units in taken:
            worker, holds = workers[number], open_holds[number]
            if step == "spend":
                holds.append(worker.budgets.spend([an_account()], units / 1e6))
            elif step == "exchange":
                clock.advance(1.0)
                await worker.exchange()
            elif holds and step == "settle":
                worker.budgets.settle(holds.pop(), units / 1e6)
                billed += units
            elif holds:
                worker.budgets.release(holds.pop())
        for worker, holds in zip(workers, open_holds, strict=True):
            for hold in holds:
                worker.budgets.release(hold)
            worker.budgets[an_account()]
            await worker.exchange()
        return await spent_usd(workers[0]), billed / 1e6

    known, billed = asyncio.run(play())
    assert known == pytest.approx(billed)
