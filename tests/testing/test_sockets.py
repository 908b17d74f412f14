from __future__ import annotations

import json

import openai
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from litellm_plugin.testing import Fault, RecordingProvider, ServerThread


@pytest.fixture
def provider():
    return RecordingProvider("eu-1")


@pytest.fixture
def served(provider):
    servers = ServerThread()
    url = servers.add(provider)
    with servers:
        yield url.replace("http://", "ws://")


def test_a_response_socket_answers_each_create_and_records_its_frame(served, provider):
    frame = json.dumps({"type": "response.create", "model": "m", "input": "hello"})
    with connect(f"{served}/v1/responses") as socket:
        for _ in range(2):
            socket.send(frame)
            events = [json.loads(socket.recv(5))]
            while events[-1]["type"] != "response.completed":
                events.append(json.loads(socket.recv(5)))
            assert events[0]["type"] == "response.created"
            assert events[-1]["response"]["output"][0]["content"][0]["text"] == "answer from eu-1"
    assert [(each.method, each.path, each.body) for each in provider.requests] == [
        ("WEBSOCKET", "/v1/responses", frame.encode())
    ] * 2
    assert provider.handshakes == 1


def test_the_official_client_talks_realtime(served, provider):
    client = openai.OpenAI(api_key="k", websocket_base_url=f"{served}/v1")
    with client.realtime.connect(model="gpt-realtime") as connection:
        assert connection.recv().type == "session.created"
        connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        assert connection.recv().type == "session.updated"
        connection.response.create()
        events = [connection.recv()]
        while events[-1].type != "response.done":
            events.append(connection.recv())
    assert events[0].type == "response.created"
    assert [each.json["type"] for each in provider.requests] == ["session.update", "response.create"]


def test_a_frame_that_is_no_object_is_recorded_and_answered_with_an_error(served, provider):
    with connect(f"{served}/v1/realtime") as socket:
        socket.recv(5)
        socket.send("[]")
        assert json.loads(socket.recv(5))["type"] == "error"
    assert provider.requests[0].body == b"[]"


@pytest.mark.parametrize(("path", "fault"), [("/v1/other", None), ("/v1/realtime", Fault.status(500))])
def test_another_path_and_a_fault_refuse_the_handshake(served, provider, path, fault):
    provider.always(fault)
    with pytest.raises(InvalidStatus):
        connect(f"{served}{path}")
    assert (provider.handshakes, provider.requests) == (1, [])
