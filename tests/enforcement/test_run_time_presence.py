"""Presence at run time: what code in the proxy's own process takes away from the plugin, and what happens then."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest
from fleet import CALLS, PATHS, POLICY, Fleet

pytestmark = pytest.mark.proxy

SABOTEUR = """
import copy, pathlib, threading, time
import litellm
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy import proxy_server

class Saboteur(CustomLogger):
    pass

saboteur = Saboteur()
app = proxy_server.app
kept = {}

class OwnStrategy:
    def get_available_deployment(self, *arguments, **options):
        return kept["router"].model_list[0]

    async def async_get_available_deployment(self, *arguments, **options):
        return kept["router"].model_list[0]

def take_callback():
    kept["callbacks"] = list(litellm.callbacks)
    litellm.callbacks.remove(__import__("litellm_plugin").permit_router)

def reset_callbacks():
    kept["callbacks"] = list(litellm.callbacks)
    litellm.callbacks = []

def give_callbacks():
    litellm.callbacks = kept["callbacks"]

def rebuild_stack():
    kept["stack"] = app.middleware_stack
    app.middleware_stack = app.build_middleware_stack()

def give_stack():
    app.middleware_stack = kept["stack"]

def take_both_layers():
    rebuild_stack()
    kept["backstop"] = app.router.middleware_stack
    app.router.middleware_stack = app.router.app

def give_both_layers():
    app.router.middleware_stack = kept["backstop"]
    give_stack()

def change_strategy():
    proxy_server.llm_router.update_settings(routing_strategy="usage-based-routing")

def give_strategy():
    proxy_server.llm_router.update_settings(routing_strategy="simple-shuffle")

def own_strategy():
    kept["router"] = proxy_server.llm_router
    proxy_server.llm_router.set_custom_routing_strategy(OwnStrategy())

def no_own_strategy():
    proxy_server.llm_router._reset_custom_routing_strategy()

def new_router():
    kept["router"] = proxy_server.llm_router
    proxy_server.llm_router = litellm.Router(model_list=copy.deepcopy(kept["router"].model_list))

def give_router():
    proxy_server.llm_router = kept["router"]

def watch():
    done = None
    while True:
        time.sleep(0.05)
        order = pathlib.Path("sabotage.txt")
        text = order.read_text() if order.exists() else ""
        if text != done and text.endswith(";"):
            done = text
            try:
                globals()[text.split()[0]]()
                pathlib.Path("done.txt").write_text(text)
            except Exception as error:
                pathlib.Path("done.txt").write_text(f"{text} {error!r}")

threading.Thread(target=watch, daemon=True).start()
"""

_orders = itertools.count()


class SabotagedFleet(Fleet):
    """A fleet whose proxy loads code that breaks it on demand."""

    def config(self):
        Path(self.folder.name, "saboteur.py").write_text(SABOTEUR)
        config = super().config()
        settings = config["litellm_settings"]
        settings["callbacks"].append("saboteur.saboteur")
        settings["permit_router"]["egress"] = {
            **POLICY["egress"],
            "saboteur.saboteur": ["public", "internal", "phi"],
        }
        return config

    def order(self, name):
        text = f"{name} {next(_orders)};"
        Path(self.folder.name, "sabotage.txt").write_text(text)
        done = Path(self.folder.name, "done.txt")
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            told = done.read_text() if done.exists() else ""
            if told.startswith(text):
                assert told == text
                return
            time.sleep(0.05)
        raise AssertionError(f"{name} was not carried out")

    def health(self, path="/permit-router/v1/health"):
        answer = self.client.get(path)
        return answer.status_code, answer.json()


@pytest.fixture(scope="module")
def sabotaged():
    with SabotagedFleet() as fleet:
        yield fleet.ready()


@pytest.fixture
def whole(sabotaged):
    sabotaged.clear()
    assert sabotaged.health()[0] == 200
    yield sabotaged
    assert sabotaged.out_of_set() == []


BROKEN = [
    pytest.param("take_callback", "give_callbacks", "litellm.callbacks does not hold", id="callback-removed"),
    pytest.param(
        "reset_callbacks", "give_callbacks", "litellm.callbacks does not hold", id="callbacks-reset"
    ),
    pytest.param("rebuild_stack", "give_stack", "admission is not in the app's middleware stack", id="stack"),
    pytest.param("change_strategy", "give_strategy", "routing_strategy 'usage-based-routing'", id="strategy"),
    pytest.param(
        "own_strategy", "no_own_strategy", "async_get_available_deployment was replaced", id="own-strategy"
    ),
    pytest.param("new_router", "give_router", "disable_cooldowns is not true", id="new-router"),
]


@pytest.mark.parametrize(("sabotage", "repair", "said"), BROKEN)
def test_a_part_that_is_taken_away_turns_health_red_and_refuses_requests(whole, sabotage, repair, said):
    whole.order(sabotage)
    try:
        for path in ("/permit-router/v1/health", "/health/readiness"):
            status, body = whole.health(path)
            assert (status, body["status"]) == (503, "red")
            assert said in "\n".join(fault["message"] for fault in body["faults"])
        for call in CALLS:
            answer = whole.send(call, ["eu-a", "claude-eu"])
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready"), answer.text
            assert "retry-after" in answer.headers
        assert whole.calls() == {}
    finally:
        whole.order(repair)
    assert whole.health()[0] == 200
    assert whole.health("/health/readiness")[0] == 200
    assert whole.send("chat", ["eu-a"]).status_code == 200
    assert said in whole.proxy.log_text()


@pytest.mark.parametrize("path", ["/openai/v1/chat/completions", "/vllm/chat/completions", "/key/generate"])
def test_without_admission_no_path_is_open(whole, path):
    whole.order("rebuild_stack")
    try:
        answer = whole.send("chat", ["eu-a"], path=path)
    finally:
        whole.order("give_stack")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
    assert whole.calls() == {}


@pytest.mark.parametrize("call", CALLS)
def test_with_both_layers_gone_the_hooks_refuse(whole, call):
    whole.order("take_both_layers")
    try:
        answer = whole.send(call, ["eu-a", "claude-eu"], path=PATHS[call])
    finally:
        whole.order("give_both_layers")
    assert answer.status_code == 403, answer.text
    assert "no_context" in answer.text
    assert whole.calls() == {}
