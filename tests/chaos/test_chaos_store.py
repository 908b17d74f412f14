"""What happens to the store and around it, under load: nobody valid is denied, nothing leaves its permit.

A short version of `make chaos`, which has the times before, while and after that its figures need.
"""

from __future__ import annotations

import pytest
from chaos_faults import FAULTS, FIRST
from chaos_run import SHORT, run
from chaos_stage import Stage

pytestmark = pytest.mark.proxy

# The store's own timeout is 50 ms, a hanging one's default client waits 25 s and more; a busy machine takes seconds.
NO_HANG_S = 12.0


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """The stage, and what came of its first fault: the proxy started without the store."""
    with Stage(tmp_path_factory.mktemp("stage"), shifts_clock=True) as stage:
        yield stage, run(stage, FIRST, SHORT)


def check(outcome):
    assert outcome.faults == [], (
        outcome.denied[:3],
        outcome.out_of_set[:3],
        outcome.lines,
        outcome.tracebacks,
    )
    assert outcome.slowest_s < NO_HANG_S


@pytest.mark.parametrize("fault", [pytest.param(FIRST, id=FIRST.name)])
def test_a_proxy_that_starts_without_its_store_serves_all_the_same(begun, fault):
    check(begun[1])


@pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.name) for fault in FAULTS])
def test_a_fault_under_load_denies_nobody_and_lets_nothing_out(begun, fault):
    check(run(begun[0], fault, SHORT))
