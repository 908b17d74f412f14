"""The affinity memory: what is remembered, for whom, how long, and how much of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_plugin.state import AffinityMemory, AffinityScope
from litellm_plugin.testing import FakeClock

ACME = AffinityScope("acme", "internal")


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def memory(clock):
    return AffinityMemory(clock.monotonic)


def session_of(memory, scope=ACME, session="s", group="gpt"):
    return memory.read(scope, model_group=group, session=session, prefix=None).session_deployment


def warm_of(memory, scope=ACME, prefix="p"):
    return memory.read(scope, model_group="gpt", session=None, prefix=prefix).warm_tokens


def test_the_last_answer_of_a_session_counts(memory):
    for name in ("a-1", "b-1"):
        memory.remember_session(ACME, "s", name, model_group="gpt", lifetime_s=60)
    assert session_of(memory) == "b-1"


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"scope": AffinityScope("other", "internal")}, id="tenant"),
        pytest.param({"scope": AffinityScope("acme", "phi")}, id="classification"),
        pytest.param({"session": "other"}, id="session"),
        pytest.param({"group": "other"}, id="group"),
    ],
)
def test_a_session_is_nobody_elses(memory, other):
    memory.remember_session(ACME, "s", "a-1", model_group="gpt", lifetime_s=60)
    assert session_of(memory, **other) is None


@pytest.mark.parametrize("scope", [AffinityScope("other", "internal"), AffinityScope("acme", "phi")])
def test_a_prefix_is_nobody_elses(memory, scope):
    memory.remember_prefix(ACME, "p", "a-1", tokens=2_000, lifetime_s=60)
    assert warm_of(memory, scope) == {}


def test_a_prefix_may_be_warm_at_many_for_as_long_as_each_keeps_it(memory, clock):
    memory.remember_prefix(ACME, "p", "a-1", tokens=2_000, lifetime_s=60)
    memory.remember_prefix(ACME, "p", "b-1", tokens=2_000, lifetime_s=300)
    assert warm_of(memory) == {"a-1": 2_000, "b-1": 2_000}
    clock.advance(60)
    assert warm_of(memory) == {"b-1": 2_000}


def test_a_session_ends_with_its_time(memory, clock):
    memory.remember_session(ACME, "s", "a-1", model_group="gpt", lifetime_s=60)
    clock.advance(60)
    assert session_of(memory) is None


def test_a_flood_of_one_tenant_leaves_the_others(clock):
    memory = AffinityMemory(clock.monotonic, limit=100)
    memory.remember_session(ACME, "s", "a-1", model_group="gpt", lifetime_s=60)
    flood = AffinityScope("flood", "internal")
    for number in range(1_000):
        memory.remember_session(flood, str(number), "b-1", model_group="gpt", lifetime_s=60)
    assert session_of(memory) == "a-1"
    assert session_of(memory, flood, "999") == "b-1"
    assert session_of(memory, flood, "0") is None


def test_one_prefix_is_remembered_of_few_deployments(memory):
    for number in range(100):
        memory.remember_prefix(ACME, "p", f"d-{number}", tokens=1, lifetime_s=60)
    assert len(warm_of(memory)) == 16
    assert "d-99" in warm_of(memory)


writes = st.tuples(st.sampled_from("tuv"), st.sampled_from("xy"), st.integers(0, 40).map(str), st.booleans())


@given(st.lists(writes, max_size=200), st.integers(1, 20))
def test_it_never_holds_more_than_its_limit_nor_tells_another_scopes(ops, limit):
    memory = AffinityMemory(FakeClock().monotonic, limit=limit)
    for tenant, classification, name, is_session in ops:
        scope, deployment = AffinityScope(tenant, classification), f"{tenant}{classification}-{name}"
        if is_session:
            memory.remember_session(scope, name, deployment, model_group="gpt", lifetime_s=60)
        else:
            memory.remember_prefix(scope, name, deployment, tokens=1, lifetime_s=60)
        assert len(memory) <= limit
        found = memory.read(scope, model_group="gpt", session=name, prefix=name)
        told = {found.session_deployment, *found.warm_tokens} - {None}
        assert deployment in told
        assert all(each.startswith(f"{tenant}{classification}-") for each in told)


def remember_prefixes(memory, numbers, scope=ACME, lifetime_s=60):
    for number in numbers:
        memory.remember_prefix(scope, str(number), "a-1", tokens=1, lifetime_s=lifetime_s)


def test_what_ended_is_not_held(memory, clock):
    remember_prefixes(memory, range(100))
    clock.advance(61)
    remember_prefixes(memory, range(100, 200))
    assert len(memory) == 100
    assert warm_of(memory, prefix="199") == {"a-1": 1}


def test_a_steady_rate_holds_what_lives_and_no_more(memory, clock):
    held = []
    for number in range(1000):
        remember_prefixes(memory, [number], lifetime_s=60 if number % 2 else 30)
        clock.advance(1)
        held.append(len(memory))
    assert max(held) <= 62


def test_what_ended_of_a_scope_that_is_silent_is_dropped_by_the_others_writes(memory, clock):
    other = AffinityScope("other", "internal")
    remember_prefixes(memory, range(50), scope=other)
    clock.advance(61)
    remember_prefixes(memory, range(30))
    assert len(memory) == 30


def test_what_lives_is_kept_behind_what_ended(memory, clock):
    remember_prefixes(memory, ["short"], lifetime_s=10)
    remember_prefixes(memory, ["long"], lifetime_s=100)
    clock.advance(11)
    remember_prefixes(memory, ["other"])
    assert warm_of(memory, prefix="long") == {"a-1": 1}
    assert len(memory) == 2


def test_what_ends_at_once_is_not_held(memory):
    remember_prefixes(memory, range(3), lifetime_s=0)
    assert len(memory) == 0
    assert warm_of(memory, prefix="0") == {}
