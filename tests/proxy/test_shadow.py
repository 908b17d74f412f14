"""The shadow's guard: what goes wrong in it is counted, logged once, and touches no request."""

from __future__ import annotations

import logging

import pytest
from proxy_cases import POLICY_BLOCK

from litellm_plugin.proxy.shadow import Shadow
from litellm_plugin.routing import Affinity
from litellm_plugin.routing.candidates import Candidate
from litellm_plugin.settings import Flags, load_policy


@pytest.fixture
def shadow(tmp_path):
    return Shadow(load_policy(POLICY_BLOCK, Flags(), base=tmp_path))


def decide(shadow, worker, candidates):
    state = worker.state("eu", "us")
    decision = worker.plan(state, "eu", "us")
    now = worker.clock.wall()
    return shadow.decide(
        decision,
        candidates,
        state.permit,
        statistics=None,
        tried=frozenset(),
        affinity=Affinity(),
        attempts=None,
        now=now,
    )


async def test_a_failure_is_counted_and_logged_once(worker, shadow, caplog):
    with caplog.at_level(logging.ERROR):
        found = [decide(shadow, worker, [object()]) for _ in range(3)]
    assert found == [None, None, None]
    assert (shadow.health()["errors"], shadow.health()["decisions"]) == (3, 0)
    assert caplog.text.count("The shadow policy failed") == 1


async def test_the_same_policy_agrees(worker, shadow):
    candidates = [Candidate("eu-1", "eu"), Candidate("us-1", "us")]
    assert decide(shadow, worker, candidates).agrees
    assert (shadow.health()["decisions"], shadow.health()["disagreements"]) == (1, 0)
