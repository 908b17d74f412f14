"""Side doors: ways past a narrowed list, each tried for real and judged by what the providers received.

Each row is tried twice. With the plugin, nothing may arrive outside the permit's set, and the row says what
the caller sees. Without it, the same request must arrive outside the set, or the row says that LiteLLM
shuts that door itself: a battery that passes because everything is refused would prove nothing.
"""

from __future__ import annotations

import json

import pytest
from doors import DOORS, INSIDE, differences, through
from fleet import CALLS, PATHS

from litellm_plugin.testing import Fault

pytestmark = pytest.mark.proxy


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_nothing_leaves_the_set(fleet, evil, door, battery):
    answer = through(fleet, door, evil)
    battery.tried(door.name, answer, arrivals=fleet.arrivals(evil), expected=door.arrivals)

    assert differences(fleet, door, evil, answer) == []


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_without_the_plugin_the_door_is_open(inert_fleet, evil, door, battery):
    for _ in range(20):
        through(inert_fleet, door, evil)
        if inert_fleet.out_of_set(evil):
            assert door.is_open_without_us, "LiteLLM was believed to shut this door itself"
            return
    battery.shut_by_litellm(door.name)
    assert not door.is_open_without_us, "20 requests and none left the set although nothing is enforced"


class TestRedirects:
    """A provider that answers 307 asks the client to send the prompt on; nobody does."""

    def fault(self, fleet, target):
        return Fault.redirect(fleet.urls[target])

    @pytest.mark.parametrize("call", CALLS)
    def test_a_prompt_is_not_sent_on(self, fleet, call, battery):
        source, target = ("claude-eu", "claude-us") if call == "messages" else ("eu-a", "us-a")
        fleet.providers[source].always(self.fault(fleet, target))

        answer = fleet.send(call, [source])
        battery.tried(f"redirect: {call}", answer, arrivals=fleet.arrivals(), expected=1)

        assert answer.status_code >= 400
        assert fleet.calls() == {source: 1}

    def test_a_client_of_another_library_sends_nothing_on(self, fleet):
        fleet.providers["eu-a"].always(self.fault(fleet, "us-a"))

        answer = fleet.send("chat", ["eu-a"], model="aio")

        assert answer.status_code >= 400
        assert fleet.calls() == {"eu-a": 1}

    def test_without_the_plugin_that_client_sends_the_prompt_on(self, inert_fleet):
        inert_fleet.providers["eu-a"].always(self.fault(inert_fleet, "us-b"))
        for _ in range(10):
            inert_fleet.send("chat", ["eu-a"], model="aio")
        assert "us-b" in inert_fleet.calls()

    def test_the_next_endpoint_of_the_plan_is_tried(self, fleet):
        fleet.providers["us-b"].always(self.fault(fleet, "us-a"))

        answer = fleet.send("embeddings", ["us-b", "eu-a"])

        assert fleet.out_of_set() == []
        assert fleet.calls().get("us-a") is None
        assert answer.status_code in {200, 503}

    def test_without_the_plugin_the_prompt_is_sent_on(self, inert_fleet):
        for name in ("eu-b", "us-a", "us-b"):
            inert_fleet.providers[name].always(self.fault(inert_fleet, "eu-a"))
        for _ in range(10):
            inert_fleet.send("chat", ["eu-b", "us-a", "us-b"])
        assert "eu-a" in inert_fleet.calls()
        assert "answer from" in inert_fleet.send("chat", ["eu-a"]).text


class TestRepeats:
    """A provider that fails is asked once for each attempt on record: no client repeats by itself."""

    @pytest.mark.parametrize(
        ("call", "path"),
        [
            pytest.param("chat", PATHS["chat"], id="chat"),
            pytest.param("embeddings", PATHS["embeddings"], id="embeddings"),
            pytest.param("image", "/v1/images/generations", id="image"),
            pytest.param("speech", "/v1/audio/speech", id="speech"),
            pytest.param("moderation", "/v1/moderations", id="moderation"),
        ],
    )
    def test_each_arrival_is_an_attempt_on_record(self, fleet, call, path):
        fleet.providers["eu-a"].always(Fault.status(500))

        answer = fleet.send(call, ["eu-a"], path=path)

        attempts = [each for each in fleet.records_of(answer) if each["type"] == "attempt"]
        assert (answer.status_code, len(attempts)) == (503, 1)
        assert fleet.calls() == {"eu-a": 1}

    def test_without_the_plugin_the_client_repeats(self, inert_fleet):
        """Images are repeated too, but by LiteLLM 1.109.1 no longer."""
        for provider in inert_fleet.providers.values():
            provider.always(Fault.status(500))

        inert_fleet.send("moderation", ["eu-a"], path="/v1/moderations")

        assert max(inert_fleet.calls().values()) > 1


def test_a_deployment_id_inside_the_set_is_served(fleet):
    answer = fleet.send("chat", [INSIDE], model="eu-a-1")

    assert answer.status_code == 200, answer.text
    assert fleet.calls() == {INSIDE: 1}
    assert answer.headers["x-permit-decision-id"]


OTHER_SCOPES = {
    "other-endpoint": ("us-a", {}),
    "other-tenant": ("eu-a", {"tenant": "globex"}),
    "other-classification": ("eu-a", {"data_classification": "phi"}),
}


class TestCache:
    """The response cache never answers one permit's request with another's answer."""

    def ask(self, fleet, endpoint, prompt, **permit):
        body = {"model": "gpt", "messages": [{"role": "user", "content": prompt}]}
        raw = json.dumps(body).encode()
        token = fleet.issuer.mint([endpoint], body=raw, **permit)
        answer = fleet.post(PATHS["chat"], raw, {"x-llm-permit": token})
        assert answer.status_code == 200, answer.text
        return answer

    @pytest.fixture
    def prompt(self, fleet):
        mark, _ = fleet.body("chat")
        fleet.ledger.allow(mark, ["eu-a", "us-a"])
        return f"cached question {mark}"

    def test_a_repeat_under_the_same_scope_hits(self, fleet, prompt):
        self.ask(fleet, "eu-a", prompt)
        self.ask(fleet, "eu-a", prompt)
        assert fleet.calls() == {"eu-a": 1}

    @pytest.mark.parametrize("scope", OTHER_SCOPES)
    def test_another_scope_gets_its_own_answer(self, fleet, prompt, scope, battery):
        endpoint, permit = OTHER_SCOPES[scope]
        self.ask(fleet, "eu-a", prompt)

        answer = self.ask(fleet, endpoint, prompt, **permit)
        battery.tried(f"cache: {scope}", answer, arrivals=fleet.arrivals(), expected=2)

        assert answer.json()["choices"][0]["message"]["content"] == f"answer from {endpoint}"
        assert sum(fleet.calls().values()) == 2

    def test_a_callers_namespace_and_key_change_nothing(self, fleet, prompt):
        self.ask(fleet, "eu-a", prompt)
        for trick in (
            {"cache": {"namespace": "x"}},
            {"cache_key": "x"},
            {"metadata": {"redis_namespace": "x"}},
        ):
            body = {"model": "gpt", "messages": [{"role": "user", "content": prompt}], **trick}
            raw = json.dumps(body).encode()
            token = fleet.issuer.mint(["us-a"], body=raw, tenant="globex")
            answer = fleet.post(PATHS["chat"], raw, {"x-llm-permit": token})
            assert "answer from us-a" in answer.text

    def test_without_the_plugin_another_tenant_gets_the_cached_answer(self, inert_fleet):
        mark, _ = inert_fleet.body("chat")
        for _ in range(2):
            self.ask(inert_fleet, "eu-a", f"cached question {mark}")
        assert sum(inert_fleet.calls().values()) == 1
