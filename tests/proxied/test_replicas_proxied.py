"""What replicas know together: two real proxies over one real store, judged at what the providers received."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from fleet import Fleet

from litellm_plugin.testing import Fault

pytestmark = pytest.mark.proxy

# Ends a test that would hang; a loaded machine is no failure.
PATIENT_S = 60.0
BREAKER = {"consecutive_failures": 3, "open_seconds": 4, "longest_open_seconds": 8, "probes_to_close": 1}
# Each test opens a breaker with requests that are then tried elsewhere.
RESILIENCE = {"attempts": 3, "breaker": BREAKER, "retry_budget": None}
ORDER = {"strategy": "static", "endpoints": ["eu-a", "eu-b", "us-a", "us-b"]}
REQUESTS_A_MINUTE = 20
BUDGET_USD = 0.002


class ReplicaFleet(Fleet):
    """A fleet with a group whose deployments may be sent few requests."""

    def config(self):
        config = super().config()
        for name in ("us-a", "us-b"):
            entries = self.group("metered", [name], id=f"{name}-metered", rpm=REQUESTS_A_MINUTE)
            config["model_list"].extend(entries)
        return config


def replica(valkey, **policy):
    policy = {"default": ORDER, "resilience": RESILIENCE, **policy}
    return ReplicaFleet(policy=policy, env={"PERMIT_ROUTER_REDIS_URL": valkey.url})


@pytest.fixture(scope="module")
def shared_pair(valkey):
    budgets = [{"name": "free", "per": "tenant", "limit_usd": BUDGET_USD, "period": "month"}]
    budgets[0]["where"] = 'permit.tenant_tier == "free"'
    with ExitStack() as stack:
        fleets = [stack.enter_context(replica(valkey, budgets=budgets)) for _ in range(2)]
        yield [fleet.ready() for fleet in fleets]


@pytest.fixture
def pair(shared_pair):
    for fleet in shared_pair:
        fleet.clear()
    yield shared_pair
    for fleet in shared_pair:
        assert fleet.out_of_set() == []


def shared_state(fleet):
    return fleet.health()["shared_state"]


def breaker_of(fleet, deployment_id):
    return shared_state(fleet)["breakers"]["deployments"].get(deployment_id, {}).get("breaker", "closed")


def until(holds):
    """Waits until something is true, and says whether it came true."""
    deadline_s = time.monotonic() + PATIENT_S
    while time.monotonic() < deadline_s:
        if holds():
            return True
        time.sleep(0.1)
    return False


def test_the_replicas_know_of_each_other(pair):
    assert until(lambda: all(shared_state(fleet)["workers"] == 2 for fleet in pair))
    assert all(shared_state(fleet)["store"]["answers"] for fleet in pair)


class TestBreakers:
    def opened(self, one):
        one.providers["eu-a"].always(Fault.status(500))
        for _ in range(3):
            answer = one.send("chat", ["eu-a", "eu-b"])
            assert (answer.status_code, answer.headers["x-permit-endpoint"]) == (200, "eu-b")

    def closed(self, pair):
        """Serves until both replicas ask the endpoint again: the next test begins with closed breakers."""
        one, other = pair
        one.providers["eu-a"].always(None)

        def is_served(fleet):
            answer = fleet.send("chat", ["eu-a", "eu-b"])
            return answer.status_code == 200 and answer.headers["x-permit-endpoint"] == "eu-a"

        return until(lambda: is_served(one)) and until(lambda: is_served(other))

    def test_what_one_replica_saw_fail_no_replica_asks_until_a_probe_succeeds(self, pair):
        one, other = pair
        self.opened(one)
        assert until(lambda: breaker_of(other, "eu-a-1") != "closed")
        answer = other.send("chat", ["eu-a", "eu-b"])
        (decision, *_) = other.records_of(answer)
        excluded = {each["endpoint"]: each["exclusion"] for each in decision["candidates"]}
        assert (answer.status_code, answer.headers["x-permit-endpoint"]) == (200, "eu-b")
        assert excluded["eu-a"] == "breaker_open"
        assert other.calls() == {"eu-b": 1}
        assert self.closed(pair)

    def test_a_permit_for_the_open_endpoint_alone_has_one_attempt_and_stays_inside(self, pair):
        one, _ = pair
        self.opened(one)
        before = one.calls()["eu-a"]
        answer = one.send("chat", ["eu-a"])
        assert answer.status_code == 503
        assert one.calls()["eu-a"] <= before + 1
        assert set(one.calls()) == {"eu-a", "eu-b"}
        assert self.closed(pair)


class TestLimits:
    def test_a_burst_over_two_replicas_exceeds_a_limit_by_no_more_than_the_leases(self, pair):
        assert until(lambda: all(shared_state(fleet)["workers"] == 2 for fleet in pair))

        def ask(number):
            fleet = pair[number % 2]
            return fleet.send("chat", ["us-a", "us-b"], model="metered").status_code

        def sent_to(name):
            return sum(fleet.calls().get(name, 0) for fleet in pair)

        def are_asked_for():
            """A fast machine is through before the first leases are there: it asks again."""
            with ThreadPoolExecutor(16) as pool:
                statuses.extend(pool.map(ask, range(120)))
            return sent_to("us-a") + sent_to("us-b") >= REQUESTS_A_MINUTE

        statuses = []
        assert until(are_asked_for)
        sent = {name: sent_to(name) for name in ("us-a", "us-b")}
        # Each replica may overdraw by one lease, and no lease is larger than the limit.
        assert all(each <= 3 * REQUESTS_A_MINUTE for each in sent.values())
        assert statuses.count(200) == sum(sent.values())
        assert set(statuses) == {200, 503}


class TestBudgets:
    def free(self, fleet, tenant):
        permit = {"tenant_tier": "free", "tenant": tenant}
        return fleet.send("chat", ["eu-a"], permit=permit, max_tokens=16)

    def is_spent(self, fleet, tenant):
        """Whether it stays refused over some exchanges: near its end a budget is handed from lease to lease."""
        for _ in range(4):
            if self.free(fleet, tenant).status_code != 403:
                return False
            time.sleep(0.7)
        return True

    def test_a_budget_that_one_replica_spent_is_spent_on_the_other(self, pair):
        one, other = pair
        assert until(lambda: self.is_spent(one, "spender"))
        assert until(lambda: self.is_spent(other, "spender"))
        assert other.calls().get("eu-a", 0) < one.calls()["eu-a"] / 2
        error = self.free(other, "spender").json()["error"]
        assert error["code"] == "budget_exceeded"
        assert "resets at" in error["message"]
        assert self.free(one, "another").status_code == 200

    def test_the_bill_of_an_attempt_is_what_counts(self, pair):
        answer = self.free(pair[0], "payer")
        decision, attempt = pair[0].records_of(answer)
        (budget,) = decision["budgets"]
        assert (budget["name"], budget["subject"], budget["action"]) == ("free", "payer", None)
        assert attempt["cost_usd"] > 0


def test_with_every_endpoint_failing_retries_stay_within_their_budget(valkey):
    resilience = {"attempts": 3, "breaker": None, "retry_budget": {"ratio": 0.2, "minimum": 3}}
    with ReplicaFleet(policy={"default": ORDER, "resilience": resilience}) as fleet:
        fleet.ready()
        for provider in fleet.providers.values():
            provider.always(Fault.status(500))
        began_s = time.monotonic()
        for _ in range(40):
            assert fleet.send("chat", ["eu-a", "eu-b", "us-a"]).status_code == 503
        windows = 1 + (time.monotonic() - began_s) / 9
        assert sum(fleet.calls().values()) <= 1.2 * 40 + 3 * windows
        assert fleet.out_of_set() == []


def test_litellms_own_redis_is_shared_where_no_flag_names_another(valkey):
    settings = {"router_settings": {"redis_host": "127.0.0.1", "redis_port": valkey.port}}
    with ReplicaFleet(
        settings={"router_settings": {**settings["router_settings"], "disable_cooldowns": True}}
    ) as fleet:
        fleet.ready()
        assert until(lambda: shared_state(fleet)["store"]["answers"])
        assert fleet.send("chat", ["eu-a"]).status_code == 200
