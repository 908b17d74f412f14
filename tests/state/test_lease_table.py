"""The lease table in Python and in Lua: the same rules, whatever stands there and whoever asks."""

from __future__ import annotations

import dataclasses
import uuid
from importlib import resources

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from litellm_plugin.state.lease_table import MOST_UNITS, REMEMBERED, LeaseTerms, kept_ms, settle

START_MS = 1_800_000_000_000
LUA = resources.files("litellm_plugin.state").joinpath("lease.lua").read_text()
# The server's clock is not the test's to move: the script takes the time as two more arguments, and writes down for how
# long it keeps the table.
TIMED = LUA.replace("redis.call('TIME')", "{ARGV[10], ARGV[11]}").replace(
    "redis.call('PEXPIRE', key, ", "redis.call('SET', key .. ':kept_ms', "
)

units = st.integers(-MOST_UNITS, MOST_UNITS) | st.integers(-5, 60)
words = st.sampled_from(["", "x", "-", "1", "-1", "007", "-0", "1.5", "1e3", "9" * 15, "9" * 16, "nan", " 1"])
numbers = st.integers(-3, 50).map(str) | words
foreign = st.dictionaries(
    st.sampled_from(["w:", "w:a", "w:b", "s:", "s:x", "s:0", "s:-1", f"s:{START_MS // 100}", "u", "other"]),
    words | st.lists(numbers | st.just(str(START_MS + 50)), min_size=1, max_size=6).map(" ".join),
)


@st.composite
def requests(draw):
    sequence = draw(st.integers(1, 6))
    terms = LeaseTerms(
        worker=draw(st.sampled_from(["a", "b", "c w:d"])),
        sequence=sequence,
        answered=draw(st.integers(0, sequence)),
        limit=draw(units),
        spent=draw(units),
        want=draw(units),
        ttl_ms=draw(st.sampled_from([1, 100, 1000])),
        slice_ms=draw(st.sampled_from([0, 1, 100])),
        lifetime_ms=draw(st.sampled_from([50, 600_000])),
    )
    return terms, draw(st.sampled_from([0, 1, 99, 100, 1200, 20_000, -1, -150, -3_600_000]))


@pytest.fixture(scope="module")
def server(valkey):
    with Redis.from_url(valkey.url, decode_responses=True) as client:
        yield client


def by_script(server, key, terms, now_ms):
    arguments = [
        terms.worker,
        terms.sequence,
        terms.answered,
        terms.limit,
        terms.spent,
        terms.want,
        terms.ttl_ms,
        terms.slice_ms,
        terms.lifetime_ms,
        now_ms // 1000,
        now_ms % 1000 * 1000,
    ]
    lease = server.eval(TIMED, 1, key, *arguments)
    return tuple(lease), server.hgetall(key), int(server.get(f"{key}:kept_ms"))


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(table=foreign, asked=st.lists(requests(), min_size=1, max_size=12))
def test_the_script_and_the_table_say_the_same(server, table, asked):
    key, now_ms = f"test:{uuid.uuid4().hex}", START_MS
    if table:
        server.hset(key, mapping=table)
    for terms, passed_ms in asked:
        now_ms += passed_ms
        lease, table = settle(table, terms, now_ms)
        expected = (lease.granted, lease.used, lease.held), table, kept_ms(table, terms)
        assert by_script(server, key, terms, now_ms) == expected
    server.delete(key, f"{key}:kept_ms")


@given(asked=st.lists(requests(), min_size=1, max_size=12))
def test_nothing_is_granted_beyond_the_limit(asked):
    table, now_ms = {}, START_MS
    for sequence, (terms, passed_ms) in enumerate(asked, start=1):
        now_ms += passed_ms
        lease, table = settle(table, dataclasses.replace(terms, sequence=sequence), now_ms)
        assert lease.granted == 0 or 0 < lease.granted <= lease.held <= terms.limit - lease.used


@pytest.mark.parametrize(
    "passed_ms", [pytest.param(3_600_000, id="C12-ahead"), pytest.param(-3_600_000, id="C12-back")]
)
def test_after_a_jump_of_the_clock_leases_are_granted_again(passed_ms):
    terms = LeaseTerms("a", 1, 0, 100, 100, 0, 10_000, 5_000, 600_000)
    _, table = settle({}, terms, START_MS)
    asked = LeaseTerms("b", 1, 0, 100, 0, 100, 10_000, 5_000, 600_000)
    lease, _ = settle(table, asked, START_MS + passed_ms)
    assert lease.granted == 100


@pytest.mark.parametrize(("spent", "kept"), [(0, (REMEMBERED + 1) * 10_000), (1, 600_000), (-1, 600_000)])
def test_a_table_of_which_nothing_is_spent_is_kept_for_some_lease_times(spent, kept):
    """Callers name subjects of budgets, and to look at one is enough to make its table."""
    terms = LeaseTerms("a", 1, 0, 100, spent, 10, 10_000, 0, 600_000)
    _, table = settle({}, terms, START_MS)
    assert kept_ms(table, terms) == kept
