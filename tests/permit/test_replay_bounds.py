from __future__ import annotations

import asyncio

import pytest
from permit_signing import BODY_SHA256, NOW, permit_token, verifier

from litellm_plugin.errors import StoreUnavailable
from litellm_plugin.permit import ReplayStoreLost, SingleUse

SETTLED_AT_ONCE = 256
MOST_UNSETTLED = 10_000


class CountingStore:
    """A store that can be lost, and that counts what it is asked for."""

    def __init__(self):
        self.is_lost = False
        self.asked = 0

    async def put_if_absent(self, key, value, ttl_s):
        self.asked += 1
        if self.is_lost:
            raise StoreUnavailable("down")

    async def replace(self, key, value, ttl_s):
        raise AssertionError("nothing stands here that could be replaced")


async def test_settle_works_off_256_claims_at_once_and_the_rest_the_next_time():
    store = CountingStore()
    single_use = SingleUse(store)
    permit = verifier().verify(permit_token(), NOW, 0.0)
    store.is_lost = True
    for _ in range(SETTLED_AT_ONCE + 1):
        with pytest.raises(ReplayStoreLost):
            await single_use.claim(permit, BODY_SHA256, NOW)
    store.is_lost, store.asked = False, 0

    await single_use.settle()
    first_asked = store.asked
    await single_use.settle()

    assert (first_asked, store.asked) == (SETTLED_AT_ONCE, SETTLED_AT_ONCE + 1)


async def test_ten_thousand_cut_off_tries_are_kept_and_no_more():
    store = CountingStore()
    single_use = SingleUse(store)
    permit = verifier().verify(permit_token(), NOW, 0.0)
    store.is_lost = True

    for _ in range(MOST_UNSETTLED + 1):
        with pytest.raises(ReplayStoreLost):
            await single_use.claim(permit, BODY_SHA256, NOW)

    assert len(single_use._unsettled) == MOST_UNSETTLED


async def test_a_claim_is_told_from_others_by_64_random_bits():
    permit = verifier().verify(permit_token(), NOW, 0.0)

    claim = await SingleUse(CountingStore()).claim(permit, BODY_SHA256, NOW)

    assert len(bytes.fromhex(claim.claimant)) == 8


class SilentStore:
    """A store that answers nobody until it is told to."""

    def __init__(self):
        self.asked = 0
        self.is_answering = asyncio.Event()

    async def put_if_absent(self, key, value, ttl_s):
        self.asked += 1
        await self.is_answering.wait()


def burst(single_use, count):
    permit = verifier().verify(permit_token(), NOW, 0.0)
    claims = (single_use.claim(permit, BODY_SHA256, NOW) for _ in range(count))
    return asyncio.gather(*claims, return_exceptions=True)


async def test_c13_of_a_burst_eight_ask_a_silent_store_and_the_others_end_with_them():
    store = SilentStore()
    ends = await burst(SingleUse(store), 100)
    assert {type(end) for end in ends} == {ReplayStoreLost}
    assert store.asked == 8


async def test_c13_a_store_that_refuses_one_is_asked_by_the_others():
    """A key of another type is one permit's matter."""
    store = CountingStore()
    store.is_lost = True
    await burst(SingleUse(store), 100)
    assert store.asked == 100


async def test_c13_who_comes_after_a_silence_asks_again():
    store = SilentStore()
    single_use = SingleUse(store)
    await burst(single_use, 20)
    store.is_answering.set()
    store.asked = 0
    ends = await burst(single_use, 20)
    assert [end for end in ends if isinstance(end, Exception)] == []
    assert store.asked == 20


class SlowStore(CountingStore):
    """A store whose answers take a turn of the loop; it remembers nothing."""

    async def put_if_absent(self, key, value, ttl_s):
        await asyncio.sleep(0)
        return await super().put_if_absent(key, value, ttl_s)


def test_a_line_of_claims_belongs_to_no_event_loop():
    """A guarded router may be used in one event loop after another."""
    store = SlowStore()
    single_use = SingleUse(store)
    permits = [verifier().verify(permit_token(jti=f"permit-{number}"), NOW, 0.0) for number in range(40)]

    async def crowd():
        await asyncio.gather(*(single_use.claim(each, BODY_SHA256, NOW) for each in permits))

    asyncio.run(crowd())
    asyncio.run(crowd())
    assert store.asked == 80


class TimedStore(CountingStore):
    """A store that takes a time for each answer, and for one of them for ever."""

    def __init__(self, takes_s, silent=()):
        super().__init__()
        self.takes_s = takes_s
        self.silent = frozenset(silent)

    async def put_if_absent(self, key, value, ttl_s):
        self.asked += 1
        await asyncio.sleep(60 if self.asked in self.silent else self.takes_s)


async def outcomes_of(single_use, count):
    permits = [verifier().verify(permit_token(jti=f"permit-{number}"), NOW, 0.0) for number in range(count)]
    claims = (single_use.claim(each, BODY_SHA256, NOW) for each in permits)
    return await asyncio.gather(*claims, return_exceptions=True)


async def test_one_silent_answer_refuses_one_claim_and_not_those_in_line():
    single_use = SingleUse(TimedStore(0.001, silent={3}))
    refused = [each for each in await outcomes_of(single_use, 200) if isinstance(each, ReplayStoreLost)]
    assert len(refused) == 1


async def test_a_silent_store_is_asked_by_no_more_than_stand_in_front():
    store = TimedStore(0.001, silent=range(1, 1000))
    refused = await outcomes_of(SingleUse(store), 200)
    assert {type(each) for each in refused} == {ReplayStoreLost}
    assert store.asked <= 8


async def test_a_line_that_a_slow_store_does_not_work_off_is_refused(monkeypatch):
    monkeypatch.setattr("litellm_plugin.permit.replay.LONGEST_LINE_S", 0.2)
    store = TimedStore(0.03)
    refused = [each for each in await outcomes_of(SingleUse(store), 400) if isinstance(each, ReplayStoreLost)]
    assert refused
    assert {str(each.__cause__) for each in refused} == {"0.2 s in line for it"}
    assert store.asked + len(refused) == 400
