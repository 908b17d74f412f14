from __future__ import annotations

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
