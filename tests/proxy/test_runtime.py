from __future__ import annotations

import json

import pytest
from proxy_cases import POLICY_BLOCK

from litellm_plugin.errors import ConfigurationError, Reason
from litellm_plugin.routing.attempts import AttemptStatus
from litellm_plugin.settings import Flags, load_policy


def statuses(worker):
    return [each["status"] for each in worker.records() if "attempt" in each["schema"]]


class TestFaults:
    async def test_a_loaded_worker_has_none(self, worker):
        assert worker.runtime.faults() == []

    async def test_no_policy_is_one(self, bare):
        (fault,) = bare.runtime.faults()
        assert fault.reason is Reason.NOT_READY
        assert "litellm_settings.callbacks" in fault.message

    async def test_a_part_out_of_its_place_is_one(self, worker):
        worker.missing.append("admission is not in the app's middleware stack")
        assert [(each.reason, each.message) for each in worker.runtime.faults()] == [
            (Reason.NOT_READY, "admission is not in the app's middleware stack")
        ]

    async def test_keys_that_were_never_loaded_are_one(self, bare, tmp_path):
        issuer = {
            "issuer": "https://a.example",
            "jwks_url": "https://a.example/jwks",
            "algorithms": ["ES256"],
        }
        block = {**POLICY_BLOCK, "permit": {**POLICY_BLOCK["permit"], "issuers": [issuer]}}
        bare.runtime.load(load_policy(block, Flags(), base=tmp_path), base=tmp_path, presence=list)
        assert [each.reason for each in bare.runtime.faults()] == [Reason.KEYS_UNAVAILABLE]

    async def test_keys_that_are_too_old_are_one(self, worker):
        worker.clock.advance(3_601)
        assert [each.reason for each in worker.runtime.faults()] == [Reason.KEYS_UNAVAILABLE]

    async def test_a_background_round_keeps_them_young(self, worker):
        worker.clock.advance(3_601)
        await worker.runtime.synchronise_once()
        assert worker.runtime.faults() == []

    def test_a_file_without_keys_stops_the_start(self, bare, tmp_path):
        (tmp_path / "jwks.json").write_text("{}")
        policy = load_policy(POLICY_BLOCK, Flags(), base=tmp_path)
        with pytest.raises(ConfigurationError, match=r"keys of issuer 'https://policy\.example\.test'"):
            bare.runtime.load(policy, base=tmp_path, presence=list)

    def test_no_verifier_before_a_policy(self, bare):
        with pytest.raises(ConfigurationError, match="no policy is loaded"):
            _ = bare.runtime.verifier


class TestHealth:
    async def test_green_says_what_runs(self, worker):
        health = worker.runtime.health()
        assert (health["status"], health["faults"], health["mode"]) == ("green", [], "enforce")
        assert health["config_hash"] == worker.runtime.policy.config_hash
        assert health["jwks_age_seconds"] == [0.0]

    async def test_red_says_why(self, bare):
        health = bare.runtime.health()
        assert (health["status"], health["config_hash"]) == ("red", None)
        assert [each["reason"] for each in health["faults"]] == ["not_ready"]

    async def test_it_names_no_key_address_or_tenant(self, worker):
        text = json.dumps(worker.runtime.health())
        assert not any(
            word in text for word in ("policy.example.test", "jwks.json", worker.issuer.kid, "acme")
        )

    async def test_calls_without_context_are_counted(self, worker):
        worker.runtime.count_no_context()
        assert worker.runtime.health()["no_context_calls"] == 1


class TestClose:
    def test_nothing_may_be_sent_for_a_closed_request(self, worker):
        state = worker.state()
        worker.runtime.close(state, answered=True)
        assert state.closed

    def test_attempts_of_a_client_that_went_away_are_abandoned(self, worker):
        state = worker.state()
        worker.attempt(state, "eu")
        worker.runtime.close(state, answered=False)
        assert statuses(worker) == ["abandoned"]

    def test_an_attempt_that_ended_is_not_abandoned(self, worker):
        state = worker.state()
        worker.attempt(state, "eu").status = AttemptStatus.SUCCESS
        worker.runtime.close(state, answered=False)
        assert statuses(worker) == []

    @pytest.mark.parametrize(("waited_s", "expected"), [(29.9, []), (30.0, ["abandoned"])])
    async def test_an_answered_request_waits_for_litellms_report(self, worker, waited_s, expected):
        state = worker.state()
        worker.attempt(state, "eu")
        worker.runtime.close(state, answered=True)
        worker.clock.advance(waited_s)
        await worker.runtime.synchronise_once()
        assert statuses(worker) == expected

    async def test_it_is_abandoned_once(self, worker):
        state = worker.state()
        worker.attempt(state, "eu")
        worker.runtime.close(state, answered=True)
        worker.clock.advance(31)
        for _ in range(2):
            await worker.runtime.synchronise_once()
        assert statuses(worker) == ["abandoned"]


class TestStart:
    def test_without_a_loop_nothing_starts(self, worker):
        worker.runtime.start()

    async def test_it_starts_one_task(self, worker):
        worker.runtime.start()
        first = worker.runtime._task
        worker.runtime.start()
        assert worker.runtime._task is first
        first.cancel()

    def test_a_binding_of_none_says_what_it_gives_up(self, bare, caplog):
        with caplog.at_level("WARNING"):
            bare.load(binding="none")
        assert "whoever holds a permit can send any body" in caplog.text
