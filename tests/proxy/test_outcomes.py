from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import litellm
import pytest

from litellm_plugin.errors import Reason
from litellm_plugin.proxy.context import RoutedGroup
from litellm_plugin.proxy.enforcement import Enforcement
from litellm_plugin.proxy.outcomes import classify
from litellm_plugin.proxy.stored import StoredId
from litellm_plugin.routing import CallType, Candidate, Prices, RequestFacts, decide
from litellm_plugin.routing.attempts import AttemptStatus

START = datetime(2026, 1, 1, tzinfo=UTC)


class ProviderError(Exception):
    """An exception as LiteLLM makes them: a status, and the provider's headers."""

    def __init__(self, status_code=None, retry_after=None):
        super().__init__("x")
        self.status_code = status_code
        headers = {"content-length": "2"} | ({"retry-after": retry_after} if retry_after else {})
        self.litellm_response_headers = httpx.Headers(headers)


def caused(error, cause):
    error.__cause__ = cause
    return error


def answered(status):
    """What httpx raises of a provider's answer."""
    request = httpx.Request("POST", "https://eu.example.com")
    return httpx.HTTPStatusError("x", request=request, response=httpx.Response(status, request=request))


def attempts(worker):
    return [each for each in worker.records() if each["schema"].startswith("permit-router/attempt")]


@pytest.mark.parametrize(
    ("exception", "status"),
    [
        pytest.param(litellm.RateLimitError("x", "openai", "m"), AttemptStatus.RATE_LIMITED, id="429"),
        pytest.param(litellm.InternalServerError("x", "openai", "m"), AttemptStatus.SERVER_ERROR, id="500"),
        pytest.param(
            litellm.ServiceUnavailableError("x", "openai", "m"), AttemptStatus.SERVER_ERROR, id="503"
        ),
        pytest.param(ProviderError(504), AttemptStatus.TIMEOUT, id="504"),
        pytest.param(ProviderError(408), AttemptStatus.TIMEOUT, id="408"),
        pytest.param(litellm.Timeout("x", "m", "openai"), AttemptStatus.TIMEOUT, id="timeout"),
        pytest.param(
            litellm.APIConnectionError("x", "openai", "m"), AttemptStatus.CONNECTION_ERROR, id="connection"
        ),
        pytest.param(litellm.AuthenticationError("x", "openai", "m"), AttemptStatus.PROVIDER_AUTH, id="401"),
        pytest.param(ProviderError(403), AttemptStatus.PROVIDER_AUTH, id="403"),
        pytest.param(litellm.BadRequestError("x", "m", "openai"), AttemptStatus.CLIENT_ERROR, id="400"),
        pytest.param(
            litellm.ContextWindowExceededError("x", "m", "openai"), AttemptStatus.CONTEXT_WINDOW, id="window"
        ),
        pytest.param(
            litellm.ContentPolicyViolationError("x", "m", "openai"), AttemptStatus.CONTENT_FILTER, id="filter"
        ),
        pytest.param(litellm.NotFoundError("x", "m", "openai"), AttemptStatus.MISCONFIGURED, id="404"),
        pytest.param(ProviderError(599), AttemptStatus.SERVER_ERROR, id="599"),
        pytest.param(ProviderError("429"), AttemptStatus.SERVER_ERROR, id="text-status"),
        pytest.param(ValueError("x"), AttemptStatus.SERVER_ERROR, id="unknown"),
    ],
)
def test_an_exception_has_its_class(exception, status):
    assert classify(exception) is status


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("value", "expected_s"),
        [
            pytest.param("7", 7.0, id="seconds"),
            pytest.param(" 7 ", 7.0, id="spaces"),
            pytest.param("0", 0.0, id="C25 zero"),
            pytest.param("1000000000", 600.0, id="C25 huge"),
            pytest.param("-5", None, id="C25 negative"),
            pytest.param("abc", None, id="C25 text"),
            pytest.param("1e9", None, id="C25 exponent"),
            pytest.param(None, None, id="none"),
        ],
    )
    def test_seconds(self, outcomes, worker, state, value, expected_s):
        worker.attempt(state, "eu")
        outcomes.failed("eu-1", ProviderError(429, value))
        assert state.retry_after_s == expected_s

    @pytest.mark.parametrize(("ahead_s", "expected_s"), [(30, 30.0), (-30, 0.0)])
    def test_a_date_counts_from_now(self, outcomes, worker, state, ahead_s, expected_s):
        worker.attempt(state, "eu")
        wanted = datetime.fromtimestamp(worker.clock.wall() + ahead_s, UTC)
        outcomes.failed("eu-1", ProviderError(503, format_datetime(wanted, usegmt=True)))
        assert state.retry_after_s == expected_s

    def test_the_response_of_the_exception_is_read_too(self, outcomes, worker, state):
        worker.attempt(state, "eu")
        exception = ValueError("x")
        exception.response = httpx.Response(503, headers={"Retry-After": "9"})
        outcomes.failed("eu-1", exception)
        assert state.retry_after_s == 9.0

    def test_a_digit_that_is_no_number_is_nothing_readable(self, outcomes, worker, state):
        worker.attempt(state, "eu")
        exception = ValueError("x")
        exception.response = httpx.Response(503, headers=[(b"retry-after", "²".encode("latin-1"))])
        outcomes.failed("eu-1", exception)
        assert state.retry_after_s is None


class TestFailures:
    def test_while_another_endpoint_is_left_the_request_may_go_on(self, outcomes, worker, state):
        worker.attempt(state, "eu")
        worker.clock.advance(0.25)
        outcomes.failed("eu-1", ProviderError(500))
        (record,) = attempts(worker)
        assert state.verdict.reason is Reason.UNAVAILABLE
        assert (record["status"], record["http_status"], record["is_final"]) == ("server_error", 500, False)
        assert record["total_ms"] == pytest.approx(250)

    def test_after_the_last_one_the_set_is_exhausted(self, outcomes, worker, state):
        for name in ("eu", "us"):
            worker.attempt(state, name)
            outcomes.failed(f"{name}-1", ProviderError(500))
        assert state.verdict.reason is Reason.CHAIN_EXHAUSTED
        assert "eu, us" in state.verdict.message
        assert [record["is_final"] for record in attempts(worker)] == [False, True]

    def test_a_clients_mistake_is_no_verdict_of_ours(self, outcomes, worker, state):
        worker.attempt(state, "eu")
        outcomes.failed("eu-1", ProviderError(400))
        assert state.verdict is None
        assert attempts(worker)[0]["is_final"] is True

    def test_a_failure_is_recorded_once(self, outcomes, worker, state):
        worker.attempt(state, "eu")
        for _ in range(2):
            outcomes.failed("eu-1", ProviderError(500))
        assert len(attempts(worker)) == 1

    def test_a_deployment_without_an_attempt_is_left_alone(self, outcomes, worker, state):
        outcomes.failed("eu-1", ProviderError(500))
        assert (state.verdict, attempts(worker)) == (None, [])

    def test_outside_a_request_nothing_is_recorded(self, outcomes, worker):
        outcomes.failed("eu-1", ProviderError(500))
        assert attempts(worker) == []


class TestSuccesses:
    def succeed(self, outcomes, **kwargs):
        facts = {"model_id": "eu-1", "prompt_tokens": 3, "completion_tokens": 5, "response_cost": 0.01}
        outcomes.succeeded({"standard_logging_object": facts, **kwargs}, START, START + timedelta(seconds=2))

    def test_usage_price_and_times_are_recorded(self, outcomes, worker, state):
        worker.attempt(state, "eu")
        self.succeed(outcomes, completion_start_time=START + timedelta(seconds=0.5))
        (record,) = attempts(worker)
        assert (record["status"], record["input_tokens"], record["output_tokens"]) == ("success", 3, 5)
        assert (record["cost_usd"], record["total_ms"], record["first_token_ms"]) == (0.01, 2000, 500)

    def test_a_whole_answer_has_no_first_token(self, outcomes, worker, state):
        worker.attempt(state, "eu")
        self.succeed(outcomes, completion_start_time=START + timedelta(seconds=2))
        assert attempts(worker)[0]["first_token_ms"] is None

    def test_it_counts_in_the_statistics(self, outcomes, worker, state):
        worker.attempt(state, "eu")
        self.succeed(outcomes)
        assert worker.runtime.shared.snapshot().by_deployment["eu-1"].attempts == 1

    def test_a_cache_hit_says_nothing_of_the_endpoint(self, outcomes, worker, state):
        worker.attempt(state, "eu")
        self.succeed(outcomes, cache_hit=True)
        assert attempts(worker)[0]["cache_hit"] is True
        assert worker.runtime.shared.snapshot().by_deployment == {}

    def test_it_is_recorded_after_the_request_ended_too(self, outcomes, worker, state):
        worker.attempt(state, "eu")
        worker.runtime.close(state, answered=True)
        self.succeed(outcomes)
        assert [record["status"] for record in attempts(worker)] == ["success"]

    def test_an_event_without_facts_is_left_alone(self, outcomes, worker, state):
        worker.attempt(state, "eu")
        outcomes.succeeded({}, START, START)
        assert attempts(worker) == []

    def test_a_stream_without_usage_has_unknown_usage(self, outcomes, worker, state):
        worker.attempt(state, "eu")
        facts = {"model_id": "eu-1", "prompt_tokens": 0, "completion_tokens": 0, "response_cost": 0.0}
        self.succeed(outcomes, standard_logging_object=facts)
        (record,) = attempts(worker)
        assert (record["input_tokens"], record["output_tokens"], record["cost_usd"]) == (None, None, None)


class TestCosts:
    """What an attempt was expected to cost, and what came of it."""

    PRICED = Candidate("eu-1", "eu", prices=Prices(1e-3, 2e-3))

    def begin(self, worker, state, candidate, **facts):
        """Begins an attempt as the final check does."""
        request = RequestFacts("gpt", CallType.CHAT, input_tokens=10, **facts)
        decision = decide(
            state.policy.routing,
            request,
            state.scope,
            [candidate],
            statistics=worker.runtime.shared.snapshot(),
            seed=1,
        )
        routed = RoutedGroup("decision-1", decision)
        state.facts, state.groups["gpt"] = request, routed
        Enforcement(worker.runtime)._begin(state, routed, decision.plan[0])

    def succeed(self, outcomes, **facts):
        told = {
            "model_id": "eu-1",
            "prompt_tokens": 10,
            "completion_tokens": 20,
            "response_cost": 0.05,
            **facts,
        }
        outcomes.succeeded({"standard_logging_object": told}, START, START + timedelta(seconds=2))

    def test_the_expectation_stands_beside_the_bill(self, outcomes, worker, state):
        self.begin(worker, state, self.PRICED, max_output_tokens=30)
        self.succeed(outcomes)
        (record,) = attempts(worker)
        assert record["expected_cost_usd"] == pytest.approx(0.01 + 0.06)
        assert (record["expected_output_tokens"], record["cost_usd"]) == (30, 0.05)

    def test_it_stands_in_a_failed_attempt_too(self, outcomes, worker, state):
        self.begin(worker, state, self.PRICED, max_output_tokens=30)
        outcomes.failed("eu-1", ProviderError(500))
        (record,) = attempts(worker)
        assert (record["expected_cost_usd"], record["cost_usd"]) == (pytest.approx(0.07), None)

    @pytest.mark.parametrize(
        ("prices", "billed_and_recorded"),
        [
            pytest.param(Prices(), (0.0, None), id="no price known"),
            pytest.param(Prices(0.0, 0.0), (0.0, 0.0), id="free"),
            pytest.param(Prices(), (0.5, 0.5), id="LiteLLM knows one"),
        ],
    )
    def test_a_bill_of_0_for_want_of_a_price_is_none(
        self, outcomes, worker, state, *, prices, billed_and_recorded
    ):
        billed, recorded = billed_and_recorded
        self.begin(worker, state, Candidate("eu-1", "eu", prices=prices))
        self.succeed(outcomes, response_cost=billed)
        assert attempts(worker)[0]["cost_usd"] == recorded

    @pytest.mark.parametrize(
        ("candidate", "facts", "tokens"),
        [
            pytest.param({}, {"max_output_tokens": 30}, 30, id="the caller's limit"),
            pytest.param({}, {"max_output_tokens": 30, "output_count": 3}, 90, id="of each answer"),
            pytest.param({"max_output_tokens": 4096}, {}, 4096, id="the deployment's"),
            pytest.param({"max_output_tokens": 64}, {"max_output_tokens": 30}, 30, id="the lower"),
            pytest.param({"max_input_tokens": 8000}, {}, 80_000, id="ten windows"),
            pytest.param({}, {}, 2_000_000, id="none known"),
        ],
    )
    def test_a_usage_that_cannot_be_is_clamped_and_said_once(
        self, outcomes, worker, state, caplog, *, candidate, facts, tokens
    ):
        for _ in range(2):
            state.attempts.clear()
            self.begin(worker, state, replace(self.PRICED, **candidate), **facts)
            self.succeed(outcomes, completion_tokens=10**12, response_cost=2e9)
        record = attempts(worker)[0]
        assert record["output_tokens"] == tokens
        assert record["cost_usd"] == record["expected_cost_usd"] < 5
        assert [each.levelname for each in caplog.records if "usage" in each.message] == ["WARNING"]

    @pytest.mark.parametrize(
        ("candidate", "counted", "tokens"),
        [
            pytest.param({"max_input_tokens": 8000}, 10, 80_000, id="ten windows"),
            pytest.param({"max_input_tokens": 8000}, 9000, 90_000, id="many prompts, which were counted"),
            pytest.param({}, 10, 2_000_000, id="none known"),
        ],
    )
    def test_a_prompt_that_cannot_be_is_clamped_and_said_once(
        self, outcomes, worker, state, caplog, *, candidate, counted, tokens
    ):
        for _ in range(2):
            state.attempts.clear()
            self.begin(worker, state, replace(self.PRICED, **candidate))
            state.facts = replace(state.facts, input_tokens=counted)
            self.succeed(outcomes, prompt_tokens=10**12, response_cost=2e9)
        record = attempts(worker)[0]
        assert (record["input_tokens"], record["output_tokens"]) == (tokens, 20)
        assert record["cost_usd"] == record["expected_cost_usd"] < 5
        assert [each.levelname for each in caplog.records if "usage" in each.message] == ["WARNING"]

    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({"call_type": CallType.EMBEDDING}, id="embeddings"),
            pytest.param({"call_type": CallType.RERANK}, id="rerankings"),
            pytest.param({"method": "WEBSOCKET"}, id="a session"),
        ],
    )
    def test_what_has_many_prompts_is_believed(self, outcomes, worker, state, changes):
        self.begin(worker, state, replace(self.PRICED, max_input_tokens=8000))
        for name, value in changes.items():
            setattr(state, name, value)
        self.succeed(outcomes, prompt_tokens=5_000_000)
        assert attempts(worker)[0]["input_tokens"] == 5_000_000

    def test_where_no_price_is_known_the_bill_shrinks_with_the_tokens(self, outcomes, worker, state):
        self.begin(worker, state, Candidate("eu-1", "eu", prices=Prices()), max_output_tokens=30)
        self.succeed(outcomes, completion_tokens=3990, response_cost=4.0)
        assert attempts(worker)[0]["cost_usd"] == pytest.approx(0.04)

    def test_less_than_nothing_is_unknown(self, outcomes, worker, state):
        self.begin(worker, state, self.PRICED)
        self.succeed(outcomes, prompt_tokens=10, completion_tokens=-5, response_cost=-1.0)
        (record,) = attempts(worker)
        assert (record["input_tokens"], record["output_tokens"]) == (10, None)
        assert record["cost_usd"] == record["expected_cost_usd"]

    def test_the_next_answer_is_expected_to_be_as_long(self, outcomes, worker, state):
        self.begin(worker, state, self.PRICED, workload="support")
        self.succeed(outcomes)
        worker.clock.advance(1)
        self.begin(worker, state, self.PRICED, workload="support")
        assert state.attempts[-1].expected_output_tokens == 20
        self.begin(worker, state, self.PRICED, workload="other")
        assert state.attempts[-1].expected_output_tokens == 512

    def test_the_time_per_token_is_measured(self, outcomes, worker, state):
        self.begin(worker, state, self.PRICED)
        self.succeed(outcomes)
        worker.clock.advance(1)
        statistics = worker.runtime.shared.snapshot().by_deployment["eu-1"]
        assert statistics.output_token_p50_ms == pytest.approx(100, rel=0.02)


class TestAttemptsUnderWay:
    ENDS = {  # noqa: RUF012 - read only
        "answered": lambda outcomes, worker, state: TestSuccesses().succeed(outcomes),
        "answered from a cache": lambda outcomes, worker, state: TestSuccesses().succeed(
            outcomes, cache_hit=True
        ),
        "failed": lambda outcomes, worker, state: outcomes.failed("eu-1", ProviderError(500)),
        "broken": lambda outcomes, worker, state: outcomes.broken(
            {"exception": ProviderError(500), **TestBrokenStreams.FACTS}
        ),
        "abandoned": lambda outcomes, worker, state: worker.runtime.close(state, answered=False),
        "never reported": lambda outcomes, worker, state: outcomes.abandon(state),
    }

    @pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
    def test_an_attempt_counts_until_it_ended_and_only_once(self, outcomes, worker, state, end):
        routed = state.groups["gpt"]
        Enforcement(worker.runtime)._begin(state, routed, routed.decision.plan[0])
        other = worker.runtime.shared
        other.begin("us-1", first="us", is_first=True)
        assert other.snapshot().in_flight == {"eu-1": 1, "us-1": 1}
        for _ in range(2):
            end(outcomes, worker, state)
        outcomes.abandon(state)
        assert other.snapshot().in_flight == {"us-1": 1}

    def test_a_call_that_no_hook_reports_ends_with_its_answer(self, outcomes, worker):
        state = worker.state("eu", call_type=CallType.PASS_THROUGH)
        worker.plan(state, "eu")
        routed = state.groups["gpt"]
        Enforcement(worker.runtime)._begin(state, routed, routed.decision.plan[0])
        outcomes.passed(state, 200)
        assert worker.runtime.shared.snapshot().in_flight == {}


class TestHealth:
    """What attempts say of a deployment, and of whom else they speak."""

    def health(self, worker, name="eu"):
        return worker.runtime.shared.health_of(f"{name}-1")

    def fail(self, worker, outcomes, state, error, *, times=6, **candidate):
        """Attempts that end with an error, each of a request of its own."""
        for _ in range(times):
            state.attempts.clear()
            attempt = worker.attempt(state, "eu")
            attempt.candidate = replace(attempt.candidate, **candidate)
            outcomes.failed("eu-1", error)

    @pytest.mark.parametrize("status", [500, 502, 503, 504, 529, 401, 403, 404])
    def test_failures_and_faults_open_a_breaker(self, outcomes, worker, state, status):
        """C26"""
        self.fail(worker, outcomes, state, ProviderError(status))
        assert self.health(worker).is_open

    @pytest.mark.parametrize("status", [400, 413, 422, 429])
    def test_what_is_the_callers_does_not(self, outcomes, worker, state, status):
        """C26"""
        self.fail(worker, outcomes, state, ProviderError(status))
        assert not self.health(worker).is_open

    def test_a_name_that_a_wildcard_does_not_know_is_the_callers(self, outcomes, worker, state):
        self.fail(worker, outcomes, state, ProviderError(404), model="openai/*")
        assert not self.health(worker).is_open
        assert {each["status"] for each in attempts(worker)} == {"client_error"}

    def test_a_stored_response_that_is_gone_is_the_callers(self, outcomes, worker, state):
        state.call_type, state.stored = CallType.RESPONSES, StoredId("eu-1", "openai", "resp_1")
        self.fail(worker, outcomes, state, ProviderError(404))
        assert not self.health(worker).is_open

    @pytest.mark.parametrize("call_type", [CallType.STORED_RESPONSE, CallType.PASS_THROUGH])
    def test_calls_that_say_nothing_of_a_model_count_for_none(self, outcomes, worker, state, call_type):
        state.call_type = call_type
        self.fail(worker, outcomes, state, ProviderError(500))
        assert not self.health(worker).is_open

    def test_a_stream_that_never_opened_for_a_wildcards_name_is_the_callers(self, outcomes, worker, state):
        for _ in range(6):
            state.attempts.clear()
            attempt = worker.attempt(state, "eu")
            attempt.candidate = replace(attempt.candidate, model="openai/*")
            outcomes.broken({"exception": ProviderError(404), **TestBrokenStreams.FACTS})
        assert not self.health(worker).is_open

    # As LiteLLM 1.106 raises them; behind the first six nobody was called.
    RAISED = (
        (lambda: caused(litellm.APIConnectionError("x", "openai", "m"), KeyError("function")), False),
        (lambda: caused(litellm.APIConnectionError("x", "openai", "m"), ValueError("x")), False),
        (lambda: AttributeError("'int' object has no attribute 'get'"), False),
        (lambda: litellm.InternalServerError("x", "openai", "m"), False),
        (lambda: litellm.RateLimitError("x", "openai", "m"), False),
        (
            lambda: caused(litellm.APIConnectionError("x", "openai", "m"), httpx.UnsupportedProtocol("x")),
            False,
        ),
        (lambda: caused(litellm.InternalServerError("x", "openai", "m"), httpx.ConnectError("x")), True),
        (lambda: caused(litellm.APIConnectionError("x", "openai", "m"), httpx.ReadError("x")), True),
        (lambda: caused(litellm.InternalServerError("x", "openai", "m"), answered(500)), True),
        (lambda: caused(litellm.APIConnectionError("x", "openai", "m"), ProviderError(200)), True),
        (lambda: litellm.Timeout("x", "m", "openai"), True),
        (lambda: ConnectionResetError("x"), True),
        (lambda: litellm.exceptions.MidStreamFallbackError("x", "m", "openai"), True),
    )

    @pytest.mark.parametrize(("raised", "counts"), RAISED)
    def test_only_what_shows_a_provider_speaks_of_it(self, outcomes, worker, state, raised, counts):
        """A body that LiteLLM cannot make a request of must not shut an endpoint for everybody."""
        self.fail(worker, outcomes, state, raised())
        health, statistics = self.health(worker), worker.runtime.shared.snapshot().by_deployment
        assert (health.is_open, bool(health.waits), "eu-1" in statistics) == (counts, False, counts)

    def test_what_was_tried_earlier_is_no_evidence(self, outcomes, worker, state):
        error = caused(KeyError("x"), answered(500))
        state.handled = error.__cause__
        self.fail(worker, outcomes, state, error)
        assert not self.health(worker).is_open

    def test_without_evidence_the_request_goes_on_as_with_it(self, outcomes, worker, state):
        worker.attempt(state, "eu")
        outcomes.failed("eu-1", caused(litellm.APIConnectionError("x", "openai", "m"), KeyError("function")))
        (record,) = attempts(worker)
        assert (record["status"], record["is_final"]) == ("connection_error", False)
        assert state.verdict.reason is Reason.UNAVAILABLE

    @pytest.mark.parametrize(("number", "is_open"), [(1, True), (2, False)])
    def test_what_our_own_deadline_cut_short_counts_only_for_who_had_all_of_it(
        self, outcomes, worker, state, number, is_open
    ):
        for _ in range(6):
            state.attempts.clear()
            state.received_s = worker.clock.monotonic()
            worker.clock.advance(599.8)
            worker.attempt(state, "eu").number = number
            outcomes.failed("eu-1", litellm.Timeout("x", "m", "openai"))
        assert self.health(worker).is_open is is_open

    def test_the_deadline_excuses_no_other_failure(self, outcomes, worker, state):
        for _ in range(6):
            state.attempts.clear()
            worker.attempt(state, "eu").number = 2
            state.received_s = worker.clock.monotonic() - 600
            outcomes.failed("eu-1", ProviderError(500))
        assert self.health(worker).is_open

    @pytest.mark.parametrize(("error", "is_open"), [(TimeoutError(), False), (ProviderError(500), True)])
    def test_a_loop_that_stood_still_breaks_connections_itself(self, outcomes, worker, state, error, is_open):
        """C37"""
        watch = worker.runtime.shared.watch
        for _ in range(6):
            state.attempts.clear()
            watch.beat()
            worker.attempt(state, "eu")
            worker.clock.advance(2)
            outcomes.failed("eu-1", error)
        assert self.health(worker).is_open is is_open

    def test_without_a_stall_timeouts_count(self, outcomes, worker, state):
        worker.runtime.shared.watch.beat()
        self.fail(worker, outcomes, state, TimeoutError())
        assert self.health(worker).is_open

    @pytest.mark.parametrize(
        ("value", "waited_s"),
        [
            pytest.param("7", 7, id="C25 seconds"),
            pytest.param("1000000000", 300, id="C25 huge"),
            pytest.param("-5", 5, id="C25 negative"),
            pytest.param("abc", 5, id="C25 text"),
            pytest.param(None, 5, id="C25 none"),
        ],
    )
    def test_one_that_is_limited_is_left_alone_for_as_long_as_it_asks(
        self, outcomes, worker, state, value, waited_s
    ):
        self.fail(worker, outcomes, state, ProviderError(429, value), times=1)
        assert self.health(worker).retry_after_s == pytest.approx(waited_s)
        worker.clock.advance(waited_s + 0.1)
        assert not self.health(worker).waits

    def test_one_that_asks_for_a_date_is_left_alone_until_then(self, outcomes, worker, state):
        """C25"""
        date = datetime.fromtimestamp(worker.clock.wall() + 30, UTC)
        error = ProviderError(429, format_datetime(date, usegmt=True))
        self.fail(worker, outcomes, state, error, times=1)
        assert self.health(worker).retry_after_s == pytest.approx(30)

    @pytest.mark.parametrize(
        ("left", "waits"),
        [
            pytest.param(("40", "5000"), False, id="both"),
            pytest.param(("40", "0"), True, id="no tokens"),
            pytest.param(("0", "5000"), True, id="no requests"),
            pytest.param(("40", None), True, id="one unsaid"),
            pytest.param((None, None), True, id="unsaid"),
        ],
    )
    @pytest.mark.parametrize("is_broken", [False, True], ids=["failed", "broken"])
    def test_one_that_says_that_enough_is_left_is_not_left_alone(
        self, outcomes, worker, state, *, left, waits, is_broken
    ):
        """A refusal of one request, of one tenant's doing, shuts nobody else out."""
        names = ("x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens")
        error = ProviderError(429)
        error.litellm_response_headers.update(
            {name: value for name, value in zip(names, left, strict=True) if value}
        )
        worker.attempt(state, "eu")
        if is_broken:
            outcomes.broken({"exception": error, **TestBrokenStreams.FACTS})
        else:
            outcomes.failed("eu-1", error)
        assert bool(self.health(worker).waits) is waits
        assert state.retry_after_s is None

    def test_what_it_asks_for_holds_though_it_says_that_enough_is_left(self, outcomes, worker, state):
        error = ProviderError(429, "7")
        error.litellm_response_headers.update(
            {"x-ratelimit-remaining-requests": "40", "x-ratelimit-remaining-tokens": "5000"}
        )
        self.fail(worker, outcomes, state, error, times=1)
        assert self.health(worker).retry_after_s == pytest.approx(7)

    @pytest.mark.parametrize(("asked", "unasked"), [("7", False), ("1", True), (None, True)])
    def test_a_wait_knows_whether_it_was_asked_for(self, outcomes, worker, state, asked, unasked):
        self.fail(worker, outcomes, state, ProviderError(429, None), times=1)
        self.fail(worker, outcomes, state, ProviderError(429, asked), times=1)
        worker.clock.advance(2)
        assert (self.health(worker).waits, self.health(worker).waits_unasked) == ("429", unasked)

    def test_zero_asks_for_nothing(self, outcomes, worker, state):
        """C25"""
        self.fail(worker, outcomes, state, ProviderError(429, "0"), times=1)
        assert not self.health(worker).waits


class TestProvidersLimits:
    """What providers say of their own limits, in the shapes that LiteLLM hands on."""

    LOGGED = {  # noqa: RUF012 - read only
        "llm_provider-x-ratelimit-remaining-requests": "40",
        "llm_provider-x-ratelimit-limit-requests": "100",
        "llm_provider-x-ratelimit-remaining-tokens": "5000",
        "llm_provider-x-request-id": "1",
    }
    # LiteLLM's router counts a model group, and tells it under the providers' names.
    COUNTED = {"x_ratelimit_remaining_requests": 0, "x-ratelimit-remaining-requests": 0}  # noqa: RUF012 - as above
    SAID = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "12s"}  # noqa: RUF012 - as above

    def health(self, worker):
        return worker.runtime.shared.health_of("eu-1")

    def succeed(self, outcomes, headers, **kwargs):
        facts = {"model_id": "eu-1", "hidden_params": {"additional_headers": headers}}
        outcomes.succeeded({"standard_logging_object": facts, **kwargs}, START, START + timedelta(seconds=1))

    def test_what_litellm_counts_itself_is_no_word_of_the_provider(self, outcomes, worker, state):
        worker.attempt(state, "eu")
        self.succeed(outcomes, self.COUNTED)
        assert self.health(worker).requests_left is None

    def test_an_answers_are_heard(self, outcomes, worker, state):
        worker.attempt(state, "eu")
        self.succeed(outcomes, self.LOGGED | self.COUNTED)
        assert (self.health(worker).requests_left, self.health(worker).tokens_left) == (38, 5000)

    @pytest.mark.parametrize("headers", [None, {}, [], "x-ratelimit-remaining-requests: 0"])
    def test_an_answer_without_them_says_nothing(self, outcomes, worker, state, headers):
        worker.attempt(state, "eu")
        self.succeed(outcomes, headers)
        assert self.health(worker).requests_left is None
        assert attempts(worker)[0]["status"] == "success"

    def test_those_of_an_answer_from_the_cache_are_old(self, outcomes, worker, state):
        worker.attempt(state, "eu")
        self.succeed(outcomes, self.LOGGED, cache_hit=True)
        assert self.health(worker).requests_left is None

    def refusal(self, where):
        error = ProviderError(429)
        if where == "litellm_response_headers":
            error.litellm_response_headers = httpx.Headers(self.SAID)
        else:
            error.litellm_response_headers = None
            error.response = httpx.Response(429, headers=self.SAID)
        return error

    @pytest.mark.parametrize("where", ["litellm_response_headers", "response"])
    @pytest.mark.parametrize("is_broken", [False, True], ids=["failed", "broken"])
    def test_a_refusals_are_heard(self, outcomes, worker, state, where, is_broken):
        worker.attempt(state, "eu")
        if is_broken:
            outcomes.broken({"exception": self.refusal(where), **TestBrokenStreams.FACTS})
        else:
            outcomes.failed("eu-1", self.refusal(where))
        health = self.health(worker)
        assert health.waits
        assert health.retry_after_s == pytest.approx(12)

    def test_a_stream_that_was_refused_is_waited_for(self, outcomes, worker, state):
        worker.attempt(state, "eu")
        outcomes.broken({"exception": ProviderError(429, "9"), **TestBrokenStreams.FACTS})
        assert self.health(worker).retry_after_s == pytest.approx(9)
        assert state.retry_after_s == 9


class TestBrokenStreams:
    FACTS = {"standard_logging_object": {"model_id": "eu-1"}}  # noqa: RUF012 - read only

    def test_it_closes_the_open_attempt(self, outcomes, worker, state):
        worker.attempt(state, "eu")
        outcomes.broken({"exception": ProviderError(500), **self.FACTS})
        assert [record["status"] for record in attempts(worker)] == ["server_error"]

    def test_what_the_deployment_hook_told_is_not_told_again(self, outcomes, worker, state):
        worker.attempt(state, "eu")
        for tell in (outcomes.failed, lambda _, error: outcomes.broken({"exception": error, **self.FACTS})):
            tell("eu-1", ProviderError(500))
        assert len(attempts(worker)) == 1

    def test_an_event_without_an_exception_is_left_alone(self, outcomes, worker, state):
        worker.attempt(state, "eu")
        outcomes.broken(self.FACTS)
        assert attempts(worker) == []
