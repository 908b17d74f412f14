"""The soak's own measure, and a soak of some seconds: an hour's is `make soak`, whose figures are in the docs."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "benchmarks"))

import soak
from chaos_stage import Stage

FLAT = soak.Sample(
    at_s=0, rss_mb=400, descriptors=60, tasks=12, requests=300, denied=0, out_of_set=0, p99_ms=40
)


def hour(**growth):
    """An hour of samples in which each of these grows by so much, steadily."""
    return [
        replace(
            FLAT,
            at_s=minute * 60,
            **{name: getattr(FLAT, name) + by * minute / 60 for name, by in growth.items()},
        )
        for minute in range(1, 61)
    ]


def test_flat_is_flat():
    assert soak.verdict(hour()) == []
    assert soak.slopes(hour()) == {"rss_mb": 0.0, "descriptors": 0.0, "tasks": 0.0}


@pytest.mark.parametrize(("name", "by"), [("rss_mb", 80.0), ("descriptors", 30.0), ("tasks", 30.0)], ids=str)
def test_what_grows_is_named(name, by):
    (fault,) = soak.verdict(hour(**{name: by}))
    assert fault.startswith(f"{name} grows by {by:.1f} an hour")


def test_what_rises_in_the_warm_up_alone_does_not_count():
    samples = [replace(each, rss_mb=min(each.at_s, 1100)) for each in hour()]
    assert soak.verdict(samples) == []


def test_what_litellm_alone_grows_by_is_not_the_plugins():
    assert soak.verdict(hour(rss_mb=80.0), alone=hour(rss_mb=40.0)) == []
    (fault,) = soak.verdict(hour(rss_mb=95.0), alone=hour(rss_mb=40.0))
    assert fault == "rss_mb grows by 95.0 an hour, at most 90 expected"


def test_what_litellm_alone_shrinks_by_is_not_asked_of_the_plugin():
    assert soak.verdict(hour(rss_mb=45.0), alone=hour(rss_mb=-30.0)) == []


@pytest.mark.parametrize(("name", "says"), [("denied", "1 denied wrongly"), ("out_of_set", "1 out of set")])
def test_what_went_wrong_once_counts(name, says):
    assert soak.verdict([*hour(), replace(FLAT, at_s=3600, **{name: 1})]) == [says]


def test_what_is_not_told_is_not_judged():
    assert soak.slopes([replace(each, tasks=None) for each in hour()])["tasks"] is None


@pytest.mark.proxy
@pytest.mark.parametrize("seconds", [pytest.param(8.0, id="C38-shortened")])
def test_a_short_soak_serves_everybody_and_takes_its_samples(tmp_path, seconds):
    with Stage(tmp_path) as stage:
        stage.open_store()
        stage.begin()
        samples = list(soak.soak(stage, seconds=seconds, rate=4, sample_s=seconds / 4))

    assert len(samples) >= 4
    assert sum(each.requests for each in samples) > seconds / 2
    assert [(each.denied, each.out_of_set) for each in samples if each.denied or each.out_of_set] == []
    assert all(each.rss_mb > 50 and each.descriptors > 10 for each in samples)
