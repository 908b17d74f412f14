from __future__ import annotations

import uuid

import pytest
from valkey_process import ValkeyProcess

from litellm_plugin.state import connect
from litellm_plugin.state.memory_exchange import MemoryExchange
from litellm_plugin.state.redis_exchange import RedisExchange

# Where time is not the case, a loaded machine must not end the test.
PATIENT_S = 30.0


def _server(folder, **options):
    process = ValkeyProcess(folder, **options)
    try:
        process.start()
        yield process
    finally:
        process.stop()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory):
    """The server that tests share; it is never stopped or hung."""
    yield from _server(tmp_path_factory.mktemp("valkey"))


@pytest.fixture
def own_valkey(tmp_path):
    """A server of one test, to hang and to kill; it lets itself be slowed down and filled."""
    yield from _server(tmp_path, **{"enable-debug-command": "local"})


@pytest.fixture
async def valkey_client(valkey):
    """A client of the server that tests share, which waits for long."""
    client = connect(valkey.url, PATIENT_S)
    yield client
    await client.aclose()


@pytest.fixture(params=["memory", "valkey"])
def exchange(request):
    """An empty exchange of each kind."""
    if request.param == "memory":
        return MemoryExchange()
    client = request.getfixturevalue("valkey_client")
    return RedisExchange(client, prefix=f"test-{uuid.uuid4().hex}:", deadline_s=PATIENT_S)
