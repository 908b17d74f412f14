"""Other egress: what LiteLLM sends beside the endpoints, judged by what the places there received.

Every place is tried with a classification it is cleared for, where the marked prompt must arrive, with one it is
not cleared for, where it must not, and with the plugin switched off, where it must arrive again.
"""

from __future__ import annotations

import json

import pytest
from egress_fleet import EGRESS, EVERYTHING, EgressFleet
from fleet import CALLS, PATHS, STREAMING

from litellm_plugin.testing import Fault

pytestmark = pytest.mark.proxy

ALL = ("eu-a", "us-b", "claude-eu")
# These are cleared for `internal` too: a guardrail that is always on, a callback that acts, another logger.
CLEARED_FOR_INTERNAL = {"moderator", "acting", "logged"}


@pytest.fixture(scope="module")
def shared_egress():
    with EgressFleet() as fleet:
        yield fleet.ready()


@pytest.fixture
def egress(shared_egress):
    shared_egress.clear()
    yield shared_egress
    assert shared_egress.out_of_set() == []


@pytest.fixture(scope="module")
def inert_egress():
    with EgressFleet(env={"PERMIT_ROUTER_ENABLED": "false"}) as fleet:
        yield fleet.ready()


def sent(fleet, call, classification, endpoints=ALL, **extra):
    """Sends a marked request and gives its marker and the answer."""
    mark, body = fleet.body(call, **extra)
    fleet.ledger.allow(mark, endpoints)
    raw = json.dumps(body).encode()
    token = fleet.issuer.mint(list(endpoints), body=raw, data_classification=classification)
    return mark, fleet.post(PATHS[call], raw, {"x-llm-permit": token})


def refused(answer):
    return answer.status_code, answer.json()["error"]["code"]


def decision(fleet, answer):
    wanted = answer.headers["x-permit-decision-id"]
    return next(each for each in fleet.records() if each["decision_id"] == wanted)


@pytest.mark.parametrize("call", CALLS)
def test_what_is_cleared_reaches_every_log_sink(egress, call):
    mark, answer = sent(egress, call, "public")

    assert answer.status_code == 200, answer.text
    expected = {"log_host", "told", *CLEARED_FOR_INTERNAL}
    assert set(egress.arrivals(mark, expected)) == expected
    assert decision(egress, answer)["egress_held"] == []


@pytest.mark.parametrize(
    ("call", "stream"),
    [*((call, False) for call in CALLS), *((call, True) for call in STREAMING)],
)
def test_a_sink_that_is_not_cleared_is_not_called(egress, call, stream):
    mark, answer = sent(egress, call, "internal", **({"stream": True} if stream else {}))

    assert answer.status_code == 200, answer.text
    assert set(egress.arrivals(mark, CLEARED_FOR_INTERNAL)) == CLEARED_FOR_INTERNAL
    held = decision(egress, answer)["egress_held"]
    assert held == sorted(name for name, cleared in EGRESS.items() if "internal" not in cleared)


@pytest.mark.parametrize("call", ["chat", "messages", "responses"])
def test_a_failed_call_is_not_told_either(egress, call):
    for provider in egress.providers.values():
        provider.always(Fault.status(500))

    mark, answer = sent(egress, call, "internal")

    assert answer.status_code == 503
    assert set(egress.arrivals(mark)) <= CLEARED_FOR_INTERNAL


def test_a_failed_call_is_told_to_what_is_cleared(egress):
    for provider in egress.providers.values():
        provider.always(Fault.status(500))

    mark, _ = sent(egress, "chat", "public")

    told = {"log_host", "told"}
    assert told <= set(egress.arrivals(mark, told))


@pytest.mark.parametrize(
    ("classification", "place"),
    [
        pytest.param("phi", "moderator", id="a-guardrail-that-is-always-on"),
        pytest.param("secret", "own_code.acting", id="a-callback-that-acts"),
    ],
)
@pytest.mark.parametrize("call", ["chat", "embeddings", "messages"])
def test_what_has_no_switch_ends_the_request(egress, call, classification, place):
    mark, answer = sent(egress, call, classification)

    assert refused(answer) == (403, "egress_not_cleared")
    assert repr(place) in answer.json()["error"]["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert egress.calls() == {}
    assert egress.arrivals(mark) == {}


@pytest.mark.parametrize("field", ["success_callback", "callbacks", "input_callback"])
def test_a_callback_that_only_the_caller_names_is_not_called(egress, field):
    mark, answer = sent(egress, "chat", "public", **{field: ["langsmith"]})

    assert answer.status_code == 200, answer.text
    assert "unlisted" not in egress.arrivals(mark, {"log_host"})


class TestAskedGuardrails:
    def test_a_judge_that_is_cleared_asks_its_model_inside_the_permit(self, egress):
        mark, answer = sent(egress, "chat", "public", model="with-judge")

        assert answer.status_code == 200, answer.text
        assert any(
            mark.encode() in each.body and b"judge" in each.body
            for each in egress.providers["claude-eu"].requests
        )

    def test_a_judge_whose_model_the_permit_does_not_name_asks_nobody(self, egress):
        _, answer = sent(egress, "chat", "public", ["eu-a"], model="with-judge")

        assert answer.status_code in {403, 503}
        assert egress.calls() == {}

    def test_a_judge_that_is_not_cleared_ends_the_request(self, egress):
        mark, answer = sent(egress, "chat", "internal", model="with-judge")

        assert refused(answer) == (403, "egress_not_cleared")
        assert egress.calls() == {}
        assert egress.arrivals(mark) == {}

    def test_a_caller_cannot_ask_for_one(self, egress):
        _, answer = sent(egress, "chat", "public", guardrails=["judge"], metadata={"guardrails": ["judge"]})

        assert answer.status_code == 200, answer.text
        assert egress.providers["claude-eu"].requests == []

    def test_nobody_runs_it_by_default(self, egress):
        sent(egress, "chat", "public")
        assert egress.providers["claude-eu"].requests == []


class TestVectorStore:
    def test_it_is_searched_for_what_it_is_cleared_for(self, egress):
        mark, answer = sent(egress, "chat", "public", model="rag")

        assert answer.status_code == 200, answer.text
        assert egress.arrivals(mark)["handbook"] == 1

    def test_it_is_left_out_for_what_it_is_not_cleared_for(self, egress):
        mark, answer = sent(egress, "chat", "internal", model="rag")

        assert answer.status_code == 200, answer.text
        assert "handbook" not in egress.arrivals(mark)
        assert egress.calls() == {"eu-a": 1}


class TestSearchTool:
    def test_it_is_asked_for_what_it_is_cleared_for(self, egress):
        mark, answer = sent(egress, "chat", "public", model="with-searcher")

        assert answer.status_code == 200, answer.text
        assert egress.arrivals(mark)["web"] == 1

    def test_a_search_that_is_not_cleared_ends_the_request(self, egress):
        mark, answer = sent(egress, "chat", "internal", model="with-searcher")

        assert refused(answer) == (403, "egress_not_cleared")
        assert egress.calls() == {}
        assert "web" not in egress.arrivals(mark)


class TestSemanticCache:
    def embedded(self, fleet, mark):
        return [
            name
            for name, provider in fleet.providers.items()
            for each in provider.requests
            if each.path.endswith("/embeddings") and mark.encode() in each.body
        ]

    def test_what_is_cleared_is_embedded_at_an_authorized_endpoint(self, egress):
        mark, answer = sent(egress, "chat", "public")

        assert answer.status_code == 200, answer.text
        assert set(self.embedded(egress, mark)) == {"us-b"}

    def test_nothing_is_embedded_outside_the_permit(self, egress):
        mark, answer = sent(egress, "chat", "public", ["eu-a"])

        assert answer.status_code == 200, answer.text
        assert self.embedded(egress, mark) == []

    def test_what_is_not_cleared_passes_the_cache_by(self, egress):
        mark, answer = sent(egress, "chat", "internal")

        assert answer.status_code == 200, answer.text
        assert self.embedded(egress, mark) == []
        assert "cache" not in egress.arrivals(mark)


@pytest.mark.parametrize(
    ("classification", "extra", "places"),
    [
        pytest.param("internal", {}, {"log_host", "told", "cache"}, id="log-sinks-and-cache"),
        pytest.param("phi", {}, {"moderator"}, id="default-guardrail"),
        pytest.param("secret", {}, {"acting"}, id="acting-callback"),
        pytest.param("internal", {"success_callback": ["langsmith"]}, {"unlisted"}, id="callers-callback"),
        pytest.param("internal", {"model": "rag"}, {"handbook"}, id="vector-store"),
        pytest.param("internal", {"guardrails": ["searcher"]}, {"web"}, id="search-tool"),
    ],
)
def test_control_without_the_plugin_each_place_receives_it(inert_egress, classification, extra, places):
    mark, answer = sent(inert_egress, "chat", classification, **extra)

    assert answer.status_code == 200, answer.text
    assert places <= set(inert_egress.arrivals(mark, places))


def test_control_without_the_plugin_the_judge_asks_past_the_permit(inert_egress):
    inert_egress.clear()

    mark, _ = sent(inert_egress, "chat", "internal", ["eu-a"], model="with-judge")

    claude = (*inert_egress.providers["claude-eu"].requests, *inert_egress.providers["claude-us"].requests)
    assert any(mark.encode() in each.body for each in claude)


def test_a_configured_place_that_is_not_listed_stops_the_start():
    listed = {name: EVERYTHING for name in EGRESS if name != "generic_api"}
    with EgressFleet(policy={"egress": listed}) as fleet:
        assert fleet.proxy.wait_exit() != 0
        log = fleet.proxy.log_text()
    assert "litellm_settings.callbacks: the callback 'generic_api' may receive what callers write" in log
    assert "write litellm_settings.permit_router.egress: {generic_api: [...]}" in log
