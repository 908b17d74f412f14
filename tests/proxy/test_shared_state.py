"""The shared state in the request path: what an attempt takes, what its end gives back, and who is asked instead."""

from __future__ import annotations

import json
import random
import warnings
from datetime import UTC, datetime, timedelta

import httpx
import litellm
import pytest
from litellm.types.router import Deployment

from litellm_plugin.errors import Reason, RequestDenied, Verdict
from litellm_plugin.proxy.answer import Answer
from litellm_plugin.proxy.denial import Denial
from litellm_plugin.proxy.deployments import Deployments
from litellm_plugin.proxy.enforcement import Enforcement
from litellm_plugin.proxy.observe import ObservedCalls
from litellm_plugin.proxy.outcomes import Outcomes
from litellm_plugin.proxy.shared_state import Ended, SharedState
from litellm_plugin.routing import BreakerState
from litellm_plugin.routing.attempts import AttemptStatus
from litellm_plugin.routing.facts import CallType
from litellm_plugin.state import MemoryExchange
from litellm_plugin.state.exchange import Batch, Contribution, HashChange
from litellm_plugin.state.leases import FIRST_SHARE

START = datetime(2026, 1, 1, tzinfo=UTC)
# So large that the part that a worker may spend before its first exchange serves every test.
REQUESTS, TOKENS, LIMIT_USD = 100_000, 10**9, 1_000_000
BUDGETS = [{"name": "cap", "per": "endpoint", "limit_usd": LIMIT_USD, "period": "day"}]
STATIC = {"strategy": "static", "endpoints": ["eu", "us", "ap"]}
UNBOUND = {"breaker": None, "retry_budget": None}
BODY = {"model": "gpt", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 100}
BILL = {"prompt_tokens": 3, "completion_tokens": 5, "response_cost": 0.25}


def entry(name, info=None, **params):
    """A deployment of LiteLLM's model list."""
    return {
        "model_name": "gpt",
        "litellm_params": {"model": "openai/x", "api_key": "k", "rpm": REQUESTS, "tpm": TOKENS, **params},
        "model_info": {
            "id": f"{name}-1",
            "endpoint": name,
            **(info or {}),
            "input_cost_per_token": 0.01,
            "output_cost_per_token": 0.01,
        },
    }


def said(error):
    """With a header, as LiteLLM raises what a provider answered."""
    error.litellm_response_headers = {"content-length": "2"}
    return error


def server_error():
    return said(litellm.InternalServerError("x", "openai", "m"))


def rate_limited():
    return said(litellm.RateLimitError("x", "openai", "m"))


def no_request():
    """What LiteLLM 1.106 raises of a body that it cannot make a request of."""
    error = litellm.APIConnectionError("x", "openai", "m")
    error.__cause__ = KeyError("function")
    return error


def never_sent():
    error = litellm.InternalServerError("x", "openai", "m")
    error.__cause__ = httpx.ConnectError("refused")
    return error


class Desk:
    """One worker behind a router of LiteLLM's, and requests as its hooks see them."""

    def __init__(self, worker, request_state):
        self.worker, self.runtime, self.shared = worker, worker.runtime, worker.runtime.shared
        self.enforcement = Enforcement(self.runtime)
        self.outcomes = Outcomes(self.runtime)
        self._enter = request_state

    def admit(self, *endpoints, call_type=CallType.CHAT):
        state = self.worker.state(*(endpoints or ("eu", "us")), call_type=call_type)
        self._enter(state)
        return state

    def prepare(self, state):
        self.enforcement.prepare(dict(BODY))

    def select(self):
        offered = [{"model_info": {"id": f"{name}-1", "endpoint": name}} for name in self.names]
        return self.enforcement.select("gpt", offered)

    def check(self, name):
        call = {"model": "openai/x", "api_key": "k", "model_info": {"id": f"{name}-1", "endpoint": name}}
        self.enforcement.check(call)

    def begin(self, *endpoints):
        """Goes as far as a call that is about to be made."""
        state = self.admit(*endpoints)
        self.prepare(state)
        self.check(self.select().removesuffix("-1"))
        return state

    def succeed(self, name="eu", **facts):
        told = {"model_id": f"{name}-1", **BILL, **facts}
        self.outcomes.succeeded({"standard_logging_object": told}, START, START + timedelta(seconds=1))

    def hit_cache(self):
        told = {"model_id": "eu-1", **BILL}
        self.outcomes.succeeded(
            {"standard_logging_object": told, "cache_hit": True}, START, START + timedelta(seconds=1)
        )

    def break_stream(self, error):
        self.outcomes.broken({"exception": error, "standard_logging_object": {"model_id": "eu-1"}})

    def trip(self, *names):
        """Opens breakers, as five failures in a row do."""
        for name in names:
            for _ in range(5):
                ended = Ended(AttemptStatus.SERVER_ERROR, began_s=self.worker.clock.monotonic())
                self.shared.end(f"{name}-1", None, ended)
            assert self.health(name).breaker is BreakerState.OPEN

    def half_open(self, name):
        self.trip(name)
        self.worker.clock.advance(11)
        assert self.health(name).may_probe

    def health(self, name):
        return self.shared.health_of(f"{name}-1")

    async def lend_probe(self, name):
        """Half opens a breaker of which this worker holds the probe."""
        await self.shared.synchronise()
        self.half_open(name)
        await self.ask_for_probe()
        assert self.health(name).may_probe

    async def ask_for_probe(self):
        """Probes go to who meets a closed door, with the exchange after."""
        await self.shared.synchronise()
        self.runtime.close(prepared(self), answered=False)
        await self.shared.synchronise()

    def left(self, name):
        health = self.health(name)
        accounts = {each.account.subject: each.account for each in self.readings}
        usd = self.shared.snapshot().budgets[accounts[name]] if accounts else 0.0
        return health.requests_left, health.tokens_left, usd

    def spent(self, name="eu", beside="us"):
        """What one endpoint has less than another one that nobody asked."""
        mine, others = self.taken(name), self.taken(beside)
        return tuple(round(a - b, 6) for a, b in zip(mine, others, strict=True))

    def taken(self, name):
        """What was taken of the tenth of each limit that a worker without a lease spends."""
        limits = (REQUESTS, TOKENS, LIMIT_USD)
        return tuple(
            0 if left in {limit, 0.0} else limit / FIRST_SHARE - left
            for limit, left in zip(limits, self.left(name), strict=True)
        )

    def is_idle(self):
        return not self.shared.snapshot().in_flight


@pytest.fixture
def desk(bare, request_state, monkeypatch):
    """Makes a desk under a policy; its endpoints are cheaper in their order."""
    routers = []

    def made(resilience=None, budgets=BUDGETS, names=("eu", "us"), **params):
        worker = bare.load({"resilience": resilience or {}, "budgets": budgets, "default": STATIC})
        with warnings.catch_warnings():
            # LiteLLM builds pydantic models with the first Router.
            warnings.simplefilter("ignore")
            router = litellm.Router(model_list=[entry(name, **params) for name in names])
        routers.append(router)
        worker.runtime.deployments = Deployments(router)
        worker.runtime.shared.declare(worker.runtime.deployments.quotas())
        found = Desk(worker, request_state)
        found.names = names
        state = found.admit(*names)
        found.prepare(state)
        found.readings = state.groups["gpt"].decision.budgets
        worker.runtime.close(state, answered=False)
        return found

    yield made
    for router in routers:
        router.discard()


NOTHING = (0, 0, 0.0)
# Stands for what the decision reckoned with.
EXPECTED = "expected"
BILLED = (1, 8, 0.25)


def prepared(desk):
    state = desk.admit()
    desk.prepare(state)
    return state


def selected(desk):
    state = prepared(desk)
    assert desk.select() == "eu-1"
    return state


def ended(how):
    """An attempt that ends like this, and of which LiteLLM tells twice."""

    def run(desk):
        state = desk.begin()
        for _ in range(2):
            how(desk)
        return state

    return run


def failed(error):
    return ended(lambda desk: desk.outcomes.failed("eu-1", error()))


def selected_again(desk):
    state = selected(desk)
    for _ in range(3):
        assert desk.select() == "eu-1"
    desk.check("eu")
    desk.succeed()
    return state


def prepared_again(desk):
    state = selected(desk)
    desk.prepare(state)
    assert desk.select() == "eu-1"
    desk.check("eu")
    desk.succeed()
    return state


def checked_alone(desk):
    """A call that met no selection, such as one by a deployment's id."""
    state = prepared(desk)
    desk.check("eu")
    desk.succeed()
    return state


def another_called(desk):
    state = selected(desk)
    desk.check("us")
    desk.succeed("us")
    return state


def denied_at_the_check(desk):
    state = selected(desk)
    state.response_started = True
    with pytest.raises(RequestDenied):
        desk.check("eu")
    return state


def denied_by_a_hook(desk):
    state = desk.begin()
    desk.outcomes.failed("eu-1", Denial(Verdict(Reason.INTERNAL_ERROR, "x")))
    return state


def broken(error):
    return ended(lambda desk: desk.break_stream(error()))


def on_the_second(desk):
    state = desk.begin()
    desk.outcomes.failed("eu-1", rate_limited())
    desk.check(desk.select().removesuffix("-1"))
    desk.succeed("us")
    return state


def without_a_usage(desk):
    state = desk.begin()
    desk.succeed(prompt_tokens=0, completion_tokens=0, response_cost=0.0)
    return state


def passed_through(status):
    def run(desk):
        state = desk.admit(call_type=CallType.PASS_THROUGH)
        state.endpoint = "eu"
        desk.enforcement.open(state)
        desk.enforcement.prepare({})
        desk.outcomes.passed(state, status)
        return state

    return run


def stored_response(desk):
    state = prepared(desk)
    desk.select()
    state.call_type = CallType.STORED_RESPONSE
    desk.check("eu")
    desk.succeed()
    return state


# By kind: the request, whether its answer went out whole, and what eu is charged with.
KINDS = {
    "prepared and no more": (prepared, False, NOTHING),
    "selected and never called": (selected, False, NOTHING),
    "selected and answered by nobody": (selected, True, NOTHING),
    "answered": (ended(lambda desk: desk.succeed()), True, BILLED),
    "answered without a word of usage": (without_a_usage, True, (1, EXPECTED, EXPECTED)),
    "answered from the cache": (ended(lambda desk: desk.hit_cache()), True, NOTHING),
    "failed": (failed(server_error), True, (1, EXPECTED, 0.0)),
    "refused with 429": (failed(rate_limited), True, (1, 0, 0.0)),
    "never sent": (failed(never_sent), True, NOTHING),
    "no request made of it": (failed(no_request), True, NOTHING),
    "broken in its stream": (broken(server_error), True, (1, EXPECTED, 0.0)),
    "left by its client": (lambda desk: desk.begin(), False, (1, EXPECTED, EXPECTED)),
    "never reported": (lambda desk: desk.begin(), True, (1, EXPECTED, EXPECTED)),
    "ended by a hook of ours": (denied_by_a_hook, False, (1, EXPECTED, EXPECTED)),
    "denied at the check": (denied_at_the_check, True, NOTHING),
    "selected again": (selected_again, True, BILLED),
    "prepared again": (prepared_again, True, BILLED),
    "called without a selection": (checked_alone, True, BILLED),
    "called elsewhere than selected": (another_called, True, tuple(-each for each in BILLED)),
    "answered by the second": (on_the_second, True, (0, -8, -0.25)),
    "passed through": (passed_through(200), True, (1, EXPECTED, EXPECTED)),
    "passed through and refused": (passed_through(400), True, (1, 0, 0.0)),
    "passed through and abandoned": (passed_through(None), False, (1, EXPECTED, EXPECTED)),
    "a stored response": (stored_response, True, (1, EXPECTED, 0.0)),
}


NEED_TWO = {"called elsewhere than selected", "answered by the second"}


def run_to_its_end(desk, kind):
    """Runs a request of a kind until nothing of it is open, and gives what was expected of it."""
    request, is_answered, _ = KINDS[kind]
    state = request(desk)
    decision = next(iter(state.groups.values())).decision
    assessed = decision.assessments[0]
    desk.runtime.close(state, answered=is_answered)
    # What LiteLLM never reports is closed by the background task, or with the worker.
    desk.outcomes.abandon(state)
    desk.runtime.close(state, answered=is_answered)
    tokens = decision.facts.input_tokens + round(decision.output_tokens or 0)
    return tokens, assessed.expected_cost_usd or 0.0


def charge(kind, expected):
    requests, tokens, usd = KINDS[kind][2]
    expected_tokens, expected_usd = expected
    return (
        requests,
        expected_tokens if tokens == EXPECTED else tokens,
        expected_usd if usd == EXPECTED else usd,
    )


class TestEveryEnd:
    """What was taken is given back or settled, once."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_an_attempt_is_charged_once(self, desk, kind):
        desk = desk(UNBOUND)
        expected = run_to_its_end(desk, kind)
        assert desk.spent() == pytest.approx(charge(kind, expected), abs=1e-5)
        assert desk.is_idle()

    @pytest.mark.parametrize("seed", range(3))
    def test_after_many_requests_nothing_is_held(self, desk, seed):
        desk, draw = desk(UNBOUND), random.Random(seed)  # noqa: S311 - repeats
        charged = (0, 0, 0.0)
        for _ in range(150):
            kind = draw.choice(list(KINDS))
            expected = run_to_its_end(desk, kind)
            charged = tuple(a + b for a, b in zip(charged, charge(kind, expected), strict=True))
        assert desk.spent() == pytest.approx(charged, abs=1e-3)
        assert desk.is_idle()

    @pytest.mark.parametrize("kind", KINDS.keys() - NEED_TWO)
    async def test_a_probe_is_free_again(self, desk, kind):
        """C33"""
        desk = desk(
            {"retry_budget": None, "breaker": {"probes_to_close": 3, "open_seconds": 1}}, names=("eu",)
        )
        await desk.lend_probe("eu")
        run_to_its_end(desk, kind)
        # Of those that failed, the breaker is open for a while, or the provider wants to be left alone.
        desk.worker.clock.advance(6)
        await desk.ask_for_probe()
        assert desk.health("eu").may_probe
        assert not desk.health("eu").retry_after_s


def test_what_is_taken_counts_for_others_at_once(desk):
    desk = desk(UNBOUND)
    selected(desk)
    state = desk.admit()
    desk.prepare(state)
    assert desk.spent()[0] == 1
    assert desk.spent()[1] > 100
    assert desk.spent()[2] > 1


def test_a_request_does_not_stand_in_its_own_way(desk):
    """A plan is made anew when LiteLLM's list changed; what the first one took is the request's own."""
    desk = desk(UNBOUND, budgets=[], names=("eu",), rpm=10)
    state = selected(desk)
    assert desk.health("eu").requests_left == 0
    desk.prepare(state)
    assert desk.select() == "eu-1"
    assert desk.health("eu").requests_left == 0


def refused(call):
    with pytest.raises(RequestDenied) as caught:
        call()
    return caught.value.verdict


class TestBetweenPlanAndAttempt:
    def test_a_breaker_that_opened_is_passed_over(self, desk):
        desk = desk()
        state = prepared(desk)
        assert [each.endpoint for each in state.groups["gpt"].decision.plan] == ["eu", "us"]
        desk.trip("eu")
        assert desk.select() == "us-1"
        assert len(state.groups) == 1

    def test_the_attempts_record_says_what_was_passed_over_and_why(self, desk):
        desk = desk(names=("eu", "us", "ap"))
        prepared_state = desk.admit("eu", "us", "ap")
        desk.prepare(prepared_state)
        desk.trip("eu")
        desk.shared.hear("us-1", {"x-ratelimit-remaining-requests": "0"})
        desk.check(desk.select().removesuffix("-1"))
        desk.outcomes.failed("ap-1", server_error())
        *_, record = desk.worker.records()
        assert record["passed_over"] == [
            {"deployment_id": "eu-1", "endpoint": "eu", "reason": "breaker_open"},
            {"deployment_id": "us-1", "endpoint": "us", "reason": "rate_limited"},
        ]

    def test_what_was_tried_or_comes_later_is_not_passed_over(self, desk):
        desk = desk(names=("eu", "us", "ap"))
        desk.prepare(desk.admit("eu", "us", "ap"))
        desk.trip("ap")
        desk.check(desk.select().removesuffix("-1"))
        desk.outcomes.failed("eu-1", server_error())
        desk.check(desk.select().removesuffix("-1"))
        desk.succeed("us")
        attempts = [each for each in desk.worker.records() if each["type"] == "attempt"]
        assert [each["passed_over"] for each in attempts] == [[], []]

    def test_a_quota_that_ran_out_is_passed_over(self, desk):
        desk = desk(budgets=[], rpm=10)
        states = [prepared(desk) for _ in range(2)]
        chosen = []
        for state in states:
            desk._enter(state)
            chosen.append(desk.select())
        assert chosen == ["eu-1", "us-1"]

    def test_a_provider_that_wants_to_be_left_alone_is_passed_over(self, desk):
        desk = desk()
        prepared(desk)
        desk.shared.hear("eu-1", {"x-ratelimit-remaining-requests": "0"})
        assert desk.select() == "us-1"

    def test_nothing_left_says_when_the_first_may_be_asked(self, desk):
        """C31: nothing outside the set is asked, though it is well."""
        desk = desk({"breaker": {"when_all_open": "refuse"}}, names=("eu", "us", "ap"))
        state = desk.admit("eu", "us")
        desk.prepare(state)
        for name, seconds in (("eu", "240"), ("us", "30")):
            error = litellm.ServiceUnavailableError("x", "openai", "m")
            error.litellm_response_headers = {"retry-after": seconds}
            now_s = desk.worker.clock.monotonic()
            for _ in range(5):
                ended = Ended(AttemptStatus.SERVER_ERROR, began_s=now_s, retry_after_s=float(seconds))
                desk.shared.end(f"{name}-1", None, ended)
        verdict = refused(desk.select)
        assert (verdict.reason, verdict.status) == (Reason.UNAVAILABLE, 503)
        assert 25 < verdict.retry_after_s <= 30
        assert state.hold is None
        assert not desk.health("ap").is_open

    def test_what_is_well_and_was_not_planned_is_planned_now(self, desk):
        desk = desk({"attempts": 1}, names=("eu", "us"))
        state = desk.admit("eu", "us")
        desk.prepare(state)
        assert [each.endpoint for each in state.groups["gpt"].decision.plan] == ["eu"]
        desk.trip("eu")
        assert desk.select() == "us-1"
        assert [each.endpoint for each in state.groups["gpt"].decision.plan] == ["us"]

    def test_a_probe_that_another_took_first_is_no_refusal(self, desk):
        desk = desk(budgets=[], names=("eu",))
        desk.half_open("eu")
        chosen = []
        for state in [prepared(desk) for _ in range(2)]:
            desk._enter(state)
            chosen.append(desk.select())
        assert chosen == ["eu-1", "eu-1"]

    def test_after_an_attempt_too(self, desk):
        desk = desk()
        desk.begin()
        desk.trip("us")
        desk.outcomes.failed("eu-1", server_error())
        verdict = refused(desk.select)
        assert (verdict.reason, verdict.status) == (Reason.UNAVAILABLE, 503)
        assert 0 < verdict.retry_after_s <= 10


class TestProbes:
    def test_one_request_probes_and_the_others_go_elsewhere(self, desk):
        desk = desk()
        desk.half_open("eu")
        chosen = []
        for _ in range(4):
            prepared(desk)
            chosen.append(desk.select())
        assert chosen == ["eu-1", "us-1", "us-1", "us-1"]

    def test_requests_that_planned_it_together_probe_once(self, desk):
        desk = desk()
        desk.half_open("eu")
        chosen = []
        for state in [prepared(desk) for _ in range(3)]:
            desk._enter(state)
            chosen.append(desk.select())
        assert chosen == ["eu-1", "us-1", "us-1"]

    def test_a_probe_that_fails_opens_it_again(self, desk):
        desk = desk()
        desk.half_open("eu")
        desk.begin()
        desk.outcomes.failed("eu-1", server_error())
        assert desk.health("eu").breaker is BreakerState.OPEN

    def test_two_that_succeed_close_it(self, desk):
        desk = desk()
        desk.half_open("eu")
        for _ in range(2):
            desk.begin()
            desk.succeed()
            desk.worker.clock.advance(1)
        assert desk.health("eu").breaker is BreakerState.CLOSED

    def test_one_whose_client_goes_away_frees_its_place(self, desk):
        """C30, C33."""
        desk = desk()
        desk.half_open("eu")
        state = desk.begin()
        desk.runtime.close(state, answered=False)
        assert desk.health("eu").breaker is BreakerState.HALF_OPEN
        desk.worker.clock.advance(1)
        assert desk.health("eu").may_probe

    def test_one_that_was_never_made_frees_its_place(self, desk):
        desk = desk()
        desk.half_open("eu")
        state = selected(desk)
        desk.runtime.close(state, answered=False)
        desk.worker.clock.advance(1)
        assert desk.health("eu").may_probe

    def test_a_request_that_may_not_ask_it_wants_no_probe(self, desk):
        desk = desk()
        desk.trip("eu")
        desk.prepare(desk.admit("us"))
        assert not desk.shared._breakers._probes._held

    def test_one_that_may_wants_it(self, desk):
        desk = desk()
        desk.trip("eu")
        desk.prepare(desk.admit("eu", "us"))
        assert set(desk.shared._breakers._probes._held) == {"eu-1"}


class TestPanic:
    def test_one_attempt_goes_through_as_the_decision_planned(self, desk):
        desk = desk()
        desk.trip("eu", "us")
        state = prepared(desk)
        (planned,) = state.groups["gpt"].decision.plan
        assert desk.select() == planned.deployment_id

    def test_a_second_one_does_not(self, desk):
        desk = desk()
        desk.trip("eu", "us")
        state = prepared(desk)
        called = desk.select()
        desk.check(called.removesuffix("-1"))
        desk.outcomes.failed(called, server_error())
        assert refused(desk.select).status == 503
        assert len(state.attempts) == 1

    def test_what_all_opened_since_the_decision_is_decided_anew(self, desk):
        """The plan was made while the breakers were closed."""
        desk = desk()
        state = prepared(desk)
        desk.trip("eu", "us")
        assert desk.select() in {"eu-1", "us-1"}
        assert "every breaker is open" in " ".join(state.groups["gpt"].decision.notes)

    def limit(self, desk, retry_after_s=None):
        for name in ("eu", "us"):
            now_s = desk.worker.clock.monotonic()
            ended = Ended(AttemptStatus.RATE_LIMITED, began_s=now_s, retry_after_s=retry_after_s)
            desk.shared.end(f"{name}-1", None, ended)

    def test_a_planned_wait_is_passed(self, desk):
        desk = desk()
        self.limit(desk)
        state = prepared(desk)
        (planned,) = state.groups["gpt"].decision.plan
        assert desk.select() == planned.deployment_id

    def test_one_that_the_provider_asks_for_meanwhile_is_not(self, desk):
        desk = desk()
        self.limit(desk)
        prepared(desk)
        self.limit(desk, 30.0)
        assert refused(desk.select).status == 503

    def test_a_wait_that_came_after_the_plan_is_decided_on_anew(self, desk):
        desk = desk()
        state = prepared(desk)
        self.limit(desk)
        assert desk.select() in {"eu-1", "us-1"}
        assert len(state.groups["gpt"].decision.plan) == 1

    def test_the_operator_may_refuse(self, desk):
        desk = desk({"breaker": {"when_all_open": "refuse"}})
        desk.trip("eu", "us")
        desk.admit()
        verdict = refused(lambda: desk.enforcement.prepare(dict(BODY)))
        assert verdict.reason is Reason.UNAVAILABLE
        assert 0 < verdict.retry_after_s <= 10


class TestRetryBudget:
    def fail(self, desk, times, *, is_second_answered=False):
        """Requests whose first attempt fails, of which each wants a second one; gives how many got it."""
        got = 0
        for _ in range(times):
            state = desk.begin()
            desk.outcomes.failed("eu-1", server_error())
            try:
                desk.check(desk.select().removesuffix("-1"))
            except RequestDenied as denied:
                self.verdict = denied.verdict
            else:
                got += 1
                if is_second_answered:
                    desk.succeed("us")
                else:
                    desk.outcomes.failed("us-1", server_error())
            desk.runtime.close(state, answered=True)
        return got

    def test_over_it_a_request_ends_and_says_why(self, desk):
        """C34"""
        desk = desk({"breaker": None})
        assert self.fail(desk, 10) == 3
        assert (self.verdict.reason, self.verdict.status) == (Reason.UNAVAILABLE, 503)
        assert "retries" in self.verdict.message

    def test_it_grows_with_the_requests(self, desk):
        """C34"""
        desk = desk({"breaker": None})
        assert self.fail(desk, 100) == 20

    def test_an_outage_of_one_endpoint_leaves_its_requests_the_others(self, desk):
        desk = desk({"breaker": None})
        assert self.fail(desk, 50, is_second_answered=True) == 50
        assert desk.shared.retry_load("eu").retries == 0

    def test_null_never_stops_one(self, desk):
        desk = desk(UNBOUND)
        assert self.fail(desk, 50) == 50

    def test_requests_that_all_chose_before_any_called_stay_within_it(self, desk):
        desk = desk({"breaker": None})
        states = []
        for _ in range(10):
            states.append(desk.begin())
            desk.outcomes.failed("eu-1", server_error())
        for state in states:
            desk._enter(state)
            desk.select()
        got = 0
        for state in states:
            desk._enter(state)
            try:
                desk.check("us")
            except RequestDenied:
                continue
            got += 1
        assert got == 3

    def test_the_responses_of_a_socket_are_no_retries(self, desk):
        desk = desk({"breaker": None})
        state = desk.admit(call_type=CallType.RESPONSES_SOCKET)
        state.method = "WEBSOCKET"
        desk.prepare(state)
        for _ in range(20):
            desk.check(desk.select().removesuffix("-1"))
            desk.succeed()
        load = desk.shared.retry_load("eu")
        assert (load.first_attempts, load.retries) == (20, 0)

    def test_it_stops_no_socket_of_an_endpoint_that_has_used_it_up(self, desk):
        desk = desk({"breaker": None})
        self.fail(desk, 10)
        state = desk.admit(call_type=CallType.RESPONSES_SOCKET)
        state.method = "WEBSOCKET"
        desk.prepare(state)
        for _ in range(3):
            desk.check(desk.select().removesuffix("-1"))
            desk.succeed()
        assert len(state.attempts) == 3


class TestSockets:
    def test_each_response_is_charged_and_a_closed_socket_holds_nothing(self, desk):
        desk = desk(UNBOUND)
        state = desk.admit(call_type=CallType.RESPONSES_SOCKET)
        state.method = "WEBSOCKET"
        desk.prepare(state)
        for _ in range(2):
            desk.check(desk.select().removesuffix("-1"))
            desk.succeed()
        desk.select()
        desk.runtime.close(state, answered=True)
        assert desk.spent() == (2, 16, 0.5)
        assert desk.is_idle()


class TestObserved:
    """Where nothing is enforced, what LiteLLM calls is charged, and nothing is kept for what it does not."""

    @pytest.fixture
    def observed(self, desk):
        desk = desk(UNBOUND)
        desk.calls = ObservedCalls(desk.runtime, desk.enforcement)
        return desk

    def choose(self, desk, called):
        state = desk.admit()
        desk.calls.prepare(dict(BODY), None)
        desk.calls.select(
            "gpt", [{"model_info": {"id": f"{name}-1", "endpoint": name}} for name in desk.names]
        )
        desk.calls.check(
            {"model": "openai/x", "api_key": "k", "model_info": {"id": f"{called}-1", "endpoint": called}}
        )
        return state

    @pytest.mark.parametrize(("called", "sign"), [("eu", 1), ("us", -1)])
    def test_what_litellm_called_is_charged(self, observed, called, sign):
        state = self.choose(observed, called)
        observed.succeed(called)
        observed.runtime.close(state, answered=True)
        assert observed.spent() == tuple(sign * each for each in BILLED)
        assert observed.is_idle()

    def test_a_request_that_would_be_refused_is_charged_too(self, observed):
        state = observed.admit()
        observed.calls.prepare(dict(BODY), None)
        state.spared = Verdict(Reason.NOT_ELIGIBLE, "x")
        state.denial_id = "d"
        observed.calls.check({"model": "openai/x", "model_info": {"id": "eu-1", "endpoint": "eu"}})
        observed.succeed()
        observed.runtime.close(state, answered=True)
        assert observed.spent() == BILLED
        assert observed.is_idle()

    def test_one_that_litellm_never_calls_keeps_nothing(self, observed):
        state = observed.admit()
        observed.calls.prepare(dict(BODY), None)
        observed.calls.select("gpt", [{"model_info": {"id": "eu-1", "endpoint": "eu"}}])
        observed.runtime.close(state, answered=True)
        assert observed.spent() == NOTHING


class TestSeveralWorkers:
    async def test_who_writes_of_deployments_that_nobody_has_is_not_heard(self, desk):
        """C14"""
        desk = desk()
        exchange = MemoryExchange(desk.worker.clock.wall)
        desk.shared.connect(exchange)
        now_s = desk.worker.clock.wall()
        counts = {f"bad:{name}": 50 for name in ("eu-1", *(f"x{number}" for number in range(100)))}
        said = f"{now_s * 1000:.0f} 0 -1 60000 -1 -1 -1"
        changes = (
            HashChange(f"health:{int(now_s // 5)}", 60.0, add=counts),
            HashChange("provider-limits", 60.0, put={"us-1": said, "x1": said}),
        )
        await exchange.exchange(Batch("somebody", 1, Contribution(changes)))
        await desk.shared.synchronise()
        breakers = desk.shared.report()["breakers"]
        assert (breakers["deployments"].keys(), breakers["skipped"]) == ({"eu-1"}, 100)
        assert desk.shared.health_of("us-1").waits
        assert not desk.shared.health_of("x1").waits

    async def test_a_request_that_is_larger_than_a_lease_gets_a_larger_one(self, desk):
        """Each of four workers holds a part of a limit that would cover the request."""
        desk = desk(UNBOUND, budgets=[], names=("eu",), tpm=1100)
        exchange = MemoryExchange(desk.worker.clock.monotonic)
        others = [SharedState(desk.worker.clock, f"other-{number}") for number in range(3)]
        workers = [*others, desk.shared]
        for each in workers:
            each.connect(exchange)
            each.declare(desk.runtime.deployments.quotas())

        async def rounds(number):
            for _ in range(number):
                desk.worker.clock.advance(1)
                for each in workers:
                    each.health_of("eu-1")
                    await each.synchronise()

        await rounds(4)
        body = {**BODY, "max_tokens": 500}
        desk.admit()
        refused(lambda: desk.enforcement.prepare(dict(body)))
        await rounds(1)
        desk.admit()
        desk.enforcement.prepare(dict(body))
        assert desk.select() == "eu-1"

    async def test_the_health_page_tells_what_all_of_them_did(self, desk):
        desk = desk(UNBOUND, budgets=[])
        exchange = MemoryExchange(desk.worker.clock.monotonic)
        other = SharedState(desk.worker.clock, "other")
        for each in (desk.shared, other):
            each.connect(exchange)
        desk.begin()
        desk.outcomes.failed("eu-1", server_error())
        for _ in range(3):
            await desk.shared.synchronise()
            await other.synchronise()
        told = other.report()["deployments"]
        assert told["eu-1"] == {
            "attempts": 1,
            "failures": 1,
            "errors": {"server_error": 1},
            "output_tokens": 0,
        }

    def test_each_of_several_answers_is_reserved(self, desk):
        # LiteLLM keeps what a deployment declares by its model, for the whole process.
        desk = desk(UNBOUND, budgets=[], model="openai/short", info={"max_output_tokens": 100})
        tokens = []
        # A worker without a lease may make one request of all that is left, and then spends a tenth.
        for count in (1, 1, 4):
            before = desk.health("eu").tokens_left
            state = desk.admit()
            desk.enforcement.prepare({**BODY, "n": count, "max_tokens": None})
            assert desk.select() == "eu-1"
            tokens.append(before - desk.health("eu").tokens_left - state.facts.input_tokens)
        assert tokens[1:] == [100, 400]

    async def test_a_deployment_that_was_added_has_its_limits_in_the_next_round(self, desk):
        desk = desk(UNBOUND, budgets=[])
        await desk.runtime.synchronise_once()
        assert desk.health("ap").requests_left is None
        router = desk.runtime.deployments.router()
        router.upsert_deployment(Deployment(**entry("ap")))
        await desk.runtime.synchronise_once()
        assert desk.health("ap").requests_left is not None

    async def test_a_deployment_whose_limits_were_replaced_has_them_in_the_next_round(self, desk):
        desk = desk(UNBOUND, budgets=[])
        await desk.runtime.synchronise_once()
        desk.runtime.deployments.router().upsert_deployment(Deployment(**entry("eu", rpm=0)))
        await desk.runtime.synchronise_once()
        assert desk.health("eu").requests_left == 0

    async def test_one_that_no_lease_can_cover_takes_nothing_from_the_others(self, desk):
        desk = desk(UNBOUND, budgets=[], names=("eu",), tpm=1100)
        await desk.shared.synchronise()
        before = desk.health("eu").tokens_left
        for _ in range(3):
            desk.admit()
            refused(lambda: desk.enforcement.prepare({**BODY, "n": 16}))
            await desk.shared.synchronise()
        assert desk.health("eu").tokens_left == before


class TestDenials:
    @pytest.mark.parametrize(
        ("provider_s", "verdict_s", "told"),
        [(9.0, 3.0, b"3"), (2.0, 30.0, b"2"), (None, 7.0, b"7"), (None, None, b"1")],
    )
    async def test_the_soonest_is_told(self, desk, provider_s, verdict_s, told):
        desk, sent = desk(), []
        state = desk.begin()
        state.current.retry_after_s = provider_s

        async def send(message):
            sent.append(message)

        await Answer(state, send, desk.runtime).deny(Verdict(Reason.UNAVAILABLE, "x", verdict_s))
        assert dict(sent[0]["headers"])[b"retry-after"] == told


class TestReload:
    def swap(self, desk, resilience):
        desk.worker.reload({"resilience": resilience, "budgets": BUDGETS, "default": STATIC})

    def test_breakers_that_are_switched_off_let_everybody_through(self, desk):
        desk = desk()
        desk.trip("eu")
        self.swap(desk, {"breaker": None})
        assert not desk.health("eu").is_open
        for _ in range(10):
            desk.shared.end("eu-1", None, Ended(AttemptStatus.SERVER_ERROR, began_s=0.0))
        assert not desk.health("eu").is_open

    def test_switched_on_they_begin_anew(self, desk):
        desk = desk({"breaker": None})
        self.swap(desk, {})
        assert not desk.health("eu").is_open
        desk.trip("eu")

    def test_other_rules_keep_what_is_open(self, desk):
        desk = desk()
        desk.trip("eu")
        self.swap(desk, {"breaker": {"window_seconds": 60, "consecutive_failures": 2}})
        assert desk.health("eu").breaker is BreakerState.OPEN

    def test_what_is_held_and_spent_stays(self, desk):
        desk = desk()
        state = selected(desk)
        before = desk.spent()
        self.swap(desk, {"breaker": None, "retry_budget": {"window_seconds": 20}})
        assert desk.spent() == before
        desk.check("eu")
        desk.succeed()
        desk.runtime.close(state, answered=True)
        assert desk.spent() == BILLED

    def test_a_retry_budget_of_the_same_window_remembers(self, desk):
        desk = desk()
        desk.begin()
        self.swap(desk, {"retry_budget": {"ratio": 0.5}})
        assert desk.shared.retry_load("eu").first_attempts == 1


class TestReport:
    def test_it_names_no_address_key_or_tenant(self, desk):
        desk = desk()
        desk.trip("eu")
        state = prepared(desk)
        desk.shared.hear("us-1", {"x-ratelimit-remaining-requests": "0"})
        text = json.dumps(desk.runtime.health()["shared_state"])
        assert "eu-1" in text
        for secret in (
            state.scope.tenant,
            "policy.example.test",
            "localhost",
            "127.0.0.1",
            desk.worker.issuer.kid,
        ):
            assert secret not in text

    async def test_a_store_that_answers_is_told_of(self, desk):
        desk = desk()
        await desk.shared.synchronise()
        report = desk.shared.report()
        assert (report["store"]["answers"], report["workers"]) == (True, 1)
