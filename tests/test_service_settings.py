"""Settings of retries and stickiness: what they become, and what is refused how."""

from __future__ import annotations

from pathlib import Path

import pytest

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.routing import (
    AttemptStatus,
    Retry,
    RetryBudgetRule,
    RetryPolicy,
    Stickiness,
    WhenAllOpen,
)
from litellm_plugin.settings import Flags, load_policy
from litellm_plugin.state import BreakerPolicy

BLOCK = {
    "permit": {
        "audience": "a",
        "binding": "body",
        "issuers": [{"issuer": "i", "jwks_url": "https://i.example.com/jwks", "algorithms": ["RS256"]}],
    },
    "classifications": {"public": {}},
    "latency_classes": {"interactive": {}},
    "tenant_tiers": ["pro"],
    "default": {"strategy": "cost"},
}


def policy(**blocks):
    return load_policy({**BLOCK, **blocks}, Flags(), base=Path())


def routing(**blocks):
    return policy(**blocks).routing


def test_what_nobody_says_is_what_routing_takes_by_itself():
    found = routing()
    assert (found.retries, found.stickiness, found.attempts) == (RetryPolicy(), Stickiness(), 3)


def test_what_is_said_reaches_routing():
    found = routing(
        resilience={
            "deadline_ms": 5_000,
            "max_chain_cost_usd": 1,
            "writes_need_idempotency_key": False,
            "retry": {"context_window": "next", "content_filter": "next", "timeout": "stop"},
        },
        stickiness={
            "session": {"enabled": False, "ttl_seconds": 60, "leave_at_gain": 1},
            "prompt_cache": {"enabled": False},
        },
    )
    retries = found.retries
    assert (retries.deadline_ms, retries.max_chain_cost_usd) == (5_000, 1.0)
    assert not retries.writes_need_idempotency_key
    changed = {status: rule for status, rule in retries.rules.items() if RetryPolicy().rules[status] != rule}
    assert changed == {
        AttemptStatus.CONTEXT_WINDOW: Retry.NEXT,
        AttemptStatus.CONTENT_FILTER: Retry.NEXT,
        AttemptStatus.TIMEOUT: Retry.STOP,
    }
    assert found.stickiness == Stickiness(
        keeps_sessions=False, leave_at_gain=1.0, session_ttl_s=60, prefers_warm_caches=False
    )


def test_a_deadline_can_be_left_out():
    assert routing(resilience={"deadline_ms": None}).retries.deadline_ms is None


def test_breakers_are_on_unless_said():
    assert policy().breaker == BreakerPolicy()
    assert policy().routing.when_all_open is WhenAllOpen.LEAST_BAD
    assert policy(resilience={"breaker": None}).breaker is None


def test_what_is_said_of_breakers_reaches_the_state_and_routing():
    said = {
        "failure_rate": 0.25,
        "minimum_attempts": 20,
        "window_seconds": 60,
        "consecutive_failures": 3,
        "open_seconds": 5,
        "longest_open_seconds": 50,
        "reset_after_seconds": 500,
        "probes": 2,
        "probes_to_close": 4,
        "probe_timeout_seconds": 90,
        "rate_limit_seconds": 1,
        "longest_wait_seconds": 30,
        "when_all_open": "refuse",
    }
    found = policy(resilience={"breaker": said})
    assert found.breaker == BreakerPolicy(0.25, 20, 60.0, 3, 5.0, 50.0, 500.0, 2, 4, 90.0, 1.0, 30.0)
    assert found.routing.when_all_open is WhenAllOpen.REFUSE


def test_a_retry_budget_is_said_or_left_out():
    budget = {"ratio": 0.1, "minimum": 1, "window_seconds": 20}
    found = routing(resilience={"retry_budget": budget}).retries.budget
    assert found == RetryBudgetRule(ratio=0.1, minimum=1, window_s=20.0)
    assert routing(resilience={"retry_budget": None}).retries.budget is None


@pytest.mark.parametrize(
    ("block", "message"),
    [
        pytest.param({"resilience": {"retry": {"time_out": "next"}}}, "did you mean 'timeout'", id="class"),
        pytest.param({"resilience": {"retry": {"client_error": "next"}}}, "unknown key", id="never-retried"),
        pytest.param({"resilience": {"retry": {"timeout": "larger"}}}, "'next' or 'stop'", id="larger"),
        pytest.param({"resilience": {"deadline_ms": 0}}, "greater than or equal to 100", id="deadline"),
        pytest.param({"resilience": {"max_chain_cost_usd": 0}}, "greater than 0", id="cost"),
        pytest.param({"resilience": {"max_chain_cost_usd": float("nan")}}, "max_chain_cost_usd", id="nan"),
        pytest.param({"resilience": {"max_chain_cost_usd": "1"}}, "valid number", id="text"),
        pytest.param({"resilience": {"breaker": {"probe": 1}}}, "did you mean 'probes'", id="breaker"),
        pytest.param({"resilience": {"breaker": {"failure_rate": 0}}}, "greater than 0", id="rate"),
        pytest.param(
            {"resilience": {"breaker": {"open_seconds": 60, "longest_open_seconds": 30}}},
            "expected to be `open_seconds` \\(60\\) or more",
            id="open-times",
        ),
        pytest.param(
            {"resilience": {"breaker": {"when_all_open": "guess"}}}, "'least_bad' or 'refuse'", id="all-open"
        ),
        pytest.param({"resilience": {"retry_budget": {"rate": 1}}}, "did you mean 'ratio'", id="budget"),
        pytest.param(
            {"resilience": {"retry_budget": {"minimum": -1}}}, "greater than or equal to 0", id="minimum"
        ),
        pytest.param(
            {"stickiness": {"session": {"leave_at_gain": 1.5}}}, "less than or equal to 1", id="gain"
        ),
        pytest.param({"stickiness": {"sessions": {}}}, "did you mean 'session'", id="session"),
    ],
)
def test_what_is_wrong_is_named(block, message):
    with pytest.raises(ConfigurationError, match=message):
        routing(**block)
