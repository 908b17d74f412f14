"""A real `litellm.Router` without a proxy, judged by what providers on loopback received."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import json
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import litellm
import pytest
from litellm.llms.custom_httpx.async_client_cleanup import close_litellm_async_clients
from openai import AsyncOpenAI
from proxy_cases import POLICY_BLOCK

from litellm_plugin import PermitRoutingStrategy
from litellm_plugin.errors import (
    ConfigurationError,
    KeysUnavailable,
    PermitRejected,
    Reason,
    RequestDenied,
)
from litellm_plugin.settings import Flags, load_policy
from litellm_plugin.testing import (
    FakeClock,
    Fault,
    Ledger,
    PermitIssuer,
    RecordingProvider,
    ServerThread,
    marker,
)

# LiteLLM warns of its own models, clients and old members when they are used first.
pytestmark = pytest.mark.filterwarnings("ignore")

OPENAI = ("eu-a", "eu-b", "us-a", "us-b")
ANTHROPIC = ("claude-eu", "claude-us")
PRICES = {"eu-a": 3e-6, "eu-b": 2e-6, "us-a": 1e-6, "us-b": 5e-7, "claude-eu": 4e-6, "claude-us": 1e-6}
CALLS = ("chat", "completion", "embedding", "messages", "responses")
STREAMING = ("chat", "completion", "messages", "responses")


def outside(lab, says):
    """A door's arguments with the address of a provider that no configuration names."""
    return json.loads(json.dumps(says).replace(EVIL, lab.servers.urls["evil"]))


@dataclass
class Servers:
    """Providers that every test of this module shares."""

    providers: dict = field(default_factory=dict)
    urls: dict = field(default_factory=dict)


@pytest.fixture(scope="module")
def shared_servers():
    servers = Servers()
    thread = ServerThread()
    for name in (*OPENAI, *ANTHROPIC, "evil"):
        provider = RecordingProvider(name, price_usd=(PRICES.get(name, 1e-9),) * 2)
        servers.providers[name] = provider
        servers.urls[name] = thread.add(provider)
    with thread:
        yield servers


@contextlib.asynccontextmanager
async def no_client_left():
    """Closes LiteLLM's clients in the loop that they were made in: later their sockets would be the collector's.

    LiteLLM caches clients for each loop, and for a text completion makes one that it neither caches nor closes.
    """
    made, initialise = [], AsyncOpenAI.__init__

    def kept(self, *arguments, **options):
        initialise(self, *arguments, **options)
        made.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AsyncOpenAI, "__init__", kept)
        yield
    for client in made:
        await client.close()
    await close_litellm_async_clients()
    litellm.in_memory_llm_clients_cache.flush_cache()


@pytest.fixture(autouse=True)
async def closed_clients():
    async with no_client_left():
        yield


@dataclass
class Lab:
    """A router, its strategy, an issuer, and the ledger of what may arrive where."""

    servers: Servers
    issuer: PermitIssuer
    clock: FakeClock
    folder: object
    ledger: Ledger = field(default_factory=Ledger)
    router: object = None
    strategy: object = None

    def deployment(self, name, group=None, **info):
        model = "anthropic/claude-test" if name in ANTHROPIC else "openai/gpt-test"
        group = group or ("claude" if name in ANTHROPIC else "gpt")
        return self.servers.providers[name].deployment(group, self.servers.urls[name], model=model, **info)

    def model_list(self):
        return [self.deployment(name) for name in (*OPENAI, *ANTHROPIC)]

    def build_router(self, **settings):
        with warnings.catch_warnings():
            # LiteLLM builds pydantic models with the first Router.
            warnings.simplefilter("ignore")
            return litellm.Router(
                **{"model_list": self.model_list(), "disable_cooldowns": True, "num_retries": 0, **settings}
            )

    def policy(self, **permit):
        self.issuer.write_jwks(self.folder / "jwks.json")
        return {
            **POLICY_BLOCK,
            "permit": {**POLICY_BLOCK["permit"], "binding": "none", **permit},
            "classifications": {"internal": {}, "public": {}},
            "resilience": {"attempts": 3},
            "decision_log": {"file": str(self.folder / "decisions.jsonl")},
        }

    def build(self, *, permit=None, **settings):
        self.router = self.build_router(**settings)
        self.strategy = PermitRoutingStrategy(self.router, self.policy(**(permit or {})), clock=self.clock)
        return self

    def text(self, *endpoints):
        mark = marker()
        self.ledger.allow(mark, endpoints)
        return f"hello {mark}"

    async def send(self, call, text, **kwargs):
        """One call of the router, without a permit of its own."""
        model = kwargs.pop("model", None) or ("claude" if call == "messages" else "gpt")
        messages = [{"role": "user", "content": text}]
        match call:
            case "chat":
                return await self.router.acompletion(model=model, messages=messages, **kwargs)
            case "completion":
                return await self.router.atext_completion(model=model, prompt=text, **kwargs)
            case "embedding":
                return await self.router.aembedding(model=model, input=[text], **kwargs)
            case "messages":
                return await self.router.aanthropic_messages(
                    model=model, messages=messages, max_tokens=16, **kwargs
                )
            case "responses":
                return await self.router.aresponses(model=model, input=text, **kwargs)

    async def ask(self, call, *endpoints, permit=None, **kwargs):
        """One call under a fresh permit for these endpoints."""
        text = self.text(*endpoints)
        with self.strategy.permit(self.issuer.mint(endpoints, **(permit or {}))):
            return await self.send(call, text, **kwargs)

    async def denied(self, call, *endpoints, **kwargs):
        with pytest.raises(RequestDenied) as caught:
            await self.ask(call, *endpoints, **kwargs)
        return caught.value

    def calls(self):
        counts = {name: provider.calls for name, provider in self.servers.providers.items()}
        return {name: count for name, count in counts.items() if count}

    def order(self):
        arrived = [each for provider in self.servers.providers.values() for each in provider.requests]
        return [each.endpoint for each in sorted(arrived, key=lambda each: each.at)]

    def out_of_set(self):
        return self.ledger.judge(self.servers.providers.values()).out_of_set

    def records(self, kind=None):
        path = self.folder / "decisions.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        records = [json.loads(line) for line in lines]
        return [each for each in records if kind is None or each["type"] == kind]

    async def arrival(self):
        """Waits until a provider received something."""
        for _ in range(500):
            if self.calls():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("a request was expected at some provider")

    async def attempts(self, count):
        """The attempt records, once LiteLLM reported that many."""
        for _ in range(200):
            found = self.records("attempt")
            if len(found) >= count:
                return found
            await asyncio.sleep(0.02)
        raise AssertionError(f"{count} attempts expected, {self.records('attempt')} came")


@pytest.fixture
def empty_lab(shared_servers, tmp_path, monkeypatch):
    for name in ("ENABLED", "POLICY", "LOG", "REDIS_URL"):
        monkeypatch.delenv(f"PERMIT_ROUTER_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(litellm, "callbacks", [])
    for provider in shared_servers.providers.values():
        provider.clear()
        provider.always(None)
    clock = FakeClock()
    return Lab(shared_servers, PermitIssuer(algorithm="ES256", now=clock.wall), clock, tmp_path)


@pytest.fixture
async def lab(empty_lab):
    yield empty_lab.build()
    assert empty_lab.out_of_set() == ()
    await empty_lab.strategy.close()


class TestCalls:
    @pytest.mark.parametrize("call", CALLS)
    async def test_an_authorized_endpoint_serves(self, lab, call):
        name = "claude-eu" if call == "messages" else "eu-a"
        await lab.ask(call, name)
        assert lab.calls() == {name: 1}

    @pytest.mark.parametrize("call", STREAMING)
    async def test_a_stream_is_served(self, lab, call):
        name = "claude-eu" if call == "messages" else "eu-a"
        stream = await lab.ask(call, name, stream=True)
        assert [item async for item in stream]
        assert lab.calls() == {name: 1}
        (attempt,) = await lab.attempts(1)
        assert (attempt["endpoint"], attempt["status"]) == (name, "success")

    @pytest.mark.parametrize("call", CALLS)
    async def test_without_a_permit_nothing_is_sent(self, lab, call):
        with pytest.raises(RequestDenied) as caught:
            await lab.send(call, lab.text())
        assert caught.value.verdict.reason is Reason.NO_CONTEXT
        assert lab.calls() == {}
        (record,) = lab.records("decision")
        assert (record["decision_id"], record["reason"]) == (caught.value.decision_id, "no_context")

    @pytest.mark.parametrize("call", CALLS)
    async def test_a_group_outside_the_set_is_refused(self, lab, call):
        denied = await lab.denied(call, "eu-a" if call == "messages" else "claude-eu")
        assert denied.verdict.reason is Reason.NOT_AUTHORIZED
        assert lab.calls() == {}

    async def test_the_cheapest_authorized_endpoint_is_first(self, lab):
        await lab.ask("chat", "eu-a", "us-a", "eu-b")
        assert lab.calls() == {"us-a": 1}

    async def test_the_first_call_tells_its_language(self, empty_lab):
        german = [
            empty_lab.deployment("eu-a", languages=["de"]),
            empty_lab.deployment("us-a", languages=["en"]),
        ]
        lab = empty_lab.build(model_list=german)
        text = f"Bitte fassen Sie den Vertrag in zwei kurzen S\u00e4tzen zusammen. {lab.text('eu-a', 'us-a')}"
        with lab.strategy.permit(lab.issuer.mint(("eu-a", "us-a"))):
            await lab.send("chat", text)
        assert lab.records("decision")[0]["request"]["language"] == "de"
        assert lab.order() == ["eu-a"]
        await lab.strategy.close()

    async def test_limits_count_from_the_first_call(self, empty_lab):
        """Before the background task has looked at the router: until a lease is there, half of the limit counts."""
        limited = empty_lab.deployment("eu-a")
        limited["litellm_params"]["rpm"] = 2
        lab = empty_lab.build(model_list=[limited])
        calls = (lab.ask("chat", "eu-a") for _ in range(5))
        ends = await asyncio.gather(*calls, return_exceptions=True)
        refused = [each.verdict.reason for each in ends if isinstance(each, RequestDenied)]
        assert (refused, lab.calls()) == ([Reason.UNAVAILABLE] * 4, {"eu-a": 1})
        await lab.strategy.close()

    async def test_a_batch_is_decided_call_by_call(self, lab):
        text = lab.text("eu-a")
        with lab.strategy.permit(lab.issuer.mint(["eu-a"])):
            first, second = await lab.router.abatch_completion(
                models=["gpt", "claude"], messages=[{"role": "user", "content": text}]
            )
        assert first.choices[0].message.content == "answer from eu-a"
        assert second.verdict.reason is Reason.NOT_AUTHORIZED

    async def test_calls_of_one_context_are_decided_by_themselves(self, lab):
        text = lab.text("us-b", "eu-a")
        with lab.strategy.permit(lab.issuer.mint(["us-b", "eu-a"])):
            await lab.send("chat", text)
            await lab.send("chat", text)
        assert lab.calls() == {"us-b": 2}

    async def test_messages_may_be_litellms_own_objects(self, lab):
        own = litellm.Message(role="user", content=lab.text("eu-a"))
        with lab.strategy.permit(lab.issuer.mint(["eu-a"])):
            await lab.router.acompletion(model="gpt", messages=[own])
        assert lab.calls() == {"eu-a": 1}

    async def test_other_litellm_calls_are_left_alone(self, lab):
        url = lab.servers.urls["us-a"]
        text = lab.text("us-a", "eu-a")
        with lab.strategy.permit(lab.issuer.mint(["eu-a"])):
            await lab.send("chat", text)
            await litellm.acompletion(
                model="openai/x",
                api_base=f"{url}/v1",
                api_key="k",
                messages=[{"role": "user", "content": text}],
            )
        assert lab.calls() == {"eu-a": 1, "us-a": 1}


EVIL = "http://evil"  # replaced by the address of a provider that no configuration names

DOORS = [
    pytest.param({"model": "us-b-1"}, Reason.NOT_AUTHORIZED, id="deployment-id"),
    pytest.param({"model": "gpt,claude"}, Reason.BODY_INVALID, id="comma-list"),
    pytest.param({"model": ["gpt", "claude"]}, None, id="model-list"),
    pytest.param({"model": "alias"}, None, id="alias"),
    pytest.param({"model": "openai/gpt-test"}, None, id="provider-model-name"),
    pytest.param({"model": "claude"}, Reason.NOT_AUTHORIZED, id="other-group"),
    pytest.param({"api_base": f"{EVIL}/v1"}, Reason.DESTINATION_MISMATCH, id="api-base"),
    pytest.param({"base_url": f"{EVIL}/v1"}, Reason.DESTINATION_MISMATCH, id="base-url"),
    pytest.param({"api_key": "sk-other"}, Reason.DESTINATION_MISMATCH, id="api-key"),
    pytest.param({"custom_llm_provider": "anthropic"}, Reason.DESTINATION_MISMATCH, id="provider-swap"),
    pytest.param({"deployment_id": "x"}, Reason.DESTINATION_MISMATCH, id="azure-deployment"),
    pytest.param({"model_list": [{}]}, Reason.DESTINATION_MISMATCH, id="model-list-argument"),
    pytest.param({"extra_headers": {"x": "1"}}, Reason.DESTINATION_MISMATCH, id="extra-headers"),
    pytest.param({"specific_deployment": True}, None, id="specific-deployment"),
    pytest.param({"_excluded_deployment_ids": ["eu-a-1"]}, None, id="excluded-deployments"),
    pytest.param(
        {"metadata": {"model_group": "claude", "specific_deployment": "us-b-1"}}, None, id="metadata"
    ),
    pytest.param({"tools": [{"type": "mcp", "server_url": EVIL}]}, Reason.BODY_INVALID, id="mcp-tool"),
    pytest.param({"mock_testing_fallbacks": True}, None, id="mock-fallbacks"),
]


class TestSideDoors:
    @pytest.fixture
    async def lab(self, empty_lab):
        yield empty_lab.build(
            fallbacks=[{"gpt": ["claude"]}], default_fallbacks=["claude"], model_group_alias={"alias": "gpt"}
        )
        assert empty_lab.out_of_set() == ()
        await empty_lab.strategy.close()

    @pytest.mark.parametrize(("says", "reason"), DOORS)
    async def test_nothing_leaves_the_set(self, lab, says, reason):
        says = outside(lab, says)
        ended = None
        try:
            await lab.ask("chat", "eu-a", **says)
        except Exception as error:  # noqa: BLE001 - where it does not lead inside, LiteLLM may refuse it itself
            ended = error
        if reason is not None:
            assert isinstance(ended, RequestDenied)
            assert ended.verdict.reason is reason
        assert lab.out_of_set() == ()
        if reason is not None:
            assert lab.calls() == {}

    @pytest.mark.parametrize(
        "says",
        [
            pytest.param({}, id="configured"),
            pytest.param({"fallbacks": ["claude"]}, id="names"),
            pytest.param({"fallbacks": [{"gpt": ["claude"]}]}, id="mapping"),
            pytest.param({"fallbacks": ["us-b-1"]}, id="deployment-id"),
            pytest.param({"fallbacks": [{"model": "claude", "api_base": EVIL}]}, id="address"),
            pytest.param(
                {"fallbacks": [{"model": "gpt", "api_base": f"{EVIL}/v1"}]}, id="address-of-the-group"
            ),
            pytest.param({"num_retries": 25}, id="retries"),
            pytest.param({"max_retries": 5}, id="client-retries"),
        ],
    )
    async def test_no_fallback_leaves_the_set(self, lab, says):
        says = outside(lab, says)
        lab.servers.providers["eu-a"].always(Fault.status(500))
        denied = await lab.denied("chat", "eu-a", **says)
        assert lab.out_of_set() == ()
        assert denied.verdict.reason is Reason.CHAIN_EXHAUSTED
        assert lab.calls() == {"eu-a": 1}

    async def test_a_fallback_inside_the_set_is_taken(self, lab):
        lab.servers.providers["eu-a"].always(Fault.status(500))
        answer = await lab.ask("chat", "eu-a", "claude-eu")
        assert answer.choices[0].message.content == "answer from claude-eu"
        assert lab.calls() == {"eu-a": 1, "claude-eu": 1}

    async def test_a_deployment_id_inside_the_set_is_served(self, lab):
        await lab.ask("chat", "eu-a", model="eu-a-1")
        assert lab.calls() == {"eu-a": 1}

    async def test_the_final_check_compares_what_will_be_called(self, lab, monkeypatch):
        monkeypatch.setattr("litellm_plugin.proxy.strategy._STEERING", frozenset())
        says = {"api_base": f"{lab.servers.urls['evil']}/v1"}
        for extra in (says, {**says, "model": "eu-a-1"}, {"custom_llm_provider": "anthropic"}):
            denied = await lab.denied("chat", "eu-a", **extra)
            assert denied.verdict.reason is Reason.DESTINATION_MISMATCH
        assert lab.calls() == {}

    @pytest.mark.parametrize("call", CALLS)
    async def test_a_redirect_is_not_followed(self, lab, call):
        source, target = ("claude-eu", "claude-us") if call == "messages" else ("eu-a", "us-a")
        lab.servers.providers[source].always(Fault.redirect(lab.servers.urls[target]))
        with pytest.raises(Exception):  # noqa: B017, PT011 - each kind of call has its own
            await lab.ask(call, source)
        assert lab.calls() == {source: 1}

    async def test_a_control_leaves_the_set(self, lab):
        """The same router without a strategy: the battery would see what gets out."""
        router = lab.build_router(fallbacks=[{"gpt": ["claude"]}])
        for name in OPENAI:
            lab.servers.providers[name].always(Fault.status(500))
        text = lab.text("eu-a", *ANTHROPIC, *OPENAI)
        await router.acompletion(model="gpt", messages=[{"role": "user", "content": text}])
        assert set(lab.calls()) & set(ANTHROPIC)


class TestAttempts:
    @pytest.mark.parametrize("call", ["chat", "completion", "embedding", "responses"])
    @pytest.mark.parametrize("status", [500, 429])
    async def test_the_plan_is_followed_in_its_order(self, lab, call, status):
        lab.servers.providers["us-b"].always(Fault.status(status))
        lab.servers.providers["us-a"].always(Fault.status(status))
        await lab.ask(call, "us-a", "us-b", "eu-a", "eu-b")
        assert lab.order() == ["us-b", "us-a", "eu-b"]
        attempts = await lab.attempts(3)
        assert [each["endpoint"] for each in attempts] == ["us-b", "us-a", "eu-b"]
        assert len({each["decision_id"] for each in attempts}) == 1

    async def test_an_exhausted_plan_is_a_verdict_with_the_last_error(self, lab):
        for name in ("us-a", "us-b"):
            lab.servers.providers[name].always(Fault.status(500))
        denied = await lab.denied("chat", "us-a", "us-b")
        assert denied.verdict.reason is Reason.CHAIN_EXHAUSTED
        assert isinstance(denied.__cause__, litellm.InternalServerError)
        assert lab.order() == ["us-b", "us-a"]

    async def test_the_callers_own_fault_is_not_retried_and_keeps_its_class(self, lab):
        lab.servers.providers["us-b"].always(Fault.status(400))
        with pytest.raises(litellm.BadRequestError):
            await lab.ask("chat", "us-a", "us-b")
        assert lab.calls() == {"us-b": 1}

    async def test_a_denial_costs_one_look_and_cools_nothing(self, lab):
        denied = await lab.denied("chat", "claude-eu", num_retries=5)
        assert len(lab.records("decision")) == 1
        assert denied.decision_id == lab.records("decision")[0]["decision_id"]
        assert str(denied).startswith("not_authorized: ")
        await lab.ask("chat", "eu-a")
        assert lab.calls() == {"eu-a": 1}

    async def test_an_expired_permit_gets_no_further_attempt(self, lab):
        text = lab.text("eu-a")
        with lab.strategy.permit(lab.issuer.mint(["eu-a"])):
            lab.clock.advance(66)
            with pytest.raises(RequestDenied) as caught:
                await lab.send("chat", text)
        assert caught.value.verdict.reason is Reason.EXPIRED

    async def test_records_name_the_call(self, lab):
        await lab.ask("chat", "eu-a")
        (decision,) = lab.records("decision")
        assert (decision["method"], decision["path"]) == ("SDK", "Router.acompletion")
        (attempt,) = await lab.attempts(1)
        assert attempt["decision_id"] == decision["decision_id"]
        assert attempt["input_tokens"]

    async def test_a_cancelled_call_is_abandoned(self, lab):
        lab.servers.providers["eu-a"].always(Fault.hang(5))
        task = asyncio.create_task(lab.ask("chat", "eu-a"))
        await lab.arrival()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [each["status"] for each in lab.records("attempt")] == ["abandoned"]


class TestStreams:
    async def test_an_open_stream_finishes_after_the_context(self, lab):
        stream = await lab.ask("chat", "eu-a", stream=True)
        assert isinstance(stream, litellm.CustomStreamWrapper)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert text == "answer from eu-a"
        assert [each["status"] for each in await lab.attempts(1)] == ["success"]

    async def test_a_broken_stream_is_not_continued_elsewhere(self, lab):
        lab.servers.providers["us-b"].always(Fault.cut(2))
        text = lab.text("us-a", "us-b")
        with lab.strategy.permit(lab.issuer.mint(["us-a", "us-b"])):
            stream = await lab.send("chat", text, stream=True)
            with pytest.raises(Exception) as caught:  # noqa: PT011 - LiteLLM's, by version
                [chunk async for chunk in stream]
        assert not isinstance(caught.value, RequestDenied)
        assert lab.calls() == {"us-b": 1}

    async def test_a_stream_left_unread_is_abandoned(self, lab):
        stream = await lab.ask("chat", "eu-a", stream=True)
        await anext(stream)
        await stream.aclose()
        assert [each["status"] for each in lab.records("attempt")] == ["abandoned"]

    async def test_two_streams_of_one_task_end_apart(self, lab):
        first = await lab.ask("chat", "eu-a", stream=True)
        second = await lab.ask("chat", "us-a", stream=True)
        for stream in (first, second):
            async for _ in stream:
                pass
        attempts = await lab.attempts(2)
        assert {each["endpoint"]: each["status"] for each in attempts} == {
            "eu-a": "success",
            "us-a": "success",
        }
        assert len({each["request_id"] for each in attempts}) == 2

    @pytest.mark.parametrize("call", STREAMING)
    async def test_a_stream_that_never_opens_is_exhausted(self, lab, call):
        name = "claude-eu" if call == "messages" else "eu-a"
        lab.servers.providers[name].always(Fault.status(500))
        with pytest.raises(RequestDenied) as caught:
            # LiteLLM opens a text completion's stream only when it is read.
            [item async for item in await lab.ask(call, name, stream=True)]
        assert caught.value.verdict.reason is Reason.CHAIN_EXHAUSTED
        assert [each["status"] for each in lab.records("attempt")] == ["server_error"]


SYNCHRONOUS = {
    "completion": lambda router, model, text: router.completion(
        model=model, messages=[{"role": "user", "content": text}]
    ),
    "stream": lambda router, model, text: router.completion(
        model=model, messages=[{"role": "user", "content": text}], stream=True
    ),
    "fallbacks": lambda router, model, text: router.completion(
        model=model, messages=[{"role": "user", "content": text}], fallbacks=["claude"]
    ),
    "embedding": lambda router, model, text: router.embedding(model=model, input=[text]),
    "text-completion": lambda router, model, text: router.text_completion(model=model, prompt=text),
    "image": lambda router, model, text: router.image_generation(model=model, prompt=text),
    "responses": lambda router, model, text: router.responses(model=model, input=text),
    "generate-content": lambda router, model, text: router.generate_content(model=model, contents=text),
}


class TestSynchronousCalls:
    @pytest.mark.parametrize("model", ["gpt", "eu-a-1"])
    @pytest.mark.parametrize("way", SYNCHRONOUS)
    def test_each_is_refused_with_or_without_a_permit(self, empty_lab, way, model):
        lab = empty_lab.build(fallbacks=[{"gpt": ["claude"]}])
        text = lab.text()
        with pytest.raises(RequestDenied, match=r"refused|not open"):
            SYNCHRONOUS[way](lab.router, model, text)
        with lab.strategy.permit(lab.issuer.mint(["eu-a"])), pytest.raises(RequestDenied):
            SYNCHRONOUS[way](lab.router, model, text)
        assert lab.calls() == {}

    async def test_nor_do_they_pass_inside_a_loop(self, lab):
        with lab.strategy.permit(lab.issuer.mint(["eu-a"])), pytest.raises(RequestDenied, match="await"):
            SYNCHRONOUS["completion"](lab.router, "gpt", lab.text())

    def test_another_strategy_in_the_settings_does_not_open_them(self, empty_lab):
        lab = empty_lab.build()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            lab.router.update_settings(routing_strategy="least-busy")
        for way in ("completion", "text-completion", "embedding"):
            with pytest.raises(RequestDenied):
                SYNCHRONOUS[way](lab.router, "gpt", lab.text())
        assert lab.calls() == {}


CLOSED_WAYS = {
    "image": lambda router, text: router.aimage_generation(model="gpt", prompt=text),
    "rerank": lambda router, text: router.arerank(model="gpt", query=text, documents=[text]),
    "speech": lambda router, text: router.aspeech(model="gpt", input=text, voice="alloy"),
    "moderation": lambda router, text: router.amoderation(model="gpt", input=text),
    "generate-content": lambda router, text: router.agenerate_content(model="gpt", contents=text),
    "passthrough": lambda router, text: router.allm_passthrough_route(
        model="gpt", method="POST", endpoint="chat"
    ),
    "responses-by-id": lambda router, text: router.aget_responses(response_id="resp_1"),
    "assistants": lambda router, text: router.arun_thread(thread_id="t", assistant_id="a"),
    "file": lambda router, text: router.acreate_file(model="gpt", file=b"x", purpose="batch"),
    "batch": lambda router, text: router.acreate_batch(
        model="gpt", completion_window="24h", endpoint="/v1/chat/completions", input_file_id="f"
    ),
    "realtime": lambda router, text: router._arealtime(model="gpt", websocket=None),
    "selection": lambda router, text: router.async_get_available_deployment_for_pass_through(
        model="gpt", request_kwargs={}
    ),
}


@pytest.mark.parametrize("way", CLOSED_WAYS)
async def test_other_ways_to_a_provider_are_refused(lab, way):
    text = lab.text()
    with lab.strategy.permit(lab.issuer.mint(["eu-a"])), pytest.raises(RequestDenied) as caught:
        await CLOSED_WAYS[way](lab.router, text)
    assert caught.value.verdict.reason is Reason.PATH_NOT_PERMITTED
    assert lab.calls() == {}


class TestContexts:
    async def test_two_tasks_keep_their_permits_apart(self, lab):
        async def one(name):
            return await lab.ask("chat", name)

        names = ["eu-a", "us-a", "eu-b", "us-b"] * 3
        answers = await asyncio.gather(*(one(name) for name in names))
        assert [answer.choices[0].message.content for answer in answers] == [
            f"answer from {n}" for n in names
        ]

    async def test_the_inner_permit_holds_inside_and_the_outer_one_after(self, lab):
        outer, inner = lab.text("eu-a"), lab.text("us-a")
        with lab.strategy.permit(lab.issuer.mint(["eu-a"])):
            with lab.strategy.permit(lab.issuer.mint(["us-a"])):
                await lab.send("chat", inner)
            await lab.send("chat", outer)
        assert lab.order() == ["us-a", "eu-a"]

    async def test_a_task_that_outlives_its_context_may_begin_nothing(self, lab):
        gate = asyncio.Event()

        async def later():
            await gate.wait()
            return await lab.send("chat", lab.text())

        with lab.strategy.permit(lab.issuer.mint(["eu-a"])):
            task = asyncio.create_task(later())
            await asyncio.sleep(0)
        gate.set()
        with pytest.raises(RequestDenied) as caught:
            await task
        assert caught.value.verdict.reason is Reason.NO_CONTEXT

    async def test_a_call_under_way_begins_no_other_attempt_after_the_exit(self, lab):
        lab.servers.providers["us-b"].latency_s = 0.3
        lab.servers.providers["us-b"].always(Fault.status(500))
        text = lab.text("us-b", "us-a")
        with lab.strategy.permit(lab.issuer.mint(["us-b", "us-a"])):
            task = asyncio.create_task(lab.send("chat", text))
            await lab.arrival()
        with pytest.raises(RequestDenied):
            await task
        lab.servers.providers["us-b"].latency_s = 0.0
        assert lab.calls() == {"us-b": 1}

    async def test_a_context_is_entered_once(self, lab):
        context = lab.strategy.permit(lab.issuer.mint(["eu-a"]))
        with context:
            pass
        with pytest.raises(RuntimeError, match="entered once"), context:
            pass

    async def test_a_router_of_its_own_is_not_touched(self, lab):
        other = lab.build_router()
        text = lab.text(*OPENAI)
        with lab.strategy.permit(lab.issuer.mint(["eu-a"])):
            await other.acompletion(model="gpt", messages=[{"role": "user", "content": text}])
        await other.acompletion(model="gpt", messages=[{"role": "user", "content": text}])
        assert sum(lab.calls().values()) == 2

    async def test_two_strategies_each_hold_their_own_router(self, lab):
        second = Lab(lab.servers, lab.issuer, lab.clock, lab.folder, lab.ledger).build()
        first_text, second_text = lab.text("eu-a"), lab.text("us-a")
        with (
            lab.strategy.permit(lab.issuer.mint(["eu-a"])),
            second.strategy.permit(lab.issuer.mint(["us-a"])),
        ):
            await lab.send("chat", first_text)
            await second.send("chat", second_text)
        with lab.strategy.permit(lab.issuer.mint(["eu-a"])), pytest.raises(RequestDenied):
            await second.send("chat", first_text)
        assert lab.order() == ["eu-a", "us-a"]
        await second.strategy.close()

    async def test_the_callback_comes_back_when_an_application_overwrites_the_list(self, lab):
        litellm.callbacks = []
        await lab.ask("chat", "eu-a")
        assert lab.calls() == {"eu-a": 1}


class TestPermits:
    async def test_a_bad_token_is_rejected_and_recorded(self, lab):
        with pytest.raises(PermitRejected) as caught:
            lab.strategy.permit("not a token")
        assert caught.value.reason is Reason.PERMIT_MALFORMED
        (record,) = lab.records("decision")
        assert (record["reason"], record["path"]) == ("permit_malformed", "PermitRoutingStrategy.permit")

    async def test_a_verified_permit_is_taken(self, lab):
        context = lab.strategy.permit(lab.issuer.mint(["eu-a"]))
        text = lab.text("eu-a")
        with lab.strategy.permit(context.permit):
            await lab.send("chat", text)
        assert lab.calls() == {"eu-a": 1}

    @pytest.mark.parametrize("body", [None, b"", b"another"])
    def test_a_bound_permit_is_for_its_body_alone(self, empty_lab, body):
        lab = empty_lab.build(permit={"binding": "body"})
        token = lab.issuer.mint(["eu-a"], body=b"the body")
        lab.strategy.permit(token, body=b"the body")
        with pytest.raises(PermitRejected) as caught:
            lab.strategy.permit(token, body=body)
        assert caught.value.reason is Reason.BINDING_MISMATCH

    def test_a_permit_without_a_hash_is_refused_where_binding_is_asked(self, empty_lab):
        lab = empty_lab.build(permit={"binding": "body"})
        with pytest.raises(PermitRejected):
            lab.strategy.permit(lab.issuer.mint(["eu-a"]), body=b"x")

    def test_a_permit_for_a_litellm_key_is_refused(self, empty_lab):
        lab = empty_lab.build()
        digest = hashlib.sha256(b"sk-1").hexdigest()
        with pytest.raises(PermitRejected) as caught:
            lab.strategy.permit(lab.issuer.mint(["eu-a"], api_key_hash=digest))
        assert caught.value.reason is Reason.CLAIM_MISMATCH

    def test_a_request_id_is_compared_where_the_policy_asks(self, empty_lab):
        lab = empty_lab.build(permit={"request_id_header": "x-request-id"})
        token = lab.issuer.mint(["eu-a"], request_id="r-1")
        lab.strategy.permit(token, request_id="r-1")
        with pytest.raises(PermitRejected):
            lab.strategy.permit(token)


class TestSingleUse:
    @pytest.fixture
    async def lab(self, empty_lab):
        yield empty_lab.build(permit={"binding": "single_use"})
        await empty_lab.strategy.close()

    async def test_one_call_is_served_and_no_other(self, lab):
        token, text = lab.issuer.mint(["eu-a"]), lab.text("eu-a")
        async with lab.strategy.permit(token):
            await lab.send("chat", text)
            with pytest.raises(RequestDenied) as caught:
                await lab.send("chat", text)
        assert caught.value.verdict.reason is Reason.REPLAYED
        with pytest.raises(PermitRejected):
            async with lab.strategy.permit(token):
                pass
        assert lab.calls() == {"eu-a": 1}

    async def test_a_use_that_nobody_could_check_is_on_record(self, empty_lab, monkeypatch):
        monkeypatch.setenv("PERMIT_ROUTER_REDIS_URL", "redis://127.0.0.1:9")
        lab = empty_lab.build(permit={"binding": "single_use", "single_use_when_unavailable": "admit"})
        async with lab.strategy.permit(lab.issuer.mint(["eu-a"])):
            await lab.send("chat", lab.text("eu-a"))
        assert lab.calls() == {"eu-a": 1}
        (record,) = lab.records("decision")
        assert record["notes"][0].startswith("single use not checked")
        assert lab.strategy._runtime.health()["unchecked_uses"] == 1
        await lab.strategy.close()

    async def test_a_use_without_a_call_or_an_answer_is_given_back(self, lab):
        token, text = lab.issuer.mint(["eu-a"]), lab.text("eu-a")
        async with lab.strategy.permit(token):
            pass
        await asyncio.sleep(0)
        lab.servers.providers["eu-a"].fail(Fault.status(500))
        async with lab.strategy.permit(token):
            with pytest.raises(RequestDenied):
                await lab.send("chat", text)
        await asyncio.sleep(0)
        async with lab.strategy.permit(token):
            await lab.send("chat", text)

    async def test_it_needs_async_with(self, lab):
        with (
            pytest.raises(ConfigurationError, match="async with"),
            lab.strategy.permit(lab.issuer.mint(["a"])),
        ):
            pass


class TestConstruction:
    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            pytest.param({"disable_cooldowns": False}, "disable_cooldowns", id="cooldowns"),
            pytest.param({"enable_pre_call_checks": True}, "enable_pre_call_checks", id="pre-call-checks"),
            pytest.param({"routing_strategy": "usage-based-routing"}, "usage-based-routing", id="strategy"),
        ],
    )
    def test_a_setting_that_leads_past_the_permit_is_refused(self, empty_lab, settings, said):
        with pytest.raises(ConfigurationError, match=said):
            empty_lab.build(**settings)

    def test_a_deployment_without_an_id_is_refused(self, empty_lab):
        entry = empty_lab.deployment("eu-a")
        del entry["model_info"]["id"]
        with pytest.raises(ConfigurationError, match="has no model_info"):
            empty_lab.build(model_list=[entry])

    def test_a_router_takes_one_strategy(self, empty_lab):
        lab = empty_lab.build()
        with pytest.raises(ConfigurationError, match="already"):
            PermitRoutingStrategy(lab.router, lab.policy())

    def test_teams_need_the_proxy(self, empty_lab):
        with pytest.raises(ConfigurationError, match="tenant_is_team"):
            empty_lab.build(permit={"tenant_is_team": True})

    async def test_a_file_or_a_snapshot_is_a_policy_too(self, empty_lab):
        block = empty_lab.policy()
        (empty_lab.folder / "policy.yaml").write_text(json.dumps(block))
        for policy in (
            empty_lab.folder / "policy.yaml",
            "policy.yaml",
            load_policy(block, Flags(), base=empty_lab.folder),
        ):
            empty_lab.router = empty_lab.build_router()
            empty_lab.strategy = PermitRoutingStrategy(empty_lab.router, policy, clock=empty_lab.clock)
            await empty_lab.ask("chat", "eu-a")
            await empty_lab.strategy.close()
        assert empty_lab.calls() == {"eu-a": 3}

    async def test_keys_at_a_url_are_loaded_by_start(self, empty_lab):
        thread = ServerThread()
        url = thread.add(empty_lab.issuer.app) + "/.well-known/jwks.json"
        issuers = [{"issuer": empty_lab.issuer.issuer, "jwks_url": url, "algorithms": ["ES256"]}]
        lab = empty_lab.build(permit={"issuers": issuers})
        with pytest.raises(KeysUnavailable):
            lab.strategy.permit(lab.issuer.mint(["eu-a"]))
        with thread:
            async with lab.strategy:
                await lab.ask("chat", "eu-a")

    async def test_a_closed_strategy_lets_nothing_pass(self, empty_lab):
        lab = empty_lab.build()
        text = lab.text()
        with lab.strategy.permit(lab.issuer.mint(["eu-a"])):
            await lab.strategy.close()
            with pytest.raises(RequestDenied) as caught:
                await lab.send("chat", text)
        assert caught.value.verdict.reason is Reason.NOT_READY
        with pytest.raises(RequestDenied):
            lab.strategy.permit(lab.issuer.mint(["eu-a"]))


async def test_the_guides_example_runs(empty_lab):
    lab = empty_lab
    page = (Path(__file__).parents[2] / "docs/sdk.md").read_text()
    (policy,) = re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (example,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    for region in ("eu", "us"):
        address = f"https://{region}.example.com"
        assert address in example
        example = example.replace(address, lab.servers.urls[f"{region}-a"])
    issuer = PermitIssuer(issuer="https://policy.example.com", algorithm="ES256")
    issuer.write_jwks("jwks.json")
    (lab.folder / "policy.yaml").write_text(policy)
    scope = {}
    exec(example, scope)  # noqa: S102 - the page's own example
    messages = [{"role": "user", "content": lab.text("us-a")}]
    body = json.dumps({"model": "chat", "messages": messages}).encode()

    assert await scope["ask"](issuer.mint(["openai-us"], body=body), body) == "answer from us-a"
    assert await scope["ask"](issuer.mint(["elsewhere"], body=body), body) == "denied: not_authorized"
    assert await scope["ask"](issuer.mint(["openai-us"], body=b"x"), body) == "rejected: binding_mismatch"
    assert lab.calls() == {"us-a": 1}
    assert lab.out_of_set() == ()
    await scope["strategy"].close()


class TestCache:
    @pytest.fixture
    async def lab(self, empty_lab, monkeypatch):
        monkeypatch.setattr(litellm, "cache", None)
        yield empty_lab.build(cache_responses=True)
        await empty_lab.strategy.close()

    @pytest.mark.parametrize(
        ("permit", "sent"),
        [
            pytest.param({}, 1, id="same-scope"),
            pytest.param({"tenant": "globex"}, 2, id="other-tenant"),
            pytest.param({"data_classification": "public"}, 2, id="other-classification"),
        ],
    )
    async def test_an_answer_stays_in_its_scope(self, lab, permit, sent):
        text = lab.text("eu-a")
        for overrides in ({}, permit):
            with lab.strategy.permit(lab.issuer.mint(["eu-a"], **overrides)):
                await lab.send("chat", text)
            await asyncio.sleep(0.05)
        assert lab.calls() == {"eu-a": sent}


def test_a_stream_nobody_holds_is_abandoned(empty_lab):
    lab = empty_lab.build()

    async def leave():
        async with no_client_left():
            stream = await lab.ask("chat", "eu-a", stream=True)
            await anext(stream)
            del stream
            gc.collect()
            await lab.strategy.close()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        asyncio.run(leave())
        gc.collect()
    assert [each["status"] for each in lab.records("attempt")] == ["abandoned"]
