"""LiteLLM's response cache on a server that all workers share: an answer stays with the permit's scope, streamed too."""

from __future__ import annotations

import json

import pytest
from fleet import PATHS, Fleet

pytestmark = pytest.mark.proxy


def cached_by(valkey):
    params = {"type": "redis", "host": "127.0.0.1", "port": valkey.port}
    return {"litellm_settings": {"cache": True, "cache_params": params}}


@pytest.fixture(scope="module")
def shared(valkey):
    with Fleet(settings=cached_by(valkey)) as fleet:
        yield fleet.ready()


@pytest.fixture
def fleet(shared):
    shared.clear()
    yield shared
    assert shared.out_of_set() == []


def prompt_of(fleet):
    mark, _ = fleet.body("chat")
    fleet.ledger.allow(mark, ["eu-a", "us-a"])
    return f"cached question {mark}"


def ask(fleet, endpoint, prompt, *, stream, **permit):
    """Asks one question, and gives which endpoint's answer came."""
    body = {"model": "gpt", "messages": [{"role": "user", "content": prompt}], "stream": stream}
    raw = json.dumps(body).encode()
    token = fleet.issuer.mint([endpoint], body=raw, **permit)
    answer = fleet.post(PATHS["chat"], raw, {"x-llm-permit": token})
    assert answer.status_code == 200, answer.text
    return said(answer.text) if stream else answer.json()["choices"][0]["message"]["content"]


def said(events):
    lines = [line.removeprefix("data: ") for line in events.splitlines() if line.startswith("data: {")]
    deltas = (choice["delta"] for line in lines for choice in json.loads(line)["choices"])
    return "".join(delta.get("content") or "" for delta in deltas)


streaming = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@streaming
def test_a_repeat_under_the_same_scope_hits(fleet, stream):
    prompt = prompt_of(fleet)

    def hits():
        before = fleet.calls()
        assert ask(fleet, "eu-a", prompt, stream=stream) == "answer from eu-a"
        return fleet.calls() == before

    assert not hits()
    fleet.wait_for(hits)  # LiteLLM writes to the server after the answer.
    assert hits()


@streaming
@pytest.mark.parametrize(
    ("endpoint", "permit"),
    [
        pytest.param("us-a", {}, id="other-endpoint"),
        pytest.param("eu-a", {"tenant": "globex"}, id="other-tenant"),
        pytest.param("eu-a", {"data_classification": "phi"}, id="other-classification"),
    ],
)
def test_another_scope_gets_its_own_answer(fleet, stream, endpoint, permit):
    prompt = prompt_of(fleet)
    ask(fleet, "eu-a", prompt, stream=stream)
    ask(fleet, "eu-a", prompt, stream=stream)
    before = sum(fleet.calls().values())

    assert ask(fleet, endpoint, prompt, stream=stream, **permit) == f"answer from {endpoint}"
    assert sum(fleet.calls().values()) == before + 1


def test_without_the_plugin_another_tenant_gets_the_cached_answer(valkey):
    with Fleet(settings=cached_by(valkey), env={"PERMIT_ROUTER_ENABLED": "false"}) as inert:
        inert.ready()
        prompt = prompt_of(inert)
        for tenant in ("acme", "acme", "globex", "globex"):
            ask(inert, "eu-a", prompt, stream=False, tenant=tenant)
        assert sum(inert.calls().values()) < 4
