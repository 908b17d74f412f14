"""Layers: each one off alone, and what the others hold then.

There is no switch for it: a module beside `config.yaml` takes a layer out of the proxy's process. For every
layer `red` names the doors that do not end as they should without it. One that is missing there, or one too
many, is a change in what a layer does.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest
from calls import GOVERNED, under
from doors import DOORS, EVIL, Door, differences, real, through
from fleet import SETTINGS
from layers_fleet import LayersFleet

from litellm_plugin.testing import Fault

pytestmark = pytest.mark.proxy

EVERY = frozenset(door.name for door in DOORS)
SERVED = frozenset(door.name for door in DOORS if door.status == 200)
EXHAUSTED = frozenset(door.name for door in DOORS if door.status == 503)


@dataclass(frozen=True)
class Layer:
    """What is off, how often a door is tried where chance has a part in it, and the doors that turn red.

    Whether those in `either` do depends on LiteLLM's version.
    """

    name: str
    off: tuple[str, ...]
    red: frozenset[str]
    tries: int = 1
    either: frozenset[str] = frozenset()


# LiteLLM's own check of credentials answers before its hooks run, with a 500 where it has no database.
CREDENTIALS = frozenset({"api-base", "base-url", "user-config", "model-list-field"})
LIST = frozenset({"model-list"})
SEVERAL_MODELS = frozenset({"comma-list", "fastest-response"})

LAYERS = [
    # The backstop refuses what admission did not see: 503 everywhere.
    Layer("admission", ("admission",), EVERY),
    # The hooks refuse what has no state; LiteLLM itself refuses a list as it always does.
    Layer(
        "admission-and-backstop",
        ("admission", "backstop"),
        EVERY - LIST,
        either=LIST,
    ),
    Layer("admission-scrub", ("body-scrub", "header-scrub"), CREDENTIALS | {"model-in-the-query"}),
    # Each of several models is selected and checked by itself, so the one that the permit names answers.
    Layer("pre-call", ("pre-call",), SEVERAL_MODELS, either=LIST),
    # LiteLLM picks by chance, and the final check refuses what it picked.
    Layer("selection", ("selection",), SERVED | EXHAUSTED, tries=12),
    # It begins the attempts: an answer to which none belongs goes out to nobody, and no chain is exhausted.
    Layer("final-check", ("final-check",), SERVED | EXHAUSTED),
]
BUT_FINAL = ("body-scrub", "header-scrub", "pre-call", "selection", "litellm-credential-check")
# One endpoint in the group, so that nothing but what a row says can lead elsewhere.
ALONE = {"model": "eu-only"}
FINAL = [
    Door("api-base", {**ALONE, "api_base": f"{EVIL}/v1"}, 403, "destination_mismatch"),
    Door("api-base-and-key", {**ALONE, "api_base": f"{EVIL}/v1", "api_key": "k"}, 403, "destination_mismatch"),
    Door("base-url", {**ALONE, "base_url": f"{EVIL}/v1"}, 403, "destination_mismatch"),
    Door("api-key", {**ALONE, "api_key": "sk-attacker"}, 403, "destination_mismatch"),
    Door("provider-swap", {**ALONE, "custom_llm_provider": "anthropic"}, 403, "destination_mismatch"),
    Door("organization", {**ALONE, "organization": "org-attacker"}, 403, "destination_mismatch"),
    Door("extra-headers", {**ALONE, "extra_headers": {"x-evil": "1"}}, 403, "destination_mismatch"),
    Door("deployment-id", {"model": "us-b-1"}, 403, "not_authorized"),
]  # fmt: skip


@pytest.fixture(scope="module")
def shared_layers():
    with LayersFleet(settings=SETTINGS) as fleet:
        yield fleet.ready()


@pytest.fixture
def layers(shared_layers):
    shared_layers.clear()
    return shared_layers


def seen(fleet, door, evil, tries):
    """What differs at the first try at which something does."""
    for _ in range(tries):
        fleet.clear()
        evil.clear()
        found = differences(fleet, door, evil, through(fleet, door, evil))
        if found:
            return found
    return []


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_one_layer_less_lets_nothing_out(layers, evil, layer, door, battery):
    with layers.without(*layer.off):
        found = seen(layers, door, evil, layer.tries)
    if found:
        battery.red(door.name, layer.name)

    assert layers.out_of_set(evil) == []
    assert door.name in layer.either or (door.name in layer.red) == bool(found), found


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_the_final_check_alone_lets_nothing_out(layers, evil, door):
    with layers.without(*BUT_FINAL):
        for _ in range(3):
            through(layers, door, evil)

    assert layers.out_of_set(evil) == []


class TestFinalCheckAlone:
    """What the scrubs take out reaches the call that is about to be made, and is held against the deployment."""

    def ask(self, fleet, evil, door):
        says = real(door.says, evil)
        return fleet.send("chat", ["eu-b"], **says)

    def strayed(self, fleet, evil):
        """The arrivals that a plain request would not have made."""
        home = ("eu-b", "/v1/chat/completions", "Bearer key-of-eu-b")
        sent = (each for source in (*fleet.providers.values(), evil) for each in source.requests)
        return [
            each.endpoint
            for each in sent
            if each.method == "POST"
            and (
                (each.endpoint, each.path, each.headers.get("authorization")) != home
                or {"x-evil", "openai-organization"} & each.headers.keys()
            )
        ]

    @pytest.mark.parametrize("door", FINAL, ids=lambda door: door.name)
    def test_it_refuses_what_goes_elsewhere(self, layers, evil, door):
        with layers.without(*BUT_FINAL):
            answer = self.ask(layers, evil, door)

        # LiteLLM 1.101 fails on another provider by itself, and the final check refuses the fallback.
        reasons = {door.reason, "not_authorized"} if door.name == "provider-swap" else {door.reason}
        assert answer.status_code == door.status, answer.text
        assert answer.headers["x-permit-reason"] in reasons
        assert layers.calls() == {}
        assert evil.requests == []

    @pytest.mark.parametrize("door", FINAL, ids=lambda door: door.name)
    def test_without_it_the_same_request_strays(self, layers, evil, door):
        with layers.without(*BUT_FINAL, "final-check"):
            self.ask(layers, evil, door)

        assert self.strayed(layers, evil) != []

    def test_it_lets_a_plain_request_pass(self, layers, evil):
        with layers.without(*BUT_FINAL):
            answer = layers.send("chat", ["eu-b"], **ALONE)

        assert answer.status_code == 200, answer.text
        assert layers.calls() == {"eu-b": 1}
        assert self.strayed(layers, evil) == []


def cooled_within(fleet, endpoint, seconds):
    """Whether LiteLLM cools a deployment of this endpoint; its failure callbacks run beside the answer."""
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        if any(endpoint in key for key in fleet.router_state(ON)["cooled"]):
            return True
        time.sleep(0.1)
    return False


ON = "disable-cooldowns"  # without it LiteLLM cools deployments


class TestCooldowns:
    """LiteLLM's cooldowns, which the self-check wants off, are on here: a denial by any layer cools nothing."""

    @pytest.mark.parametrize(
        "off",
        [
            pytest.param((), id="denied-by-the-pre-call-hook"),
            pytest.param(("pre-call",), id="denied-by-selection"),
            pytest.param(("pre-call", "selection"), id="denied-by-the-final-check"),
        ],
    )
    def test_a_hundred_denials_cool_nothing(self, layers, off):
        before = layers.router_state(ON)
        with layers.without(ON, *off):
            answers = [under(layers, call, ["nowhere"]) for call in (GOVERNED * 4)[:100]]
        after = layers.router_state(ON)

        ends = {(each.status_code, each.headers["x-permit-reason"]) for each in answers}
        assert ends == {(403, "not_authorized")}
        assert layers.calls() == {}
        assert set(after["cooled"]) <= set(before["cooled"])
        # LiteLLM counts what ends in a deployment hook as a failure of the deployment, on some paths.
        if "selection" not in off:
            # The counts are of one minute and may begin anew.
            assert not [
                name for name, count in after["fails"].items() if count > before["fails"].get(name, 0)
            ]

    def test_a_denied_fallback_cools_nothing(self, layers):
        before = layers.router_state(ON)
        layers.providers["eu-b"].always(Fault.status(500))
        with layers.without(ON):
            for _ in range(20):
                layers.send("chat", ["eu-b"], model="eu-only")
        after = layers.router_state(ON)

        assert layers.calls() == {"eu-b": 20}
        assert not [name for name in after["cooled"] if "claude" in name and name not in before["cooled"]]

    def test_a_providers_failure_does_cool(self, layers):
        """The control: what is looked at above changes when a provider fails."""
        layers.providers["claude-eu"].always(Fault.status(429))
        with layers.without(ON):
            layers.send("messages", ["claude-eu"])

        assert cooled_within(layers, "claude-eu", seconds=30)
