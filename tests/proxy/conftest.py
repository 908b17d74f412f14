from __future__ import annotations

import gc
import sys
import warnings
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

with warnings.catch_warnings():
    # LiteLLM's own import warns of its pydantic models and leaves a directory iterator to the collector.
    warnings.simplefilter("ignore")
    from litellm.proxy import proxy_server  # noqa: F401 - imported where its warnings are silenced

    gc.collect()

from proxy_cases import Worker
from route_inventory import complete_app

from litellm_plugin.proxy.context import _state
from litellm_plugin.proxy.outcomes import Outcomes
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


@pytest.fixture
def outcomes(worker):
    return Outcomes(worker.runtime)


@pytest.fixture
def state(worker, request_state):
    """A request that is planned over both endpoints and runs here."""
    state = worker.state("eu", "us")
    worker.plan(state, "eu", "us")
    request_state(state)
    return state


@pytest.fixture(scope="session")
def litellm_app():
    """LiteLLM's app with all the features that it loads at their first request."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        app = complete_app()
        gc.collect()
    return app
