"""The shadow: it decides on what the decision saw; what goes wrong in it is counted, logged once, and touches no request."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from proxy_cases import POLICY_BLOCK

from litellm_plugin.errors import Reason
from litellm_plugin.permit import Revocations
from litellm_plugin.proxy.caller_facts import utc_moment
from litellm_plugin.proxy.in_force import in_force
from litellm_plugin.proxy.outcomes import Outcomes
from litellm_plugin.proxy.planning import Planner
from litellm_plugin.proxy.shadow import Basis, Shadow
from litellm_plugin.routing import Affinity, RequestFacts, StatisticsSnapshot
from litellm_plugin.routing.candidates import Candidate, EndpointStatistics, Prices
from litellm_plugin.settings import Flags, load_policy

BOTH = (Candidate("eu-1", "eu"), Candidate("us-1", "us"))
BY_LATENCY = {"default": {"strategy": "latency"}}
NOTHING_STICKS = {"stickiness": {"session": {"enabled": False}, "prompt_cache": {"enabled": False}}}


@pytest.fixture
def second(tmp_path):
    """Makes a shadow of a changed policy."""
    return lambda **changes: Shadow(load_policy({**POLICY_BLOCK, **changes}, Flags(), base=tmp_path))


@pytest.fixture
def shadow(second):
    return second()


def basis(worker, candidates=BOTH, **changes):
    found = Basis(
        candidates=candidates,
        statistics=None,
        tried=frozenset(),
        affinity=Affinity(),
        attempts=None,
        revoked=Revocations(),
        now=worker.clock.wall(),
    )
    return replace(found, **changes)


def decide(shadow, worker, *args, **changes):
    state = worker.state("eu", "us")
    decision = worker.plan(state, "eu", "us")
    return shadow.decide(decision, state.permit, basis(worker, *args, **changes))


def chosen(found):
    return found.decision.chosen.deployment_id


async def test_a_failure_is_counted_and_logged_once(worker, shadow, caplog):
    with caplog.at_level(logging.ERROR):
        found = [decide(shadow, worker, [object()]) for _ in range(3)]
    assert found == [None, None, None]
    assert (shadow.health()["errors"], shadow.health()["decisions"]) == (3, 0)
    assert caplog.text.count("The shadow policy failed") == 1


async def test_the_same_policy_agrees(worker, shadow):
    assert decide(shadow, worker).agrees
    assert (shadow.health()["decisions"], shadow.health()["disagreements"]) == (1, 0)


class TestWhatReachesIt:
    @pytest.mark.parametrize(("fast", "slow"), [("eu-1", "us-1"), ("us-1", "eu-1")])
    async def test_statistics(self, worker, second, fast, slow):
        measured = {
            name: EndpointStatistics(attempts=100, total_p50_ms=ms, total_p95_ms=ms)
            for name, ms in ((fast, 100.0), (slow, 9000.0))
        }
        statistics = StatisticsSnapshot(measured, 0.0)
        assert chosen(decide(second(**BY_LATENCY), worker, statistics=statistics)) == fast

    @pytest.mark.parametrize(("tried", "left"), [("eu-1", "us-1"), ("us-1", "eu-1")])
    async def test_what_was_tried(self, worker, shadow, tried, left):
        assert chosen(decide(shadow, worker, tried=frozenset({tried}))) == left

    @pytest.mark.parametrize("last", ["eu-1", "us-1"])
    async def test_affinity(self, worker, shadow, last):
        assert chosen(decide(shadow, worker, affinity=Affinity(session_deployment=last))) == last

    async def test_no_affinity_that_it_does_not_want(self, worker, second):
        affinity = Affinity(session_deployment="us-1", warm_tokens={"us-1": 5})
        found = decide(second(**NOTHING_STICKS), worker, affinity=affinity)
        assert found.decision.affinity == Affinity()

    async def test_the_number_of_attempts(self, worker, shadow):
        assert len(decide(shadow, worker, attempts=1).decision.plan) == 1

    async def test_what_the_shared_store_revokes(self, worker, shadow):
        revoked = Revocations(kid=frozenset({worker.issuer.kid}))
        assert decide(shadow, worker, revoked=revoked).verdict.reason is Reason.REVOKED


class TestStickinessOfEither:
    """A session is read and remembered when one of the two policies wants it, and counts for that one."""

    @pytest.fixture
    def state(self, worker, second):
        state = worker.state("eu", "us")
        state.facts = RequestFacts("gpt", state.call_type, input_tokens=1, session="s")
        return state

    def shadowed(self, worker, state):
        """What both decided on a session's second request, whose first one `us-1` answered."""
        first = worker.attempt(state, "us")
        first.model_group = "gpt"
        Outcomes(worker.runtime)._remember(state, first)
        state.attempts.clear()
        return Planner(worker.runtime)._decide(state, "gpt", BOTH)

    async def test_the_shadow_alone(self, worker, state, second):
        own = second(**NOTHING_STICKS)._policy
        state.policy, state.shadow = own, second()
        decision, shadowed = self.shadowed(worker, state)
        assert decision.affinity == Affinity()
        assert chosen(shadowed) == "us-1"

    async def test_the_policy_alone(self, worker, state, second):
        state.shadow = second(**NOTHING_STICKS)
        decision, shadowed = self.shadowed(worker, state)
        assert decision.chosen.deployment_id == "us-1"
        assert shadowed.decision.affinity == Affinity()


async def test_a_language_that_it_alone_reads_is_told(worker, second):
    rule = {"name": "german", "when": 'request.language == "de"', "use": {"strategy": "cost"}}
    alone = in_force(worker.runtime.policy, worker.runtime.in_force.sources)
    assert not alone.reads_language
    assert replace(alone, shadow=second(rules=[rule])).reads_language


def test_it_is_asked_with_what_was_left_for_the_first(bare, tmp_path, request_state):
    """The first policy's own reservation is not one that the second would have met."""
    budgets = {"budgets": [{"name": "cap", "per": "tenant", "limit_usd": 0.5, "period": "day"}]}
    worker = bare.load(budgets)
    state = worker.state("eu")
    state.shadow = Shadow(load_policy({**POLICY_BLOCK, **budgets}, Flags(), base=tmp_path))
    moment = utc_moment(worker.clock.wall())
    state.facts = RequestFacts("gpt", state.call_type, input_tokens=1, moment=moment)
    request_state(state)
    # A worker may spend a tenth of it before its first exchange, and this takes all of that.
    priced = (Candidate("eu-1", "eu", prices=Prices(0.0, 0.0, 0.05)),)
    Planner(worker.runtime).plan(state, "gpt", priced)
    assert state.shadow.health()["disagreements"] == 0
