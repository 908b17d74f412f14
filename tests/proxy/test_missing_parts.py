"""What of the plugin can be taken out of its place, on LiteLLM's real router and a small app."""

from __future__ import annotations

import json
from types import SimpleNamespace

import aiohttp
import httpx
import litellm
import pytest
import requests
from fastapi import FastAPI
from litellm.proxy import proxy_server
from openai._models import FinalRequestOptions
from proxy_cases import drive, http_scope, websocket_scope

from litellm_plugin.proxy.context import Administrative
from litellm_plugin.proxy.health import HEALTH_PATH, READINESS_PATH
from litellm_plugin.proxy.hooks import PermitRouter
from litellm_plugin.proxy.plugin import install
from litellm_plugin.proxy.presence import Presence, router_faults

# LiteLLM's router warns of its own pydantic models.
pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::DeprecationWarning", "ignore::ResourceWarning"
)

MODELS = [
    {
        "model_name": "gpt",
        "litellm_params": {"model": "openai/x", "api_key": "k"},
        "model_info": {"id": "eu-1"},
    }
]


def new_router(**settings):
    return litellm.Router(model_list=MODELS, **{"disable_cooldowns": True, **settings})


class OwnStrategy:
    def get_available_deployment(self, *arguments, **options):
        return MODELS[0]

    async def async_get_available_deployment(self, *arguments, **options):
        return MODELS[0]


@pytest.fixture
def app(worker):
    app = FastAPI()

    @app.post("/v1/chat/completions")
    def chat():
        return "reached"

    app.middleware_stack = app.build_middleware_stack()
    install(app, worker.runtime)
    return app


@pytest.fixture
def hooks(worker, monkeypatch):
    hooks = PermitRouter(worker.runtime)
    monkeypatch.setattr(litellm, "callbacks", ["prometheus", hooks])
    return hooks


@pytest.fixture
def router(monkeypatch):
    router = new_router()
    monkeypatch.setattr(proxy_server, "llm_router", router)
    return router


@pytest.fixture
def presence(hooks, app, router):
    return Presence(hooks, app, routes=True)


class TestHooks:
    def test_in_place_nothing_is_missing(self, presence):
        assert presence.missing() == []

    def test_a_callback_that_was_removed_is_named(self, presence, hooks):
        litellm.callbacks.remove(hooks)
        assert presence.missing() == ["litellm.callbacks does not hold the plugin's hooks"]

    def test_a_repeated_hook_stands_once_and_last(self, presence, hooks):
        litellm.callbacks.append(hooks)
        presence.missing()
        assert litellm.callbacks == ["prometheus", hooks]

    def test_who_goes_through_the_callbacks_meanwhile_misses_none(self, presence, hooks, monkeypatch):
        """Another request waits within a loop over the list."""
        monkeypatch.setattr(litellm, "callbacks", [hooks, "langfuse", "prometheus", hooks])
        going = iter(litellm.callbacks)
        met = [next(going)]
        presence.missing()
        assert [*met, *going] == [hooks, "langfuse", "prometheus", hooks]
        assert litellm.callbacks == ["langfuse", "prometheus", hooks]

    def test_a_list_without_repeats_stays_the_same(self, presence):
        before = litellm.callbacks
        presence.missing()
        assert litellm.callbacks is before

    def test_a_new_list_of_callbacks_is_looked_at(self, presence, monkeypatch):
        monkeypatch.setattr(litellm, "callbacks", [])
        assert presence.missing() == ["litellm.callbacks does not hold the plugin's hooks"]

    def test_another_object_of_the_same_class_does_not_count(self, presence, monkeypatch):
        monkeypatch.setattr(litellm, "callbacks", [PermitRouter(None)])
        assert presence.missing() == ["litellm.callbacks does not hold the plugin's hooks"]

    @pytest.mark.parametrize("name", ["async_pre_call_hook", "async_filter_deployments"])
    def test_a_hook_replaced_on_the_object_is_told(self, presence, hooks, name):
        setattr(hooks, name, None)
        assert presence.missing() == ["a hook of the plugin was replaced"]

    def test_a_hook_replaced_on_the_class_is_told(self, presence, monkeypatch):
        monkeypatch.setattr(PermitRouter, "async_pre_call_deployment_hook", None)
        assert presence.missing() == ["a hook of the plugin was replaced"]

    def test_hooks_that_were_made_inert_are_told(self, presence, hooks):
        hooks._enforcement = None
        assert presence.missing() == ["the hooks were taken off the plugin's runtime"]


class TestApp:
    def test_a_stack_without_admission_is_told(self, presence, app):
        app.middleware_stack = app.build_middleware_stack()
        assert presence.missing() == ["admission is not in the app's middleware stack"]

    def test_a_stack_that_is_not_built_is_told(self, presence, app):
        app.middleware_stack = None
        assert presence.missing() == ["admission is not in the app's middleware stack"]

    def test_a_router_without_the_backstop_is_told(self, presence, app):
        app.router.middleware_stack = app.router.app
        assert presence.missing() == ["the backstop is not in the app's router"]

    def test_installing_again_repairs_it(self, presence, app, worker):
        app.middleware_stack = app.build_middleware_stack()
        install(app, worker.runtime)
        assert presence.missing() == []

    def test_a_client_that_follows_redirects_again_is_told(self, presence, monkeypatch):
        monkeypatch.setattr(httpx.AsyncClient, "send", httpx.AsyncClient.send.__wrapped__)
        (told,) = presence.missing()
        assert "follows redirects again" in told

    @pytest.mark.parametrize(
        ("client", "method"), [(aiohttp.ClientSession, "_request"), (requests.Session, "send")]
    )
    def test_so_is_one_of_another_library(self, presence, monkeypatch, client, method):
        monkeypatch.setattr(client, method, getattr(client, method).__wrapped__)
        (told,) = presence.missing()
        assert "follows redirects again" in told

    def test_a_client_that_repeats_again_is_told(self, presence, monkeypatch):
        asked = FinalRequestOptions.get_max_retries.__wrapped__
        monkeypatch.setattr(FinalRequestOptions, "get_max_retries", asked)
        (told,) = presence.missing()
        assert "repeats requests by itself again" in told


class TestRouter:
    def test_a_proxy_without_a_router_is_told(self, presence, monkeypatch):
        monkeypatch.setattr(proxy_server, "llm_router", None)
        assert presence.missing() == ["LiteLLM has no router"]

    def test_without_deployments_there_need_be_none(self, hooks, app, monkeypatch):
        monkeypatch.setattr(proxy_server, "llm_router", None)
        assert Presence(hooks, app, routes=False).missing() == []

    def test_a_new_router_with_the_same_settings_is_good(self, presence, monkeypatch):
        monkeypatch.setattr(proxy_server, "llm_router", new_router())
        assert presence.missing() == []

    def test_a_new_router_without_them_is_told(self, presence, monkeypatch):
        monkeypatch.setattr(proxy_server, "llm_router", litellm.Router(model_list=MODELS))
        (told,) = presence.missing()
        assert told.startswith("router_settings.disable_cooldowns is not true")

    def test_a_strategy_without_async_selection_is_told_until_it_is_changed_back(self, presence, router):
        router.update_settings(routing_strategy="usage-based-routing")
        (told,) = presence.missing()
        assert told.startswith("router_settings.routing_strategy 'usage-based-routing' picks a deployment")
        router.update_settings(routing_strategy="simple-shuffle")
        assert presence.missing() == []

    def test_a_strategy_with_async_selection_is_good(self, presence, router):
        router.update_settings(routing_strategy="least-busy")
        assert presence.missing() == []

    def test_a_custom_strategy_is_told_until_it_is_reset(self, presence, router):
        router.set_custom_routing_strategy(OwnStrategy())
        (told,) = presence.missing()
        assert "async_get_available_deployment was replaced" in told
        router._reset_custom_routing_strategy()
        assert presence.missing() == []

    @pytest.mark.parametrize(
        ("name", "value"),
        [("disable_cooldowns", False), ("enable_pre_call_checks", True), ("routing_strategy", None)],
    )
    def test_a_setting_changed_on_the_router_is_told(self, presence, router, name, value):
        setattr(router, name, value)
        (told,) = presence.missing()
        assert told.startswith(f"router_settings.{name} ")

    def test_models_that_no_deployment_names_are_told(self, presence, router, monkeypatch):
        monkeypatch.setattr(router.router_general_settings, "pass_through_all_models", True)
        (told,) = presence.missing()
        assert "pass_through_all_models" in told

    def test_the_core_behind_a_facade_is_looked_at(self):
        core = SimpleNamespace(
            _core_routing_strategy="simple-shuffle",
            _core_disable_cooldowns=True,
            _core_enable_pre_call_checks=False,
        )
        assert list(router_faults(SimpleNamespace(_core=core))) == []
        core._core_routing_strategy = "usage-based-routing"
        assert len(list(router_faults(SimpleNamespace(_core=core)))) == 1

    def test_a_router_that_keeps_its_settings_elsewhere_is_not_trusted(self):
        assert list(router_faults(SimpleNamespace())) != []


class TestBackstop:
    @pytest.fixture
    def stripped(self, app):
        app.middleware_stack = app.build_middleware_stack()
        return app

    async def test_a_request_that_admission_did_not_see_is_refused(self, stripped):
        exchange = await drive(stripped, http_scope())
        assert (exchange.status, exchange.error["code"]) == (503, "not_ready")
        assert exchange.headers["x-permit-reason"] == "not_ready"
        assert exchange.headers["retry-after"] == "1"

    async def test_its_refusal_is_recorded(self, stripped, worker):
        exchange = await drive(stripped, http_scope())
        (record,) = worker.records()
        assert record["decision_id"] == exchange.headers["x-permit-decision-id"]

    @pytest.mark.parametrize("path", ["/openai/x", "/health/liveliness", "/key/info"])
    async def test_no_other_path_is_open(self, stripped, path):
        assert (await drive(stripped, http_scope("GET", path))).status == 503

    async def test_a_websocket_is_closed(self, stripped):
        exchange = await drive(stripped, websocket_scope("/v1/realtime"))
        assert exchange.sent == [{"type": "websocket.close", "code": 4503, "reason": "not_ready"}]

    @pytest.mark.parametrize("path", [HEALTH_PATH, READINESS_PATH])
    async def test_health_is_red(self, stripped, worker, path):
        worker.missing.append("admission is not in the app's middleware stack")
        exchange = await drive(stripped, http_scope("GET", path))
        assert (exchange.status, json.loads(exchange.body)["status"]) == (503, "red")

    async def test_a_request_with_a_state_passes(self, stripped, request_state):
        request_state(Administrative())
        exchange = await drive(stripped, http_scope())
        assert (exchange.status, exchange.body) == (200, b'"reached"')

    async def test_an_inert_plugin_lets_everything_pass(self, stripped, worker):
        worker.runtime.is_inert = True
        assert (await drive(stripped, http_scope())).status == 200


class TestLog:
    async def test_a_change_is_logged_once(self, worker, caplog):
        worker.missing.append("the backstop is gone")
        for _ in range(3):
            worker.runtime.faults()
        worker.missing.clear()
        with caplog.at_level("INFO"):
            worker.runtime.faults()
        assert [record.message for record in caplog.records] == [
            "Requests are refused (not_ready): the backstop is gone",
            "The permit router is whole again; requests are served",
        ]
