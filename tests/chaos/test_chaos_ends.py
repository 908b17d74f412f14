"""Two workers, hooks registered twice, and the proxy's own end, under load: a short version of `make chaos`."""

from __future__ import annotations

import pytest
from chaos_ends import run_ends
from chaos_run import SHORT

pytestmark = pytest.mark.proxy


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """What came of the faults, each on what the one before left."""
    return {outcome.fault: outcome for outcome in run_ends(tmp_path_factory.mktemp("ends"), SHORT)}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("C40-C42", id="C40-C42-workers-with-hooks-registered-twice"),
        pytest.param("C39-SIGKILL", id="C39-SIGKILL"),
        pytest.param("C39-SIGTERM", id="C39-SIGTERM"),
    ],
)
def test_workers_and_their_end_deny_nobody_and_leave_a_whole_log(ended, name):
    assert ended[name].faults == [], ended[name].details
