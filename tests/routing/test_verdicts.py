from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing_cases import a_candidate, a_policy, a_request, a_scope

from litellm_plugin.routing import Exclusion, Static, StatisticsSnapshot, WhenAllOpen, decide
from litellm_plugin.routing.health import BreakerState, EndpointHealth
from litellm_plugin.routing.verdicts import quoted

A, B, SECRET = a_candidate("a"), a_candidate("b"), a_candidate("secret-endpoint")
NEEDS_BAA = a_scope(requirements=frozenset({"baa"}))


def message(candidates, *, scope=None, tried=(), policy=None, request=None):
    decision = decide(
        policy or a_policy(),
        request or a_request(),
        scope or a_scope(),
        [*candidates, SECRET],
        statistics=None,
        seed=0,
        tried=frozenset(tried),
    )
    return decision.verdict.message


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(
            {"candidates": []},
            "No endpoint of model group 'gpt' is in the authorized set of request R (policy version 42)."
            " Ask the policy gateway for its decision on that request.",
            id="not authorized",
        ),
        pytest.param(
            {"candidates": [A, a_candidate("a", "a-2"), B], "scope": NEEDS_BAA},
            "No authorized endpoint of model group 'gpt' may serve request R (policy version 42):"
            " a: attribute_missing (baa); b: attribute_missing (baa)."
            " Ask the policy gateway for its decision on that request.",
            id="not eligible",
        ),
        pytest.param(
            {"candidates": [A], "policy": a_policy(Static(("x",)))},
            "Routing rule 'default' takes no eligible endpoint of model group 'gpt' in the authorized set of"
            " request R (policy version 42). Ask the policy gateway for its decision on that request.",
            id="rule lists nothing eligible",
        ),
        pytest.param(
            {"candidates": [A, replace(B, is_available=False)], "tried": {"a-1"}},
            "Every endpoint of model group 'gpt' that request R (policy version 42) may use was tried"
            " or is not available: a: already_tried; b: unavailable.",
            id="exhausted",
        ),
        pytest.param(
            {"candidates": [replace(A, is_available=False)]},
            "No endpoint of model group 'gpt' that request R (policy version 42) may use is available now:"
            " a: unavailable.",
            id="unavailable",
        ),
    ],
)
def test_the_message_says_why_and_whom_to_ask(arguments, expected):
    assert message(**arguments) == expected


@pytest.mark.parametrize(
    ("health", "exclusion", "detail"),
    [
        pytest.param(
            EndpointHealth(BreakerState.OPEN, "5 failures in a row"),
            Exclusion.BREAKER_OPEN,
            "5 failures in a row",
            id="breaker",
        ),
        pytest.param(
            EndpointHealth(waits="the provider has no tokens left"),
            Exclusion.RATE_LIMITED,
            "the provider has no tokens left",
            id="provider",
        ),
        pytest.param(EndpointHealth(requests_left=0), Exclusion.QUOTA, "no requests left", id="requests"),
        pytest.param(
            EndpointHealth(tokens_left=0),
            Exclusion.QUOTA,
            "about 612 tokens, 0 left",
            id="tokens of all callers",
        ),
    ],
)
def test_what_others_use_and_what_failed_stands_in_the_record_alone(health, exclusion, detail):
    decision = decide(
        replace(a_policy(), when_all_open=WhenAllOpen.REFUSE),
        a_request(),
        a_scope(),
        [A],
        statistics=StatisticsSnapshot({}, taken_at_s=0.0, health={"a-1": health}),
        seed=0,
    )
    (assessed,) = decision.assessments
    assert (assessed.exclusion, assessed.detail) == (exclusion, detail)
    assert decision.verdict.message.endswith(f"is available now: a: {exclusion}.")


def test_a_long_list_of_endpoints_is_cut():
    names = [f"e{number}" for number in range(20)]
    scope = replace(NEEDS_BAA, endpoints=frozenset(names))
    text = message([a_candidate(name) for name in names], scope=scope)
    assert "e7: attribute_missing (baa); and 12 more." in text
    assert "e8" not in text


@given(st.text(), st.text(max_size=200))
def test_text_from_outside_is_printable_and_short(model_group, request_id):
    text = message([], request=a_request(model_group=model_group), scope=a_scope(request_id=request_id))
    assert text.isprintable()
    assert len(text) < 400


@given(st.text(max_size=500))
def test_a_quoted_text_is_80_characters_at_most(text):
    assert len(quoted(text)) <= 80
