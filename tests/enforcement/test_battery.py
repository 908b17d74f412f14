"""The battery's table: what of its rows fails a run."""

from __future__ import annotations

import httpx
import pytest
from battery import WHOLE, Arrivals, Battery, main

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


def test_the_parts_of_a_run_make_one_table(tmp_path):
    first = tried((SERVED, Arrivals(1, 0), 1), (REFUSED, Arrivals(0, 0), 0))
    first.red("door-1", "selection")
    second = tried((REFUSED, Arrivals(1, 1), 0))
    second.shut_by_litellm("door-1")
    paths = [tmp_path / "first.json", tmp_path / "second.json"]
    for part, path in zip((first, second), paths, strict=True):
        part.write(path)

    whole = Battery.read(paths)

    assert whole.table()[-1].split()[:5] == ["total", "3", "1", "2", "1"]
    assert whole.rows["door-1"].denials == {"not_authorized": 1}
    assert (whole.rows["door-1"].red, whole.rows["door-1"].is_shut_by_litellm) == (["selection"], True)
    assert len(whole.faults()) == 2
    assert main([str(path) for path in paths]) == 1


def test_a_part_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        main([str(tmp_path / "none.json")])


def test_no_row_at_all_is_a_fault(tmp_path):
    Battery().write(tmp_path / "empty.json")
    assert main([str(tmp_path / "empty.json")]) == 1
