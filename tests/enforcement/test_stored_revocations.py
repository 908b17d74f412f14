"""What an operator revokes in the shared store, held by a real proxy; then the store is killed."""

from __future__ import annotations

import time
import uuid

import pytest
from fleet import Fleet
from redis import Redis
from valkey_process import ValkeyProcess

pytestmark = pytest.mark.proxy

# The background task reads once a second; a loaded machine is no fault of ours.
PATIENT_S = 60.0


@pytest.fixture(scope="module")
def stored(valkey):
    with Fleet(env={"PERMIT_ROUTER_REDIS_URL": valkey.url}) as fleet:
        yield fleet.ready()


@pytest.fixture
def fleet(stored):
    stored.clear()
    yield stored
    assert stored.out_of_set() == []


def revoke(valkey, kind, name):
    """Revokes for an hour, as an operator does it with redis-cli."""
    with Redis.from_url(valkey.url) as client:
        client.execute_command("ZADD", f"permit-router:revoked:{kind}", int(time.time()) + 3600, name)


def end(fleet, **claims):
    """Sends one request and says how it ended."""
    answer = fleet.send("chat", ["eu-a"], permit=claims)
    return answer.status_code, answer.json().get("error", {}).get("code")


def settled(fleet, wanted, **claims):
    """Sends until a request ends as wanted, and gives how the last one ended."""
    deadline_s = time.monotonic() + PATIENT_S
    while (found := end(fleet, **claims)) != wanted and time.monotonic() < deadline_s:
        time.sleep(0.2)
    return found


@pytest.mark.parametrize(
    ("kind", "claim", "wanted"),
    [
        pytest.param("jti", "jti", (401, "revoked"), id="R71-stored-jti"),
        pytest.param(
            "policy_version", "policy_version", (403, "policy_stale"), id="R71-stored-policy-version"
        ),
    ],
)
def test_what_is_revoked_in_the_store_is_served_no_more(fleet, valkey, kind, claim, wanted):
    name = uuid.uuid4().hex
    assert end(fleet, **{claim: name}) == (200, None)

    revoke(valkey, kind, name)

    assert settled(fleet, wanted, **{claim: name}) == wanted
    fleet.clear()
    assert end(fleet, **{claim: name}) == wanted
    assert fleet.calls() == {}
    assert end(fleet) == (200, None)


def test_a_key_that_is_revoked_in_the_store_signs_no_more(valkey):  # R71
    with Fleet(env={"PERMIT_ROUTER_REDIS_URL": valkey.url}) as fleet:
        fleet.ready()
        assert end(fleet) == (200, None)

        revoke(valkey, "kid", fleet.issuer.kid)

        assert settled(fleet, (401, "revoked")) == (401, "revoked")
        fleet.clear()
        assert end(fleet) == (401, "revoked")
        assert fleet.calls() == {}


def test_without_the_store_what_was_revoked_stays_so_and_others_are_served(own_valkey):
    with Fleet(env={"PERMIT_ROUTER_REDIS_URL": own_valkey.url}) as fleet:
        fleet.ready()
        revoke(own_valkey, "jti", "gone")
        assert settled(fleet, (401, "revoked"), jti="gone") == (401, "revoked")

        own_valkey.stop()
        time.sleep(3)

        assert end(fleet, jti="gone") == (401, "revoked")
        fleet.clear()
        assert end(fleet) == (200, None)
        assert fleet.calls() == {"eu-a": 1}
        health = fleet.client.get("/permit-router/v1/health").json()
        assert health["status"] == "green"
        assert health["revocations_age_seconds"] >= 1.5


@pytest.fixture
def own_valkey(tmp_path):
    """A server of one test, to kill."""
    server = ValkeyProcess(tmp_path)
    try:
        server.start()
        yield server
    finally:
        server.stop()
