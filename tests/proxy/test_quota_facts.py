"""Quotas as LiteLLM's configuration states them, and when they are declared."""

from __future__ import annotations

import math
import warnings

import litellm
import pytest

from litellm_plugin.proxy.deployments import Deployments
from litellm_plugin.proxy.quota_facts import is_limit, limit_parameter, quota
from litellm_plugin.state import Quota
from litellm_plugin.state.leases import MOST_UNITS


def entry(name="eu-1", **params):
    """A deployment of LiteLLM's model list."""
    return {
        "model_name": "gpt",
        "litellm_params": {"model": "openai/x", "api_key": "k", **params},
        "model_info": {"id": name, "endpoint": name.removesuffix("-1")},
    }


class TestPlaces:
    """Where LiteLLM's own strategy looks, in its order."""

    @pytest.mark.parametrize("place", ["entry", "litellm_params", "model_info"])
    def test_each_place_is_read(self, place):
        limits = {"rpm": 7, "tpm": 900}
        assert quota(limits if place == "entry" else {place: limits}) == Quota(7, 900)

    def test_the_first_place_that_says_something_counts(self):
        said = {"rpm": 1, "litellm_params": {"rpm": 2, "tpm": 20}, "model_info": {"rpm": 3, "tpm": 30}}
        assert quota(said) == Quota(1, 20)

    def test_what_cannot_be_read_leaves_the_next_place(self):
        assert quota({"rpm": "many", "litellm_params": {"rpm": 2}}) == Quota(2)

    @pytest.mark.parametrize("empty", [{}, {"litellm_params": None, "model_info": None}])
    def test_without_a_limit_there_is_none(self, empty):
        assert quota(empty) == Quota()


@pytest.mark.parametrize(
    ("value", "limit"),
    [
        pytest.param(0, 0, id="0"),
        pytest.param(5.0, 5, id="whole float"),
        pytest.param(2.5, None, id="part"),
        pytest.param(-1, None, id="negative"),
        pytest.param(True, None, id="bool"),
        pytest.param("10", None, id="text"),
        pytest.param(math.inf, None, id="infinite"),
        pytest.param(math.nan, None, id="no number"),
        pytest.param([], None, id="list"),
        pytest.param(MOST_UNITS, MOST_UNITS, id="the most"),
        pytest.param(MOST_UNITS + 1, None, id="more than is counted"),
        pytest.param(1e300, None, id="huge float"),
    ],
)
def test_odd_values(value, limit):
    assert quota({"rpm": value}) == Quota(limit)


@pytest.mark.parametrize("value", ["600", " 7 ", "5.0", 5.0, 0, -5, 3])
def test_a_parameter_is_read_as_litellm_reads_it(value):
    with warnings.catch_warnings():
        # LiteLLM builds pydantic models with the first one.
        warnings.simplefilter("ignore")
        params = litellm.types.router.LiteLLM_Params(model="openai/x", rpm=value)
    assert limit_parameter(value) == params.rpm


@pytest.mark.parametrize("value", ["600/min", "", 1.5, math.nan, math.inf, [], True, None])
def test_what_litellm_refuses_stays_as_it_is_written(value):
    assert limit_parameter(value) is value
    assert not is_limit(value)


class TestDeclaration:
    @pytest.fixture
    def router(self):
        with warnings.catch_warnings():
            # LiteLLM builds pydantic models with the first Router.
            warnings.simplefilter("ignore")
            router = litellm.Router(model_list=[entry(rpm=20)])
        yield router
        router.discard()

    def left(self, worker, name="eu-1"):
        return worker.runtime.shared.health_of(name).requests_left

    async def rounds(self, worker, number):
        for _ in range(number):
            await worker.runtime.synchronise_once()

    async def test_they_wait_for_the_router(self, worker, router):
        await self.rounds(worker, 3)
        assert self.left(worker) is None
        worker.runtime.deployments = Deployments(router)
        await self.rounds(worker, 1)
        assert self.left(worker) == 20

    async def test_a_changed_deployment_is_heard_of_within_half_a_minute(self, worker, router):
        worker.runtime.deployments = Deployments(router)
        await self.rounds(worker, 1)
        router.upsert_deployment(litellm.types.router.Deployment(**entry(rpm=50)))
        router.add_deployment(litellm.types.router.Deployment(**entry("us-1", rpm=10)))
        await self.rounds(worker, 30)
        assert (self.left(worker, "us-1"), worker.runtime.known_endpoints) == (10, {"eu", "us"})
        # A store that has been silent for long leaves a worker the whole of it.
        worker.clock.advance(61)
        assert self.left(worker) == 50

    async def test_a_removed_limit_is_none(self, worker, router):
        worker.runtime.deployments = Deployments(router)
        await self.rounds(worker, 1)
        router.upsert_deployment(litellm.types.router.Deployment(**entry()))
        await self.rounds(worker, 30)
        assert self.left(worker) is None

    async def test_a_limit_beyond_all_counting_stops_no_round(self, worker, router):
        """C14: one that is written to mean none."""
        router.add_deployment(litellm.types.router.Deployment(**entry("us-1", rpm=10**18)))
        worker.runtime.deployments = Deployments(router)
        await self.rounds(worker, 1)
        assert (self.left(worker), self.left(worker, "us-1")) == (20, None)
        assert worker.runtime.known_endpoints == {"eu", "us"}
