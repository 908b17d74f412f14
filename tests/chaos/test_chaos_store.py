"""What happens to the store and around it, under load: nobody valid is denied, nothing leaves its permit.

Some of the faults, each for seconds: `make chaos` has all of them, with the times before and after that figures need.
It runs alone (`make run-chaos`), since a machine that is busy with other tests looks like a store that is lost.
"""

from __future__ import annotations

import time

import pytest
from chaos_faults import FAULTS, FIRST
from chaos_load import Load
from chaos_run import SHORT, run
from chaos_stage import PREFIX, Stage
from operations_page import keys

pytestmark = pytest.mark.proxy

# The plugin waits 50 ms for the store, and no request waits for it; a busy machine takes seconds by itself.
NO_HANG_S = 25.0
# What no load without failures makes: an operator's revocations, single uses, what breakers and providers say.
UNLOADED = ("breakers", "provider-limits", "replay:", "revoked:", "waits", "lease:probe:")


# One of each kind: gone, hung, spoilt, refusing, emptied, overrun; and the proxy itself.
QUICK = ("C02", "C03", "C06", "C11", "C12-FLUSHALL", "C13", "C37")


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """The stage, and what came of its first fault: the proxy started without the store."""
    with Stage(tmp_path_factory.mktemp("stage"), shifts_clock=True) as stage:
        yield stage, run(stage, FIRST, SHORT)


def check(outcome):
    assert outcome.faults == [], outcome.details
    assert outcome.slowest_s < NO_HANG_S


@pytest.mark.parametrize("fault", [pytest.param(FIRST, id=FIRST.name)])
def test_a_proxy_that_starts_without_its_store_serves_all_the_same(begun, fault):
    check(begun[1])


@pytest.mark.parametrize(
    "fault", [pytest.param(fault, id=fault.name) for fault in FAULTS if fault.name in QUICK]
)
def test_a_fault_under_load_denies_nobody_and_lets_nothing_out(begun, fault):
    check(run(begun[0], fault, SHORT))


def test_the_operations_page_names_every_key_of_the_store(begun):
    stage, _ = begun
    stage.begin()
    documented = keys()
    expected = {name for name in documented if not any(f":{part}" in name for part in UNLOADED)}
    found = {}
    with stage.admin() as client, Load(stage.target, SHORT.rate):
        end_s = time.monotonic() + NO_HANG_S
        while not expected <= set(found.values()) and time.monotonic() < end_s:
            for key in client.scan_iter(f"{PREFIX}*"):
                name = key.decode()
                found[name] = next(
                    (page for page, pattern in documented.items() if pattern.fullmatch(name)), None
                )
            time.sleep(0.2)
    assert [name for name, page in found.items() if page is None] == []
    assert expected - set(found.values()) == set()
