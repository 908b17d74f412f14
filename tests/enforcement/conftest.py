from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

from battery import Battery
from fleet import SETTINGS, Fleet
from valkey_process import ValkeyProcess

from litellm_plugin.testing import RecordingProvider, ServerThread

BATTERY = pytest.StashKey[Battery]()


def pytest_addoption(parser):
    parser.addoption(
        "--battery", type=Path, help="write the side doors' rows to this file, for a whole table"
    )


def pytest_configure(config):
    config.stash[BATTERY] = Battery()


def pytest_sessionfinish(session):
    if path := session.config.getoption("--battery"):
        session.config.stash[BATTERY].write(path)
    if session.config.stash[BATTERY].faults() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    battery = config.stash[BATTERY]
    if battery.rows:
        terminalreporter.section("side doors")
        for line in (*battery.table(), *battery.faults()):
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def battery(request):
    return request.config.stash[BATTERY]


@pytest.fixture(scope="session")
def shared_evil():
    provider = RecordingProvider("evil")
    servers = ServerThread()
    provider.url = servers.add(provider)
    with servers:
        yield provider


@pytest.fixture
def evil(shared_evil):
    """A provider that no configuration names."""
    shared_evil.clear()
    return shared_evil


@pytest.fixture(scope="session")
def shared_fleet():
    with Fleet(settings=SETTINGS) as fleet:
        yield fleet.ready()


@pytest.fixture
def fleet(shared_fleet):
    shared_fleet.clear()
    yield shared_fleet
    assert shared_fleet.out_of_set() == []


@pytest.fixture(scope="session")
def shared_inert_fleet():
    """The control: the same proxy with the plugin switched off."""
    with Fleet(settings=SETTINGS, env={"PERMIT_ROUTER_ENABLED": "false"}) as fleet:
        yield fleet.ready()


@pytest.fixture
def inert_fleet(shared_inert_fleet):
    shared_inert_fleet.clear()
    return shared_inert_fleet


@pytest.fixture(scope="module")
def valkey(tmp_path_factory):
    process = ValkeyProcess(tmp_path_factory.mktemp("valkey"))
    try:
        process.start()
        yield process
    finally:
        process.stop()
