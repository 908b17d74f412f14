"""LiteLLM's own Redis: when it is taken, what goes before it, and what of it cannot be used."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace

import pytest
from proxy_cases import POLICY_BLOCK
from typer.testing import CliRunner

from litellm_plugin.cli import app
from litellm_plugin.proxy.litellm_redis import SOURCE, with_litellm_redis
from litellm_plugin.proxy.selfcheck import policy_warnings, read_policy
from litellm_plugin.settings import Flags, load_policy
from litellm_plugin.state import connect

OWN = "redis://own:1/0"


@pytest.fixture
def policy(tmp_path, monkeypatch):
    monkeypatch.delenv("PERMIT_ROUTER_REDIS_URL", raising=False)
    return load_policy(POLICY_BLOCK, Flags(), base=tmp_path)


def cached(**params):
    return {"litellm_settings": {"cache": True, "cache_params": params}}


def switched(cache, **params):
    return {"litellm_settings": {"cache": cache, "cache_params": params}}


def routed(**settings):
    return {"router_settings": settings}


@pytest.mark.parametrize(
    ("config", "environment", "url"),
    [
        pytest.param({}, {}, None, id="nothing"),
        pytest.param({}, {"REDIS_HOST": "h", "REDIS_PORT": "1"}, None, id="environment alone"),
        pytest.param(cached(type="redis", host="h", port=1), {}, "redis://h:1/0", id="cache"),
        pytest.param(cached(host="h", port=1), {}, "redis://h:1/0", id="cache without a type"),
        pytest.param(cached(), {"REDIS_HOST": "h"}, "redis://h:6379/0", id="cache of the environment"),
        pytest.param(
            {"litellm_settings": {"cache": True}}, {"REDIS_URL": OWN}, OWN, id="cache without parameters"
        ),
        pytest.param(
            {"litellm_settings": {"cache": True, "cache_params": None}},
            {"REDIS_URL": OWN},
            OWN,
            id="cache with empty parameters",
        ),
        pytest.param(cached(), {}, None, id="cache that names nothing"),
        pytest.param(switched(False, host="h", port=1), {}, None, id="cache off"),
        pytest.param(switched("true", host="h", port=1), {}, None, id="cache that is no true"),
        pytest.param(cached(type="local", host="h", port=1), {}, None, id="cache in memory"),
        pytest.param(cached(type="s3"), {"REDIS_URL": OWN}, None, id="cache elsewhere"),
        pytest.param(
            cached(type="redis", host="os.environ/H", port="os.environ/P", password="os.environ/W"),
            {"H": "h", "P": "2", "W": "p@ss"},
            "redis://:p%40ss@h:2/0",
            id="references",
        ),
        pytest.param(
            cached(type="redis", redis_startup_nodes=[{"host": "a", "port": 1}]),
            {},
            "redis+cluster://a:1",
            id="cluster",
        ),
        pytest.param(routed(redis_url=OWN), {}, OWN, id="router's url"),
        pytest.param(routed(redis_host="h", redis_port=1), {}, "redis://h:1/0", id="router's host"),
        pytest.param(
            routed(redis_host="h", redis_port=1, redis_password="w", redis_db=3),
            {},
            "redis://:w@h:1/3",
            id="router's login",
        ),
        pytest.param(routed(redis_host="h"), {}, None, id="router's host alone"),
        pytest.param(routed(num_retries=3), {"REDIS_URL": OWN}, None, id="router without"),
        pytest.param(
            {**cached(host="c", port=1), **routed(redis_host="r", redis_port=1)},
            {},
            "redis://c:1/0",
            id="both",
        ),
        pytest.param(
            {**cached(type="local"), **routed(redis_host="r", redis_port=1)},
            {},
            "redis://r:1/0",
            id="router beside a cache in memory",
        ),
        pytest.param({"litellm_settings": None, "router_settings": []}, {}, None, id="odd sections"),
    ],
)
def test_where_workers_share_state(policy, config, environment, url):
    found = with_litellm_redis(policy, config, environment)
    assert found.redis_url == url
    assert not found.redis_fault
    if url is not None:
        assert found.redis_source == SOURCE


def test_the_flag_goes_before_it(policy):
    mine = replace(policy, redis_url="redis://mine:1/0")
    assert with_litellm_redis(mine, cached(host="h", port=1), {}) is mine


@pytest.mark.parametrize(
    ("config", "environment", "prefix"),
    [
        pytest.param(cached(host="h", namespace="team-a"), {}, "permit-router:team-a:", id="namespace"),
        pytest.param(
            cached(host="h", namespace="os.environ/NS"), {"NS": "b"}, "permit-router:b:", id="reference"
        ),
        pytest.param(cached(host="h", namespace="os.environ/NS"), {}, "permit-router:", id="empty reference"),
        pytest.param(cached(host="h", namespace=7), {}, "permit-router:7:", id="number"),
        pytest.param(cached(host="h"), {}, "permit-router:", id="no namespace"),
        pytest.param(cached(host="h", namespace=None), {}, "permit-router:", id="nothing"),
        pytest.param(cached(namespace="team-a"), {}, "permit-router:", id="no server"),
        pytest.param(
            cached(host="h", namespace="team-a"),
            {"PERMIT_ROUTER_REDIS_PREFIX": "permit-router:"},
            "permit-router:",
            id="flag",
        ),
        pytest.param(
            cached(host="h", namespace="team-a"),
            {"PERMIT_ROUTER_REDIS_PREFIX": " "},
            "permit-router:team-a:",
            id="empty flag",
        ),
        pytest.param(switched(False, host="h", namespace="team-a"), {}, "permit-router:", id="cache off"),
    ],
)
def test_a_namespace_of_litellms_cache_keeps_keys_apart(policy, config, environment, prefix):
    assert with_litellm_redis(policy, config, environment).redis_prefix == prefix


@pytest.mark.parametrize("namespace", ["a b", "{state}", "ü", "n" * 50])
def test_a_namespace_that_no_key_can_hold_is_hashed(policy, namespace):
    config = cached(host="h", namespace=namespace)
    prefix = with_litellm_redis(policy, config, {}).redis_prefix
    assert re.fullmatch("permit-router:[0-9a-f]{32}:", prefix)
    other = cached(host="h", namespace=f"{namespace}!")
    assert with_litellm_redis(policy, other, {}).redis_prefix != prefix
    assert Flags(redis_prefix=prefix).redis_prefix == prefix


def test_a_flag_that_names_the_server_leaves_the_namespace_to_litellm(policy):
    mine = replace(policy, redis_url="redis://mine:1/0")
    found = with_litellm_redis(mine, cached(host="h", namespace="team-a"), {})
    assert found.redis_prefix == "permit-router:"


UNUSABLE = {
    "a cloud's login": cached(host="h", port=1, gcp_service_account="s3cret"),
    "no nodes": cached(redis_startup_nodes="s3cret"),
    "no number": cached(host="h", port="s3cret"),
    "no url": cached(url="h:6379/s3cret"),
    "an odd url": cached(url="http://s3cret"),
    "router's odd url": routed(redis_url="s3cret"),
}


@pytest.mark.parametrize("config", UNUSABLE.values(), ids=UNUSABLE)
class TestUnusable:
    """LiteLLM can reach what this plugin cannot: that is told, and stops nothing."""

    def test_it_is_a_warning_and_memory(self, policy, config):
        found = with_litellm_redis(policy, config, {})
        assert found.redis_url is None
        (warning,) = policy_warnings(found)
        assert "LiteLLM's Redis settings" in warning
        assert "s3cret" not in warning

    async def test_the_worker_starts(self, bare, config, caplog):
        bare.load()
        found = with_litellm_redis(bare.runtime.policy, config, {})
        bare.runtime.load(found, base=bare.folder, presence=list)
        assert "No shared store" in caplog.text
        assert bare.runtime.faults() == []
        await bare.runtime.stop()


@pytest.mark.parametrize(
    "config",
    [cached(host="h", port=1, password="a:b@c/d#e?f"), routed(redis_url=OWN)],
    ids=["cache", "router"],
)
async def test_what_is_taken_can_be_connected_to(policy, config):
    found = with_litellm_redis(policy, config, {})
    client = connect(found.redis_url, source=found.redis_source)
    await client.aclose()


class TestCheck:
    """`permit-router check` tells what the start would do."""

    @pytest.fixture
    def run(self, tmp_path, worker, monkeypatch):
        monkeypatch.delenv("PERMIT_ROUTER_REDIS_URL", raising=False)
        for name in [name for name in os.environ if name.startswith("REDIS_")]:
            monkeypatch.delenv(name)

        def run(config):
            deployment = {
                "model_name": "gpt",
                "litellm_params": {"model": "openai/x", "api_base": "http://p", "api_key": "k"},
                "model_info": {"id": "eu-1", "endpoint": "eu", "region": "eu"},
            }
            section = {
                "callbacks": ["litellm_plugin.permit_router"],
                "permit_router": POLICY_BLOCK,
                **config.get("litellm_settings", {}),
            }
            whole = {
                "model_list": [deployment],
                "litellm_settings": section,
                "router_settings": {"disable_cooldowns": True, **config.get("router_settings", {})},
            }
            path = tmp_path / "config.yaml"
            path.write_text(json.dumps(whole))
            return CliRunner().invoke(app, ["check", str(path)]), whole

        return run

    def test_it_agrees_on_what_can_be_used(self, run, tmp_path):
        result, whole = run(routed(redis_host="h", redis_port=1))
        assert (result.exit_code, "No shared store" in result.output) == (0, False)
        assert read_policy(whole, Flags(), base=tmp_path).redis_url == "redis://h:1/0"

    @pytest.mark.parametrize("config", UNUSABLE.values(), ids=UNUSABLE)
    def test_it_agrees_on_what_cannot(self, run, tmp_path, config):
        result, whole = run(config)
        assert result.exit_code == 0, result.output
        assert "warning: LiteLLM's Redis settings" in result.output
        assert "s3cret" not in result.output
        assert read_policy(whole, Flags(), base=tmp_path).redis_url is None
