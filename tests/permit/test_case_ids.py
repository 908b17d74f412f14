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
}
PENDING = {
    "R05": "proxy: a permit under a header name that only looks alike",
    "R61": "routing: endpoints that no deployment has, alone",
    "R62": "routing: authorized endpoints of which none serves the asked model group",
    "R67": "routing: a classification that the endpoint is not cleared for",
    "R73": "enforcement: side doors in the body",
    "A09": "routing: unknown endpoints beside known ones",
    "A13": "enforcement: every governed call type",
    "P1": "routing: the choice lies inside permit and registry",
    "P2": "routing: another filter never enlarges the list of candidates",
}


def named(path):
    return set(NAME.findall(path.read_text()))


def test_every_case_is_named_by_a_test():
    tests = [path for path in TESTS.rglob("*.py") if path != Path(__file__)]
    missing = set(IDS) - set().union(*map(named, tests)) - PENDING.keys()

    assert sorted(missing) == []


@pytest.mark.parametrize(("case", "module"), COVERED_ELSEWHERE.items())
def test_a_case_of_another_room_is_named_there(case, module):
    assert case in named(TESTS / module)


def test_no_case_is_pending_that_does_not_exist():
    assert PENDING.keys() | COVERED_ELSEWHERE.keys() <= set(IDS)
