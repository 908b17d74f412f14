from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_plugin.routing import AttemptStatus, EndpointStatistics, Measurement
from litellm_plugin.state import MemoryStore, Store
from litellm_plugin.state.answer_lengths import MOST_ROUTES, AnswerLengths
from litellm_plugin.state.memory import MOST_DEPLOYMENTS, MOST_REPORTED


class Clock:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(clock) -> Store:
    return MemoryStore(window_s=300, slices=10, clock=clock)


def measured(status=AttemptStatus.SUCCESS, total_ms=100.0, first_token_ms=None, deployment_id="d"):
    return Measurement(deployment_id, status, total_ms, first_token_ms)


def statistics_of(store, deployment_id="d"):
    return store.snapshot().by_deployment[deployment_id]


def test_an_empty_store_knows_nothing(store):
    snapshot = store.snapshot()
    assert (dict(snapshot.by_deployment), snapshot.taken_at_s) == ({}, 1000.0)


def test_a_success_counts_with_its_latencies(store):
    store.record(measured(total_ms=200.0, first_token_ms=20.0))
    statistics = statistics_of(store)
    assert (statistics.attempts, statistics.failures) == (1, 0)
    assert (statistics.total_p50_ms, statistics.total_p95_ms) == pytest.approx((200, 200), rel=0.02)
    assert (statistics.first_token_p50_ms, statistics.first_token_p95_ms) == pytest.approx((20, 20), rel=0.02)


def test_a_whole_answer_has_no_time_to_first_token(store):
    store.record(measured())
    assert statistics_of(store).first_token_p50_ms is None


@pytest.mark.parametrize("status", AttemptStatus)
def test_failures_are_the_outcomes_that_may_be_retried(store, status):
    store.record(measured(status))
    statistics = statistics_of(store)
    assert (statistics.attempts, statistics.failures) == (1, int(status.is_retryable))


@pytest.mark.parametrize("status", AttemptStatus)
def test_only_answers_and_timeouts_are_latencies(store, status):
    store.record(measured(status))
    is_timed = status in {AttemptStatus.SUCCESS, AttemptStatus.TIMEOUT}
    assert (statistics_of(store).total_p50_ms is not None) == is_timed


def test_operators_are_told_of_errors_by_class_and_of_tokens(store):
    for status in (AttemptStatus.SUCCESS, AttemptStatus.RATE_LIMITED, AttemptStatus.CLIENT_ERROR):
        store.record(Measurement("d", status, 100.0, output_tokens=7))
    (told,) = store.report().values()
    assert told == {
        "attempts": 3,
        "failures": 1,
        "errors": {"rate_limited": 1, "client_error": 1},
        "output_tokens": 21,
    }


def test_operators_are_told_of_those_that_failed_most_and_of_what_is_in_the_window(store, clock):
    for number in range(MOST_REPORTED + 20):
        store.record(measured(deployment_id=f"d{number}"))
    for _ in range(2):
        store.record(measured(AttemptStatus.TIMEOUT, deployment_id="d7"))
    assert (len(store.report()), next(iter(store.report()))) == (MOST_REPORTED, "d7")
    clock.now_s += 400
    assert store.report() == {}


def test_an_abandoned_stream_is_no_latency(store):
    store.record(measured(AttemptStatus.ABANDONED, first_token_ms=5.0))
    assert statistics_of(store) == EndpointStatistics(attempts=1)


def test_deployments_are_kept_apart(store):
    store.record(measured(total_ms=10.0, deployment_id="fast"))
    store.record(measured(total_ms=1000.0, deployment_id="slow"))
    assert statistics_of(store, "fast").total_p50_ms < statistics_of(store, "slow").total_p50_ms


def test_measurements_leave_the_window(store, clock):
    store.record(measured(AttemptStatus.TIMEOUT, total_ms=9000.0))
    clock.now_s += 200
    store.record(measured(total_ms=100.0))
    clock.now_s += 150
    statistics = statistics_of(store)
    assert (statistics.attempts, statistics.failures) == (1, 0)
    assert statistics.total_p95_ms == pytest.approx(100, rel=0.02)


def test_a_silent_deployment_is_forgotten(store, clock):
    store.record(measured())
    clock.now_s += 301
    assert dict(store.snapshot().by_deployment) == {}


def test_what_is_younger_than_the_window_less_one_slice_is_kept(store, clock):
    store.record(measured())
    clock.now_s += 269
    assert statistics_of(store).attempts == 1


def test_a_snapshot_is_kept_for_a_tenth_of_a_second(store, clock):
    first = store.snapshot()
    store.record(measured())
    clock.now_s += 0.05
    assert store.snapshot() is first
    clock.now_s += 0.06
    assert store.snapshot().by_deployment["d"].attempts == 1


def test_a_snapshot_does_not_change(store, clock):
    store.record(measured())
    first = store.snapshot()
    clock.now_s += 1
    store.record(measured())
    store.snapshot()
    assert first.by_deployment["d"].attempts == 1


class TestOutputTokens:
    def test_a_stream_is_timed_after_its_first_token(self, store):
        store.record(Measurement("d", AttemptStatus.SUCCESS, 1100.0, 100.0, output_tokens=11))
        statistics = statistics_of(store)
        assert (
            statistics.output_token_p50_ms,
            statistics.output_token_p95_ms,
            statistics.output_token_p99_ms,
        ) == pytest.approx((100, 100, 100), rel=0.02)

    def test_a_whole_answer_is_timed_over_all_its_tokens(self, store):
        store.record(Measurement("d", AttemptStatus.SUCCESS, 1100.0, output_tokens=11))
        assert statistics_of(store).output_token_p50_ms == pytest.approx(100, rel=0.02)

    @pytest.mark.parametrize(
        "measurement",
        [
            pytest.param(
                Measurement("d", AttemptStatus.SUCCESS, 100.0, 10.0, output_tokens=1), id="one token"
            ),
            pytest.param(Measurement("d", AttemptStatus.SUCCESS, 100.0, output_tokens=0), id="no token"),
            pytest.param(Measurement("d", AttemptStatus.SUCCESS, 100.0), id="no usage"),
            pytest.param(Measurement("d", AttemptStatus.SUCCESS, None, output_tokens=5), id="a session"),
            pytest.param(Measurement("d", AttemptStatus.TIMEOUT, 100.0, output_tokens=5), id="cut off"),
        ],
    )
    def test_what_has_no_time_per_token_gives_none(self, store, measurement):
        store.record(measurement)
        assert statistics_of(store).output_token_p50_ms is None

    def test_it_leaves_the_window_too(self, store, clock):
        store.record(Measurement("d", AttemptStatus.SUCCESS, 1000.0, output_tokens=1))
        clock.now_s += 200
        store.record(measured())
        clock.now_s += 200
        assert statistics_of(store).output_token_p50_ms is None


class TestAnswerLengths:
    def answer(self, store, tokens, route="r", **fields):
        status = fields.pop("status", AttemptStatus.SUCCESS)
        store.record(Measurement("d", status, 1.0, output_tokens=tokens, route=route, **fields))

    def lengths(self, store, clock):
        clock.now_s += 1
        return dict(store.snapshot().output_tokens)

    @pytest.mark.parametrize("tokens", [0, 0.0, -1])
    def test_an_answer_of_no_tokens_makes_no_route_look_free(self, tokens):
        """A live stream that its client left is told as one."""
        lengths = AnswerLengths()
        lengths.add("left", tokens, 0.0)
        for each in (tokens, 40, tokens):
            lengths.add("served", each, 0.0)
        assert lengths.means(0.0) == {"served": 40.0}

    def test_a_route_has_the_mean_of_its_answers(self, store, clock):
        for tokens, route in ((10, "r"), (40, "r"), (7, "other")):
            self.answer(store, tokens, route)
        assert self.lengths(store, clock) == {"r": 25, "other": 7}

    def test_several_answers_at_once_tell_nothing_since_nobody_tells_how_many_came(self, store, clock):
        self.answer(store, 30, answers=3)
        assert self.lengths(store, clock) == {}

    @pytest.mark.parametrize(
        ("tokens", "fields"),
        [
            pytest.param(None, {}, id="no usage"),
            pytest.param(9, {"route": None}, id="no route"),
            pytest.param(9, {"status": AttemptStatus.TIMEOUT}, id="no answer"),
        ],
    )
    def test_what_tells_of_no_answer_is_left_out(self, store, clock, tokens, fields):
        self.answer(store, tokens, **fields)
        assert self.lengths(store, clock) == {}

    def test_old_answers_are_forgotten(self, store, clock):
        self.answer(store, 10)
        clock.now_s += 1800
        self.answer(store, 40)
        clock.now_s += 1800
        assert self.lengths(store, clock) == {"r": 40}
        clock.now_s += 3600
        assert self.lengths(store, clock) == {}

    def test_an_answer_counts_from_the_next_look_on(self, store, clock):
        self.answer(store, 10)
        lengths = store.snapshot().output_tokens
        self.answer(store, 40)
        assert lengths.get("r") == 25
        assert lengths.get("other") is None

    def test_the_number_of_routes_is_bounded_and_the_most_silent_goes(self, store, clock):
        for number in range(MOST_ROUTES):
            self.answer(store, 1, str(number))
        self.answer(store, 1, "0")
        self.answer(store, 1, "new")
        routes = self.lengths(store, clock)
        assert len(routes) == MOST_ROUTES
        assert {"0", "new"} <= set(routes)
        assert "1" not in routes

    @pytest.mark.parametrize(("window_s", "slices"), [(0, 1), (-1, 1), (math.nan, 1), (1, 0)])
    def test_a_window_without_extent_is_refused(self, window_s, slices):
        with pytest.raises(ValueError, match="expected a positive window"):
            AnswerLengths(window_s, slices)


class TestAttemptsUnderWay:
    def test_they_are_counted_by_deployment(self, store):
        for name in ("a", "b", "a"):
            store.begin(name)
        assert store.snapshot().in_flight == {"a": 2, "b": 1}

    def test_they_are_those_of_this_moment(self, store, clock):
        store.begin("a")
        early = store.snapshot()
        clock.now_s += 0.01
        store.end("a")
        assert (dict(early.in_flight), dict(store.snapshot().in_flight)) == ({"a": 1}, {})

    @given(st.lists(st.tuples(st.booleans(), st.sampled_from("ab"))))
    def test_they_are_never_negative(self, events):
        store = MemoryStore()
        for begins, name in events:
            (store.begin if begins else store.end)(name)
            assert all(count > 0 for count in store.snapshot().in_flight.values())


def test_the_number_of_deployments_is_bounded_and_the_most_silent_goes(store):
    for number in range(MOST_DEPLOYMENTS):
        store.record(measured(deployment_id=str(number)))
    store.record(measured(deployment_id="0"))
    store.record(measured(deployment_id="new"))
    known = store.snapshot().by_deployment
    assert len(known) == MOST_DEPLOYMENTS
    assert ("0" in known, "1" in known, "new" in known) == (True, False, True)


@pytest.mark.parametrize(
    "value", [pytest.param(v, id=str(v)) for v in (-1.0, 0.0, math.nan, math.inf, -math.inf, 1e300)]
)
def test_absurd_latencies_are_clamped(store, value):
    store.record(measured(total_ms=value, first_token_ms=value))
    assert 0 < statistics_of(store).total_p95_ms <= 3_600_000 * 1.02


@pytest.mark.parametrize(("window_s", "slices"), [(0, 10), (-1, 10), (math.nan, 10), (300, 0)])
def test_a_window_without_extent_is_refused(window_s, slices):
    with pytest.raises(ValueError, match="expected a positive window"):
        MemoryStore(window_s=window_s, slices=slices)


@pytest.mark.parametrize("half_life_s", [0, -1, math.nan])
def test_a_half_life_without_extent_is_refused(half_life_s):
    with pytest.raises(ValueError, match="expected a positive half-life or None"):
        MemoryStore(half_life_s=half_life_s)


class TestDecay:
    def after(self, clock, half_life_s):
        """Ten slow answers, and four quick ones 240 s later."""
        store = MemoryStore(clock=clock, half_life_s=half_life_s)
        for _ in range(10):
            store.record(measured(total_ms=1000.0))
        clock.now_s += 240
        for _ in range(4):
            store.record(measured(total_ms=100.0))
        return statistics_of(store)

    @pytest.mark.parametrize(
        ("half_life_s", "usual_ms"),
        [
            pytest.param(120.0, 100, id="ten that weigh a quarter are less than four"),
            pytest.param(240.0, 1000, id="ten that weigh a half are more than four"),
            pytest.param(None, 1000, id="no decay"),
        ],
    )
    def test_recent_latencies_weigh_more(self, clock, half_life_s, usual_ms):
        assert self.after(clock, half_life_s).total_p50_ms == pytest.approx(usual_ms, rel=0.02)

    def test_attempts_and_failures_are_plain_counts(self, clock):
        assert self.after(clock, 1.0).attempts == 14

    def test_old_values_are_outweighed_and_not_forgotten(self, clock):
        assert self.after(clock, 120.0).total_p99_ms == pytest.approx(1000, rel=0.02)

    @given(
        st.lists(st.tuples(st.integers(0, 400), st.floats(0.01, 3_600_000)), min_size=1, max_size=60),
        st.sampled_from((1.0, 30.0, 120.0, 1e9)),
    )
    def test_quantiles_are_within_two_percent_of_weighted_ones(self, events, half_life_s):
        clock = Clock()
        store = MemoryStore(clock=clock, half_life_s=half_life_s)
        log = []
        for pause_s, total_ms in events:
            clock.now_s += pause_s
            store.record(measured(total_ms=total_ms))
            log.append((int(clock.now_s // 30), total_ms))
        weights = [
            (total_ms, 2.0 ** ((number - log[-1][0]) * 30 / half_life_s))
            for number, total_ms in sorted(log, key=lambda each: each[1])
            if number > log[-1][0] - 10
        ]
        for fraction, found in ((0.5, "total_p50_ms"), (0.95, "total_p95_ms"), (0.99, "total_p99_ms")):
            # Whole-number weights are right to a millionth of the newest: a fraction beside it is as good.
            around = [weighted(weights, fraction - 1e-4), weighted(weights, fraction + 1e-4)]
            assert around[0] * 0.98 <= getattr(statistics_of(store), found) <= around[1] * 1.02


def weighted(weights, fraction):
    """The least value at or below which this share of all the weight lies."""
    share, seen = fraction * sum(weight for _, weight in weights), 0.0
    for value, weight in weights:
        seen += weight
        if seen >= share:
            return value
    return weights[-1][0]


events = st.lists(
    st.tuples(st.floats(0, 200), st.sampled_from(AttemptStatus), st.floats(1, 1e5)), max_size=40
)


@given(events)
def test_the_window_holds_exactly_what_is_young_enough(events):
    clock = Clock()
    store = MemoryStore(window_s=300, slices=10, clock=clock)
    log = []
    for pause_s, status, total_ms in events:
        clock.now_s += pause_s
        store.record(measured(status, total_ms))
        log.append((int(clock.now_s // 30), status))
    oldest = int(clock.now_s // 30) - 9
    young = [status for number, status in log if number >= oldest]
    statistics = store.snapshot().by_deployment.get("d", EndpointStatistics())
    assert statistics.attempts == len(young)
    assert statistics.failures == sum(status.is_retryable for status in young)
