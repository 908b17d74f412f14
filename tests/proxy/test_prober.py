"""The prober over a real router and a provider on loopback: what it sends, measures, records and survives."""

from __future__ import annotations

import asyncio
import json
import warnings

import litellm
import pytest
from litellm.llms.custom_httpx.async_client_cleanup import close_litellm_async_clients
from openai import AsyncOpenAI

from litellm_plugin.errors import RecordNotWritten
from litellm_plugin.proxy.caller_facts import utc_moment
from litellm_plugin.proxy.context import current_state
from litellm_plugin.proxy.deployments import Deployments
from litellm_plugin.proxy.hooks import PermitRouter
from litellm_plugin.proxy.prober import Prober
from litellm_plugin.proxy.synthetic import PROMPT
from litellm_plugin.records import NullDecisionLog
from litellm_plugin.routing.budgets import accounts_without_permit
from litellm_plugin.testing import Fault, RecordingProvider, ServerThread

# LiteLLM's own, when it first uses its models.
pytestmark = pytest.mark.filterwarnings("ignore")

PROBING = {"every_seconds": 60, "timeout_seconds": 60}
IMPATIENT = {"resilience": {"probing": {"timeout_seconds": 1}}}
PATIENT_S = 60.0


class Limited(RecordingProvider):
    """A provider that tells its limits."""

    limits = ()

    async def __call__(self, scope, receive, send):
        async def telling(message):
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *self.limits]}
            await send(message)

        await super().__call__(scope, receive, telling)


@pytest.fixture(scope="module")
def served():
    provider, servers = Limited("eu", price_usd=(0.01, 0.02)), ServerThread()
    provider.url = servers.add(provider)
    with servers:
        yield provider


@pytest.fixture
def provider(served):
    served.clear()
    served.always(None)
    served.limits = []
    served.prompt_tokens = served.completion_tokens = None
    return served


@pytest.fixture(autouse=True)
async def no_client_left():
    """LiteLLM keeps clients for each loop; those of a loop that ended would be the collector's."""
    yield
    for client in litellm.in_memory_llm_clients_cache.cache_dict.values():
        if isinstance(client, AsyncOpenAI):
            await client.close()
    await close_litellm_async_clients()
    litellm.in_memory_llm_clients_cache.flush_cache()


class Asking:
    """A worker whose turns a test takes one by one."""

    def __init__(self, worker, provider):
        self.worker, self.runtime, self.provider = worker, worker.runtime, provider
        self.prober = Prober(self.runtime)

    def load(self, mode="chat", params=None, **blocks):
        entry = self.provider.deployment(
            "gpt", self.provider.url, model=f"openai/{mode}-test", synthetic_prompts=True, mode=mode
        )
        entry["litellm_params"].update(params or {})
        with warnings.catch_warnings():
            # LiteLLM builds pydantic models with the first Router.
            warnings.simplefilter("ignore")
            router = litellm.Router(model_list=[entry], num_retries=3, default_fallbacks=["gpt"])
        self.runtime.deployments = Deployments(router)
        # Turns are asked for where somebody takes them; here a test does.
        self.runtime.probe = self.prober.run
        self.worker.load(blocks={"resilience": {"probing": PROBING}, **blocks})
        self.runtime.probe = None
        self.runtime.shared.declare(self.runtime.deployments.quotas(), self.runtime.deployments.synthetic())
        return self

    async def turn(self):
        self.worker.clock.advance(61.0)
        await self.runtime.shared.synchronise()
        assert self.runtime.shared.turn is not None

    async def look(self):
        await self.turn()
        await self.prober.look(self.runtime.policy.probing)
        await self.runtime.shared.synchronise()
        return self.last

    @property
    def last(self):
        return self.report["last"].get("eu-1", {}).get("ended")

    @property
    def report(self):
        return self.runtime.shared.report()["probing"]

    @property
    def probes(self):
        return [each for each in self.worker.records() if each["type"] == "probe"]


@pytest.fixture
async def asking(bare, provider, monkeypatch):
    hooks = PermitRouter(bare.runtime)
    monkeypatch.setattr(litellm, "callbacks", [hooks])
    yield Asking(bare, provider)
    await bare.runtime.stop()


async def test_a_chat_model_is_asked_and_measured(asking, provider):
    assert await asking.load().look() == "success"
    (request,) = provider.requests
    assert [each["content"] for each in request.json["messages"]] == [PROMPT]
    asking.worker.clock.advance(1.0)
    statistics = asking.runtime.shared.snapshot().by_deployment["eu-1"]
    assert (statistics.attempts, statistics.failures) == (1, 0)
    asked, ended = asking.probes
    assert (asked["event"], ended["event"], ended["status"]) == ("asked", "ended", "success")
    assert asked["decision_id"] == ended["decision_id"]
    tokens = ended["input_tokens"], ended["output_tokens"]
    assert ended["cost_usd"] == pytest.approx(tokens[0] * 0.01 + tokens[1] * 0.02)
    assert PROMPT not in json.dumps(asking.worker.records())


async def test_an_embedding_model_is_asked_for_an_embedding(asking, provider):
    assert await asking.load("embedding").look() == "success"
    (request,) = provider.requests
    assert request.path.endswith("/embeddings")
    assert request.json["input"] == [PROMPT]
    assert asking.probes[-1]["cost_usd"] == pytest.approx(asking.probes[-1]["input_tokens"] * 0.01)


@pytest.mark.parametrize(
    ("code", "how"),
    [
        (401, "provider_auth"),
        (403, "provider_auth"),
        (404, "misconfigured"),
        (429, "rate_limited"),
        (500, "server_error"),
        (503, "server_error"),
    ],
)
async def test_a_failure_is_what_a_passive_attempt_would_be(asking, provider, code, how):
    provider.always(Fault.status(code))
    assert await asking.load().look() == how
    assert len(provider.requests) == 1
    assert (asking.probes[-1]["http_status"], asking.probes[-1]["status"]) == (code, how)
    is_fault = how in {"provider_auth", "misconfigured"}
    assert bool(asking.runtime.shared.report()["breakers"]["alerts"]) is is_fault


@pytest.mark.parametrize("told", [pytest.param(10**9, id="much"), pytest.param(10**400, id="no float")])
@pytest.mark.parametrize(("mode", "most"), [("chat", 16), ("embedding", 0)])
async def test_a_usage_that_cannot_be_is_clamped_and_said(asking, provider, caplog, *, mode, most, told):
    provider.prompt_tokens = provider.completion_tokens = told
    assert await asking.load(mode).look() == "success"
    ended = asking.probes[-1]
    assert 1024 < ended["input_tokens"] < 2048
    assert (ended["output_tokens"] or 0) == most
    assert ended["cost_usd"] == pytest.approx(ended["input_tokens"] * 0.01 + most * 0.02)
    assert [each.levelname for each in caplog.records if "told a usage" in each.message] == ["WARNING"]


async def test_what_the_operator_adds_to_the_prompt_is_believed(asking, provider):
    tool = {"type": "function", "function": {"name": "f", "description": "word " * 2000}}
    provider.prompt_tokens = 4000
    asking.load(params={"tools": [tool]})
    assert await asking.look() == "success"
    assert asking.probes[-1]["input_tokens"] == 4000


async def test_a_lie_closes_no_budget_of_all_tenants(asking, provider):
    budget = {"name": "eu", "per": "endpoint", "period": "day", "limit_usd": 100.0}
    provider.completion_tokens = 10**9
    assert await asking.load(budgets=[budget]).look() == "success"
    (candidate,) = asking.runtime.deployments.single("eu-1")
    day = utc_moment(asking.worker.clock.wall()).date
    (account,) = accounts_without_permit(asking.runtime.policy.routing.budgets, candidate, day)
    assert asking.runtime.shared.snapshot().budgets[account] > 0


async def test_an_answer_that_cannot_be_read_ends_in_the_log_too(asking, monkeypatch):
    class UnreadableError(Exception):
        @property
        def status_code(self):
            raise RuntimeError("nobody can read this")

    async def unreadable(**_):
        raise UnreadableError

    asking.load()
    monkeypatch.setattr(asking.runtime.deployments.router(), "acompletion", unreadable)
    await asking.turn()
    with pytest.raises(RuntimeError):
        await asking.prober.look(asking.runtime.policy.probing)
    assert [each["event"] for each in asking.probes] == ["asked", "ended"]
    assert asking.probes[-1]["status"] == asking.last == "abandoned"
    assert asking.runtime.shared.snapshot().in_flight == {}


@pytest.mark.parametrize("mode", ["chat", "embedding"])
async def test_no_cache_of_litellm_keeps_anything_of_it(asking, monkeypatch, mode):
    for name in ("input_callback", "success_callback", "_async_success_callback"):
        monkeypatch.setattr(litellm, name, list(getattr(litellm, name)))
    cache = litellm.Cache(type="local")
    monkeypatch.setattr(litellm, "cache", cache)
    assert await asking.load(mode).look() == "success"
    await asyncio.sleep(0.1)  # LiteLLM writes it in a task of its own
    assert cache.cache.cache_dict == {}


async def test_what_a_provider_says_of_its_limits_is_heard(asking, provider):
    provider.limits = [(b"x-ratelimit-limit-requests", b"10"), (b"x-ratelimit-remaining-requests", b"4")]
    assert await asking.load().look() == "success"
    assert asking.runtime.shared.health_of("eu-1").requests_left == 4


async def test_a_hanging_provider_is_a_timeout(asking, provider):
    provider.always(Fault.hang(PATIENT_S))
    async with asyncio.timeout(PATIENT_S / 2):
        assert await asking.load(**IMPATIENT).look() == "timeout"
    assert asking.report["under_way"] is None


async def test_a_stream_that_never_ends_is_a_timeout(asking, provider):
    provider.always(Fault.drip(10.0))
    async with asyncio.timeout(PATIENT_S / 2):
        assert await asking.load(**IMPATIENT).look() == "timeout"


async def test_afterwards_nothing_is_left_of_its_context(asking, provider):
    await asking.load().look()
    assert current_state() is None
    assert asking.runtime.asking is None
    assert asking.runtime.shared.snapshot().in_flight == {}


async def test_no_record_no_prompt(asking, provider):
    class Full(NullDecisionLog):
        def write(self, record):
            raise RecordNotWritten("the disk is full")

    asking.load().runtime.recorder._log = Full()
    assert await asking.look() == "refused"
    assert provider.requests == []


async def test_what_is_out_of_its_place_asks_nobody(asking, provider):
    asking.load()
    asking.worker.missing.append("the hooks are gone")
    await asking.turn()
    await asking.prober.look(asking.runtime.policy.probing)
    assert provider.requests == []
    assert asking.runtime.shared.turn is None


async def test_a_deployment_that_went_asks_nobody(asking, provider):
    asking.load()
    await asking.turn()
    asking.runtime.deployments.router().delete_deployment(id="eu-1")
    await asking.prober.look(asking.runtime.policy.probing)
    assert provider.requests == []


async def test_a_call_that_the_final_check_refuses_tells_nothing(asking, provider, monkeypatch):
    class Rewriter(litellm.integrations.custom_logger.CustomLogger):
        async def async_pre_call_deployment_hook(self, kwargs, call_type):
            return {**kwargs, "api_base": "http://127.0.0.1:9/v1"}

    monkeypatch.setattr(litellm, "callbacks", [Rewriter(), *litellm.callbacks])
    assert await asking.load().look() == "refused"
    assert provider.requests == []
    assert asking.probes[-1]["status"] == "abandoned"
    asking.worker.clock.advance(1.0)
    assert "eu-1" not in asking.runtime.shared.snapshot().by_deployment
    assert asking.runtime.shared.report()["breakers"]["alerts"] == {}


class TestTask:
    @pytest.fixture
    async def started(self, asking):
        asking.load()
        asking.runtime.probe = asking.prober.run
        asking.runtime.start()
        return asking

    def task(self):
        return next((each for each in asyncio.all_tasks() if each.get_name() == "permit-router-probes"), None)

    async def test_it_ends_with_its_owner(self, started):
        task = self.task()
        await started.runtime.stop()
        assert task.done()

    async def test_it_ends_with_the_block_and_comes_back_with_it(self, started):
        started.worker.reload()
        async with asyncio.timeout(PATIENT_S):
            await self.task()
        started.runtime.start()
        assert self.task() is None
        started.worker.reload({"resilience": {"probing": PROBING}})
        started.runtime.start()
        assert self.task() is not None

    async def test_it_takes_a_turn_by_itself(self, started, provider):
        await started.turn()
        async with asyncio.timeout(PATIENT_S):
            while started.last is None:  # noqa: ASYNC110 - nobody tells of the end
                await asyncio.sleep(0.02)
        assert started.last == "success"

    async def test_without_the_block_there_is_none(self, asking):
        asking.load(resilience={})
        asking.runtime.probe = asking.prober.run
        asking.runtime.start()
        assert self.task() is None
