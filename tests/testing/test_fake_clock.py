from __future__ import annotations

import pytest

from litellm_plugin.testing import FakeClock


def test_time_stands_still_until_advanced():
    clock = FakeClock(wall_s=100, monotonic_s=5)
    assert (clock.wall(), clock.monotonic()) == (100, 5)
    clock.advance(2.5)
    assert (clock.wall(), clock.monotonic()) == (102.5, 7.5)


def test_time_does_not_run_back():
    with pytest.raises(ValueError, match="seconds >= 0"):
        FakeClock().advance(-1)
