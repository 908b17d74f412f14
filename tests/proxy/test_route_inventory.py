"""The inventory: LiteLLM's routes are those that a person has read, on each version that is tested.

`make inventory` writes the files anew; docs/enforcement.md says what to look for in the difference.
"""

from __future__ import annotations

import fnmatch
import re

import pytest
from litellm.proxy._types import LiteLLMRoutes
from proxy_cases import http_scope, websocket_scope
from route_inventory import FOLDER, committed, inventory, litellm_version

from litellm_plugin.proxy.paths import ADMINISTRATIVE, GOVERNED, PathKind, RouteTable

# Listed templates that only some versions have: (method, template) to these versions.
ONLY_ON: dict[tuple[str, str], frozenset[str]] = {}
# What LiteLLM lists among its model APIs and what carries no prompt: names and facts of models.
PROMPTLESS = {("GET", "/models"), ("GET", "/v1/models"), ("GET", "/model/info"), ("GET", "/v1/model/info")}
FEWEST_ROUTES = {"1.101.6": 900, "1.106.2": 1_100, "1.109.1": 1_100}
MODEL_API_LISTS = (
    "openai_routes",
    "anthropic_routes",
    "google_routes",
    "mapped_pass_through_routes",
    "passthrough_routes_wildcard",
    "litellm_native_routes",
    "mcp_routes",
    "agent_inference_routes",
    "apply_guardrail_routes",
    "llm_api_routes",
)
VERSIONS = sorted(FEWEST_ROUTES)


@pytest.fixture(scope="module")
def current(litellm_app):
    return inventory(litellm_app)


@pytest.fixture(scope="module")
def kinds(current):
    return {(method, template): kind for method, template, kind in current}


def model_api_patterns():
    values = (
        str(getattr(entry, "value", entry)) for name in MODEL_API_LISTS for entry in LiteLLMRoutes[name].value
    )
    return {re.sub(r":path}", "}", value) for value in values}


def is_model_api(template, patterns):
    """Whether one of LiteLLM's lists names this template, or a pattern of theirs covers it."""
    return any(
        template == pattern or ("*" in pattern and fnmatch.fnmatchcase(template, pattern))
        for pattern in patterns
    )


def test_a_version_that_is_tested_runs_here():
    assert litellm_version() in VERSIONS


def test_the_inventory_is_the_one_that_was_read(current):
    known, found = set(committed(litellm_version())), set(current)
    assert found == known, "\n".join(
        ["run `make inventory`, read the difference, commit it:"]
        + [f"+ {' '.join(line)}" for line in sorted(found - known)]
        + [f"- {' '.join(line)}" for line in sorted(known - found)]
    )


def test_the_inventory_sees_the_whole_app(current):
    assert len(current) > FEWEST_ROUTES[litellm_version()]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_committed_inventory_lists_each_route_once(version):
    lines = [(method, template) for method, template, _ in committed(version)]
    assert len(lines) == len(set(lines))


def test_each_inventory_belongs_to_a_tested_version():
    assert sorted(path.name for path in FOLDER.iterdir()) == [f"litellm-{each}.tsv" for each in VERSIONS]


@pytest.mark.parametrize("listed", sorted({*GOVERNED, *ADMINISTRATIVE}), ids=" ".join)
def test_a_listed_template_exists_and_is_what_its_path_reaches(listed, litellm_app, kinds):
    if litellm_version() not in ONLY_ON.get(listed, VERSIONS):
        assert listed not in kinds, "this version has it: ONLY_ON is out of date"
        return
    wanted = PathKind.GOVERNED if listed in GOVERNED else PathKind.ADMINISTRATIVE
    assert kinds.get(listed) is wanted
    method, template = listed
    path = re.sub(r"{[^}]*}", "x", template)
    scope = websocket_scope(path) if method == "WEBSOCKET" else http_scope(method, path)
    assert RouteTable(litellm_app.router).classify(scope).template == template


def test_what_only_some_versions_have_is_listed():
    assert set(ONLY_ON) <= {*GOVERNED, *ADMINISTRATIVE}


def test_no_model_api_of_litellm_is_administrative(kinds):
    patterns = model_api_patterns()
    administrative = {
        route
        for route, kind in kinds.items()
        if kind is PathKind.ADMINISTRATIVE and is_model_api(route[1], patterns)
    }
    assert administrative == PROMPTLESS


def test_every_governed_template_is_a_model_api_of_litellm():
    patterns = model_api_patterns()
    assert not {template for _, template in GOVERNED if not is_model_api(template, patterns)}


def test_litellms_lists_and_the_inventory_meet(kinds):
    """Guards the comparison itself: if the spellings drifted apart, it would find nothing."""
    templates = {template for _, template in kinds}
    assert len(model_api_patterns() & templates) > 100


def test_no_mount_and_no_websocket_is_administrative(kinds):
    assert not [
        route
        for route, kind in kinds.items()
        if kind is PathKind.ADMINISTRATIVE and route[0] in {"*", "WEBSOCKET"}
    ]
