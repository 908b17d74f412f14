"""Observe mode's attempts: where LiteLLM chose otherwise, one carries what a decision expected of it all the same."""

from __future__ import annotations

import warnings

import litellm
import pytest

from litellm_plugin.proxy.deployments import Deployments
from litellm_plugin.proxy.enforcement import Enforcement
from litellm_plugin.proxy.observe import ObservedCalls
from litellm_plugin.routing import Candidate

CALLED = {"model_info": {"id": "us-1", "endpoint": "us"}}


@pytest.fixture
def calls(worker):
    models = [
        {
            "model_name": group,
            "litellm_params": {"model": "openai/x", "api_key": "k"},
            "model_info": {"id": name, "endpoint": endpoint},
        }
        for group, name, endpoint in (("gpt", "eu-1", "eu"), ("gpt", "us-1", "us"), ("other", "us-2", "us"))
    ]
    with warnings.catch_warnings():
        # LiteLLM builds pydantic models with the first Router.
        warnings.simplefilter("ignore")
        worker.runtime.deployments = Deployments(litellm.Router(model_list=models))
    return ObservedCalls(worker.runtime, Enforcement(worker.runtime))


async def test_an_attempt_elsewhere_has_what_its_decision_expected(worker, calls, request_state):
    state = worker.state("eu", "us")
    decision = worker.plan(state, "eu", "us")
    request_state(state)
    state.wanted = Candidate("eu-1", "eu")
    calls.check(CALLED)
    (attempt,) = state.attempts
    assert attempt.would_have == state.wanted
    assert (attempt.model_group, attempt.decision_id) == ("gpt", "decision-1")
    assert attempt.route is not None
    assert attempt.expected_output_tokens == decision.assessment_of("us-1").expected_output_tokens


async def test_one_that_no_decision_weighed_has_its_own_group(worker, calls, request_state):
    state = worker.state("eu", "us")
    worker.plan(state, "eu", "us")
    request_state(state)
    state.wanted = Candidate("eu-1", "eu")
    calls.check({"model_info": {"id": "us-2", "endpoint": "us"}})
    (attempt,) = state.attempts
    assert (attempt.model_group, attempt.route) == ("other", None)
