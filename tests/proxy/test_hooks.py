from __future__ import annotations

import pytest
from fastapi import HTTPException
from litellm.constants import DEFAULT_HEALTH_CHECK_PROMPT

from litellm_plugin.errors import Reason
from litellm_plugin.proxy.context import Administrative, Denied
from litellm_plugin.proxy.deployments import Deployments
from litellm_plugin.proxy.hooks import PermitRouter, is_health_probe
from litellm_plugin.routing.facts import CallType

TAGGED = {"tags": ["litellm-internal-health-check"]}


@pytest.fixture
def hooks(worker):
    return PermitRouter(worker.runtime)


async def denied(call):
    with pytest.raises(HTTPException) as caught:
        await call
    assert caught.value.status_code == 403
    return caught.value.detail["error"]["code"]


def select(hooks, entries):
    return hooks.async_filter_deployments("gpt", entries, None, {})


class Configured:
    """A router as far as deployments are read: one group of all that is configured."""

    def __init__(self, entries):
        self.entries = entries

    def get_model_list(self, model_name, team_id):
        return self.entries


class TestInert:
    @pytest.fixture
    def inert(self):
        return PermitRouter(None)

    async def test_the_body_passes_unchanged(self, inert):
        data = {"model": "gpt", "api_base": "https://x.example", "num_retries": 9}
        assert await inert.async_pre_call_hook(None, None, data, "acompletion") is data
        assert data == {"model": "gpt", "api_base": "https://x.example", "num_retries": 9}

    async def test_every_deployment_passes(self, inert):
        entries = [{"model_info": {"id": "a"}}, {"model_info": {"id": "b"}}]
        assert await inert.async_filter_deployments("gpt", entries, None, {}) is entries

    async def test_every_call_passes(self, inert):
        assert await inert.async_pre_call_deployment_hook({"model": "x"}, None) is None

    async def test_outcomes_are_ignored(self, inert):
        await inert.async_post_call_failure_deployment_hook({}, ValueError("x"), None)
        await inert.async_log_success_event({}, None, None, None)
        await inert.async_log_failure_event({}, None, None, None)


class TestDenials:
    @pytest.mark.parametrize(
        "state", [None, Administrative(), Denied()], ids=["none", "administrative", "denied"]
    )
    async def test_without_a_permit_every_point_refuses(self, hooks, worker, request_state, state):
        request_state(state)
        assert await denied(hooks.async_pre_call_hook(None, None, {}, "x")) == "no_context"
        assert await denied(select(hooks, [{"model_info": {"id": "eu-1"}}])) == "no_context"
        assert await denied(hooks.async_pre_call_deployment_hook({"model": "x"}, None)) == "no_context"
        assert worker.runtime.no_context_calls == 3

    async def test_a_closed_request_may_call_nothing(self, hooks, worker, request_state):
        state = worker.state("eu")
        state.closed = True
        request_state(state)
        assert await denied(hooks.async_pre_call_deployment_hook({"model": "x"}, None)) == "no_context"

    async def test_the_verdict_goes_into_the_state(self, hooks, worker, request_state):
        state = worker.state("eu", call_type=CallType.RESPONSES)
        request_state(state)
        data = {"model": "gpt", "background": True}
        assert await denied(hooks.async_pre_call_hook(None, None, data, "x")) == "body_invalid"
        assert state.verdict.reason is Reason.BODY_INVALID

    async def test_what_nobody_foresaw_is_an_internal_error(self, hooks, worker, request_state, caplog):
        state = worker.state("eu")
        request_state(state)
        assert await denied(hooks.async_pre_call_hook(None, None, None, "x")) == "internal_error"
        assert state.verdict.reason is Reason.INTERNAL_ERROR
        assert "A hook failed" in caplog.text

    async def test_a_deployment_outside_the_permit_is_never_chosen(self, hooks, worker, request_state):
        state = worker.state("eu")
        request_state(state)
        assert (
            await denied(select(hooks, [{"model_info": {"id": "us-1", "endpoint": "us"}}]))
            == "not_authorized"
        )
        assert worker.records()[-1]["outcome"] == "denied"

    async def test_the_planned_deployment_is_the_only_one(self, hooks, worker, request_state):
        request_state(worker.state("eu"))
        entries = [{"model_info": {"id": f"{name}-1", "endpoint": name}} for name in ("us", "eu")]
        worker.runtime.deployments = Deployments(Configured(entries))
        request = {"_target_order": 2}
        assert await hooks.async_filter_deployments("gpt", entries, None, request) == [entries[1]]
        assert request["cache"]["namespace"].startswith("permit-")
        assert "_target_order" not in request

    async def test_a_call_without_a_deployment_is_refused(self, hooks, worker, request_state):
        request_state(worker.state("eu"))
        assert (
            await denied(hooks.async_pre_call_deployment_hook({"model": "x"}, None)) == "destination_mismatch"
        )

    async def test_an_expired_permit_gets_no_further_attempt(self, hooks, worker, request_state):
        request_state(worker.state("eu"))
        worker.clock.advance(66)
        assert await denied(select(hooks, [{"model_info": {"id": "eu-1", "endpoint": "eu"}}])) == "expired"

    async def test_an_answer_that_began_is_not_continued(self, hooks, worker, request_state):
        state = worker.state("eu")
        state.response_started = True
        request_state(state)
        entries = [{"model_info": {"id": "eu-1", "endpoint": "eu"}}]
        assert await denied(select(hooks, entries)) == "chain_exhausted"


class TestHealthProbe:
    @pytest.mark.parametrize(
        "text", ["Hey how's it going?", "What's 1 + 1?", "test", DEFAULT_HEALTH_CHECK_PROMPT]
    )
    @pytest.mark.parametrize(
        "shape",
        [
            pytest.param(lambda text: {"messages": [{"role": "user", "content": text}]}, id="messages"),
            pytest.param(lambda text: {"prompt": text}, id="prompt"),
            pytest.param(lambda text: {"input": [text]}, id="input"),
        ],
    )
    def test_a_constant_prompt_passes(self, text, shape):
        assert is_health_probe({"metadata": TAGGED, **shape(text)})

    async def test_the_hook_lets_it_pass_outside_any_request(self, hooks):
        probe = {"metadata": TAGGED, "messages": [{"content": "What's 1 + 1?"}]}
        assert await hooks.async_pre_call_deployment_hook(probe, None) is None

    async def test_inside_a_request_it_is_a_call_like_any_other(self, hooks, request_state):
        request_state(Denied())
        probe = {"metadata": TAGGED, "messages": [{"content": "What's 1 + 1?"}]}
        assert await denied(hooks.async_pre_call_deployment_hook(probe, None)) == "no_context"

    @pytest.mark.parametrize("metadata", [None, {}, {"tags": "litellm-internal-health-check"}, {"tags": []}])
    def test_without_litellms_tag_it_does_not(self, metadata):
        assert not is_health_probe({"metadata": metadata, "prompt": "test"})

    @pytest.mark.parametrize(
        "call",
        [
            pytest.param({"messages": [{"content": "secret"}]}, id="message"),
            pytest.param({"messages": [{"content": "test"}, {"content": "secret"}]}, id="second-message"),
            pytest.param({"prompt": "secret"}, id="prompt"),
            pytest.param({"input": ["test", "secret"]}, id="second-input"),
            pytest.param({"query": "secret"}, id="query"),
            pytest.param({"messages": [{"content": None}]}, id="null-content"),
            pytest.param({"messages": ["secret"]}, id="text-message"),
        ],
    )
    def test_any_other_text_does_not(self, call):
        assert not is_health_probe({"metadata": TAGGED, **call})
