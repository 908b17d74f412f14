"""Foreign places: a handler of another's on a governed path, and models that would say where a call goes."""

from __future__ import annotations

import pytest
from fleet import LOGGER_MODULE, Fleet

pytestmark = pytest.mark.proxy

# What `pass_through_endpoints` does to the app, here without the setting, which the start refuses.
PASS_THROUGH = """
from litellm.proxy.pass_through_endpoints.pass_through_endpoints import create_pass_through_route
from litellm.proxy.proxy_server import app

route = create_pass_through_route("/v1/messages", "{target}", {{"x-api-key": "sk-through"}})
app.add_api_route("/v1/messages", route, methods=["POST"])
"""


class ForeignFleet(Fleet):
    through = True

    def config(self):
        if self.through:
            target = f"{self.urls['claude-us']}/v1/messages"
            self.files = {"other_logger.py": LOGGER_MODULE + PASS_THROUGH.format(target=target)}
        config = super().config()
        config["model_list"] += [
            *self.dialect("gemini/*", "gemini/*", ["eu-b"]),
            *self.dialect("openai/*", "openai/*", ["eu-a"]),
        ]
        return config


class ConfiguredFleet(ForeignFleet):
    """The same by the setting."""

    through = False

    def config(self):
        target = f"{self.urls['claude-us']}/v1/messages"
        through = {"path": "/v1/messages", "target": target, "headers": {"x-api-key": "sk-through"}}
        self.settings = {"general_settings": {"pass_through_endpoints": [through]}}
        config = super().config()
        config["general_settings"]["master_key"] = "os.environ/LITELLM_MASTER_KEY"
        return config


def fleet_of(kind, **settings):
    @pytest.fixture(scope="module")
    def shared():
        with kind(**settings) as fleet:
            yield fleet.ready()

    return shared


foreign = fleet_of(ForeignFleet)
plain = fleet_of(ConfiguredFleet, env={"PERMIT_ROUTER_ENABLED": "false"})


@pytest.fixture(autouse=True)
def clear(request):
    for name in {"foreign", "plain"} & set(request.fixturenames):
        request.getfixturevalue(name).clear()


def test_a_pass_through_on_a_governed_path_reaches_nobody(foreign):
    for _ in range(2):  # the first request makes LiteLLM add the path's own route
        answer = foreign.send("messages", ["claude-eu"])

        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "path_not_permitted")
    assert foreign.calls() == {}


def test_without_the_plugin_it_reaches_its_target(plain):
    plain.send("messages", ["claude-eu"])

    assert plain.calls() == {"claude-us": 1}


@pytest.mark.parametrize(
    ("model", "endpoint"),
    [("gemini/gemini-test", "eu-b"), ("openai/gpt-test", "eu-a"), ("openai/a/b", "eu-a")],
)
def test_a_plain_name_is_served_by_a_wildcard(foreign, model, endpoint):
    answer = foreign.send("chat", [endpoint], model=model)

    assert answer.status_code == 200, answer.text
    assert foreign.calls() == {endpoint: 1}


@pytest.mark.parametrize("model", ["gemini/../../us/x", "gemini/a/b", "gemini/a?b=c", "openai/a/../b"])
def test_a_name_that_leads_elsewhere_is_not(foreign, model):
    answer = foreign.send("chat", ["eu-a", "eu-b"], model=model)

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "destination_mismatch")
    assert foreign.calls() == {}


def test_without_the_plugin_it_leaves_the_models_path(plain):
    plain.send("chat", ["eu-b"], model="gemini/../../us/x")

    (request,) = plain.providers["eu-b"].requests
    assert "/models/x" not in request.path
    assert "us/x" in request.path


def test_the_setting_stops_the_start():
    with (
        ConfiguredFleet() as fleet,
        pytest.raises(RuntimeError, match="lies over LiteLLM's own /v1/messages"),
    ):
        fleet.ready()
