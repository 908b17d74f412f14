"""What the operations page gives operators to paste does what it says, on a real server."""

from __future__ import annotations

import re

import pytest
from operations_page import PAGE
from redis import Redis
from valkey_process import ValkeyProcess

from litellm_plugin.state import RedisReplayStore, RevokedKind, StoredRevocations, connect
from litellm_plugin.state.exchange import Batch, Contribution, HashChange, LeaseRequest
from litellm_plugin.state.redis_exchange import RedisExchange

USER = re.compile(r"^ACL SETUSER .+$", re.MULTILINE)
SECRET = "s3cret"
PATIENT_S = 5.0


@pytest.fixture
def server(tmp_path):
    process = ValkeyProcess(tmp_path)
    try:
        process.start()
        yield process
    finally:
        process.stop()


@pytest.fixture(params=[pytest.param([], id="as-written"), pytest.param(["-eval", "-evalsha"], id="C10-ACL")])
async def client(server, request):
    """Connects as the user that the page says to make, and as one who may not run scripts."""
    (command,) = USER.findall(PAGE.read_text())
    with Redis.from_url(server.url) as admin:
        admin.execute_command(*command.replace("SECRET", SECRET).split(), *request.param)
        admin.execute_command("ACL", "SETUSER", "default", "off")
    url = server.url.replace("redis://", f"redis://permit-router:{SECRET}@")
    connection = connect(url, timeout_s=PATIENT_S)
    yield connection
    await connection.aclose()


async def exchanged(client):
    changes = (HashChange("latency:d1:1", 60.0, add={"a": 1}, put={"b": "text"}),)
    leases = (LeaseRequest("rpm:d1", 100, spent=1, want=5, ttl_s=60.0, window_s=60.0),)
    batch = Batch("worker", 1, Contribution(changes, ("latency:d1:1",), leases))
    return await RedisExchange(client, deadline_s=PATIENT_S).exchange(batch)


async def test_its_user_may_do_all_that_the_plugin_does(client):
    reply = await exchanged(client)
    assert reply.hashes == {"latency:d1:1": {"a": "1", "b": "text"}}
    assert (reply.leases["rpm:d1"].granted, reply.skipped) == (5, 0)

    revocations = StoredRevocations(client)
    await revocations.read(0.0, 0.0)
    assert revocations.age_s(0.0) == 0.0
    assert revocations.names(RevokedKind.JTI) == frozenset()

    uses = RedisReplayStore(client)
    assert await uses.put_if_absent("replay:{permit}:1", "taken", 60.0) is None
    assert await uses.put_if_absent("replay:{permit}:1", "taken again", 60.0) == "taken"
    await uses.replace("replay:{permit}:1", "free", 60.0)


async def test_a_key_of_another_type_is_overwritten_by_its_user(client):
    for key in ("latency:d1:1", "lease:rpm:d1"):
        await client.set(f"permit-router:{{state}}:v1:{key}", "garbage")
    await exchanged(client)
    assert (await exchanged(client)).hashes == {"latency:d1:1": {"a": "2", "b": "text"}}
