"""Openings: what LiteLLM's retry loop gets of an attempt, over calls that are only coroutines."""

from __future__ import annotations

import asyncio

import litellm
import pytest

from litellm_plugin.errors import ConfigurationError, Reason, RequestDenied, Verdict
from litellm_plugin.proxy import openings
from litellm_plugin.proxy.denial import Denial
from litellm_plugin.proxy.enforcement import Enforcement
from litellm_plugin.proxy.openings import BegunStream, Openings, are_watched, watch_openings
from litellm_plugin.proxy.outcomes import Outcomes
from litellm_plugin.proxy.planning import Planner
from litellm_plugin.routing.attempts import AttemptStatus

BAD_REQUEST = litellm.NotFoundError("x", "m", "openai")


class Stream:
    """A provider's stream: items, or an error in an item's place."""

    def __init__(self, *items):
        self.items = list(items)
        self.closed = False

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self.items:
            raise StopAsyncIteration
        item = self.items.pop(0)
        if isinstance(item, Exception):
            raise item
        return item

    async def aclose(self):
        self.closed = True


@pytest.fixture
def make(worker, state):
    Outcomes(worker.runtime)
    own = Openings(worker.runtime, Planner(worker.runtime))

    async def make(answer, name="eu"):
        async def call():
            worker.attempt(state, name).model_group = "gpt"
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return await own.attempt(state, call)

    return make


async def test_a_stream_is_handed_on_whole(make):
    stream = Stream(1, 2, 3)
    begun = await make(stream)
    assert isinstance(begun, Stream)
    assert [item async for item in begun] == [1, 2, 3]


async def test_an_empty_stream_is_empty(make):
    assert [item async for item in await make(Stream())] == []


async def test_attributes_go_through_both_ways():
    stream = Stream()
    begun = BegunStream(stream, aiter(stream), ())
    begun.hidden = 7
    assert stream.hidden == begun.hidden == 7
    await begun.aclose()
    assert stream.closed


async def test_a_stream_that_breaks_first_fails_while_the_loop_can_repeat_it(make, state):
    with pytest.raises(litellm.APIConnectionError):
        await make(Stream(litellm.APIConnectionError("x", "openai", "m")))
    assert [each.status for each in state.attempts] == [AttemptStatus.CONNECTION_ERROR]


async def test_one_that_breaks_later_is_left_alone(make, state):
    begun = await make(Stream(1, litellm.APIConnectionError("x", "openai", "m")))
    assert await anext(begun) == 1
    with pytest.raises(litellm.APIConnectionError):
        await anext(begun)
    assert [each.status for each in state.attempts] == [None]


async def test_the_providers_error_is_found_behind_a_refused_fallback(make, state):
    wrapped = RuntimeError("mid-stream")
    wrapped.original_exception = litellm.RateLimitError("x", "openai", "m")
    refused = Denial(Verdict(Reason.UNAVAILABLE, "x"))
    refused.__context__ = wrapped
    with pytest.raises(litellm.RateLimitError):
        await make(Stream(refused))
    assert state.attempts[0].status is AttemptStatus.RATE_LIMITED


async def test_a_denial_of_the_call_itself_is_no_providers_failure(make, state):
    """A search that may not receive the request, for example: no other endpoint is asked."""
    with pytest.raises(Denial):
        await make(Denial(Verdict(Reason.EGRESS_NOT_CLEARED, "x")))
    assert [each.status for each in state.attempts] == [None]


async def test_an_earlier_attempts_error_is_not_taken_for_this_ones(make, state):
    earlier = RuntimeError("mid-stream")
    earlier.original_exception = litellm.RateLimitError("x", "openai", "m")
    refused = Denial(Verdict(Reason.EXPIRED, "x"))
    refused.__context__ = earlier
    try:
        raise earlier
    except RuntimeError:
        with pytest.raises(Denial):
            await make(Stream(refused))
    assert state.handled is None


async def test_what_litellm_would_not_repeat_it_is_told_to(make):
    with pytest.raises(litellm.ServiceUnavailableError) as raised:
        await make(BAD_REQUEST)
    assert raised.value.__cause__ is BAD_REQUEST


async def test_where_nothing_follows_the_providers_own_error_stands(make):
    with pytest.raises(litellm.ServiceUnavailableError):
        await make(BAD_REQUEST)
    with pytest.raises(litellm.NotFoundError):
        await make(BAD_REQUEST, "us")


async def test_a_denial_before_any_call_is_left_as_it_is(worker, state):
    denial = Denial(Verdict(Reason.NOT_AUTHORIZED, "x"))

    async def call():
        raise denial

    with pytest.raises(Denial) as raised:
        await Openings(worker.runtime, Planner(worker.runtime)).attempt(state, call)
    assert raised.value is denial


async def test_an_attempt_ends_with_the_requests_time(worker, state, monkeypatch):
    Outcomes(worker.runtime)
    monkeypatch.setattr(openings, "_GRACE_S", 0.0)
    worker.clock.advance(599.99)

    async def call():
        worker.attempt(state, "eu").model_group = "gpt"
        worker.clock.advance(1)
        await asyncio.sleep(30)

    with pytest.raises(TimeoutError):
        await Openings(worker.runtime, Planner(worker.runtime)).attempt(state, call)
    assert state.attempts[0].status is AttemptStatus.TIMEOUT


async def test_a_socket_is_only_called(worker, state):
    state.method = "WEBSOCKET"

    async def call():
        raise BAD_REQUEST

    with pytest.raises(litellm.NotFoundError):
        await Openings(worker.runtime, Planner(worker.runtime)).attempt(state, call)


def test_the_router_is_watched_once():
    watch_openings()
    once = openings._owner().make_call
    watch_openings()
    assert openings._owner().make_call is once
    assert are_watched()


def test_a_router_that_makes_attempts_elsewhere_stops_the_start(monkeypatch):
    monkeypatch.setattr(openings, "_MODULES", (("litellm.router", "Gone"), ("litellm.gone", "Router")))
    with pytest.raises(ConfigurationError, match="make_call"):
        watch_openings()
    assert not are_watched()


def test_while_a_stream_is_awaited_no_other_group_is_chosen(worker, state):
    attempt = worker.attempt(state, "eu")
    attempt.model_group, state.awaited = "gpt", attempt
    with pytest.raises(RequestDenied) as denied:
        Enforcement(worker.runtime).select("other", [])
    assert denied.value.verdict.reason is Reason.UNAVAILABLE
