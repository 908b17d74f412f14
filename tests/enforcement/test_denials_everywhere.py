"""Denials on every governed path: typed, at once, once, with nothing sent and no fallback."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from calls import GOVERNED, under

from litellm_plugin.testing import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.proxy

every_call = pytest.mark.parametrize("call", GOVERNED, ids=lambda call: call.name)
# A denial may cost more than an answer from loopback, but a retry's pause, half a second or more, would show.
AT_ONCE = 3


def outdated():
    now = int(time.time())
    return {"iat": now - 100, "exp": now - 40}


@dataclass(frozen=True)
class Denial:
    """Why a permit is not enough for a request: what it says, and how the request ends."""

    name: str
    endpoints: list[str]
    permit: Callable[[], dict[str, Any]]
    status: int
    reason: str


def elsewhere(call, endpoints):
    """Endpoints of another group than the call's; the fallback's own group has none."""
    return ["eu-a"] if call.model == "claude" and endpoints == ["claude-eu"] else endpoints


DENIALS = [
    Denial("expired", ["eu-a", "claude-eu"], outdated, 401, "expired"),
    Denial(
        "wrong-claim", ["eu-a", "claude-eu"], lambda: {"data_classification": "top"}, 401, "claim_invalid"
    ),
    # Every path's default fallback is the group `claude`, which this permit names.
    Denial("another-group", ["claude-eu"], dict, 403, "not_authorized"),
]


@every_call
@pytest.mark.parametrize("denial", DENIALS, ids=lambda denial: denial.name)
def test_a_denial_is_typed_and_final(fleet, call, denial):
    answer = under(fleet, call, elsewhere(call, denial.endpoints), **denial.permit())

    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (
        denial.status,
        "permit_error",
        denial.reason,
    ), answer.text
    assert answer.headers["x-permit-reason"] == denial.reason
    assert answer.headers["x-should-retry"] == "false"
    assert fleet.calls() == {}
    own = [each for each in fleet.records() if each["decision_id"] == error["decision_id"]]
    assert [(record["type"], record["outcome"], record["reason"]) for record in own] == [
        ("decision", "denied", denial.reason)
    ]


@every_call
def test_a_request_without_a_permit_is_refused(fleet, call):
    kind = {"content-type": "multipart/form-data; boundary=x"} if call.form else {}

    answer = fleet.post(call.path, b"{}", kind)

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "permit_missing")
    assert fleet.calls() == {}


@every_call
def test_a_denial_takes_no_longer_than_a_few_answers(fleet, call):
    served, denied = [], []
    for _ in range(5):
        served.append(call.send(fleet, ["claude-eu" if call.model == "claude" else "eu-a"]))
        denied.append(under(fleet, call, ["nowhere"]))

    assert {each.status_code for each in served} == {200}
    assert {each.status_code for each in denied} == {403}
    # The best of five: on a busy machine any one of them may have waited for something else.
    assert min(map(seconds, denied)) <= AT_ONCE * statistics.median(map(seconds, served))


def seconds(answer):
    return answer.elapsed.total_seconds()


def test_a_fallback_group_without_an_authorized_endpoint_is_skipped_and_recorded(fleet):
    """`gemini` falls back to `claude`, then to `gpt`: see `SETTINGS`."""
    fleet.providers["eu-a"].always(Fault.status(500))

    answer = fleet.send("chat", ["eu-a", "us-b"], model="gemini")

    assert answer.status_code == 200, answer.text
    assert answer.headers["x-permit-endpoint"] == "us-b"
    assert fleet.calls() == {"eu-a": 1, "us-b": 1}
    decisions = [r for r in fleet.records_of(answer, attempts=2) if r["type"] == "decision"]
    assert [(each["outcome"], exclusions(each)) for each in decisions] == [
        ("routed", {"eu-a": None, "us-a": "not_authorized"}),
        ("denied", {"claude-eu": "not_authorized", "claude-us": "not_authorized"}),
        ("routed", {"eu-a": None, "eu-b": "not_authorized", "us-a": "not_authorized", "us-b": None}),
    ]


def exclusions(decision):
    return {each["endpoint"]: each["exclusion"] for each in decision["candidates"]}
