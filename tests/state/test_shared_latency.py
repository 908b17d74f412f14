from __future__ import annotations

import asyncio
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litellm_plugin.routing import AttemptStatus, EndpointStatistics, Measurement
from litellm_plugin.state import MemoryStore, SharedLatency, connect
from litellm_plugin.state.exchange import Batch, Contribution, HashChange, Reply
from litellm_plugin.state.histogram import FIRST_BUCKET, LAST_BUCKET
from litellm_plugin.state.latency import MOST_ID_CHARS, MOST_READS
from litellm_plugin.state.memory import MOST_DEPLOYMENTS
from litellm_plugin.state.memory_exchange import MemoryExchange
from litellm_plugin.state.redis_exchange import RedisExchange

SLICE_S = 30
# One period to tell, one to see in the index that there is more, one to read it; workers take turns in each.
TOLD = 3
HOUR_S = 3600


def at_once(exchanging):
    """What an exchange in memory answers: it waits for nothing."""
    try:
        exchanging.send(None)
    except StopIteration as answered:
        return answered.value
    raise AssertionError("expected an answer at once")


class Shared:
    """A store that several workers use in turn, and the clocks of all; a period is a second.

    Args:
        server: Runs what waits, and the exchange with a server whose clock is its own; None for one in memory.
    """

    def __init__(self, workers=2, *, half_life_s=None, server=None):
        self.now_s = 1_000_000.0
        self.jump_s = 0.0
        self.is_up = True
        self.operations = 0
        self.half_life_s = half_life_s
        self._sequence = 0
        self._run, self._exchange = server or (at_once, MemoryExchange(lambda: self.now_s + self.jump_s))
        self.shared_now_s = self.ask(Contribution()).now_s
        self.workers = []
        for _ in range(workers):
            self.start()

    @property
    def slice_number(self):
        return int(self.shared_now_s // SLICE_S)

    def start(self):
        worker = Worker(MemoryStore(300, 10, lambda: self.now_s - 999_000, self.half_life_s))
        self.workers.append(worker)
        return worker

    def ask(self, contribution):
        self._sequence += 1
        self.operations += len(contribution.changes) + len(contribution.reads)
        return self._run(self._exchange.exchange(Batch("w", self._sequence, contribution)))

    def exchange(self, worker):
        """One period of one worker."""
        contribution = worker.part.outgoing(self.shared_now_s)
        if self.is_up:
            reply = self.ask(contribution)
            self.shared_now_s = reply.now_s
            worker.part.incoming(reply, reply.now_s)
        else:
            worker.part.lost(was_sent=False)
        return contribution

    def periods(self, count=1):
        for _ in range(count):
            self.now_s += 1
            for worker in self.workers:
                self.exchange(worker)

    def put(self, key, fields):
        """What another tenant writes."""
        self.ask(Contribution((HashChange(key, 600.0, put=fields),)))

    def fields(self, key):
        return self.ask(Contribution(reads=(key,))).hashes[key]

    def empty(self):
        self._exchange = MemoryExchange(lambda: self.now_s + self.jump_s)


class Worker:
    def __init__(self, store):
        self.store = store
        self.part = SharedLatency(store)

    def measure(self, *values_ms, deployment_id="d", status=AttemptStatus.SUCCESS, **fields):
        for total_ms in values_ms:
            self.store.record(Measurement(deployment_id, status, total_ms, **fields))

    @property
    def known(self):
        return self.store.snapshot().by_deployment

    def attempts(self, deployment_id="d"):
        return self.known.get(deployment_id, EndpointStatistics()).attempts


@pytest.fixture
def shared():
    return Shared()


@pytest.fixture
def ours(shared):
    return shared.workers[0]


@pytest.fixture
def theirs(shared):
    return shared.workers[1]


def exact(values, fraction):
    return sorted(values)[max(0, math.ceil(min(fraction * len(values), len(values))) - 1)]


def attempts_of(shared):
    return [worker.attempts() for worker in shared.workers]


class TestTelling:
    def test_a_measurement_counts_at_once(self, ours):
        ours.measure(100)
        assert ours.attempts() == 1

    def test_it_reaches_the_others_within_three_periods(self, shared, ours, theirs):
        ours.measure(100, status=AttemptStatus.TIMEOUT, first_token_ms=20.0)
        shared.periods(TOLD)
        assert theirs.known == ours.known
        assert (theirs.attempts(), theirs.known["d"].failures) == (1, 1)

    def test_the_others_know_all_that_is_timed(self, shared, ours, theirs):
        ours.measure(1000, first_token_ms=200.0, output_tokens=9)
        shared.periods(TOLD)
        known = theirs.known["d"]
        assert (known.total_p99_ms, known.first_token_p99_ms, known.output_token_p99_ms) == pytest.approx(
            (1000, 200, 100), rel=0.02
        )

    def test_it_does_not_count_twice_when_it_comes_back(self, shared, ours, theirs):
        for period in range(100):
            ours.measure(100.0 + period)
            theirs.measure(300.0 + period)
            shared.periods()
        shared.periods(TOLD)
        assert attempts_of(shared) == [200, 200]
        assert ours.known == theirs.known

    def test_an_abandoned_attempt_is_no_success_and_no_latency(self, shared, ours, theirs):
        ours.measure(5.0, status=AttemptStatus.ABANDONED, first_token_ms=1.0)
        shared.periods(TOLD)
        assert theirs.known["d"] == EndpointStatistics(attempts=1)

    def test_a_worker_that_starts_learns_what_the_window_holds(self, shared, ours):
        for _ in range(9):
            ours.measure(100)
            shared.periods(SLICE_S)
        late = shared.start()
        shared.periods(TOLD)
        assert late.attempts() == ours.attempts() == 9

    def test_what_a_late_worker_learns_is_as_old_as_it_is(self, shared, ours):
        ours.measure(100)
        shared.periods(200)
        late = shared.start()
        shared.periods(TOLD)
        assert late.attempts() == 1
        shared.periods(150)
        assert late.attempts() == 0

    def test_what_others_measured_leaves_the_window(self, shared, ours, theirs):
        ours.measure(100)
        shared.periods(TOLD)
        shared.periods(300)
        assert dict(theirs.known) == {}

    def test_attempts_under_way_stay_with_their_worker(self, shared, ours, theirs):
        ours.store.begin("d")
        shared.periods(TOLD)
        assert (dict(ours.store.snapshot().in_flight), dict(theirs.store.snapshot().in_flight)) == (
            {"d": 1},
            {},
        )

    def test_classes_of_errors_and_tokens_are_counted_in_the_store(self, shared, ours):
        ours.measure(10, status=AttemptStatus.RATE_LIMITED)
        ours.measure(10, output_tokens=7)
        shared.periods()
        fields = shared.fields(f"latency:d:{shared.slice_number}")
        assert {"a": "2", "f": "1", "e:rate_limited": "1", "k": "7"}.items() <= fields.items()

    def test_ids_are_not_mistaken_for_one_another(self, shared, ours, theirs):
        ours.measure(100, deployment_id="d:1")
        ours.measure(900, 900, deployment_id="d")
        shared.periods(TOLD)
        assert (theirs.attempts("d:1"), theirs.attempts("d")) == (1, 2)


class TestConstantWork:
    def test_requests_do_not_make_operations(self):
        few, many = Shared(), Shared()
        for shared, requests in ((few, 1), (many, 500)):
            for _ in range(20):
                for worker in shared.workers:
                    worker.measure(*[100.0] * requests)
                shared.periods()
        assert few.operations == many.operations

    def test_a_worker_alone_reads_no_latencies(self, shared, ours):
        shared.workers.pop()
        for _ in range(5):
            ours.measure(100)
            shared.periods()
        assert not any(key.startswith("latency:") for key in shared.exchange(ours).reads)

    def test_a_silent_deployment_is_not_read(self, shared, ours, theirs):
        ours.measure(100)
        shared.periods(3)
        assert [key.split(":")[0] for key in shared.exchange(theirs).reads] == ["latencies", "latencies"]

    def test_many_deployments_are_read_in_turn(self, shared, ours, theirs):
        names = [str(number) for number in range(3 * MOST_READS)]
        for name in names:
            ours.measure(100, deployment_id=name)
        shared.periods()
        for _ in range(3):
            for name in names:
                ours.measure(100, deployment_id=name)
            shared.now_s += 1
            shared.exchange(ours)
            reads = [key for key in shared.exchange(theirs).reads if key.startswith("latency:")]
            assert len(reads) <= MOST_READS
        shared.periods()
        assert set(theirs.known) == set(names)

    def test_nothing_is_kept_of_what_went_by(self, shared, ours, theirs):
        for period in range(40):
            ours.measure(100, deployment_id=str(period))
            shared.periods(SLICE_S)
        kept = [len(worker.part._slices) for worker in shared.workers]
        assert max(kept) <= 14


class TestLosingTheStore:
    @pytest.fixture
    def down(self, shared):
        shared.is_up = False
        return shared

    def test_a_worker_goes_on_with_its_own_measurements(self, down, ours):
        for _ in range(5):
            ours.measure(100)
            down.periods()
        assert ours.attempts() == 5

    def test_what_is_known_of_others_stays(self, shared, ours, theirs):
        ours.measure(100)
        shared.periods(TOLD)
        shared.is_up = False
        shared.periods(20)
        assert theirs.attempts() == 1

    def test_what_never_left_is_told_later(self, down, ours, theirs):
        ours.measure(100)
        down.periods(5)
        ours.measure(100)
        down.is_up = True
        down.periods(TOLD)
        assert attempts_of(down) == [2, 2]

    def test_what_never_left_is_kept_for_a_slice_at_least_and_two_at_most(self, down, ours):
        for period in range(200):
            ours.measure(100, deployment_id=str(period))
            down.periods()
        down.is_up = True
        told = [change for change in down.exchange(ours).changes if change.key.startswith("latency:")]
        assert SLICE_S <= len(told) <= 2 * SLICE_S

    @pytest.mark.parametrize(
        "was_taken", [pytest.param(True, id="taken"), pytest.param(False, id="not taken")]
    )
    def test_a_batch_of_unknown_fate_counts_at_most_once(self, shared, ours, theirs, was_taken):
        ours.measure(100, 100)
        contribution = ours.part.outgoing(shared.shared_now_s)
        if was_taken:
            shared.ask(contribution)
        ours.part.lost(was_sent=True)
        shared.periods(3)
        theirs.measure(100)
        shared.periods(3)
        assert attempts_of(shared) == ([3, 3] if was_taken else [3, 1])

    def test_what_others_measured_while_it_was_away_is_learnt_later(self, shared, ours, theirs):
        for _ in range(4):
            theirs.measure(100)
            for _ in range(SLICE_S):
                shared.now_s += 1
                shared.exchange(theirs)
                ours.part.outgoing(shared.shared_now_s)
                ours.part.lost(was_sent=False)
        shared.periods(TOLD)
        assert attempts_of(shared) == [4, 4]

    def test_an_emptied_store_takes_nothing_away_and_fills_again(self, shared, ours, theirs):
        """C12: FLUSHALL."""
        ours.measure(100, 100)
        theirs.measure(100)
        shared.periods(TOLD)
        shared.empty()
        assert attempts_of(shared) == [3, 3]
        shared.periods(TOLD)
        ours.measure(100)
        theirs.measure(100, 100, 100)
        shared.periods(3)
        assert attempts_of(shared) == [7, 7]

    def test_an_answer_that_nobody_asked_for_changes_nothing(self, ours):
        ours.part.incoming(Reply(0.0, {"latencies:0": {"d": "5"}}, {}), 0.0)
        ours.part.lost(was_sent=True)
        assert dict(ours.known) == {}


def test_a_period_that_never_ended_counts_as_sent(shared, ours, theirs):
    """As when the task that exchanges was cancelled."""
    ours.measure(100)
    shared.ask(ours.part.outgoing(shared.shared_now_s))
    shared.periods(TOLD)
    assert attempts_of(shared) == [1, 1]


class TestCounting:
    """Whatever happens in whatever order, nothing counts twice, and nothing of a worker's own is lost."""

    calm = st.sampled_from(("measure", "exchange", "exchange", "never left", "wait"))
    rough = calm | st.sampled_from(("arrived", "did not arrive", "empty", "ahead", "back"))

    def play(self, events):
        shared = Shared(workers=3)
        own = [0, 0, 0]
        for number, event in events:
            worker = shared.workers[number]
            match event:
                case "measure":
                    own[number] += 1
                    # Each in a bucket of its own.
                    worker.measure(1.06 ** (sum(own) + 1))
                case "exchange":
                    shared.exchange(worker)
                case "wait":
                    shared.now_s += 0.5
                case "empty":
                    shared.empty()
                case "ahead" | "back":
                    shared.jump_s += 45 if event == "ahead" else -45
                case _:
                    contribution = worker.part.outgoing(shared.shared_now_s)
                    if event == "arrived":
                        shared.ask(contribution)
                    worker.part.lost(was_sent=event != "never left")
        shared.periods(TOLD)
        return own, attempts_of(shared)

    @settings(max_examples=200)
    @given(st.lists(st.tuples(st.integers(0, 2), calm), max_size=40))
    def test_all_know_all_as_long_as_the_store_keeps_it(self, events):
        own, known = self.play(events)
        assert known == [sum(own)] * 3

    @settings(max_examples=200)
    @given(st.lists(st.tuples(st.integers(0, 2), rough), max_size=40))
    def test_nobody_knows_more_than_there_was_or_less_than_its_own(self, events):
        own, known = self.play(events)
        for mine, found in zip(own, known, strict=True):
            assert mine <= found <= sum(own)


class TestClocks:
    @pytest.mark.parametrize(
        "jump_s",
        [pytest.param(HOUR_S, id="C12/C36 an hour ahead"), pytest.param(-HOUR_S, id="C12/C36 an hour back")],
    )
    def test_a_jump_of_the_shared_clock_neither_loses_nor_freezes(self, shared, ours, theirs, jump_s):
        ours.measure(100)
        shared.periods(TOLD)
        shared.jump_s = jump_s
        shared.periods()
        assert attempts_of(shared) == [1, 1]
        theirs.measure(100)
        shared.periods(TOLD)
        assert attempts_of(shared) == [2, 2]
        shared.periods(301)
        assert dict(ours.known) == {}

    @pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S, 45, -45])
    def test_a_clock_that_comes_back_counts_nothing_twice(self, shared, ours, theirs, jump_s):
        """C12/C36."""
        for jumped_s in (0, jump_s, 0, jump_s, 0):
            shared.jump_s = jumped_s
            ours.measure(100)
            theirs.measure(100, 100)
            shared.periods(TOLD)
        assert 5 <= ours.attempts() <= 15
        assert 10 <= theirs.attempts() <= 15

    @pytest.mark.parametrize("now_s", [math.nan, math.inf, -math.inf, -5.0, 1e300])
    def test_an_absurd_time_is_no_harm(self, shared, ours, theirs, now_s):
        ours.measure(100)
        ours.part.outgoing(now_s)
        ours.part.incoming(Reply(now_s, {}, {}), now_s)
        ours.measure(100)
        shared.periods(3)
        assert (ours.attempts(), theirs.attempts() >= 1) == (2, True)


class TestAbsurdValues:
    """C14: another tenant writes into the hashes; C06: what stands there is of no shape of ours."""

    def spoilt(self, shared, ours, fields):
        """Puts fields into all hashes of a deployment that others use, and lets the worker read them."""
        shared.put(f"latencies:{shared.slice_number}", {"foreign": "5"})
        shared.put(f"latency:foreign:{shared.slice_number}", fields)
        shared.periods(TOLD)
        return ours.known.get("foreign", EndpointStatistics())

    @pytest.mark.parametrize(
        "text", ["-5", "nan", "1e308", "inf", str(10**18), "", "٣", "+1", " 1", "1_0", "0", "9" * 5000]
    )
    @pytest.mark.parametrize("field", ["a", "f", "t:7", "e:timeout"])
    def test_a_count_that_is_none_is_left_out_and_counted(self, shared, ours, field, text):
        known = self.spoilt(shared, ours, {"a": "3", field: text})
        assert known == EndpointStatistics(attempts=0 if field == "a" else 3)
        assert ours.part.skipped >= 1

    @pytest.mark.parametrize(
        "field",
        [
            "t:",
            "t:x",
            "t:1.5",
            "t:+7",
            "t:07",
            "t: 7",
            "t:-0",
            f"t:{FIRST_BUCKET - 1}",
            f"t:{LAST_BUCKET + 1}",
            "t:" + "9" * 5000,
            "x:7",
            "",
            "e:",
            "e:unheard",
            "\x00",
            "t",
        ],
    )
    def test_a_field_that_is_none_is_left_out_and_counted(self, shared, ours, field):
        assert self.spoilt(shared, ours, {"a": "3", field: "1"}) == EndpointStatistics(attempts=3)
        assert ours.part.skipped >= 1

    def test_a_hash_without_end_is_read_in_part(self, shared, ours):
        fields = {f"t:{number}": "1" for number in range(20_000, 40_000)}
        assert self.spoilt(shared, ours, {"a": "3", **fields}) == EndpointStatistics(attempts=3)
        assert ours.part.skipped >= 20_000

    @pytest.mark.parametrize("text", ["-5", "nan", str(10**18), "", "x"])
    def test_an_index_that_makes_no_sense_counts_nothing_twice(self, shared, ours, theirs, text):
        ours.measure(100, 100)
        shared.periods(TOLD)
        shared.put(f"latencies:{shared.slice_number}", {"d": text})
        shared.periods(TOLD)
        theirs.measure(100)
        shared.periods(3)
        assert max(attempts_of(shared)) <= 3
        assert ours.attempts() >= 2

    def test_a_spoilt_field_of_a_hash_makes_own_counts_nobody_elses(self, shared, ours, theirs):
        ours.measure(100, 100, 100)
        shared.periods(TOLD)
        shared.put(f"latency:d:{shared.slice_number}", {"a": "many"})
        theirs.measure(900)
        shared.exchange(theirs)
        shared.put(f"latency:d:{shared.slice_number}", {"a": "many"})
        shared.exchange(ours)
        shared.exchange(ours)
        assert ours.attempts() == 3
        assert ours.known["d"].total_p50_ms == pytest.approx(100, rel=0.02)

    def test_a_deployment_with_an_endless_name_is_left_out(self, shared, ours):
        shared.put(f"latencies:{shared.slice_number}", {"x" * (MOST_ID_CHARS + 1): "5"})
        shared.periods(TOLD)
        assert (dict(ours.known), ours.part.skipped > 0) == ({}, True)

    def test_foreign_deployments_drive_out_none_that_is_known(self, shared, ours):
        ours.measure(100)
        number = shared.slice_number
        names = list(map(str, range(MOST_DEPLOYMENTS + 500)))
        shared.put(f"latencies:{number}", dict.fromkeys(names, "1"))
        for name in names:
            shared.put(f"latency:{name}:{number}", {"a": "1"})
        shared.workers.pop()
        shared.periods(4)
        assert (ours.attempts(), len(ours.known) <= MOST_DEPLOYMENTS) == (1, True)
        assert len(ours.part._slices[number].known) <= MOST_DEPLOYMENTS + 1

    fields = st.dictionaries(
        st.sampled_from(["a", "f", "k", "t:7", "t:900", "o:-3", "p:", "e:timeout", "z"])
        | st.text(max_size=8),
        st.integers().map(str) | st.text(max_size=8),
        max_size=8,
    )

    @given(st.lists(st.tuples(st.booleans(), fields, fields), max_size=6))
    def test_nothing_that_stands_in_the_store_raises_or_gives_an_absurd_latency(self, events):
        shared = Shared()
        number = shared.slice_number
        for is_index, fields, more in events:
            key = f"latencies:{number}" if is_index else f"latency:d:{number}"
            shared.put(key, {**fields, **more, "d": "7"} if is_index else fields)
            shared.workers[0].measure(50)
            shared.periods()
        for worker in shared.workers:
            for known in worker.known.values():
                assert known.attempts >= 0
                assert known.failures >= 0
                assert known.total_p99_ms is None or 0 < known.total_p99_ms <= 3_600_000 * 1.02


def heavy(rng):
    return min(3_600_000.0, 200 * rng.paretovariate(1.1))


class TestQuantiles:
    @settings(max_examples=50)
    @given(st.lists(st.tuples(st.integers(0, 3), st.floats(0.01, 3_600_000)), min_size=1, max_size=200))
    def test_those_of_four_workers_are_within_two_percent(self, events):
        shared = Shared(workers=4)
        for index, (worker, value_ms) in enumerate(events):
            shared.workers[worker].measure(value_ms)
            if index % 50 == 0:
                shared.periods()
        shared.periods(TOLD)
        values = [value_ms for _, value_ms in events]
        for worker in shared.workers:
            known = worker.known["d"]
            assert (known.total_p50_ms, known.total_p95_ms, known.total_p99_ms) == pytest.approx(
                tuple(exact(values, fraction) for fraction in (0.5, 0.95, 0.99)), rel=0.02
            )

    def test_those_of_a_heavy_tail_are_within_two_percent(self):
        rng = random.Random(11)  # noqa: S311 - test data, the same in each run
        shared = Shared(workers=4)
        values = []
        for _ in range(60):
            for worker in shared.workers:
                drawn = [heavy(rng) for _ in range(20)]
                worker.measure(*drawn)
                values += drawn
            shared.periods()
        shared.periods(TOLD)
        expected = tuple(exact(values, fraction) for fraction in (0.5, 0.95, 0.99))
        for worker in shared.workers:
            known = worker.known["d"]
            assert (known.total_p50_ms, known.total_p95_ms, known.total_p99_ms) == pytest.approx(
                expected, rel=0.02
            )


class TestOnAServer:
    """The same over a socket, where the shared clock is the server's."""

    @pytest.fixture
    def shared(self, own_valkey):
        with asyncio.Runner() as runner:
            client = connect(own_valkey.url, 30.0)
            yield Shared(workers=3, server=(runner.run, RedisExchange(client, deadline_s=30.0)))
            runner.run(client.aclose())

    @pytest.fixture
    def commands(self, own_valkey):
        """Lets another client of the server say one command."""

        async def said(*words):
            client = connect(own_valkey.url, 30.0)
            try:
                return await client.execute_command(*words)
            finally:
                await client.aclose()

        return lambda *words: asyncio.run(said(*words))

    def test_all_workers_know_what_one_does(self, shared):
        values = [float(value) for value in range(1, 1001)]
        for number, value_ms in enumerate(values):
            shared.workers[number % 3].measure(value_ms, first_token_ms=value_ms / 2, output_tokens=3)
            if number % 100 == 0:
                shared.periods()
        shared.periods(TOLD)
        assert [worker.known for worker in shared.workers] == [shared.workers[0].known] * 3
        known = shared.workers[0].known["d"]
        assert (known.attempts, known.total_p99_ms) == (1000, pytest.approx(exact(values, 0.99), rel=0.02))

    def test_an_emptied_server_takes_nothing_away(self, shared, commands):
        """C12."""
        for worker in shared.workers:
            worker.measure(100)
        shared.periods(TOLD)
        commands("FLUSHALL")
        shared.periods(TOLD)
        for worker in shared.workers:
            worker.measure(100)
        shared.periods(TOLD)
        assert attempts_of(shared) == [6, 6, 6]

    def test_keys_of_another_type_and_fields_that_are_no_number_are_survived(self, shared, commands):
        """C06."""
        shared.workers[0].measure(100)
        shared.periods(TOLD)
        for key in commands("KEYS", "*"):
            commands("DEL", key)
            commands("SET", key, "foreign")
        shared.workers[1].measure(300)
        shared.periods(TOLD)
        for key in commands("KEYS", "*latency:*"):
            commands("HSET", key, "a", "many", "t:7", "-3", b"\xff", "1")
        shared.workers[2].measure(900)
        shared.periods(TOLD)
        assert min(attempts_of(shared)) >= 2
        assert max(attempts_of(shared)) <= 3

    def test_hashes_end_with_the_window(self, shared, commands):
        shared.workers[0].measure(100)
        shared.periods()
        lifetimes_ms = [commands("PTTL", key) for key in commands("KEYS", "*latenc*")]
        assert len(lifetimes_ms) == 2
        assert all(0 < lifetime_ms <= 360_000 for lifetime_ms in lifetimes_ms)
