"""Every case that permits must get right is named by a test: R is refused, A accepted, P holds always."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
IDS = (Path(__file__).parent / "case_ids.txt").read_text().split()
NAME = re.compile(r"\b([RA][0-9]{2}|P[0-9])\b")

# What admission, routing and the shared store decide; the verifier never sees it.
COVERED_ELSEWHERE = {
    "R01": "enforcement/test_denials.py",
    "R03": "enforcement/test_denials.py",
    "R04": "enforcement/test_denials.py",
    "R68": "state/test_replay_store.py",
    "R69": "state/test_replay_store.py",
    "A12": "state/test_replay_store.py",
    "R05": "proxy/test_admission.py",
    "R61": "enforcement/test_permit_cases.py",
    "R62": "enforcement/test_permit_cases.py",
    "R67": "enforcement/test_permit_cases.py",
    "R73": "enforcement/test_permit_cases.py",
    "A09": "enforcement/test_permit_cases.py",
    "A13": "enforcement/test_permit_cases.py",
    "P1": "routing/test_planner.py",
    "P2": "routing/test_planner.py",
}


def named(path):
    return set(NAME.findall(path.read_text()))


def test_every_case_is_named_by_a_test():
    tests = [path for path in TESTS.rglob("*.py") if path != Path(__file__)]
    missing = set(IDS) - set().union(*map(named, tests))

    assert sorted(missing) == []


@pytest.mark.parametrize(("case", "module"), COVERED_ELSEWHERE.items())
def test_a_case_of_another_room_is_named_there(case, module):
    assert case in named(TESTS / module)


def test_no_case_is_covered_that_does_not_exist():
    assert COVERED_ELSEWHERE.keys() <= set(IDS)
