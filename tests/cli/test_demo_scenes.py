from __future__ import annotations

from pathlib import Path

import pytest

from litellm_plugin.cli.demo.configuration import read_configuration
from litellm_plugin.cli.demo.scenes import SCENES, TOLD, Attacker, Client
from litellm_plugin.cli.demo.tenants import TENANTS, check_tenants
from litellm_plugin.errors import ConfigurationError, Reason

CONFIGURATION = read_configuration(Path(__file__).parents[2] / "config.example.yaml")
MODELS = {*CONFIGURATION.groups, "openai-us-gpt-4o-mini"}
each_scene = pytest.mark.parametrize("scene", [pytest.param(each, id=each.name) for each in SCENES])


def test_names_are_unique():
    assert len({scene.name for scene in SCENES}) == len(SCENES)


def test_the_decision_that_is_told_belongs_to_a_scene():
    assert TOLD in {scene.name for scene in SCENES}


@each_scene
def test_an_answer_is_expected_from_an_endpoint_with_a_rule(scene):
    expected = scene.expected
    assert (expected.status == 200) == (expected.rule is not None)
    assert expected.status != 200 or expected.endpoint is not None


@each_scene
def test_a_refusal_is_expected_with_the_status_of_its_reason(scene):
    if scene.expected.status != 200:
        assert Reason(scene.expected.reason).status == scene.expected.status


@each_scene
def test_prompts_are_expected_only_where_they_may_be(scene):
    assert set(scene.expected.arrivals) <= set(scene.reachable) <= set(scene.sender.endpoints)


@each_scene
def test_what_a_scene_names_is_in_the_configuration(scene):
    assert scene.model in MODELS
    assert {*scene.sender.endpoints, *scene.failing} <= set(CONFIGURATION.endpoints)


@each_scene
def test_a_prompt_is_repeated_word_for_word(scene):
    if scene.same_prompt_as is not None:
        earlier = next(each for each in SCENES if each.name == scene.same_prompt_as)
        assert scene.body("m", "http://evil") == earlier.body("m", "http://evil")
        assert scene.reachable == earlier.reachable


@each_scene
def test_the_marker_stands_in_the_body(scene):
    assert "marker-1" in str(scene.body("marker-1", "http://evil"))


def test_both_ways_are_played():
    assert {type(scene.sender) for scene in SCENES} == {Client, Attacker}


def test_keys_are_obviously_for_the_demo():
    assert all(key == f"demo-{rule.tenant}" for key, rule in TENANTS.items())


def test_a_configuration_without_a_classification_is_refused():
    with pytest.raises(ConfigurationError, match="phi"):
        check_tenants(CONFIGURATION.endpoints, ["public", "internal"])
