from __future__ import annotations

import pytest
from valkey_process import ValkeyProcess


def _server(folder):
    process = ValkeyProcess(folder)
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
    """A server of one test, to hang and to kill."""
    yield from _server(tmp_path)
