"""The roster: who counts as a worker that shares the store."""

from __future__ import annotations

import pytest

from litellm_plugin.state.exchange import Batch, Reply
from litellm_plugin.state.roster import MOST_WORKERS, PAGE_S, Roster

NOW_S = 1_700_000_010.0


class Fleet:
    def __init__(self, exchange):
        self._exchange = exchange
        self._sequence = 0

    async def go_round(self, rosters, now_s=NOW_S):
        for roster in rosters:
            self._sequence += 1
            contribution = roster.outgoing(now_s)
            roster.incoming(await self._exchange.exchange(Batch("w", self._sequence, contribution)), now_s)


@pytest.fixture
def fleet(exchange):
    return Fleet(exchange)


async def test_workers_count_each_other(fleet):
    rosters = [Roster(f"w{number}") for number in range(4)]
    await fleet.go_round(rosters)
    await fleet.go_round(rosters)
    assert [roster.count() for roster in rosters] == [4, 4, 4, 4]


async def test_who_is_gone_is_forgotten(fleet):
    here, gone = Roster("here"), Roster("gone")
    await fleet.go_round([gone, here])
    counts = []
    for page in (1, 2):
        await fleet.go_round([here], NOW_S + page * PAGE_S)
        counts.append(here.count())
    assert counts == [2, 1]


async def test_a_name_is_written_once_a_page(fleet):
    roster = Roster("w1")
    await fleet.go_round([roster])
    assert roster.outgoing(NOW_S).changes == ()
    assert len(roster.outgoing(NOW_S + PAGE_S).changes) == 1


async def test_a_lost_store_changes_no_count(fleet):
    """C02."""
    first, second = Roster("w1"), Roster("w2")
    await fleet.go_round([first, second])
    second.outgoing(NOW_S)
    second.lost(was_sent=True)
    assert second.count() == 2


async def test_a_flushed_store_gets_the_name_again(fleet):
    """C12."""
    roster = Roster("w1")
    await fleet.go_round([roster])
    roster.outgoing(NOW_S)
    roster.incoming(Reply(now_s=NOW_S, hashes={}, leases={}), NOW_S)
    assert roster.count() == 1
    assert len(roster.outgoing(NOW_S).changes) == 1


async def test_c12_a_flushed_store_makes_no_fleet_smaller(fleet):
    """Each worker would ask for half of every limit, and the third get nothing."""
    rosters = [Roster(f"w{number}") for number in range(8)]
    for _ in range(2):
        await fleet.go_round(rosters)
    for roster in rosters:
        roster.outgoing(NOW_S)
        roster.incoming(Reply(now_s=NOW_S, hashes={}, leases={}), NOW_S)
    assert {roster.count() for roster in rosters} == {8}


def test_names_that_were_made_up_count_up_to_a_bound():
    """C14: somebody wrote twenty thousand."""
    roster = Roster("w1")
    roster.outgoing(NOW_S)
    (page, *_) = roster.outgoing(NOW_S).reads
    names = {f"fake{number}": "" for number in range(20_000)}
    roster.incoming(Reply(now_s=NOW_S, hashes={page: names}, leases={}), NOW_S)
    assert roster.count() == MOST_WORKERS
