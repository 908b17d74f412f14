"""A changed policy in a proxy that runs: taken whole, or not at all, by every worker."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from fleet import Fleet

from litellm_plugin.testing import Fault

pytestmark = pytest.mark.proxy

# Each worker looks once a second; a loaded machine is no fault of ours.
PATIENT_S = 60.0
# How long a provider holds a request over a swap.
HELD_S = 15.0
RELOAD = "/permit-router/v1/reload"
# LiteLLM takes longer to import than uvicorn waits for a new worker by itself.
TWO_WORKERS = {"NUM_WORKERS": "2", "TIMEOUT_WORKER_HEALTHCHECK": "60"}
PINNED = {"strategy": "static", "endpoints": ["us-b"]}


class ReloadedFleet(Fleet):
    """A fleet whose policy can be written again."""

    def write(self, **policy):
        """Writes LiteLLM's YAML with a changed block, as a deployment tool does: aside, then moved."""
        self.policy = policy
        path = Path(self.folder.name, "config.yaml")
        aside = path.with_suffix(".new")
        aside.write_text(yaml.safe_dump(self.config()))
        aside.replace(path)

    def reload(self, key=None):
        return self.client.post(RELOAD, headers={"authorization": f"Bearer {key or self.proxy.master_key}"})

    def take(self, **policy):
        """Writes a policy and waits until it is in force, whoever took it: the watcher may come before the call."""
        before = self.health()["config_hash"]
        self.write(**policy)
        assert self.reload().status_code == 200
        health = self.until(lambda health: health["config_hash"] != before)
        assert health["config_hash"] != before
        return health

    def until(self, holds):
        """Waits until health is so, and gives the last health."""
        deadline_s = time.monotonic() + PATIENT_S
        while not holds(health := self.health()) and time.monotonic() < deadline_s:
            time.sleep(0.1)
        return health


@pytest.fixture(scope="module")
def started():
    with ReloadedFleet() as fleet:
        yield fleet.ready()


@pytest.fixture
def fleet(started):
    started.clear()
    started.write()
    started.reload()
    yield started
    assert started.out_of_set() == []


def served_by(fleet, *endpoints):
    answer = fleet.send("chat", endpoints or ("us-a", "us-b"))
    return answer.headers.get("x-permit-endpoint"), answer.status_code


class TestChangedFile:
    def test_it_is_taken_within_a_period(self, fleet):
        before = fleet.health()["config_hash"]
        assert served_by(fleet) == ("us-b", 200)
        fleet.write(default={"strategy": "static", "endpoints": ["us-a"]})
        health = fleet.until(lambda health: health["config_hash"] != before)
        assert health["reload"]["result"] == "swapped"
        assert served_by(fleet) == ("us-a", 200)

    def test_a_broken_one_keeps_the_old_and_is_said_once(self, fleet):
        before, said = fleet.health(), fleet.proxy.log_text().count("The changed policy is refused")
        fleet.write(default={"strategy": "static", "endpoints": ["us-c"]})
        health = fleet.until(lambda health: health["reload"]["result"] == "refused")
        assert health["config_hash"] == before["config_hash"]
        assert health["reload"]["counts"]["refused"] == before["reload"]["counts"]["refused"] + 1
        assert "us-c" not in str(health)
        assert served_by(fleet) == ("us-b", 200)
        time.sleep(2.5)
        assert fleet.proxy.log_text().count("The changed policy is refused") == said + 1

    def test_a_mended_one_is_taken(self, fleet):
        fleet.write(default={"strategy": "no-such-strategy"})
        fleet.until(lambda health: health["reload"]["result"] == "refused")
        fleet.write(default={"strategy": "static", "endpoints": ["us-a"]})
        health = fleet.until(lambda health: health["reload"]["result"] == "swapped")
        assert health["reload"]["error"] is None
        assert served_by(fleet) == ("us-a", 200)

    def test_a_request_under_way_keeps_the_policy_that_admitted_it(self, fleet):
        before = fleet.take(rules=[{"name": "first", "when": "true", "use": PINNED}])["config_hash"]
        fleet.providers["us-b"].always(Fault.hang(HELD_S))
        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(fleet.send, "chat", ["us-a", "us-b"])
            deadline_s = time.monotonic() + PATIENT_S
            while not fleet.providers["us-b"].requests and time.monotonic() < deadline_s:
                time.sleep(0.02)
            after = fleet.take(default={"strategy": "static", "endpoints": ["us-a"]})["config_hash"]
            assert not held.done()
            assert served_by(fleet) == ("us-a", 200)
            answer = held.result()
        assert (answer.headers["x-permit-endpoint"], answer.status_code) == ("us-b", 200)
        (decision,) = [each for each in fleet.records_of(answer) if each["type"] == "decision"]
        assert (decision["config_hash"], decision["rule"]["name"]) == (before, "first")
        assert before != after

    def test_a_request_after_the_swap_gets_the_new_one(self, fleet):
        health = fleet.take(rules=[{"name": "first", "when": "true", "use": PINNED}])
        answer = fleet.send("chat", ["us-a", "us-b"])
        (decision,) = [each for each in fleet.records_of(answer) if each["type"] == "decision"]
        assert (decision["config_hash"], decision["rule"]["name"]) == (health["config_hash"], "first")

    def test_what_an_operator_takes_back_counts_at_once(self, fleet):
        fleet.take(permit={"minimum_policy_version": "1000"})
        assert fleet.send("chat", ["us-a"]).json()["error"]["code"] == "policy_stale"

    def test_opened_and_shut_paths_follow(self, fleet):
        get = fleet.client.get
        headers = {"authorization": f"Bearer {fleet.proxy.master_key}"}
        assert get("/routes", headers=headers).status_code == 403
        fleet.take(paths=[{"method": "GET", "path": "/routes", "kind": "administrative"}])
        assert get("/routes", headers=headers).status_code == 200

    def test_an_opened_path_that_is_not_there_is_refused(self, fleet):
        fleet.write(paths=[{"method": "GET", "path": "/no/such/path", "kind": "administrative"}])
        answer = fleet.reload()
        assert (answer.status_code, answer.json()["result"]) == (422, "refused")
        assert "/no/such/path" in answer.json()["error"]
        assert fleet.health()["status"] == "green"

    def test_counters_statistics_and_keys_stay(self, fleet):
        served_by(fleet)
        before = fleet.health()
        fetches = fleet.proxy.log_text().count("are loaded")
        after = fleet.take(default={"strategy": "static", "endpoints": ["us-a"]})
        assert after["requests"]["admitted"] == before["requests"]["admitted"]
        assert after["jwks_age_seconds"][0] >= before["jwks_age_seconds"][0]
        assert fleet.proxy.log_text().count("are loaded") == fetches

    def test_an_egress_that_is_cleared_no_more_is_held(self, fleet):
        fleet.take(egress={"other_logger.logger": []})
        before = len(fleet.logged())
        assert served_by(fleet) == ("us-b", 200)
        time.sleep(1)
        assert len(fleet.logged()) == before

    def test_a_new_issuer_without_keys_keeps_the_old(self, fleet):
        issuers = fleet.config()["litellm_settings"]["permit_router"]["permit"]["issuers"]
        nobody = {
            "issuer": "https://nobody.example",
            "jwks_url": "http://127.0.0.1:9/jwks",
            "algorithms": ["ES256"],
        }
        fleet.write(permit={"issuers": [*issuers, nobody]})
        answer = fleet.reload()
        assert (answer.status_code, answer.json()["result"]) == (422, "refused")
        assert "https://nobody.example" in answer.json()["error"]
        assert served_by(fleet) == ("us-b", 200)
        # Without it the change would be tried again in ten seconds, in the midst of another test.
        fleet.write()
        assert fleet.reload().json()["result"] == "unchanged"

    def test_the_decision_log_cannot_move(self, fleet):
        fleet.write(decision_log={"chain": True})
        answer = fleet.reload()
        assert answer.status_code == 422
        assert "decision_log cannot change while the proxy runs" in answer.json()["error"]


class TestReloadPath:
    def test_it_answers_with_both_hashes(self, fleet):
        before, answer = self.swapped(fleet)
        assert answer["config_hash_before"] == before
        assert answer["config_hash"] == fleet.health()["config_hash"] != before
        assert fleet.reload().json()["result"] == "unchanged"

    def swapped(self, fleet):
        """The hash before, and the answer of the first call that came before the watcher, which looks once a second."""
        for number in range(1, 6):
            before = fleet.health()["config_hash"]
            fleet.write(resilience={"attempts": number})
            answer = fleet.reload().json()
            if answer["result"] == "swapped":
                return before, answer
        return pytest.fail("the watcher was first five times")

    def test_nobody_without_a_key_reloads(self, fleet):
        assert fleet.client.post(RELOAD).status_code == 401

    @pytest.mark.parametrize("key", ["sk-other", "\u00e9", "x" * 4096])
    def test_nobody_with_another_key_reloads(self, fleet, key):
        headers = {"authorization": f"Bearer {key}".encode("latin-1")}
        assert fleet.client.post(RELOAD, headers=headers).status_code == 403

    def test_a_permit_is_no_key(self, fleet):
        headers = {"x-llm-permit": fleet.issuer.mint(["us-a"])}
        assert fleet.client.post(RELOAD, headers=headers).status_code == 401

    def test_no_other_method_is_open(self, fleet):
        headers = {"authorization": f"Bearer {fleet.proxy.master_key}"}
        assert fleet.client.get(RELOAD, headers=headers).json()["error"]["code"] == "path_not_permitted"


class TestSignal:
    def test_a_hangup_reloads_and_ends_nothing(self, fleet):
        asked = fleet.health()["reload"]["counts"]["unchanged"]
        os.kill(fleet.proxy.pid, signal.SIGHUP)
        health = fleet.until(lambda health: health["reload"]["counts"]["unchanged"] > asked)
        assert health["reload"]["counts"]["unchanged"] > asked
        assert served_by(fleet) == ("us-b", 200)


class TestPolicyFile:
    def test_the_named_file_is_watched(self):
        with ReloadedFleet() as planned:
            block = planned.config()["litellm_settings"]["permit_router"]
        text = yaml.safe_dump(block)
        with ReloadedFleet(files={"policy.yaml": text}, env={"PERMIT_ROUTER_POLICY": "policy.yaml"}) as fleet:
            block["permit"]["issuers"] = fleet.config()["litellm_settings"]["permit_router"]["permit"][
                "issuers"
            ]
            path = Path(fleet.folder.name, "policy.yaml")
            fleet.proxy.wait_ready()
            before = fleet.health()["config_hash"]
            path.write_text(yaml.safe_dump(block))
            changed = fleet.until(lambda health: health["config_hash"] != before)
            assert changed["reload"]["result"] == "swapped"
            assert served_by(fleet) == ("us-b", 200)


class TestWorkers:
    def hashes(self, fleet):
        """The hash of each worker that was met in some twenty answers."""
        healths = [fleet.health() for _ in range(20)]
        return {each["worker"]: each["config_hash"] for each in healths}

    def test_all_of_them_follow(self):
        with ReloadedFleet(env=TWO_WORKERS) as fleet:
            # Three processes import LiteLLM at once.
            fleet.proxy.wait_ready(240)
            fleet.ready()
            deadline_s = time.monotonic() + PATIENT_S
            while len(before := self.hashes(fleet)) < 2 and time.monotonic() < deadline_s:
                time.sleep(0.2)
            assert len(before) == 2
            fleet.write(default={"strategy": "static", "endpoints": ["us-a"]})
            assert fleet.reload().json()["result"] in {"swapped", "unchanged"}
            deadline_s = time.monotonic() + PATIENT_S
            while len(set((after := self.hashes(fleet)).values())) > 1 and time.monotonic() < deadline_s:
                time.sleep(0.2)
            assert set(after) == set(before)
            assert set(after.values()).isdisjoint(before.values())
            assert len(set(after.values())) == 1
