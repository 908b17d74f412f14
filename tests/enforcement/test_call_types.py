"""Every governed call type, streaming where it streams: served inside the set, by the cheapest endpoint."""

from __future__ import annotations

import pytest
from fleet import CALLS, PATHS, STREAMING

pytestmark = pytest.mark.proxy

CHEAPEST = {"messages": (["claude-eu", "claude-us"], "claude-us")}
ROWS = [
    pytest.param(call, stream, id=f"{call}-{'stream' if stream else 'whole'}")
    for call in CALLS
    for stream in ((False, True) if call in STREAMING else (False,))
]


@pytest.mark.parametrize(("call", "stream"), ROWS)
def test_the_cheapest_authorized_endpoint_serves(fleet, call, stream):
    authorized, cheapest = CHEAPEST.get(call, (["eu-a", "us-a"], "us-a"))

    answer = fleet.send(call, authorized, **({"stream": True} if stream else {}))

    assert answer.status_code == 200, answer.text
    assert fleet.calls() == {cheapest: 1}
    assert f"answer from {cheapest}" in answer.text or call == "embeddings" or stream
    assert answer.headers["x-permit-endpoint"] == cheapest
    assert answer.headers["x-permit-reason"] == "selected"


@pytest.mark.parametrize(("call", "stream"), ROWS)
def test_a_group_without_an_authorized_endpoint_is_refused_at_once(fleet, call, stream):
    others = ["eu-a"] if call == "messages" else ["claude-eu"]

    answer = fleet.send(call, others, **({"stream": True} if stream else {}))

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_authorized")
    assert fleet.calls() == {}
    assert answer.headers["x-should-retry"] == "false"
    assert answer.elapsed.total_seconds() < 3


@pytest.mark.parametrize("call", CALLS)
def test_only_published_fields_reach_the_provider(fleet, call):
    endpoint = "claude-eu" if call == "messages" else "eu-a"

    answer = fleet.send(
        call, [endpoint], user="someone" if call != "messages" else None, foo="bar", num_retries=9
    )

    assert answer.status_code == 200, answer.text
    (request,) = fleet.providers[endpoint].requests
    assert not {"foo", "num_retries", "max_retries", "cache"} & set(request.json)
    (decision,) = [
        r
        for r in fleet.records()
        if r["decision_id"] == answer.headers["x-permit-decision-id"] and r["type"] == "decision"
    ]
    assert {"foo", "num_retries"} <= set(decision["dropped_fields"])


@pytest.mark.parametrize("call", CALLS)
def test_the_permit_reaches_no_provider(fleet, call):
    endpoint = "claude-eu" if call == "messages" else "eu-a"

    fleet.send(call, [endpoint])

    (request,) = fleet.providers[endpoint].requests
    assert not [name for name in request.headers if "permit" in name]
    assert b"eyJ" not in request.body


@pytest.mark.parametrize("call", CALLS)
def test_without_the_plugin_the_same_request_leaves_the_set(inert_fleet, call):
    """The control of this module: nothing but the plugin keeps these requests inside."""
    authorized = ["claude-eu"] if call == "messages" else ["eu-a"]
    for _ in range(20):
        inert_fleet.send(call, authorized)
        if inert_fleet.out_of_set():
            return
    pytest.fail("20 requests and none left the permit's set although nothing is enforced")


def test_the_short_paths_are_governed_too(fleet):
    for call in ("chat", "completions", "embeddings", "responses"):
        answer = fleet.send(call, ["eu-a"], path=PATHS[call].removeprefix("/v1"))
        assert answer.status_code == 200, answer.text
    assert fleet.calls() == {"eu-a": 4}
