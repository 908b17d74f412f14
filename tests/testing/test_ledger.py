from __future__ import annotations

import httpx
import pytest

from litellm_plugin.testing import Ledger, RecordingProvider, ServerThread, marker


@pytest.fixture
def eu():
    return RecordingProvider("eu-1")


@pytest.fixture
def us():
    return RecordingProvider("us-1")


@pytest.fixture
def send(eu, us):
    servers = ServerThread()
    urls = {provider.name: servers.add(provider) for provider in (eu, us)}

    def post(endpoint, text):
        httpx.post(f"{urls[endpoint]}/v1/chat/completions", json={"messages": text}, trust_env=False)

    with servers:
        yield post


def test_arrival_inside_the_set_is_clean(eu, us, send):
    ledger, mark = Ledger(), marker()
    ledger.allow(mark, ["eu-1", "us-1"])
    send("us-1", f"hello\n{mark}, please")
    send("eu-1", mark)
    judgement = ledger.judge([eu, us])
    assert judgement.arrivals == 2
    assert judgement.out_of_set == ()
    assert judgement.by_marker == {mark: ["us-1", "eu-1"]}


def test_arrival_outside_the_set_is_caught(eu, us, send):
    ledger, mark = Ledger(), marker()
    ledger.allow(mark, ["eu-1"])
    send("us-1", mark)
    judgement = ledger.judge([eu, us])
    assert [request.endpoint for request in judgement.out_of_set] == ["us-1"]
    assert judgement.by_marker == {mark: ["us-1"]}


def test_unmarked_arrival_is_caught(eu, send):
    send("eu-1", f"no permit for {marker()}")
    judgement = Ledger().judge([eu])
    assert len(judgement.out_of_set) == 1
    assert judgement.by_marker == {}


def test_every_prompt_in_a_request_needs_the_endpoint(eu, send):
    ledger, mine, foreign = Ledger(), marker(), marker()
    ledger.allow(mine, ["eu-1"])
    ledger.allow(foreign, ["us-1"])
    send("eu-1", f"{mine} {foreign}")
    assert len(ledger.judge([eu]).out_of_set) == 1


def test_nothing_arrived_is_clean(eu, us):
    judgement = Ledger().judge([eu, us])
    assert (judgement.arrivals, judgement.out_of_set) == (0, ())


@pytest.mark.parametrize("second", ["probe-1", "probe-10", "probe", ""])
def test_marker_that_cannot_be_told_apart_is_refused(second):
    ledger = Ledger()
    ledger.allow("probe-1", ["eu-1"])
    with pytest.raises(ValueError, match="marker"):
        ledger.allow(second, ["eu-1"])
