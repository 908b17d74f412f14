from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from proxy_cases import Worker

from litellm_plugin.proxy.context import _state
from litellm_plugin.proxy.runtime import Runtime
from litellm_plugin.testing import FakeClock, PermitIssuer




@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A worker whose configuration was not loaded yet."""
    for name in ("ENABLED", "POLICY", "LOG"):
        monkeypatch.delenv(f"PERMIT_ROUTER_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    clock = FakeClock()
    issuer = PermitIssuer(algorithm="ES256", now=clock.wall)
    return Worker(Runtime(clock), issuer, clock, tmp_path)


@pytest.fixture
def worker(bare):
    return bare.load()


@pytest.fixture
def request_state():
    """Enters a request's state for one test."""
    yield _state.set
    _state.set(None)
