"""A decision can be made again from its record: the same policy and the same record give the same plan."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "routing"))

from routing_cases import a_candidate, a_policy, a_request, a_scope, situations
from strategy_cases import any_strategy, statistics

from litellm_plugin.errors import Reason
from litellm_plugin.records import RequestIds
from litellm_plugin.routing import (
    Affinity,
    BreakerState,
    Budget,
    BudgetPer,
    BudgetPeriod,
    EndpointHealth,
    Moment,
    StatisticsSnapshot,
    WhenExceeded,
    decide,
    replay,
)

BUDGETS = st.builds(
    lambda per, way, name: Budget(
        name, per, 1.0, BudgetPeriod.WEEK, None, way, "small" if way is WhenExceeded.TIER else None
    ),
    st.sampled_from(BudgetPer),
    st.sampled_from(WhenExceeded),
    st.sampled_from("XYZ"),
)


class Left(dict):
    """What is left by budget's name."""

    def get(self, account, default=None):
        return super().get(account.budget, default)


IDS = st.integers(0, 9).map("deployment-{}".format)
FACTS = st.fixed_dictionaries(
    {
        "session": st.none() | st.text("abc", max_size=3),
        "latency_budget_ms": st.none() | st.integers(1, 10_000),
        "workload": st.none() | st.sampled_from(("night", "day")),
        "tool_step": st.integers(0, 2),
        "moment": st.none() | st.just(Moment(3, 1, 2, "2026-02-02")),
    }
)

HEALTH = st.builds(
    EndpointHealth,
    breaker=st.sampled_from(BreakerState),
    cause=st.sampled_from(("", "5 failures in a row", "provider_auth")),
    may_probe=st.booleans(),
    retry_after_s=st.none() | st.floats(0, 300),
    waits=st.sampled_from(("", "429")),
    requests_left=st.none() | st.integers(0, 2),
    tokens_left=st.none() | st.integers(0, 1000),
)


@settings(max_examples=300)
@given(situation=situations(IDS), strategy=any_strategy, more=FACTS, data=st.data())
def test_a_record_replays_to_the_same_choice(build, situation, strategy, more, data):
    budgets = tuple(data.draw(st.lists(BUDGETS, max_size=3, unique_by=lambda each: each.name)))
    situation["policy"] = policy = replace(
        a_policy(strategy, *situation["policy"].rules.rules), budgets=budgets
    )
    situation["candidates"] = [
        replace(each, provider=data.draw(st.none() | st.sampled_from("pq")))
        for each in situation["candidates"]
    ]
    situation["facts"] = replace(situation["facts"], model_group="gpt", **more)
    situation["scope"] = replace(
        situation["scope"],
        request_id="R",
        preferences=tuple(data.draw(st.lists(st.sampled_from("abc"), max_size=2))),
    )
    situation["statistics"] = StatisticsSnapshot(
        data.draw(st.dictionaries(IDS, statistics)),
        taken_at_s=0.0,
        in_flight=data.draw(st.dictionaries(IDS, st.integers(0, 3))),
        budgets=Left(data.draw(st.dictionaries(st.sampled_from("XYZ"), st.floats(-1e-3, 2e-3)))),
        health=data.draw(st.dictionaries(IDS, HEALTH)),
    )
    affinity = Affinity(
        data.draw(st.none() | IDS), data.draw(st.dictionaries(IDS, st.integers(1, 100), max_size=3))
    )
    decision = decide(**situation, affinity=affinity)
    record = json.loads(json.dumps(build.decision_record(decision=decision, ids=RequestIds("D", "R"))))

    again = replay(policy, record)

    assert [each.deployment_id for each in again.plan] == record["plan"]
    assert (again.rule.name, again.notes) == (record["rule"]["name"], tuple(record["notes"]))
    assert (str(again.verdict.reason) if again.verdict else None) == record["reason"]
    assert [each.action for each in again.budgets] == [each["action"] for each in record["budgets"]]


def again(build, policy, **situation):
    decision = decide(policy, **situation)
    record = build.decision_record(decision=decision, ids=RequestIds("D", "R"))
    return decision, replay(a_policy(), json.loads(json.dumps(record)))


def test_a_budget_that_the_policy_does_not_have_is_refused(build):
    budget = Budget("free", BudgetPer.TENANT, 1.0, BudgetPeriod.DAY)
    decision = decide(
        replace(a_policy(), budgets=(budget,)),
        a_request(moment=Moment(3, 1, 2, "2026-02-02")),
        a_scope(),
        [a_candidate("a")],
        statistics=None,
        seed=1,
    )
    record = json.loads(json.dumps(build.decision_record(decision=decision, ids=RequestIds("D", "R"))))
    with pytest.raises(ValueError, match="'free'"):
        replay(a_policy(), record)


def test_a_plan_that_was_cut_to_one_attempt_stays_so(build):
    candidates = [a_candidate("a"), a_candidate("b", price=2e-6)]
    made, replayed = again(
        build,
        a_policy(attempts=1),
        facts=a_request(),
        scope=a_scope(),
        candidates=candidates,
        statistics=None,
        seed=1,
    )
    assert (
        [each.deployment_id for each in replayed.plan]
        == [each.deployment_id for each in made.plan]
        == ["a-1"]
    )


def test_what_was_tried_and_went_down_was_tried(build):
    candidates = [a_candidate("a", is_available=False)]
    made, replayed = again(
        build,
        a_policy(),
        facts=a_request(),
        scope=a_scope(),
        candidates=candidates,
        statistics=None,
        seed=1,
        tried=frozenset({"a-1"}),
    )
    assert replayed.verdict.reason is made.verdict.reason is Reason.CHAIN_EXHAUSTED


def test_the_least_bad_is_the_least_bad_again(build):
    def is_open(retry_after_s):
        return EndpointHealth(BreakerState.OPEN, "it failed", retry_after_s=retry_after_s)

    made, replayed = again(
        build,
        a_policy(),
        facts=a_request(),
        scope=a_scope(),
        candidates=[a_candidate("a"), a_candidate("b")],
        statistics=StatisticsSnapshot(
            {}, taken_at_s=0.0, health={"a-1": is_open(2.0), "b-1": is_open(1.0 / 3.0)}
        ),
        seed=1,
    )
    assert [each.deployment_id for each in replayed.plan] == ["b-1"]
    assert replayed.notes == made.notes


@pytest.mark.parametrize("record", [{}, {"request": None}, {"request": {"call_type": "chat"}}])
def test_what_is_no_decision_is_refused(record):
    with pytest.raises(ValueError, match="expected the record of a decision"):
        replay(a_policy(), record)
