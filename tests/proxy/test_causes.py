"""Causes: what belongs to an attempt of the exceptions behind one."""

from __future__ import annotations

from litellm_plugin.proxy.causes import causes


def test_they_end_where_an_earlier_attempt_begins():
    first, second, third = ValueError(1), ValueError(2), ValueError(3)
    third.__context__, second.__cause__ = second, first
    assert list(causes(third, first)) == [third, second]
    assert list(causes(third, None)) == [third, second, first]


def test_a_ring_is_walked_once():
    first, second = ValueError(1), ValueError(2)
    first.__cause__, second.__cause__ = second, first
    assert list(causes(first, None)) == [first, second]
