from __future__ import annotations

import json

import pytest

from litellm_plugin.errors import Reason
from litellm_plugin.records import Counters


@pytest.fixture
def counters():
    return Counters()


def test_nothing_is_counted_at_first(counters):
    assert (counters.admitted, counters.denied, counters.unknown_endpoints) == (0, {}, 0)


@pytest.mark.parametrize("reason", list(Reason))
def test_a_denial_moves_its_reason_alone(counters, reason):
    counters.deny(reason)
    assert (counters.admitted, counters.denied) == (0, {str(reason): 1})


def test_each_reason_counts_for_itself(counters):
    for reason in (Reason.REVOKED, Reason.EXPIRED, Reason.REVOKED):
        counters.deny(reason)
    assert list(counters.denied.items()) == [("expired", 1), ("revoked", 2)]


def test_an_admitted_request_brings_its_unknown_endpoints(counters):
    counters.admit()
    counters.admit(unknown_endpoints=3)
    assert (counters.admitted, counters.unknown_endpoints) == (2, 3)


def test_what_was_given_out_does_not_move(counters):
    before = counters.denied
    counters.deny(Reason.EXPIRED)
    assert before == {}


def test_labels_are_plain_text(counters):
    counters.deny(Reason.EXPIRED)
    assert json.dumps(counters.denied) == '{"expired": 1}'
