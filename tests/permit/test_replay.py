from __future__ import annotations

import asyncio
import dataclasses
import logging

import pytest
from permit_signing import BODY_SHA256, ISSUER, NOW, permit_token, verifier

from litellm_plugin.errors import PermitRejected, Reason, StoreUnavailable
from litellm_plugin.permit import ReplayStoreLost, SingleUse
from litellm_plugin.testing import FakeClock

OTHER_BODY = "1f" * 32


# After so long a store that hangs gives up by itself.
GIVES_UP_S = 0.02


class RecordingStore:
    """A store whose next operations can fail, hang, or be executed without an answer."""

    def __init__(self):
        self.values = {}
        self.ttls_s = {}
        self.calls = []
        self.mood = "well"

    async def put_if_absent(self, key, value, ttl_s):
        self.calls.append(("put_if_absent", key))
        await self._suffer(lambda: self.values.setdefault(key, value))
        standing = self.values.get(key)
        if standing is None:
            self.values[key], self.ttls_s[key] = value, ttl_s
        return standing

    async def replace(self, key, value, ttl_s):
        self.calls.append(("replace", key))
        await self._suffer(lambda: self.values.__setitem__(key, value))
        self.values[key], self.ttls_s[key] = value, ttl_s

    async def _suffer(self, execute):
        match self.mood:
            case "failing":
                raise StoreUnavailable("down")
            case "hung":
                await self._hang()
            case "executes-without-answer":
                execute()
                await self._hang()

    async def _hang(self):
        await asyncio.sleep(GIVES_UP_S)
        raise StoreUnavailable("silent", is_silent=True)


@pytest.fixture
def store():
    return RecordingStore()


@pytest.fixture
def single_use(store):
    return SingleUse(store)


@pytest.fixture
def permit():
    return make_permit()


def make_permit(**members):
    return verifier().verify(permit_token(**members), NOW, 0.0)


def claim(single_use, permit, body_sha256=BODY_SHA256):
    return single_use.claim(permit, body_sha256, NOW)


async def claim_is_replayed(single_use, permit, body_sha256=BODY_SHA256):
    with pytest.raises(PermitRejected) as caught:
        await claim(single_use, permit, body_sha256)
    assert caught.value.reason is Reason.REPLAYED
    return caught.value.detail


async def lose(single_use, store, permit, mood="executes-without-answer"):
    store.mood = mood
    with pytest.raises(ReplayStoreLost):
        await claim(single_use, permit)
    store.mood = "well"


async def test_a_store_that_nobody_asked_yet_is_not_lost(single_use):
    assert not single_use.is_lost


async def test_a_first_claim_costs_one_operation(single_use, store, permit):
    await claim(single_use, permit)
    assert len(store.calls) == 1


async def test_a_third_try_costs_three_operations(single_use, store, permit):
    for _ in range(2):
        await single_use.release(await claim(single_use, permit))
    store.calls.clear()
    await claim(single_use, permit)
    assert [name for name, _ in store.calls] == ["put_if_absent"] * 3


async def test_r69_the_key_is_a_hash_of_issuer_and_jti(single_use, store, permit):
    await claim(single_use, permit)
    (key,) = store.values
    assert key.startswith("replay:{")
    assert key.endswith("}:1")
    assert not any(text in key + store.values[key] for text in (permit.jti, ISSUER))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"kid": "other"}, id="R69-signed-by-another-key"),
        pytest.param({"issued_at": NOW - 1}, id="R69-signed-again"),
        pytest.param({"endpoints": ("another",)}, id="R69-other-claims"),
    ],
)
async def test_another_text_of_a_used_permit_is_refused(single_use, permit, changes):
    await claim(single_use, permit)
    await claim_is_replayed(single_use, dataclasses.replace(permit, **changes))


async def test_issuer_and_jti_do_not_run_together(single_use, permit):
    await claim(single_use, dataclasses.replace(permit, issuer="https://a", jti="bc"))
    await claim(single_use, dataclasses.replace(permit, issuer="https://ab", jti="c"))


async def test_the_same_jti_of_another_issuer_is_another_permit(single_use, permit):
    await claim(single_use, permit)
    await claim(single_use, dataclasses.replace(permit, issuer="https://other.example"))


async def test_all_tries_of_a_permit_share_one_cluster_slot(single_use, store, permit):
    for _ in range(2):
        await single_use.release(await claim(single_use, permit))
    assert len({key.partition("{")[2].partition("}")[0] for key in store.values}) == 1


@pytest.mark.parametrize(
    ("exp", "expected_s"),
    [
        pytest.param(NOW + 200, 200 + 5 + 60, id="until-no-clock-takes-it"),
        pytest.param(NOW - 3600, 1.0, id="never-under-a-second"),
    ],
)
async def test_a_use_is_kept_as_long_as_the_permit_could_be_taken(single_use, store, permit, exp, expected_s):
    await claim(single_use, dataclasses.replace(permit, expires_at=exp))
    assert list(store.ttls_s.values()) == [pytest.approx(expected_s)]


@pytest.mark.parametrize(
    ("body_sha256", "detail"),
    [
        pytest.param(
            BODY_SHA256, "the permit was used, or its request is under way", id="R68-sequential-same-body"
        ),
        pytest.param(OTHER_BODY, "the permit was used with another body", id="R68-sequential-other-body"),
    ],
)
async def test_a_used_permit_is_refused_and_says_why(single_use, permit, body_sha256, detail):
    await claim(single_use, permit)
    assert await claim_is_replayed(single_use, permit, body_sha256) == detail


async def test_a_fourth_try_says_that_all_are_used(single_use, permit):
    for _ in range(3):
        await single_use.release(await claim(single_use, permit))
    assert await claim_is_replayed(single_use, permit) == "all 3 tries are used"


@pytest.mark.parametrize(
    "value",
    ["", "free", "free:", "free:0f", "FREE:" + BODY_SHA256, "free:" + BODY_SHA256 + "0", '{"a":1}', "\ufffd"],
)
async def test_c06_a_value_of_nobody_we_know_is_a_use(single_use, store, permit, value):
    key = (await claim(single_use, permit)).key
    store.values[key] = value
    await claim_is_replayed(single_use, permit)


@pytest.mark.parametrize("mood", ["failing", "hung"])
class TestLostStore:
    async def test_deny_raises(self, store, permit, mood):
        store.mood = mood
        with pytest.raises(ReplayStoreLost):
            await claim(SingleUse(store), permit)

    async def test_admit_gives_a_claim_that_is_not_recorded(self, store, permit, mood):
        store.mood = mood
        assert (await claim(SingleUse(store, when_unavailable="admit"), permit)).is_recorded is False

    async def test_release_ends_without_an_error(self, store, single_use, permit, mood):
        held = await claim(single_use, permit)
        store.mood = mood
        await single_use.release(held)

    async def test_settle_ends_at_the_first_operation(self, store, single_use, permit, mood):
        await lose(single_use, store, permit)
        await lose(single_use, store, permit)
        store.mood = mood
        store.calls.clear()
        await single_use.settle()
        assert len(store.calls) == 1

    async def test_loss_and_return_are_logged_once(self, store, single_use, permit, mood, caplog):
        caplog.set_level(logging.INFO, logger="LiteLLM Proxy.permit_router")
        for _ in range(3):
            await lose(single_use, store, permit, mood)
        assert single_use.is_lost
        await claim(single_use, permit)
        await claim(single_use, make_permit(jti="another"))
        assert not single_use.is_lost
        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_a_slow_store_is_waited_for(store, permit):
    async def slow(execute):
        await asyncio.sleep(0)

    store._suffer = slow
    assert (await claim(SingleUse(store), permit)).is_recorded


async def test_c05_a_flapping_store_is_logged_once_a_minute(store, permit, caplog):
    caplog.set_level(logging.INFO, logger="LiteLLM Proxy.permit_router")
    clock = FakeClock()
    single_use = SingleUse(store, clock=clock.monotonic)
    for number in range(61):
        await lose(single_use, store, permit, mood="failing")
        await claim(single_use, make_permit(jti=f"jti-{number}"))
        clock.advance(1)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"] * 2


async def test_a_loss_that_lasts_is_logged_though_one_was_just_before(store, permit, caplog):
    clock = FakeClock()
    single_use = SingleUse(store, clock=clock.monotonic)
    await lose(single_use, store, permit, mood="failing")
    await claim(single_use, make_permit(jti="another"))
    await lose(single_use, store, permit, mood="failing")
    clock.advance(60)
    await lose(single_use, store, permit, mood="failing")
    assert [record.levelname for record in caplog.records].count("WARNING") == 2


async def test_a_lost_store_does_not_hide_a_replay(store, permit):
    """`admit` is for what the store cannot say; what it says counts."""
    single_use = SingleUse(store, when_unavailable="admit")
    await claim(single_use, permit)
    await claim_is_replayed(single_use, permit)


async def test_a_fault_of_the_store_itself_admits_nobody(permit):
    class Broken(RecordingStore):
        async def put_if_absent(self, key, value, ttl_s):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await claim(SingleUse(Broken(), when_unavailable="admit"), permit)


class TestCutOffClaim:
    """A put that was executed although nobody was told: the client resends and must not meet `replayed`."""

    async def test_c04_this_worker_takes_the_next_try(self, single_use, store, permit):
        await lose(single_use, store, permit)
        assert (await claim(single_use, permit)).number == 2

    async def test_it_counts_as_a_try(self, single_use, store, permit):
        await lose(single_use, store, permit)
        for _ in range(2):
            await single_use.release(await claim(single_use, permit))
        await claim_is_replayed(single_use, permit)

    async def test_another_body_is_refused_after_it(self, single_use, store, permit):
        await lose(single_use, store, permit)
        await claim_is_replayed(single_use, permit, OTHER_BODY)

    async def test_once_settled_another_worker_takes_the_next_try(self, single_use, store, permit):
        await lose(single_use, store, permit)
        other = SingleUse(store)
        await claim_is_replayed(other, permit)
        await single_use.settle()
        assert (await claim(other, permit)).number == 2

    async def test_a_put_that_was_not_sent_leaves_nothing(self, single_use, store, permit, monkeypatch):
        async def refuse(execute):
            raise StoreUnavailable("a long line", was_sent=False)

        with monkeypatch.context() as busy:
            busy.setattr(store, "_suffer", refuse)
            with pytest.raises(ReplayStoreLost):
                await claim(single_use, permit)
        await single_use.settle()
        assert (await claim(single_use, permit)).number == 1

    async def test_settle_of_a_put_that_never_came_leaves_a_freed_try(self, single_use, store, permit):
        await lose(single_use, store, permit, mood="hung")
        await single_use.settle()
        assert (await claim(SingleUse(store), permit)).number == 2

    async def test_settle_leaves_another_winner_alone(self, single_use, store, permit):
        await lose(single_use, store, permit, mood="hung")
        other = SingleUse(store)
        await claim(other, permit)
        await single_use.settle()
        await claim_is_replayed(other, permit)

    async def test_settle_has_nothing_left_to_do_after(self, single_use, store, permit):
        await lose(single_use, store, permit)
        await single_use.settle()
        store.calls.clear()
        await single_use.settle()
        assert store.calls == []

    async def test_c16_cancellation_is_passed_on_and_frees_the_try(self, store, permit):
        single_use = SingleUse(store)
        store.mood = "executes-without-answer"
        task = asyncio.create_task(claim(single_use, permit))
        await asyncio.sleep(0)
        assert store.values
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        store.mood = "well"
        assert (await claim(single_use, permit)).number == 2


class TestCutOffRelease:
    @pytest.fixture
    async def held(self, single_use, store, permit):
        held = await claim(single_use, permit)
        store.mood = "hung"
        return held

    async def test_this_worker_takes_the_next_try(self, single_use, store, permit, held):
        await single_use.release(held)
        store.mood = "well"
        assert (await claim(single_use, permit)).number == 2

    async def test_c16_cancellation_is_passed_on_and_settled_later(self, single_use, store, permit, held):
        task = asyncio.create_task(single_use.release(held))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        store.mood = "well"
        await single_use.settle()
        assert (await claim(SingleUse(store), permit)).number == 2


class TestAdmittedWhileLost:
    @pytest.fixture
    def admitting(self, store):
        return SingleUse(store, when_unavailable="admit")

    @pytest.mark.parametrize("mood", ["failing", "hung", "executes-without-answer"])
    async def test_its_use_is_recorded_once_the_store_is_back(self, admitting, store, permit, mood):
        store.mood = mood
        await claim(admitting, permit)
        store.mood = "well"
        await admitting.settle()
        await claim_is_replayed(SingleUse(store), permit)

    @pytest.mark.parametrize("mood", ["failing", "executes-without-answer"])
    async def test_its_release_frees_its_own_try(self, admitting, store, permit, mood):
        store.mood = mood
        held = await claim(admitting, permit)
        store.mood = "well"
        await admitting.release(held)
        await admitting.settle()
        assert (await claim(SingleUse(store), permit)).number == 2

    async def test_its_release_leaves_another_winner_alone(self, admitting, store, permit):
        store.mood = "failing"
        held = await claim(admitting, permit)
        store.mood = "well"
        other = SingleUse(store)
        await claim(other, permit)
        await admitting.settle()
        await admitting.release(held)
        await admitting.settle()
        await claim_is_replayed(other, permit)

    async def test_its_release_after_it_was_recorded_frees_it(self, admitting, store, permit):
        store.mood = "failing"
        held = await claim(admitting, permit)
        store.mood = "well"
        await admitting.settle()
        await admitting.release(held)
        await admitting.settle()
        assert (await claim(SingleUse(store), permit)).number == 2


async def test_a_release_during_settle_is_not_forgotten(store, permit):
    admitting = SingleUse(store, when_unavailable="admit")
    store.mood = "failing"
    held = await claim(admitting, permit)
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def slow(execute):
        reached.set()
        await go_on.wait()

    store._suffer = slow
    settling = asyncio.create_task(admitting.settle())
    await reached.wait()
    await admitting.release(held)
    go_on.set()
    await settling
    await admitting.settle()
    assert store.values[held.key] == held.freed


async def test_unsettled_claims_are_bounded_and_the_oldest_stay_taken(store):
    single_use = SingleUse(store, max_unsettled=2)
    permits = [make_permit(jti=f"jti-{number}") for number in range(3)]
    for each in permits:
        await lose(single_use, store, each)
    await claim_is_replayed(single_use, permits[0])
    assert [(await claim(single_use, each)).number for each in permits[1:]] == [2, 2]


def test_two_claims_of_one_permit_have_values_of_their_own(single_use, permit):
    first, second = (single_use._first_try(permit, BODY_SHA256, NOW) for _ in range(2))
    assert (first.key, first.freed) == (second.key, second.freed)
    assert first.taken != second.taken
