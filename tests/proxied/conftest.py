"""What goes through a real proxy and says nothing of the permit's limits: tried on the locked LiteLLM alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from valkey_process import ValkeyProcess

# The fleet is the enforcement suite's.
sys.path.insert(0, str(Path(__file__).parent.parent / "enforcement"))


@pytest.fixture(scope="module")
def valkey(tmp_path_factory):
    """A server that a module's replicas share."""
    process = ValkeyProcess(tmp_path_factory.mktemp("valkey"))
    try:
        process.start()
        yield process
    finally:
        process.stop()
