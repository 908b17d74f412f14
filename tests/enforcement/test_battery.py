"""The battery's table: what of its rows fails a run."""

from __future__ import annotations

import httpx
from battery import WHOLE, Arrivals, Battery

SERVED = httpx.Response(200)
REFUSED = httpx.Response(403, headers={"x-permit-reason": "not_authorized"})


def tried(*rows):
    battery = Battery()
    for number, (answer, arrivals, expected) in enumerate(rows):
        battery.tried(f"door-{number}", answer, arrivals=arrivals, expected=expected)
    return battery


def test_rows_that_end_as_expected_are_no_fault():
    assert tried((SERVED, Arrivals(1, 0), 1), (REFUSED, Arrivals(0, 0), 0)).faults() == []


def test_a_missing_arrival_is_a_fault():
    (fault,) = tried((REFUSED, Arrivals(0, 0), 1)).faults()
    assert "1 arrivals were expected, 0 came" in fault


def test_an_arrival_outside_is_a_fault():
    (fault,) = tried((SERVED, Arrivals(1, 1), 1)).faults()
    assert "1 arrivals outside" in fault


def test_a_battery_in_which_all_is_refused_is_a_fault_and_a_part_of_it_is_none():
    row = (REFUSED, Arrivals(0, 0), 0)
    assert tried(*[row] * (WHOLE - 1)).faults() == []
    assert len(tried(*[row] * WHOLE).faults()) == 1


def test_the_table_sums_and_names_what_is_red_and_what_is_shut():
    battery = tried((SERVED, Arrivals(1, 0), 1), (REFUSED, Arrivals(0, 0), 0))
    battery.red("door-1", "selection")
    battery.red("door-1", "admission")
    battery.shut_by_litellm("door-1")
    _, _, refused, total = battery.table()
    assert refused.endswith("shut by LiteLLM")
    assert "admission, selection" in refused
    assert total.split()[:5] == ["total", "2", "1", "1", "0"]
