"""Settings of retries and stickiness: what they become, and what is refused how."""

from __future__ import annotations

from pathlib import Path

import pytest

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.routing import AttemptStatus, Retry, RetryPolicy, Stickiness
from litellm_plugin.settings import Flags, load_policy

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


def routing(**blocks):
    return load_policy({**BLOCK, **blocks}, Flags(), base=Path()).routing


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
        pytest.param(
            {"stickiness": {"session": {"leave_at_gain": 1.5}}}, "less than or equal to 1", id="gain"
        ),
        pytest.param({"stickiness": {"sessions": {}}}, "did you mean 'session'", id="session"),
    ],
)
def test_what_is_wrong_is_named(block, message):
    with pytest.raises(ConfigurationError, match=message):
        routing(**block)
