"""Planning: what follows an attempt, how a request that is not served ends, and what sessions leave behind."""

from __future__ import annotations

import warnings
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import litellm
import pytest
from litellm.proxy import proxy_server

from litellm_plugin.errors import Reason, RequestDenied
from litellm_plugin.proxy.enforcement import Enforcement
from litellm_plugin.proxy.planning import Planner, unserved
from litellm_plugin.routing import Candidate, Prices, RequestFacts
from litellm_plugin.routing.attempts import AttemptStatus

OFFERED = [{"model_info": {"id": f"{name}-1", "endpoint": name}} for name in ("eu", "us")]
TIMEOUT = litellm.Timeout("x", "m", "openai")


@pytest.fixture
def enforcement(worker):
    return Enforcement(worker.runtime)


def refused(enforcement):
    with pytest.raises(RequestDenied) as denied:
        enforcement.select("gpt", OFFERED)
    return denied.value.verdict


class TestWrites:
    @pytest.fixture
    def writing(self, state):
        state.facts = RequestFacts("gpt", state.call_type, input_tokens=1, writes=True)
        return state

    def fail(self, worker, outcomes, state, error):
        outcomes.failed(f"{worker.attempt(state, 'eu').candidate.endpoint}-1", error)

    def test_one_that_a_provider_may_have_acted_on_is_not_repeated(
        self, worker, outcomes, enforcement, writing
    ):
        self.fail(worker, outcomes, writing, TIMEOUT)
        verdict = refused(enforcement)
        assert (verdict.reason, verdict.status) == (Reason.NOT_REPEATED, 503)
        assert "idempotency key" in verdict.message
        assert writing.verdict == verdict
        assert worker.records()[-1]["is_final"] is True

    def test_one_that_was_refused_is(self, worker, outcomes, enforcement, writing):
        self.fail(worker, outcomes, writing, litellm.RateLimitError("x", "openai", "m"))
        assert enforcement.select("gpt", OFFERED) == "us-1"

    def test_one_that_was_never_sent_is(self, worker, outcomes, enforcement, writing):
        error = litellm.InternalServerError("x", "openai", "m")
        error.__cause__ = httpx.ConnectError("refused")
        self.fail(worker, outcomes, writing, error)
        assert enforcement.select("gpt", OFFERED) == "us-1"

    def test_an_earlier_attempts_error_says_nothing_of_this_one(self, worker, outcomes, enforcement, writing):
        """LiteLLM makes the second attempt while it handles the first one's error."""
        writing.handled = litellm.InternalServerError("x", "openai", "m")
        writing.handled.__cause__ = httpx.ConnectError("refused")
        error = litellm.InternalServerError("y", "openai", "m")
        error.__context__ = writing.handled
        self.fail(worker, outcomes, writing, error)
        assert refused(enforcement).reason is Reason.NOT_REPEATED

    def test_with_the_permits_key_it_is(self, worker, outcomes, enforcement, writing):
        writing.permit = replace(writing.permit, idempotency_key="order-7")
        self.fail(worker, outcomes, writing, TIMEOUT)
        assert enforcement.select("gpt", OFFERED) == "us-1"

    def test_with_the_callers_key_it_is(self, worker, outcomes, enforcement, writing):
        writing.facts = replace(writing.facts, is_idempotent=True)
        self.fail(worker, outcomes, writing, TIMEOUT)
        assert enforcement.select("gpt", OFFERED) == "us-1"


def test_an_attempt_is_not_begun_after_the_deadline(worker, enforcement, state):
    state.received_s -= 600
    verdict = refused(enforcement)
    assert (verdict.reason, "its time of 600000 ms is up" in verdict.message) == (Reason.UNAVAILABLE, True)


def test_a_session_on_a_socket_has_no_deadline(worker, enforcement, state):
    state.method = "WEBSOCKET"
    worker.clock.advance(6_000)
    assert isinstance(Planner(worker.runtime).following(state, state.groups["gpt"]), Candidate)


@pytest.mark.parametrize("status", [AttemptStatus.CONTENT_FILTER, AttemptStatus.CONTEXT_WINDOW])
def test_what_a_provider_says_of_the_request_stands(worker, state, status):
    worker.attempt(state, "eu").status = status
    state.end(unserved(worker.runtime, state))
    assert state.verdict is None


class TestWindows:
    """A group of which a decision lists a part, and a request that is longer than was reckoned."""

    OTHERS = 100

    @pytest.fixture
    def router(self, monkeypatch):
        windows = {"eu": 1_000, "us": 9_000, "ap": 9_000, **{f"other-{n}": 9_000 for n in range(self.OTHERS)}}
        with warnings.catch_warnings():
            # LiteLLM builds pydantic models with the first Router.
            warnings.simplefilter("ignore")
            router = litellm.Router(
                model_list=[
                    {
                        "model_name": "gpt",
                        "litellm_params": {"model": "openai/planned-again", "api_key": "k"},
                        "model_info": {"id": f"{name}-1", "endpoint": name, "max_input_tokens": tokens},
                    }
                    for name, tokens in windows.items()
                ]
            )
        monkeypatch.setattr(proxy_server, "llm_router", router)
        yield router
        router.discard()

    @pytest.fixture
    def planner(self, worker):
        return Planner(worker.runtime)

    def refused_for_length(self, worker, planner, request_state, held_back=()):
        """A request that the small window refused, with a plan that ends there."""
        state = worker.state("eu", "us", "ap")
        state.facts = RequestFacts("gpt", state.call_type, input_tokens=500)
        state.policy = replace(state.policy, routing=replace(state.policy.routing, attempts=1))
        state.scope = replace(state.scope, preferences=("eu",))
        request_state(state)
        group = worker.runtime.deployments.of_group("gpt")
        whole = [replace(each, is_available=each.endpoint not in held_back) for each in group]
        routed = planner.plan(state, "gpt", whole)
        attempt = worker.attempt(state, "eu")
        attempt.candidate, attempt.status = routed.decision.plan[0], AttemptStatus.CONTEXT_WINDOW
        return state, routed

    @pytest.mark.usefixtures("router")
    def test_the_whole_group_is_planned_again(self, worker, planner, request_state):
        state, routed = self.refused_for_length(worker, planner, request_state)
        planner.enlarge(state, routed)
        decision = state.groups["gpt"].decision
        assert decision.plan[0].endpoint in ("us", "ap")
        assert len(decision.deployment_ids) == self.OTHERS + 3
        assert worker.records()[-1]["candidates_omitted"] == self.OTHERS - 64

    @pytest.mark.usefixtures("router")
    def test_what_litellm_held_back_stays_so(self, worker, planner, request_state):
        state, routed = self.refused_for_length(worker, planner, request_state, held_back=("us",))
        planner.enlarge(state, routed)
        assert [each.endpoint for each in state.groups["gpt"].decision.plan] == ["ap"]

    def test_what_was_added_since_is_taken(self, worker, planner, request_state, router):
        state, routed = self.refused_for_length(worker, planner, request_state)
        for name in ("us-1", "ap-1"):
            router.delete_deployment(name)
        router.add_deployment(
            litellm.types.router.Deployment(
                model_name="gpt",
                litellm_params={"model": "openai/planned-again", "api_key": "k"},
                model_info={"id": "us-2", "endpoint": "us", "max_input_tokens": 99_000},
            )
        )
        planner.enlarge(state, routed)
        assert "us-2" in state.groups["gpt"].decision.deployment_ids


class TestSessions:
    """What a success leaves, and what the next decision of the same scope makes of it."""

    GROUP = tuple(
        Candidate(f"{name}-1", name, prices=Prices(price, price), cache_lifetime_s=300.0)
        for name, price in (("eu", 1.1e-6), ("us", 1e-6))
    )

    def asks(self, worker, request_state, **facts):
        state = worker.state("eu", "us")
        state.facts = replace(
            RequestFacts(
                "gpt", state.call_type, input_tokens=2_000, session="s", prefix="p", prefix_tokens=1_500
            ),
            **facts,
        )
        request_state(state)
        return state, Planner(worker.runtime).plan(state, "gpt", self.GROUP)

    def answer(self, worker, outcomes, state, name):
        attempt = worker.attempt(state, name)
        attempt.model_group = "gpt"
        attempt.candidate = next(each for each in self.GROUP if each.endpoint == name)
        now = datetime.now(UTC)
        kwargs = {"standard_logging_object": {"model_id": f"{name}-1"}}
        outcomes.succeeded(kwargs, now - timedelta(seconds=1), now)

    def test_the_next_request_of_the_session_stays(self, worker, outcomes, request_state):
        first, planned = self.asks(worker, request_state)
        assert [each.endpoint for each in planned.decision.plan] == ["us", "eu"]
        self.answer(worker, outcomes, first, "eu")

        _, planned = self.asks(worker, request_state)

        assert [each.endpoint for each in planned.decision.plan] == ["eu", "us"]
        record = worker.records()[-1]
        assert record["session_deployment"] == "eu-1"
        assert {each["deployment_id"]: each["warm_tokens"] for each in record["candidates"]} == {
            "eu-1": 1_500,
            "us-1": 0,
        }
        assert any(note.startswith("session kept at eu-1") for note in record["notes"])

    @pytest.mark.parametrize(
        "other", [{"tenant": "other"}, {"data_classification": "phi"}], ids=["tenant", "classification"]
    )
    def test_another_scopes_does_not(self, worker, outcomes, request_state, other):
        first, _ = self.asks(worker, request_state)
        first.scope = replace(first.scope, **other)
        self.answer(worker, outcomes, first, "eu")

        _, planned = self.asks(worker, request_state)

        assert planned.decision.plan[0].endpoint == "us"
        assert planned.decision.affinity.session_deployment is None
        assert planned.decision.affinity.warm_tokens == {}

    def test_a_failure_leaves_nothing(self, worker, outcomes, request_state):
        first, _ = self.asks(worker, request_state)
        worker.attempt(first, "eu")
        outcomes.failed("eu-1", TIMEOUT)
        assert len(worker.runtime.affinity) == 0

    @pytest.mark.parametrize("off", [{"keeps_sessions": False}, {"prefers_warm_caches": False}])
    def test_what_is_switched_off_is_neither_written_nor_read(self, worker, outcomes, request_state, off):
        routing = worker.runtime.policy.routing
        routing = replace(routing, stickiness=replace(routing.stickiness, **off))
        worker.runtime.in_force = replace(
            worker.runtime.in_force, policy=replace(worker.runtime.policy, routing=routing)
        )
        first, _ = self.asks(worker, request_state)
        self.answer(worker, outcomes, first, "eu")
        _, planned = self.asks(worker, request_state)
        affinity = planned.decision.affinity
        assert (affinity.session_deployment is None) is ("keeps_sessions" in off)
        assert (not affinity.warm_tokens) is ("prefers_warm_caches" in off)
