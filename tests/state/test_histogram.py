from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_plugin.state import LatencyHistogram
from litellm_plugin.state.histogram import (
    FIRST_BUCKET,
    LAST_BUCKET,
    LONGEST_MS,
    SHORTEST_MS,
    bucket_of,
    clamped_ms,
)

latencies = st.lists(st.floats(SHORTEST_MS, LONGEST_MS), min_size=1)


def filled(values):
    histogram = LatencyHistogram()
    for value in values:
        histogram.add(value)
    return histogram


def exact(values, fraction):
    """The least value that at least this share of all values do not exceed."""
    return sorted(values)[max(0, math.ceil(min(fraction * len(values), len(values))) - 1)]


@given(latencies, st.floats(0, 1))
def test_quantiles_are_within_two_percent(values, fraction):
    (measured,) = filled(values).quantiles_ms(fraction)
    assert measured == pytest.approx(exact(values, fraction), rel=0.02)


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(lambda rng: rng.lognormvariate(6, 1), id="log-normal"),
        pytest.param(lambda rng: rng.uniform(1, 10_000), id="uniform"),
        pytest.param(lambda rng: rng.paretovariate(1.1), id="heavy tail"),
        pytest.param(lambda rng: rng.choice((50, 5000)), id="two modes"),
    ],
)
def test_quantiles_of_realistic_data_are_within_two_percent(draw):
    rng = random.Random(7)  # noqa: S311 - test data, the same in each run
    values = [draw(rng) for _ in range(5000)]
    fractions = 0.01, 0.25, 0.5, 0.9, 0.95, 0.99, 1.0
    expected = [exact(values, fraction) for fraction in fractions]
    assert filled(values).quantiles_ms(*fractions) == pytest.approx(expected, rel=0.02)


@given(latencies, latencies)
def test_subtracting_leaves_what_was_there_before(kept, removed):
    histogram = filled([*kept, *removed])
    histogram.subtract(filled(removed))
    fractions = 0.0, 0.5, 0.95, 1.0
    assert histogram.quantiles_ms(*fractions) == filled(kept).quantiles_ms(*fractions)


@given(latencies, latencies, st.integers(1, 2**60))
def test_merging_is_adding_each_value_as_often_as_it_weighs(light, heavy, weight):
    histogram = filled(light)
    histogram.merge(filled(heavy), weight)
    histogram.subtract(filled(light))
    assert histogram.buckets == {each: count * weight for each, count in filled(heavy).buckets.items()}


@given(latencies, latencies)
def test_subtracting_never_leaves_less_than_nothing(values, others):
    histogram = filled(values)
    histogram.subtract(filled([*values, *others]))
    assert histogram.buckets == {}


@given(latencies, latencies)
def test_what_lies_beyond_another_one_is_what_was_added_to_it(values, more):
    whole, part = filled([*values, *more]), filled(values)
    assert whole.beyond(part).buckets == filled(more).buckets
    assert part.beyond(whole).buckets == {}
    assert (whole.covers(part), part.covers(whole)) == (True, False)


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_every_float_has_a_bucket_in_the_range(value):
    assert FIRST_BUCKET <= bucket_of(value) <= LAST_BUCKET


def test_no_values_have_no_quantiles():
    assert LatencyHistogram().quantiles_ms(0.5, 0.95) == (None, None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(12.5, 12.5, id="latency"),
        pytest.param(0.0, SHORTEST_MS, id="zero"),
        pytest.param(-5.0, SHORTEST_MS, id="negative"),
        pytest.param(-math.inf, SHORTEST_MS, id="negative infinity"),
        pytest.param(math.inf, LONGEST_MS, id="infinity"),
        pytest.param(math.nan, LONGEST_MS, id="not a number"),
        pytest.param(LONGEST_MS * 2, LONGEST_MS, id="over an hour"),
    ],
)
def test_values_are_clamped(value, expected):
    assert clamped_ms(value) == expected
