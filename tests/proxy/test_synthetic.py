"""Synthetic calls: what the final check and selection let through of them, over a router that is only data."""

from __future__ import annotations

import warnings

import litellm
import pytest

from litellm_plugin.errors import Reason, RequestDenied
from litellm_plugin.proxy.context import SyntheticCall
from litellm_plugin.proxy.deployments import Deployments
from litellm_plugin.proxy.enforcement import Enforcement
from litellm_plugin.proxy.synthetic import PROMPT, content, select_synthetic

KEPT_OUT = {"cache": {"no-cache": True, "no-store": True}, "max_retries": 0}


def entry(name, *, model="openai/x", synthetic=True, mode=None, **params):
    info = {"id": name, "endpoint": name}
    if synthetic is not None:
        info["synthetic_prompts"] = synthetic
    if mode is not None:
        info["mode"] = mode
    address = f"http://{name}.example/v1"
    return {
        "model_name": "gpt",
        "litellm_params": {"model": model, "api_base": address, "api_key": name, **params},
        "model_info": info,
    }


MODELS = [
    entry("eu"),
    entry("us"),
    entry("closed", synthetic=False),
    entry("silent", synthetic=None),
    entry("one", synthetic=1),
    entry("text", synthetic="true"),
    entry("embedder", model="openai/e", mode="embedding"),
    entry("known", model="openai/text-embedding-3-small"),
    entry("painter", model="openai/p", mode="image_generation"),
    entry("wild", model="openai/*"),
    entry("tools", tools=[{"type": "function", "function": {"name": "f"}}]),
]


@pytest.fixture
def router():
    with warnings.catch_warnings():
        # LiteLLM builds pydantic models with the first Router.
        warnings.simplefilter("ignore")
        return litellm.Router(model_list=MODELS)


@pytest.fixture
def enforcement(worker, router):
    worker.runtime.deployments = Deployments(router)
    return Enforcement(worker.runtime)


@pytest.fixture
def asking(worker, request_state):
    """The prober's own call to `eu`, as it runs."""
    call = worker.runtime.asking = SyntheticCall("eu")
    request_state(call)
    return call


def made(name="eu", mode="chat", **changes):
    """What LiteLLM is about to call a provider with."""
    model = next(each for each in MODELS if each["model_info"]["id"] == name)
    return {**model["litellm_params"], "model_info": {"id": name}, **content(mode), **changes}


def refusal(enforcement, call):
    with pytest.raises(RequestDenied) as denied:
        enforcement.check(call)
    return denied.value.verdict.reason


def test_those_that_declare_it_are_asked_by_their_mode(router):
    assert Deployments(router).synthetic() == {
        "eu": "chat",
        "us": "chat",
        "embedder": "embedding",
        "known": "embedding",
        "tools": "chat",
    }


def test_its_own_deployment_gets_the_constant_prompt(enforcement, asking):
    assert enforcement.check(made()) == KEPT_OUT
    assert (asking.is_made, asking.is_refused) == (True, False)


def test_it_is_made_once(enforcement, asking):
    enforcement.check(made())
    assert refusal(enforcement, made()) is Reason.NOT_AUTHORIZED
    assert asking.is_refused


@pytest.mark.parametrize("name", ["us", "closed", "nobody", ""])
def test_no_other_deployment_gets_it(enforcement, asking, name):
    call = {**made(), "model_info": {"id": name}}
    assert refusal(enforcement, call) is Reason.NOT_AUTHORIZED
    assert asking.is_refused


@pytest.mark.parametrize("name", ["closed", "silent", "one", "text", "painter", "wild"])
def test_a_deployment_that_does_not_allow_it_gets_none(worker, enforcement, request_state, name):
    worker.runtime.asking = SyntheticCall(name)
    request_state(worker.runtime.asking)
    assert refusal(enforcement, made(name)) is Reason.NOT_AUTHORIZED


@pytest.mark.parametrize(
    "changes",
    [
        {"api_base": "http://evil.example/v1"},
        {"api_key": "another"},
        {"model": "openai/other"},
        {"custom_llm_provider": "anthropic"},
        {"extra_headers": {"x": "1"}},
    ],
)
def test_it_goes_nowhere_else(enforcement, asking, changes):
    assert refusal(enforcement, made(**changes)) is Reason.DESTINATION_MISMATCH


@pytest.mark.parametrize(
    "changes",
    [
        {"messages": [{"role": "user", "content": "a caller's"}]},
        {"messages": [*content("chat")["messages"], {"role": "user", "content": "and more"}]},
        {"messages": [{"role": "system", "content": PROMPT}]},
        {"messages": []},
        {"input": "a caller's"},
        {"tools": [{"type": "function"}]},
        {"documents": ["a caller's"]},
    ],
)
def test_it_says_the_constant_prompt_alone(enforcement, asking, changes):
    assert refusal(enforcement, made(**changes)) is Reason.BODY_INVALID


def test_what_the_operator_adds_to_every_call_goes_along(worker, enforcement, request_state):
    worker.runtime.asking = SyntheticCall("tools")
    request_state(worker.runtime.asking)
    assert enforcement.check(made("tools")) == KEPT_OUT


def test_what_would_send_or_search_again_is_taken_out(enforcement, asking):
    repeating = {"fallbacks": ["us"], "num_retries": 3, "vector_store_ids": ["v"]}
    assert enforcement.check(made(**repeating)) == {**KEPT_OUT, **dict.fromkeys(repeating)}


class TestAuthority:
    def test_an_object_that_the_prober_does_not_hold_opens_nothing(self, enforcement, asking, request_state):
        request_state(SyntheticCall("eu"))
        assert refusal(enforcement, made()) is Reason.NO_CONTEXT

    def test_one_that_is_over_opens_nothing(self, worker, enforcement, asking):
        asking.closed = True
        assert refusal(enforcement, made()) is Reason.NO_CONTEXT
        worker.runtime.asking = None
        asking.closed = False
        assert refusal(enforcement, made()) is Reason.NO_CONTEXT

    def test_a_request_under_way_beside_it_is_judged_by_its_own_permit(
        self, worker, enforcement, asking, request_state
    ):
        state = worker.state("us")
        worker.plan(state, "us")
        request_state(state)
        assert refusal(enforcement, made()) is not Reason.NO_CONTEXT

    def test_outside_any_context_nothing_may_be_called(self, enforcement, asking, request_state):
        request_state(None)
        assert refusal(enforcement, made()) is Reason.NO_CONTEXT


def test_selection_gives_its_own_deployment():
    call = SyntheticCall("eu")
    assert select_synthetic(call, [entry("us"), entry("eu")]) == [entry("eu")]


def test_selection_gives_no_other():
    call = SyntheticCall("eu")
    with pytest.raises(RequestDenied):
        select_synthetic(call, [entry("us")])
    assert call.is_refused


def test_no_callback_is_told_of_it(worker, asking):
    assert worker.runtime.holding.holds("langfuse")
