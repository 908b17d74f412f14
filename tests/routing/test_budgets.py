from __future__ import annotations

import datetime as dt
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing_cases import a_candidate, a_policy, a_request, a_scope

from litellm_plugin.errors import ConfigurationError, Reason
from litellm_plugin.routing import (
    Attested,
    BreakerState,
    Budget,
    BudgetAction,
    BudgetPer,
    BudgetPeriod,
    EndpointHealth,
    Exclusion,
    Moment,
    Static,
    StatisticsSnapshot,
    WhenExceeded,
    compile_condition,
    decide,
)

NOON = Moment(hour=12, weekday=7, month=11, date="2026-11-22")
# 612 tokens at a price of 1e-6 USD.
CHEAP = a_candidate("a", provider="openai", tier="small")
DEAR = a_candidate("b", price=3e-6, provider="azure", tier="large")
OTHER = a_candidate("c", price=2e-6, provider="azure", tier="medium")
COST = 612e-6
DEAR_FIRST = Static(("b", "c", "a"))


def a_budget(per="tenant", **fields):
    return Budget(
        **{
            "name": "B",
            "per": BudgetPer(per),
            "limit_usd": 50.0,
            "period": BudgetPeriod.MONTH,
        }
        | fields
    )


class Left(dict):
    """What is left by budget's name, or by name and subject."""

    def get(self, account, default=None):
        return super().get((account.budget, account.subject), super().get(account.budget, default))


def decided(
    *budgets, left=None, strategy=DEAR_FIRST, candidates=(CHEAP, DEAR, OTHER), moment=NOON, **changes
):
    return decide(
        replace(a_policy(strategy), budgets=budgets),
        a_request(moment=moment),
        a_scope(),
        candidates,
        statistics=StatisticsSnapshot({}, 0.0, budgets=Left(left or {})),
        seed=1,
        **changes,
    )


def plan(decision):
    return [each.endpoint for each in decision.plan]


@pytest.mark.parametrize(
    ("period", "day", "expected"),
    [
        pytest.param("day", "2026-11-22", ("2026-11-22", "2026-11-23"), id="day"),
        pytest.param("day", "2026-12-31", ("2026-12-31", "2027-01-01"), id="last-day-of-the-year"),
        pytest.param("day", "2028-02-28", ("2028-02-28", "2028-02-29"), id="before-a-leap-day"),
        pytest.param("week", "2026-11-22", ("2026-W47", "2026-11-23"), id="sunday-ends-its-week"),
        pytest.param("week", "2026-11-23", ("2026-W48", "2026-11-30"), id="monday-begins-one"),
        pytest.param("week", "2027-01-01", ("2026-W53", "2027-01-04"), id="new-year-in-the-old-year's-week"),
        pytest.param("week", "2024-12-30", ("2025-W01", "2025-01-06"), id="old-year-in-the-new-year's-week"),
        pytest.param("month", "2026-11-30", ("2026-11", "2026-12-01"), id="last-day-of-a-month"),
        pytest.param("month", "2028-02-29", ("2028-02", "2028-03-01"), id="leap-day"),
        pytest.param("month", "2027-02-28", ("2027-02", "2027-03-01"), id="no-leap-year"),
        pytest.param("month", "2026-12-31", ("2026-12", "2027-01-01"), id="month-at-new-year"),
        pytest.param("month", "2026-01-31", ("2026-01", "2026-02-01"), id="31-days"),
    ],
)
def test_a_period_ends_at_midnight_utc(period, day, expected):
    read = decided(a_budget(period=BudgetPeriod(period)), moment=replace(NOON, date=day)).budgets
    (account,) = (each.account for each in read)
    assert (account.period_id, account.resets_at) == (expected[0], f"{expected[1]}T00:00:00Z")


@given(st.dates(max_value=dt.date(9998, 12, 1)), st.sampled_from(BudgetPeriod))
def test_the_next_period_begins_where_one_ends(day, period):
    end = period.end_of(day)
    assert end > day
    assert period.id_of(end) != period.id_of(day)
    assert period.id_of(end - dt.timedelta(days=1)) == period.id_of(day)


@pytest.mark.parametrize(
    ("per", "expected"),
    [
        ("tenant", {"acme": None}),
        ("tenant_tier", {"pro": None}),
        ("route", {"acme\ninternal\ngpt\nchat\n\n": None}),
        ("endpoint", {"a": {"a-1"}, "b": {"b-1"}, "c": {"c-1"}}),
        ("provider", {"openai": {"a-1"}, "azure": {"b-1", "c-1"}}),
    ],
)
def test_each_has_a_budget_of_its_own(per, expected):
    read = decided(a_budget(per)).budgets
    assert {each.account.subject: each.deployment_ids for each in read} == expected


def test_a_candidate_pays_from_its_own_accounts_and_the_request_s():
    decision = decided(a_budget(name="T"), a_budget("provider", name="P"))
    assert [(each.budget, each.subject) for each in decision.accounts_of("b-1")] == [
        ("T", "acme"),
        ("P", "azure"),
    ]


def test_what_is_not_authorized_has_no_account():
    read = decided(a_budget("endpoint"), candidates=(CHEAP, a_candidate("outside"))).budgets
    assert [each.account.subject for each in read] == ["a"]


def test_an_unknown_provider_pays_from_no_budget():
    assert decided(a_budget("provider"), candidates=(a_candidate("a"),)).budgets == ()


def test_a_budget_holds_for_the_requests_that_it_says():
    free = a_budget(where=compile_condition('permit.tenant_tier == "free"'))
    pro = a_budget(where=compile_condition('permit.tenant_tier == "pro"'))
    short = a_budget(where=compile_condition("request.max_output_tokens < 10"))
    assert decided(free).budgets == ()
    assert [each.budget for each in decided(free, pro, short).budgets] == [pro]


def test_a_request_without_a_moment_has_no_period():
    decision = decided(a_budget(), left={"B": 0.0}, moment=None)
    assert (plan(decision), decision.budgets) == (["b", "c", "a"], ())


def test_a_budget_that_covers_the_request_changes_nothing():
    decision = decided(a_budget(), left={"B": 3 * COST})
    assert plan(decision) == ["b", "c", "a"]
    assert [(each.left_usd, each.action) for each in decision.budgets] == [(3 * COST, None)]


def test_where_nobody_keeps_count_everything_fits():
    decision = decided(a_budget())
    assert (plan(decision), decision.budgets[0].left_usd) == (["b", "c", "a"], None)


def test_an_exceeded_budget_refuses_and_says_when_it_resets():
    decision = decided(a_budget(name="small-change"), left={"small-change": 2.9 * COST})
    assert (plan(decision), decision.verdict.reason) == ([], Reason.BUDGET_EXCEEDED)
    assert decision.verdict.status == 403
    assert not decision.verdict.reason.is_temporary
    assert decision.verdict.message == (
        "Budget 'small-change' (50 USD a month for each tenant) does not cover request R (policy version 42)."
        " It resets at 2026-12-01T00:00:00Z."
    )
    assert decision.budgets[0].action is BudgetAction.REFUSED


def test_the_cheapest_is_taken_instead_of_what_the_rule_says():
    decision = decided(a_budget(when_exceeded=WhenExceeded.CHEAPEST), left={"B": 0.0})
    assert plan(decision) == ["a", "c", "b"]
    assert decision.budgets[0].action is BudgetAction.CHEAPEST
    assert decision.notes == (
        "budget B: does not cover this request, so the cheapest first, instead of what the rule says",
    )


def test_an_unknown_cost_is_never_the_cheapest():
    unknown = a_candidate("b", price=None)
    decision = decided(
        a_budget(when_exceeded=WhenExceeded.CHEAPEST), left={"B": 0.0}, candidates=(unknown, CHEAP)
    )
    assert plan(decision) == ["a", "b"]


DEGRADE = {"when_exceeded": WhenExceeded.TIER, "tier": "medium"}


@pytest.mark.parametrize(
    "strategy", [DEAR_FIRST, Static(("b",))], ids=["rule-takes-it", "rule-leaves-it-out"]
)
def test_only_the_tier_that_it_degrades_to_serves(strategy):
    decision = decided(a_budget(**DEGRADE), left={"B": 0.0}, strategy=strategy)
    assert (plan(decision), decision.budgets[0].action) == (["c"], BudgetAction.TIER)
    assert "tier 'medium' alone" in decision.notes[-1]


def test_without_an_endpoint_of_that_tier_it_refuses():
    decision = decided(a_budget(**DEGRADE), left={"B": 0.0}, candidates=(CHEAP, DEAR))
    assert decision.verdict.reason is Reason.BUDGET_EXCEEDED
    assert decision.budgets[0].action is BudgetAction.REFUSED


def test_of_several_exceeded_budgets_the_strictest_counts():
    cheapest = a_budget(name="C", when_exceeded=WhenExceeded.CHEAPEST)
    degrade, refuse = a_budget(name="D", **DEGRADE), a_budget(name="R")
    spent = {"C": 0.0, "D": 0.0, "R": 0.0}
    assert plan(decided(cheapest, degrade, left=spent)) == ["c"]
    refused = decided(cheapest, degrade, refuse, left=spent)
    assert [each.action for each in refused.budgets] == [None, None, BudgetAction.REFUSED]


def test_what_is_left_covers_every_attempt_of_a_plan():
    decision = decided(a_budget(), left={"B": 1.5 * COST}, strategy=Static(("a", "b", "c")))
    assert (plan(decision), decision.verdict) == (["a"], None)
    assert decision.notes == ("budgets: less is left than these cost, so left out: b-1, c-1",)


def test_a_plan_of_several_attempts_reaches_past_what_does_not_fit():
    decision = decided(a_budget(), left={"B": 2.5 * COST}, strategy=Static(("c", "b", "a")))
    assert plan(decision) == ["c", "a"]


@pytest.mark.parametrize("left", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_unknown(left):
    assert plan(decided(a_budget(), left={"B": left})) == ["b", "c", "a"]


@pytest.mark.parametrize(("left", "expected"), [(1e-9, ["a"]), (0.0, []), (-1.0, [])])
def test_an_unknown_cost_fits_as_long_as_anything_is_left(left, expected):
    decision = decided(a_budget(), left={"B": left}, candidates=(a_candidate("a", price=None),))
    assert plan(decision) == expected


@pytest.mark.parametrize("way", [WhenExceeded.CHEAPEST, WhenExceeded.REFUSE])
def test_what_must_be_reproducible_is_not_answered_by_another(way):
    dear = replace(DEAR, model="m")
    decision = decided(
        a_budget(when_exceeded=way), left={"B": 0.0}, strategy=Attested("b", "m"), candidates=(CHEAP, dear)
    )
    assert plan(decision) == (["b"] if way is WhenExceeded.CHEAPEST else [])


def test_the_budget_of_an_endpoint_keeps_out_that_endpoint():
    decision = decided(a_budget("endpoint"), left={("B", "b"): 0.0, ("B", "c"): 1.0})
    excluded = decision.assessment_of("b-1")
    assert plan(decision) == ["c", "a"]
    assert (excluded.exclusion, excluded.detail) == (Exclusion.BUDGET, "B, resets at 2026-12-01T00:00:00Z")
    assert {each.account.subject: each.action for each in decision.budgets} == {
        "a": None,
        "b": BudgetAction.KEPT_OUT,
        "c": None,
    }


def test_the_budget_of_a_provider_keeps_out_what_it_does_not_cover():
    decision = decided(a_budget("provider"), left={("B", "azure"): 2.5 * COST})
    assert plan(decision) == ["c", "a"]


def test_where_budgets_keep_out_every_endpoint_the_request_is_refused():
    decision = decided(a_budget("endpoint"), left={"B": 0.0}, candidates=(CHEAP, DEAR))
    assert (decision.verdict.reason, decision.verdict.status) == (Reason.BUDGET_EXCEEDED, 403)
    assert decision.verdict.message == (
        "The budgets of the endpoints of model group 'gpt' that request R (policy version 42) may use do not"
        " cover it: a: budget (B, resets at 2026-12-01T00:00:00Z); b: budget (B, resets at 2026-12-01T00:00:00Z)."
    )


def test_where_something_else_is_down_too_it_is_an_outage():
    down = replace(CHEAP, is_available=False)
    decision = decided(a_budget("endpoint"), left={"B": 0.0}, candidates=(down, DEAR))
    assert decision.verdict.reason is Reason.UNAVAILABLE


def test_where_something_was_tried_it_is_a_chain_that_is_used_up():
    decision = decided(a_budget("endpoint"), left={"B": 0.0}, candidates=(CHEAP,), tried=frozenset({"a-1"}))
    assert decision.verdict.reason is Reason.CHAIN_EXHAUSTED


OPEN = EndpointHealth(BreakerState.OPEN, cause="server_error")


@pytest.mark.parametrize(("spent", "expected"), [("a", ["b"]), ("b", ["a"]), (None, ["a"])])
def test_an_open_breaker_does_not_open_a_spent_budget(spent, expected):
    statistics = StatisticsSnapshot(
        {}, 0.0, health={"a-1": OPEN, "b-1": OPEN}, budgets=Left({("B", spent): 0.0})
    )
    decision = decide(
        replace(a_policy(Static(("a", "b"))), budgets=(a_budget("endpoint"),)),
        a_request(moment=NOON),
        a_scope(),
        (CHEAP, DEAR),
        statistics=statistics,
        seed=1,
    )
    assert plan(decision) == expected


def test_where_breakers_are_open_and_budgets_spent_it_is_an_outage():
    statistics = StatisticsSnapshot({}, 0.0, health={"a-1": OPEN}, budgets=Left({"B": 0.0}))
    decision = decide(
        replace(a_policy(), budgets=(a_budget("endpoint"),)),
        a_request(moment=NOON),
        a_scope(),
        (CHEAP,),
        statistics=statistics,
        seed=1,
    )
    assert decision.verdict.reason is Reason.UNAVAILABLE


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"limit_usd": 0.0}, id="no-limit"),
        pytest.param({"limit_usd": math.nan}, id="no-number"),
        pytest.param({"when_exceeded": WhenExceeded.TIER}, id="no-tier"),
        pytest.param({"tier": "small"}, id="tier-without-degrading"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(fields):
    with pytest.raises(ConfigurationError, match="budget 'B'"):
        a_budget(**fields)


left_amounts = st.floats(-1.0, 10 * COST)
any_budget = st.builds(
    lambda per, way, name: a_budget(
        per,
        name=name,
        when_exceeded=WhenExceeded.REFUSE if BudgetPer(per).is_of_candidates else way,
        tier="medium" if way is WhenExceeded.TIER and not BudgetPer(per).is_of_candidates else None,
    ),
    st.sampled_from(BudgetPer),
    st.sampled_from(WhenExceeded),
    st.sampled_from("XYZ"),
)


@given(
    budgets=st.lists(any_budget, max_size=3, unique_by=lambda each: each.name),
    left=st.dictionaries(st.sampled_from("XYZ"), left_amounts),
    order=st.permutations(["a", "b", "c"]),
)
def test_budgets_never_widen_and_never_pass_what_does_not_fit(budgets, left, order):
    decision = decided(
        *budgets,
        left=left,
        strategy=Static(tuple(order)),
        candidates=(CHEAP, DEAR, OTHER, a_candidate("outside")),
    )
    assert set(plan(decision)) <= {"a", "b", "c"}
    assert len(set(plan(decision))) == len(decision.plan)
    assert bool(decision.plan) is (decision.verdict is None)
    is_soft = any(each.action in {BudgetAction.CHEAPEST, BudgetAction.TIER} for each in decision.budgets)
    for candidate in decision.plan:
        cost = decision.assessment_of(candidate.deployment_id).expected_cost_usd
        for each in decision.budgets:
            if each.concerns(candidate.deployment_id) and (each.deployment_ids is not None or not is_soft):
                assert each.covers(cost)
