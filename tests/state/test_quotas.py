"""Quotas: what may be sent to a deployment in a minute, by all workers together."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest

from litellm_plugin.errors import StoreUnavailable
from litellm_plugin.state import connect
from litellm_plugin.state.exchange import Batch
from litellm_plugin.state.leases import FIRST_SHARE, STORE_LOST_AFTER_S, LeaseBook
from litellm_plugin.state.quotas import MINUTE_S, UNLIMITED, Quota, QuotaLeft, Quotas, QuotaUse
from litellm_plugin.state.redis_exchange import RedisExchange
from litellm_plugin.testing import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def alone(clock):
    """The quotas of a worker whose store is gone: the whole limits are its own."""
    quotas = Quotas(LeaseBook(clock=clock.monotonic))
    clock.advance(STORE_LOST_AFTER_S + 0.1)
    quotas.declare(
        {"both": Quota(10, 1_000), "requests": Quota(10), "tokens": Quota(None, 1_000), "none": Quota()}
    )
    return quotas


@pytest.mark.parametrize(
    ("deployment", "left"),
    [
        ("both", QuotaLeft(10, 1_000)),
        ("requests", QuotaLeft(10, None)),
        ("tokens", QuotaLeft(None, 1_000)),
        ("none", UNLIMITED),
        ("undeclared", UNLIMITED),
    ],
)
def test_what_is_left_without_use_is_the_limit(alone, deployment, left):
    assert alone.left(deployment) == left


def test_an_attempt_takes_a_request_and_its_tokens(alone):
    alone.reserve("both", 300)
    assert alone.left("both") == QuotaLeft(9, 700)


def test_what_has_no_quota_is_reserved_for_nothing(alone):
    assert alone.reserve("undeclared", 10**9) == QuotaUse()


def test_nothing_is_taken_where_the_tokens_are_too_many(alone):
    assert alone.reserve("both", 1_001) is None
    assert alone.left("both") == QuotaLeft(10, 1_000)


def test_nothing_is_taken_where_no_request_is_left(alone):
    for _ in range(10):
        alone.reserve("both", 1)
    assert alone.reserve("both", 1) is None
    assert alone.left("both") == QuotaLeft(0, 990)


def test_an_attempt_that_is_made_all_the_same_counts(alone):
    alone.spend("both", 1_200)
    assert alone.left("both") == QuotaLeft(9, 0)
    assert alone.spend("undeclared", 5) == QuotaUse()


@pytest.mark.parametrize(("real", "left"), [(50, 950), (400, 600), (None, 700)])
def test_the_real_tokens_replace_the_expected_ones(alone, real, left):
    use = alone.reserve("both", 300)
    alone.settle(use, real)
    alone.settle(use, real)
    assert alone.left("both") == QuotaLeft(9, left)


def test_what_was_never_sent_is_given_back(alone):
    use = alone.reserve("both", 300)
    alone.release(use)
    alone.settle(use, 500)
    assert alone.left("both") == QuotaLeft(10, 1_000)


def test_what_was_spent_counts_against_a_new_limit(alone):
    alone.reserve("both", 300)
    alone.declare({"both": Quota(5, 400)})
    assert alone.left("both") == QuotaLeft(4, 100)


def test_a_worker_that_begins_has_a_tenth(clock):
    quotas = Quotas(LeaseBook(clock=clock.monotonic))
    quotas.declare({"both": Quota(100, 1_000)})
    quotas.spend("both", 30)
    assert quotas.left("both") == QuotaLeft(100 // FIRST_SHARE - 1, 1_000 // FIRST_SHARE - 30)


def test_a_limit_that_is_none_is_an_error(alone):
    with pytest.raises(ValueError, match=r"expected a limit from 0 .* for rpm:both, got -1"):
        alone.declare({"both": Quota(-1)})


class Worker:
    """One worker of a fleet; its own clock stands still, so that no slow machine makes its store look lost."""

    def __init__(self, name, exchange, quota, workers):
        self.clock = FakeClock()
        self.book = LeaseBook(lambda: workers, self.clock.monotonic)
        self.quotas = Quotas(self.book)
        self.quotas.declare({"d1": quota})
        self.largest = {
            "rpm:d1": -(-(quota.requests_per_minute or 0) // FIRST_SHARE),
            "tpm:d1": -(-(quota.tokens_per_minute or 0) // FIRST_SHARE),
        }
        self._name = name
        self._exchange = exchange
        self._sequence = itertools.count(1)
        self._answered = 0

    async def exchange(self):
        batch = Batch(self._name, next(self._sequence), self.book.outgoing(0.0), self._answered)
        try:
            reply = await self._exchange.exchange(batch)
        except StoreUnavailable as error:
            self.book.lost(was_sent=error.was_sent)
            return False
        self._answered = batch.sequence
        for name, lease in reply.leases.items():
            self.largest[name] = max(self.largest[name], lease.granted)
        self.book.incoming(reply, 0.0)
        return True


class Provider:
    """Counts what it is sent, and when."""

    def __init__(self):
        self.sent = []

    async def answer(self, tokens):
        self.sent.append((time.monotonic(), tokens))
        await asyncio.sleep(0)
        return tokens

    def most_in_a_minute(self, units=lambda tokens: 1):
        sums = [
            sum(units(tokens) for at_s, tokens in self.sent if begin_s <= at_s < begin_s + MINUTE_S)
            for begin_s, _ in self.sent
        ]
        return max(sums, default=0)


async def attempts(worker, provider, number, tokens, real):
    """Sends what the quota allows; gives how many attempts had to go elsewhere."""
    moved_on = 0
    for _ in range(number):
        use = worker.quotas.reserve("d1", tokens)
        if use is None:
            moved_on += 1
            await asyncio.sleep(0)
            continue
        worker.quotas.settle(use, await provider.answer(real()))
    return moved_on


async def burst(workers, provider, *, each, tokens=0, real=lambda: 0):
    """All workers' attempts at once, several at a time in each, while every worker exchanges again and again."""
    is_over = asyncio.Event()

    async def exchanging(worker):
        while not is_over.is_set():
            await worker.exchange()
            await asyncio.sleep(0)

    async def sending():
        streams = [
            attempts(worker, provider, each // 5, tokens, real) for worker in workers for _ in range(5)
        ]
        try:
            return sum(await asyncio.gather(*streams))
        finally:
            is_over.set()

    moved_on, *_ = await asyncio.gather(sending(), *map(exchanging, workers))
    return moved_on


async def test_four_workers_exceed_the_requests_by_no_more_than_a_lease_each(exchange):
    """The bound: within any minute the limit, and for each worker the largest lease that it held."""
    limit, provider = 120, Provider()
    workers = [Worker(f"w{number}", exchange, Quota(limit), 4) for number in range(4)]
    moved_on = await burst(workers, provider, each=150)
    sent = len(provider.sent)
    assert sent + moved_on == 600
    assert provider.most_in_a_minute() <= limit + sum(worker.largest["rpm:d1"] for worker in workers)


async def test_four_workers_exceed_the_tokens_by_no_more_than_a_lease_each(exchange):
    limit, provider = 60_000, Provider()
    lengths = itertools.cycle([200, 1_000, 640])
    workers = [Worker(f"w{number}", exchange, Quota(None, limit), 4) for number in range(4)]
    await burst(workers, provider, each=100, tokens=1_000, real=lambda: next(lengths))
    most = provider.most_in_a_minute(lambda tokens: tokens)
    assert most <= limit + sum(worker.largest["tpm:d1"] for worker in workers)


async def test_bursts_between_two_exchanges_exceed_no_more(exchange):
    """Nobody hears of the others until all have spent what they may."""
    limit, provider = 120, Provider()
    workers = [Worker(f"w{number}", exchange, Quota(limit), 4) for number in range(4)]
    for _ in range(10):
        for worker in workers:
            await attempts(worker, provider, 40, 0, lambda: 0)
        for worker in workers:
            await worker.exchange()
    bound = limit + sum(worker.largest["rpm:d1"] for worker in workers)
    assert limit <= len(provider.sent)
    assert provider.most_in_a_minute() <= bound


async def test_what_four_workers_left_one_can_take(exchange):
    limit, provider = 120, Provider()
    workers = [Worker(f"w{number}", exchange, Quota(limit), 4) for number in range(4)]
    for _ in range(3):
        for worker in workers:
            worker.quotas.left("d1")
            await worker.exchange()
    for _ in range(8):
        await attempts(workers[0], provider, 150, 0, lambda: 0)
        for worker in workers:
            await worker.exchange()
    assert len(provider.sent) >= limit - sum(worker.largest["rpm:d1"] for worker in workers[1:])


async def until_answered(worker):
    async with asyncio.timeout(30):
        while not await worker.exchange():  # noqa: ASYNC110 - a server tells nobody that it is back
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("stop", "start"),
    [
        pytest.param("stop", "start", id="C02 killed"),
        pytest.param("hang", "go_on", id="C03 hung"),
    ],
)
async def test_a_server_that_is_gone_denies_nothing_that_is_left(own_valkey, stop, start):
    limit, provider = 120, Provider()
    client = connect(own_valkey.url, 1.0)
    worker = Worker("w1", RedisExchange(client, deadline_s=5.0), Quota(limit), 4)
    worker.quotas.left("d1")
    await until_answered(worker)
    try:
        getattr(own_valkey, stop)()
        assert not await worker.exchange()
        worker.clock.advance(STORE_LOST_AFTER_S + 0.1)
        await attempts(worker, provider, 2 * limit, 0, lambda: 0)
        assert len(provider.sent) == limit
    finally:
        getattr(own_valkey, start)()
    await until_answered(worker)
    await until_answered(worker)
    assert worker.quotas.left("d1").requests == 0
    await client.aclose()
