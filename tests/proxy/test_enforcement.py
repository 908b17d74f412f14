"""Enforcement over a router that is only data: the backstops that no request through a whole proxy reaches."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from litellm_plugin.errors import Reason, RequestDenied
from litellm_plugin.proxy.caller_facts import CallerFacts, utc_moment
from litellm_plugin.proxy.context import RoutedGroup
from litellm_plugin.proxy.enforcement import Enforcement, _holds_pin, _shortened
from litellm_plugin.proxy.planning import unserved
from litellm_plugin.proxy.stored import StoredId
from litellm_plugin.routing import Rule, RuleSet, compile_condition
from litellm_plugin.routing.facts import CallType


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
    assert unserved(worker.runtime, state).reason is Reason.UNAVAILABLE
    worker.attempt(state, "eu")
    assert unserved(worker.runtime, state).reason is Reason.CHAIN_EXHAUSTED


class TestContentUrls:
    """The pre-call hook's own look: a call of the SDK strategy passes no admission."""

    @pytest.fixture
    def body(self):
        content = [{"type": "image_url", "image_url": "https://evil/x"}]
        return {"model": "gpt", "messages": [{"role": "user", "content": content}]}

    def test_an_address_that_is_not_cleared_ends_the_request(self, enforcement, state, body):
        with pytest.raises(RequestDenied) as denied:
            enforcement.prepare(body)
        assert denied.value.verdict.reason is Reason.EGRESS_NOT_CLEARED
        assert state.held == {"content_urls"}

    def test_one_that_is_cleared_passes(self, enforcement, state, body):
        state.policy = replace(state.policy, egress={"content_urls": frozenset({"internal"})})
        enforcement.prepare(body)
        assert state.held == frozenset()


class TestFacts:
    """What is known of a request once its body is read."""

    @pytest.fixture
    def body(self):
        question = "Was ist die Hauptstadt von Frankreich, und wie komme ich dorthin?"
        return {"model": "gpt", "messages": [{"role": "user", "content": question}]}

    def test_they_hold_what_admission_read(self, enforcement, state, body):
        state.caller = CallerFacts(latency_budget_ms=700, workload="report", session="5e5510", writes=True)
        enforcement.prepare(body | {"metadata": {"workload": "another"}})
        assert (state.facts.latency_budget_ms, state.facts.workload) == (700, "report")
        assert (state.facts.session, state.facts.writes) == ("5e5510", True)

    def test_they_hold_the_moment(self, enforcement, state, worker, body):
        enforcement.prepare(body)
        assert state.facts.moment == utc_moment(worker.clock.wall())

    def test_a_call_that_passed_no_admission_says_it_in_its_metadata(self, enforcement, state, body):
        enforcement.prepare(body | {"metadata": {"workload": "report"}})
        assert state.facts.workload == "report"

    def test_a_socket_says_it_in_its_first_frame_too(self, enforcement, state):
        state.caller = CallerFacts(latency_budget_ms=700)
        state.opening = {"input": "hello", "metadata": {"latency_budget_ms": 300, "workload": "report"}}
        enforcement.prepare({"model": "gpt", "messages": []})
        assert (state.facts.latency_budget_ms, state.facts.workload) == (300, "report")

    def test_metadata_that_makes_no_sense_ends_the_request(self, enforcement, state, body):
        with pytest.raises(RequestDenied) as denied:
            enforcement.prepare(body | {"metadata": {"writes": "perhaps"}})
        assert denied.value.verdict.reason is Reason.BODY_INVALID

    def test_nobody_reads_the_language(self, enforcement, state, body):
        enforcement.prepare(body)
        assert state.facts.language is None

    def test_an_endpoint_reads_the_language(self, enforcement, state, worker, body):
        worker.runtime.deployments.declares_languages = True
        enforcement.prepare(body)
        assert state.facts.language == "de"

    def test_a_rule_reads_the_language(self, enforcement, state, worker, body):
        default = worker.runtime.policy.routing.rules.default
        german = Rule("german", compile_condition('request.language == "de"'), default.strategy)
        routing = replace(worker.runtime.policy.routing, rules=RuleSet((german,), default))
        worker.runtime.in_force = replace(
            worker.runtime.in_force, policy=replace(worker.runtime.policy, routing=routing)
        )
        enforcement.prepare(body)
        assert state.facts.language == "de"


class TestPins:
    """The final check's own look at what a request names; no earlier layer lets these calls come so far."""

    @pytest.fixture
    def stored(self, state):
        state.call_type = CallType.RESPONSES
        state.stored = StoredId("eu-1", "openai", "resp_abc")
        state.pinned = frozenset({"eu-1"})
        return state

    def refused(self, state, wanted_id, **call):
        with pytest.raises(RequestDenied) as denied:
            _holds_pin(state, wanted_id, call)
        return denied.value.verdict.reason

    def named(self, deployment_id, provider_id="resp_abc"):
        text = f"litellm:custom_llm_provider:openai;model_id:{deployment_id};response_id:{provider_id}"
        return f"resp_{base64.b64encode(text.encode()).decode()}"

    def test_another_deployment_is_refused(self, stored):
        assert self.refused(stored, "us-1") is Reason.NOT_AUTHORIZED

    def test_another_response_is_refused(self, stored):
        for name in ("response_id", "previous_response_id"):
            reason = self.refused(stored, "eu-1", **{name: self.named("eu-1", "resp_other")})
            assert reason is Reason.DESTINATION_MISMATCH

    def test_a_response_that_nobody_checked_is_refused(self, state):
        state.call_type = CallType.RESPONSES
        reason = self.refused(state, "eu-1", previous_response_id=self.named("eu-1"))
        assert reason is Reason.DESTINATION_MISMATCH

    @pytest.mark.parametrize("own", [True, False])
    def test_the_checked_one_passes(self, stored, own):
        named = self.named("eu-1") if own else "resp_abc"
        _holds_pin(stored, "eu-1", {"previous_response_id": named})

    def test_a_pass_through_without_its_team_checked_is_refused(self, bare, request_state, monkeypatch):
        worker = bare.load(tenant_is_team=True)
        state = worker.state("eu")
        state.endpoint = "eu"
        request_state(state)
        entry = {"model_info": {"id": "eu-1"}, "litellm_params": {"model": "openai/gpt-test"}}
        monkeypatch.setattr(worker.runtime.deployments, "configured", lambda _: entry)

        with pytest.raises(RequestDenied, match="held against the team"):
            Enforcement(worker.runtime).check({**entry, "model": "openai/gpt-test"})


class TestTimeouts:
    """What LiteLLM is told of a request's time: of one client for each timeout, few are made."""

    def test_requests_that_are_under_way_for_various_times_share_a_few(self):
        told = {_shortened({"timeout": None}, left_ms / 1000) for left_ms in range(0, 600_000, 777)}
        assert told == {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000}

    @pytest.mark.parametrize(
        ("left_s", "own_s", "expected_s"),
        [
            pytest.param(599.98, None, 1000, id="none-of-its-own"),
            pytest.param(599.98, 6000.0, 1000, id="a-longer-one"),
            pytest.param(4.5, 6000.0, 5, id="near-the-end"),
            pytest.param(0.0, 30.0, 1, id="past-the-end"),
            pytest.param(599.98, 30.0, None, id="a-shorter-one-stays"),
            pytest.param(599.98, 1000, None, id="the-same-stays"),
            pytest.param(86_000.0, None, None, id="longer-than-any"),
            pytest.param(None, 30.0, None, id="no-deadline"),
        ],
    )
    def test_no_less_than_is_left_and_no_more_than_its_own(self, left_s, own_s, expected_s):
        assert _shortened({"timeout": own_s}, left_s) == expected_s

    def test_a_stream_and_a_call_that_takes_no_timeout_are_told_none(self):
        assert _shortened({"timeout": None, "stream": True}, 5.0) is None
        assert _shortened({}, 5.0) is None
