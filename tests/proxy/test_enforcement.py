"""Enforcement over a router that is only data: the backstops that no request through a whole proxy reaches."""

from __future__ import annotations

from dataclasses import replace

import pytest

from litellm_plugin.errors import Reason, RequestDenied
from litellm_plugin.proxy.context import RoutedGroup
from litellm_plugin.proxy.enforcement import Enforcement, unserved


@pytest.fixture
def state(worker, request_state):
    state = worker.state("eu")
    worker.plan(state, "eu")
    request_state(state)
    return state


@pytest.fixture
def enforcement(worker):
    return Enforcement(worker.runtime)


def test_a_planned_candidate_outside_the_set_is_not_begun(enforcement, state):
    routed = next(iter(state.groups.values()))
    outside = replace(routed.decision.plan[0], endpoint="us", deployment_id="us-1")
    forged = RoutedGroup("d", replace(routed.decision, plan=(outside,)))

    with pytest.raises(RequestDenied) as denied:
        enforcement._begin(state, forged, outside)

    assert denied.value.verdict.reason is Reason.NOT_AUTHORIZED
    assert state.attempts == []


def test_a_closed_request_may_call_nothing(enforcement, state):
    state.closed = True
    with pytest.raises(RequestDenied) as denied:
        enforcement.permitted()
    assert denied.value.verdict.reason is Reason.NO_CONTEXT


def test_outside_any_request_nothing_may_be_called(enforcement, worker):
    with pytest.raises(RequestDenied):
        enforcement.permitted()
    assert worker.runtime.no_context_calls == 1


def test_after_the_first_byte_no_other_endpoint_is_chosen(enforcement, state):
    state.response_started = True
    with pytest.raises(RequestDenied) as denied:
        enforcement.select("gpt", [])
    assert denied.value.verdict.reason is Reason.CHAIN_EXHAUSTED


def test_an_untried_plan_is_unavailable_and_a_tried_one_exhausted(worker, state):
    assert unserved(state).reason is Reason.UNAVAILABLE
    worker.attempt(state, "eu")
    assert unserved(state).reason is Reason.CHAIN_EXHAUSTED
