"""Provider limits: who is left alone, for how long, and how the other workers learn of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_plugin.state.exchange import Batch, Reply
from litellm_plugin.state.memory_exchange import MemoryExchange
from litellm_plugin.state.provider_headers import MOST_WAIT_S
from litellm_plugin.state.provider_limits import (
    KEY,
    MOST_DEPLOYMENTS,
    MOST_PER_EXCHANGE,
    WELCOME,
    ProviderLimits,
)
from litellm_plugin.testing import FakeClock

WALL_S = 1_700_000_000.0


def requests(remaining, limit=None, reset="60s"):
    said = {"x-ratelimit-remaining-requests": str(remaining), "x-ratelimit-reset-requests": reset}
    return said if limit is None else said | {"x-ratelimit-limit-requests": str(limit)}


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def limits(clock):
    return ProviderLimits(clock.monotonic)


class Team:
    """Workers whose monotonic clocks differ, over one store."""

    def __init__(self, clock):
        self._clock = clock
        self._store = MemoryExchange(clock.wall)
        self._sequence = 0
        self.workers = [ProviderLimits(lambda ahead=ahead: clock.monotonic() + ahead) for ahead in (0.0, 5e6)]

    def exchange(self, *, fails=False):
        for worker in self.workers:
            self._sequence += 1
            contribution = worker.outgoing(self._clock.wall())
            if fails:
                worker.lost(was_sent=False)
                continue
            exchanged = self._store.exchange(Batch("w", self._sequence, contribution))
            try:
                exchanged.send(None)
            except StopIteration as answer:
                worker.incoming(answer.value, self._clock.wall())


@pytest.fixture
def team(clock):
    return Team(clock)


def test_who_said_nothing_is_welcome(limits):
    limits.hear("d1", {"content-type": "application/json"}, WALL_S)
    assert limits.standing("d1") == WELCOME


@pytest.mark.parametrize(("left", "limit"), [(-1, None), (-1, -1), (0, 0), (0, -1)])
def test_a_server_without_a_limit_is_welcome(limits, left, limit):
    """C14"""
    limits.hear("d1", requests(left, limit), WALL_S)
    assert limits.standing("d1") == WELCOME


def test_nothing_left_waits_for_the_reset(limits, clock):
    limits.hear("d1", requests(0), WALL_S)
    standing = limits.standing("d1")
    assert (standing.waits, standing.requests_left) == ("the provider has no requests left", 0)
    assert standing.retry_after_s == pytest.approx(60)
    clock.advance(60)
    assert limits.standing("d1") == WELCOME


def test_a_limit_fills_up_at_a_steady_rate(limits, clock):
    limits.hear("d1", requests(0, 100), WALL_S)
    left = []
    for _ in range(4):
        left.append(limits.standing("d1").requests_left)
        clock.advance(15)
    assert left == [0, 25 - 2, 50 - 2, 75 - 2]
    assert limits.standing("d1") == WELCOME


def test_the_first_request_is_waited_for_and_not_the_whole_limit(limits, clock):
    limits.hear("d1", requests(0, 100), WALL_S)
    wait_s = limits.standing("d1").retry_after_s
    assert wait_s == pytest.approx(1.8)
    clock.advance(wait_s + 0.001)
    assert limits.standing("d1").requests_left == 1


def test_the_last_fiftieth_is_left_to_others(limits):
    limits.hear("d1", requests(20, 1_000), WALL_S)
    assert limits.standing("d1").waits == "the provider has no requests left"
    limits.hear("d2", requests(21, 1_000), WALL_S)
    assert limits.standing("d2").requests_left == 1


def test_tokens_are_told_apart(limits):
    limits.hear("d1", {"x-ratelimit-remaining-tokens": "700", "x-ratelimit-reset-tokens": "1m"}, WALL_S)
    assert limits.standing("d1").tokens_left == 700
    assert limits.standing("d1").requests_left is None


def test_other_workers_wait_too(team, clock):
    first, second = team.workers
    first.hear("d1", requests(0, reset="20s"), WALL_S)
    team.exchange()
    clock.advance(5)
    assert second.standing("d1").retry_after_s == pytest.approx(15, abs=0.01)


@pytest.mark.parametrize("is_known", [True, False], ids=["configured", "not yet"])
def test_a_flood_of_foreign_names_hides_no_limit(limits, clock, is_known):
    """C14"""
    if is_known:
        limits.know(["d1", "d2"])
    limits.hear("d1", requests(0), WALL_S)
    said = f"{WALL_S * 1000:.0f} 0 -1 60000 -1 -1 -1"
    told = {f"x{number}": said for number in range(MOST_DEPLOYMENTS)} | {"d2": said}
    limits.incoming(Reply(now_s=WALL_S, hashes={KEY: told}, leases={}), WALL_S)
    assert limits.standing("d1").waits
    assert (limits.standing("x1") == WELCOME, bool(limits.standing("d2").waits)) == (is_known, is_known)


def test_what_is_not_configured_is_forgotten(limits):
    for name in ("d1", "x"):
        limits.hear(name, requests(0), WALL_S)
    limits.know(["d1"])
    assert limits.standing("d1").waits
    assert limits.standing("x") == WELCOME
    assert limits.outgoing(WALL_S).changes[0].put.keys() == {"d1"}


def test_other_workers_learn_what_is_left(team, clock):
    first, second = team.workers
    first.hear("d1", requests(10, 100), WALL_S)
    second.hear("d1", requests(60, 100), WALL_S)
    clock.advance(1)
    first.hear("d1", requests(5, 100), WALL_S)
    team.exchange()
    assert first.standing("d1").requests_left == second.standing("d1").requests_left == 3


def test_what_is_not_near_is_not_told(team):
    first, second = team.workers
    first.hear("d1", requests(90, 100), WALL_S)
    team.exchange()
    assert second.standing("d1") == WELCOME


def test_what_was_lost_is_told_again(team):
    """C02."""
    first, second = team.workers
    first.hear("d1", requests(0, reset="20s"), WALL_S)
    team.exchange(fails=True)
    team.exchange()
    assert second.standing("d1").waits


def test_what_was_lost_and_passed_is_not_told(team, clock):
    first, _ = team.workers
    first.hear("d1", requests(0, reset="20s"), WALL_S)
    first.outgoing(WALL_S)
    clock.advance(30)
    first.outgoing(WALL_S + 30)
    first.lost(was_sent=True)
    assert first.outgoing(WALL_S + 30).changes == ()


def test_nobody_is_told_of_what_nobody_said(limits):
    contribution = limits.outgoing(WALL_S)
    assert (contribution.changes, contribution.reads) == ((), (KEY,))


def test_one_exchange_tells_a_bounded_part(limits):
    for number in range(MOST_PER_EXCHANGE + 7):
        limits.hear(f"d{number}", requests(0, reset="20s"), WALL_S)
    told = [len(limits.outgoing(WALL_S).changes[0].put) for _ in range(2)]
    assert told == [MOST_PER_EXCHANGE, 7]


def test_beyond_the_bound_the_oldest_are_forgotten(limits):
    for number in range(MOST_DEPLOYMENTS + 1):
        limits.hear(f"d{number}", requests(0, reset="20s"), WALL_S)
    assert limits.standing("d0") == WELCOME
    assert limits.standing("d1").waits


def told(fields):
    return Reply(now_s=WALL_S, hashes={KEY: fields}, leases={})


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("soon", id="C06 no number"),
        pytest.param("", id="C06 empty"),
        pytest.param("1 2 3", id="C06 too few"),
        pytest.param("nan -1 -1 -1 -1 -1 -1", id="C06 not a number"),
        pytest.param("1 0 0 1 -1 -1 -1 2", id="C15 of another version"),
        pytest.param("1" * 5_000 + " 0 0 1 -1 -1 -1", id="C14 too long"),
        pytest.param("1 0 100 60000 0 100 60000", id="C14 long ago"),
        pytest.param(f"{WALL_S * 1000:.0f} 0 100 -60000 0 -1 -1", id="C14 reset before it was said"),
    ],
)
def test_what_cannot_be_read_changes_nothing(limits, text):
    limits.incoming(told({"d1": text}), WALL_S)
    assert limits.standing("d1") == WELCOME


def test_a_reading_of_the_future_is_of_now(limits, clock):
    """C14, C12."""
    limits.incoming(told({"d1": "99999999999999 0 100 60000 -1 -1 -1"}), WALL_S)
    clock.advance(60)
    assert limits.standing("d1") == WELCOME


words = st.one_of(st.text(), st.from_regex(r"[-0-9]{1,15}( [-0-9]{1,15}){6}", fullmatch=True))


@given(words)
def test_whatever_others_write_nobody_waits_for_ever(text):
    """C06, C14."""
    clock = FakeClock()
    limits = ProviderLimits(clock.monotonic)
    limits.incoming(told({"d1": text}), WALL_S)
    clock.advance(MOST_WAIT_S)
    assert limits.standing("d1") == WELCOME
