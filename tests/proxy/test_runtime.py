from __future__ import annotations

import asyncio
import json
import math
import time

import pytest
from proxy_cases import POLICY_BLOCK, http_scope
from redis import Redis
from valkey_process import ValkeyProcess

from litellm_plugin.errors import ConfigurationError, PermitRejected, Reason, RequestDenied, Verdict
from litellm_plugin.proxy.enforcement import Enforcement
from litellm_plugin.routing.attempts import AttemptStatus
from litellm_plugin.settings import Flags, Mode, load_policy
from litellm_plugin.state import connect
from litellm_plugin.state.store_line import AT_ONCE


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

    def test_before_a_policy_observe_mode_denies_nothing(self, bare):
        bare.runtime.work_in(Mode.OBSERVE)
        verdict = Verdict(Reason.NOT_READY, "no policy is loaded")
        bare.runtime.recorder.refusal(http_scope(), None, verdict, None)
        health = bare.runtime.health()
        assert (health["requests"]["denied"], health["observed"]["would_deny"]) == ({}, {"not_ready": 1})

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

    async def test_without_a_store_nothing_is_known_of_revocations(self, worker):
        await worker.runtime.synchronise_once()
        health = worker.runtime.health()
        assert (health["revocations_age_seconds"], health["revocations_skipped"]) == (None, 0)
        assert health["revocations_over_limit"] == []


class TestCounters:
    def counted(self, worker):
        return worker.runtime.health()["requests"]

    async def test_nothing_is_counted_at_first(self, worker):
        assert self.counted(worker) == {"admitted": 0, "denied": {}}
        assert worker.runtime.health()["unknown_endpoints"] == 0

    def test_an_admitted_request_is_counted_with_its_unknown_endpoints(self, worker):
        worker.runtime.known_endpoints = frozenset({"eu", "us"})
        worker.runtime.count_admitted(worker.state("eu", "nowhere", "no-more"))
        assert self.counted(worker)["admitted"] == 1
        assert worker.runtime.health()["unknown_endpoints"] == 2

    def test_before_a_model_list_was_loaded_no_endpoint_is_unknown(self, worker):
        worker.runtime.count_admitted(worker.state("nowhere"))
        assert worker.runtime.health()["unknown_endpoints"] == 0

    def test_a_request_that_ends_is_counted_once_for_all_its_decisions(self, worker):
        state, verdict = worker.state(), Verdict(Reason.NOT_ELIGIBLE, "no")
        decision = worker.plan(state, "eu")
        for _ in range(3):
            worker.runtime.recorder.decision(state, decision)
        worker.runtime.recorder.denial(state, verdict)
        assert self.counted(worker)["denied"] == {"not_eligible": 1}

    def test_refusals_past_the_rate_of_the_log_are_counted(self, worker):
        verdict = Verdict(Reason.PERMIT_MISSING, "no")
        for _ in range(150):
            worker.runtime.recorder.refusal({"type": "http", "method": "POST"}, None, verdict, None)
        assert self.counted(worker)["denied"] == {"permit_missing": 150}
        assert worker.runtime.health()["refusals_not_recorded"] == 50

    async def test_what_was_counted_before_the_policy_came_stays(self, bare):
        verdict = Verdict(Reason.NOT_READY, "no")
        bare.runtime.recorder.refusal({"type": "http", "method": "POST"}, None, verdict, None)
        assert self.counted(bare.load())["denied"] == {"not_ready": 1}


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


def tasks():
    """The names of this plugin's tasks in the running loop."""
    names = (task.get_name() for task in asyncio.all_tasks() if not task.done())
    return sorted(name for name in names if name.startswith("permit-router"))


class HangingKeys:
    """A server of keys that accepts and never answers."""

    def __init__(self):
        self.connections = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.issuer = {
            "issuer": "https://a.example",
            "jwks_url": f"http://127.0.0.1:{port}/jwks",
            "algorithms": ["ES256"],
        }
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _accept(self, reader, writer):
        self.connections += 1
        await reader.read()
        writer.close()


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.01)


class TestKeysThatHang:
    @pytest.fixture
    async def server(self):
        async with HangingKeys() as server:
            yield server

    @pytest.fixture
    async def runtime(self, server, bare, tmp_path, monkeypatch):
        block = {**POLICY_BLOCK, "permit": {**POLICY_BLOCK["permit"], "issuers": [server.issuer]}}
        runtime = bare.runtime
        runtime.load(load_policy(block, Flags(), base=tmp_path), base=tmp_path, presence=list)
        monkeypatch.setattr(runtime.shared, "pause_s", lambda: 0.0)
        yield runtime
        await runtime.stop()

    async def test_the_exchange_keeps_its_period(self, runtime, server):
        runtime.start()
        await until(lambda: server.connections and runtime._rounds >= 20)
        assert runtime.health()["jwks_age_seconds"] == [None]
        assert (server.connections, tasks().count("permit-router-keys")) == (1, 1)

    async def test_the_end_ends_them(self, runtime, server):
        runtime.start()
        await until(lambda: server.connections)
        await runtime.stop()
        assert tasks() == []

    async def test_who_asks_for_a_round_waits_for_them(self, runtime, server, bare):
        runtime.start()
        await until(lambda: server.connections)
        asked = asyncio.create_task(runtime.synchronise_once())
        rounds = runtime._rounds
        await until(lambda: runtime._rounds >= rounds + 5)
        assert not asked.done()
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        assert tasks().count("permit-router-keys") == 1


class TestStart:
    def test_without_a_loop_nothing_starts(self, worker):
        """C41"""
        worker.runtime.start()
        assert worker.runtime.faults() == []

    async def test_it_starts_each_task_once(self, worker):
        for _ in range(3):
            worker.runtime.start()
        await asyncio.sleep(0)
        assert tasks() == ["permit-router-beat", "permit-router-sync"]
        await worker.runtime.stop()
        assert tasks() == []

    async def test_a_stopped_worker_stops_again(self, worker):
        worker.runtime.start()
        for _ in range(2):
            await worker.runtime.stop()
        assert tasks() == []

    async def test_one_that_never_started_stops(self, worker):
        await worker.runtime.stop()
        assert tasks() == []

    async def test_a_task_that_ended_is_started_beside_the_other(self, worker):
        worker.runtime.start()
        await asyncio.sleep(0)
        worker.runtime._task.cancel()
        await asyncio.gather(worker.runtime._task, return_exceptions=True)
        worker.runtime.start()
        await asyncio.sleep(0)
        assert tasks() == ["permit-router-beat", "permit-router-sync"]
        await worker.runtime.stop()
        assert tasks() == []

    def test_another_loop_starts_its_own(self, worker):
        """C41"""

        async def served():
            worker.runtime.faults()
            await asyncio.sleep(0)
            return tasks()

        assert asyncio.run(served()) == asyncio.run(served()) == ["permit-router-beat", "permit-router-sync"]

    def test_a_hook_without_a_loop_decides(self, worker, request_state):
        """C41"""
        state = worker.state("eu")
        decision = worker.plan(state, "eu")
        request_state(state)
        enforcement = Enforcement(worker.runtime)
        chosen = enforcement.select("gpt", [{"model_info": {"id": "eu-1", "endpoint": "eu"}}])
        enforcement._begin(state, state.groups["gpt"], decision.plan[0])
        worker.runtime.close(state, answered=False)
        assert (chosen, statuses(worker)) == ("eu-1", ["abandoned"])
        assert worker.runtime.shared.snapshot().in_flight == {}

    def test_without_a_store_it_says_what_is_then_per_worker(self, bare, caplog):
        with caplog.at_level("WARNING"):
            bare.load()
        lines = [each for each in caplog.messages if each.startswith("No shared store")]
        assert len(lines) == 1
        assert "PERMIT_ROUTER_REDIS_URL" in lines[0]

    async def test_with_a_store_it_does_not(self, bare, caplog, monkeypatch):
        monkeypatch.setenv("PERMIT_ROUTER_REDIS_URL", "redis://127.0.0.1:1")
        with caplog.at_level("WARNING"):
            bare.load()
        assert "No shared store" not in caplog.text
        await bare.runtime.stop()

    async def test_a_store_is_told_by_its_kind_and_prefix_alone(self, bare, caplog, monkeypatch):
        monkeypatch.setenv("PERMIT_ROUTER_REDIS_URL", "redis+cluster://:s3cret@127.0.0.1:1")
        with caplog.at_level("INFO"):
            bare.load()
        told = [each for each in caplog.messages if each.startswith("Shared store")]
        assert told == ["Shared store: cluster, every key begins with permit-router:"]
        assert bare.runtime.health()["shared_state"]["store"]["kind"] == "cluster"
        assert "s3cret" not in caplog.text
        await bare.runtime.stop()

    def test_without_a_store_health_says_memory(self, bare):
        assert bare.load().runtime.health()["shared_state"]["store"]["kind"] == "memory"

    async def test_a_store_that_is_down_at_the_start_denies_nobody(self, bare, monkeypatch):
        """C01"""
        monkeypatch.setenv("PERMIT_ROUTER_REDIS_URL", "redis://127.0.0.1:1")
        runtime = bare.load().runtime
        await runtime.synchronise_once()
        report = runtime.health()
        assert (report["status"], report["shared_state"]["store"]["answers"]) == ("green", False)
        assert "127.0.0.1" not in json.dumps(report["shared_state"])
        await runtime.stop()

    @pytest.mark.parametrize("loops", [pytest.param(2, id="C41")])
    def test_a_request_in_another_loop_starts_a_task_of_that_loop(self, worker, loops):
        async def asked():
            assert worker.runtime.faults() == []
            return worker.runtime._task

        tasks = [asyncio.run(asked()) for _ in range(loops)]
        assert len(set(tasks)) == loops
        assert all(task.done() for task in tasks)

    def test_a_binding_of_none_says_what_it_gives_up(self, bare, caplog):
        with caplog.at_level("WARNING"):
            bare.load(binding="none")
        assert "whoever holds a permit can send any body" in caplog.text


@pytest.fixture
def valkey(tmp_path):
    server = ValkeyProcess(tmp_path)
    try:
        server.start()
        yield server
    finally:
        server.stop()


class SharedStore:
    """A worker beside a server, and what an operator revokes there."""

    def __init__(self, worker, server):
        self.worker, self.runtime, self.server = worker, worker.runtime, server

    async def revoke(self, kind, name, for_s=math.inf):
        client = connect(self.server.url, timeout_s=30.0)
        await client.zadd(f"permit-router:revoked:{kind}", {name: self.worker.clock.wall() + for_s})
        await client.aclose()

    async def read(self):
        """Goes on until a whole read: a loaded machine may miss a reply."""
        self.worker.clock.advance(1)
        for _ in range(100):
            await self.runtime.synchronise_once()
            if self.runtime.health()["revocations_age_seconds"] == 0.0:
                return
        raise AssertionError("the store was never read")

    def verify(self, **claims):
        """Gives the reason that a new permit is refused with; None where it is valid."""
        token = self.worker.issuer.mint(["eu"], **claims)
        clock = self.worker.clock
        try:
            self.runtime.verifier.verify(token, now=clock.wall(), monotonic_s=clock.monotonic())
        except PermitRejected as rejected:
            return rejected.reason
        return None


class TestStoredRevocations:
    @pytest.fixture
    async def shared(self, bare, valkey, monkeypatch):
        monkeypatch.setenv("PERMIT_ROUTER_REDIS_URL", valkey.url)
        shared = SharedStore(bare.load(revoked={"jti": ["in-the-block"]}), valkey)
        yield shared
        await shared.runtime.stop()

    async def test_before_the_first_read_the_block_alone_counts(self, shared):
        await shared.revoke("jti", "a")
        assert (shared.verify(jti="a"), shared.verify(jti="in-the-block")) == (None, Reason.REVOKED)
        assert shared.runtime.health()["revocations_age_seconds"] is None

    async def test_the_store_adds_to_the_block(self, shared):
        await shared.revoke("jti", "a")
        await shared.read()
        reasons = [shared.verify(jti=jti) for jti in ("a", "in-the-block", "b")]
        assert reasons == [Reason.REVOKED, Reason.REVOKED, None]

    async def test_a_key_is_revoked(self, shared):
        await shared.revoke("kid", shared.worker.issuer.kid)
        await shared.read()
        assert shared.verify() is Reason.REVOKED

    async def test_a_policy_version_is_revoked(self, shared):
        await shared.revoke("policy_version", "41")
        await shared.read()
        assert (shared.verify(policy_version="41"), shared.verify(policy_version="42")) == (
            Reason.POLICY_STALE,
            None,
        )

    async def test_an_entry_ends_by_itself(self, shared):
        await shared.revoke("jti", "a", for_s=60)
        await shared.read()
        shared.worker.clock.advance(60)
        await shared.read()
        assert shared.verify(jti="a") is None

    async def test_a_request_under_way_makes_no_other_attempt(self, shared, request_state):
        state = shared.worker.state("eu")
        shared.worker.plan(state, "eu")
        request_state(state)
        await shared.revoke("jti", state.permit.jti)
        await shared.read()
        with pytest.raises(RequestDenied) as denied:
            Enforcement(shared.runtime).select("gpt", [])
        assert denied.value.verdict.reason is Reason.REVOKED

    async def test_the_verifier_is_built_anew_only_for_a_change(self, shared):
        await shared.read()
        before = shared.runtime.verifier
        await shared.read()
        assert shared.runtime.verifier is before
        await shared.revoke("jti", "a")
        await shared.read()
        assert shared.runtime.verifier is not before

    async def test_a_lost_store_denies_nobody_and_forgets_nothing(self, shared):
        await shared.revoke("jti", "a")
        await shared.read()
        shared.server.stop()
        shared.worker.clock.advance(5)
        await shared.runtime.synchronise_once()
        assert (shared.verify(jti="a"), shared.verify(jti="b")) == (Reason.REVOKED, None)
        assert shared.runtime.faults() == []
        assert shared.runtime.health()["revocations_age_seconds"] == 5.0

    async def test_health_counts_what_is_no_id(self, shared):
        await shared.revoke("kid", "a b")
        await shared.read()
        assert shared.runtime.health()["revocations_skipped"] == 1

    async def test_a_stopped_worker_keeps_no_connection(self, shared):
        await shared.read()
        await shared.runtime.stop()
        client = connect(shared.server.url, timeout_s=30.0)
        names = [each["id"] for each in await client.client_list()]
        await client.aclose()
        assert len(names) == 1

    @pytest.mark.parametrize("steps", range(24))
    async def test_the_task_ends_wherever_its_read_stands(self, shared, steps):
        shared.runtime.start()
        for _ in range(steps):
            await asyncio.sleep(0)
        await asyncio.wait_for(shared.runtime.stop(), timeout=30)

    async def test_single_use_shares_the_client(self, bare, valkey, monkeypatch):
        """Another client would look for the master by itself, in the time that a claim has."""
        monkeypatch.setenv("PERMIT_ROUTER_REDIS_URL", valkey.url)
        runtime = bare.load(binding="single_use").runtime
        assert runtime._store.single_use(runtime.policy)._store._client is runtime._store.revocations._client
        await runtime.stop()

    async def test_claims_to_put_right_hold_up_no_round(self, bare, valkey, monkeypatch):
        """They wait in line behind a burst; revocations and leases do not."""
        monkeypatch.setenv("PERMIT_ROUTER_REDIS_URL", valkey.url)
        runtime = bare.load(binding="single_use").runtime
        begun, may_end = 0, asyncio.Event()

        async def settle():
            nonlocal begun
            begun += 1
            await may_end.wait()

        monkeypatch.setattr(runtime._store.single_use(runtime.policy), "settle", settle)
        async with asyncio.timeout(20):
            for _ in range(3):
                await runtime._round()
        await asyncio.sleep(0)
        assert begun == 1
        may_end.set()
        await runtime.synchronise_once()
        await runtime.stop()

    async def test_a_burst_of_claims_leaves_no_connection_when_the_worker_ends(
        self, bare, valkey, monkeypatch
    ):
        monkeypatch.setenv("PERMIT_ROUTER_REDIS_URL", valkey.url)
        runtime = bare.load(binding="single_use").runtime
        await runtime.synchronise_once()
        uses = runtime._store.single_use(runtime.policy)._store
        burst = [asyncio.create_task(uses.put_if_absent(f"key-{n}", "v", 60)) for n in range(500)]
        await asyncio.sleep(0.01)
        await runtime.stop()
        assert await asyncio.gather(*burst, return_exceptions=True)
        with Redis.from_url(valkey.url) as admin:
            assert [each for each in admin.client_list() if each["name"] == "permit-router"] == []

    async def test_what_a_burst_of_single_uses_needs_is_opened_ahead(self, bare, valkey, monkeypatch):
        """C13: a machine whose processors are taken opens no connection in time."""
        monkeypatch.setenv("PERMIT_ROUTER_REDIS_URL", valkey.url)
        runtime = bare.load(binding="single_use").runtime
        await runtime.synchronise_once()
        with Redis.from_url(valkey.url) as admin:
            opened = [each for each in admin.client_list() if each["name"] == "permit-router"]
        assert len(opened) >= AT_ONCE
        await runtime.stop()

    async def test_a_busy_loop_uses_up_nothing_of_what_single_use_waits_for_the_store(
        self, bare, valkey, monkeypatch
    ):
        """C13"""
        monkeypatch.setenv("PERMIT_ROUTER_REDIS_URL", valkey.url)
        runtime = bare.load(binding="single_use").runtime

        async def be_busy():
            for _ in range(20):
                time.sleep(0.1)  # noqa: ASYNC251 - the loop stands still
                await asyncio.sleep(0)

        permit = bare.state("eu").permit
        claim, _ = await asyncio.gather(runtime.claim(permit, "0f" * 32, runtime.policy), be_busy())
        assert claim.is_recorded
        await runtime.stop()

    def test_a_url_that_is_none_stops_the_start(self, bare, monkeypatch):
        monkeypatch.setenv("PERMIT_ROUTER_REDIS_URL", "localhost:6379")
        with pytest.raises(ConfigurationError, match="PERMIT_ROUTER_REDIS_URL"):
            bare.load()
