from __future__ import annotations

import socket
import threading
import time

import httpx
import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from uvicorn.server import ServerState

from litellm_plugin.testing import Fault, RecordingProvider, ServerThread

CHAT = {"model": "gpt-x", "messages": [], "stream": True}


def test_each_app_has_its_own_port():
    servers = ServerThread()
    urls = [servers.add(PlainTextResponse(name)) for name in ("one", "two")]
    with servers:
        assert [httpx.get(url, trust_env=False).text for url in urls] == ["one", "two"]


def test_port_can_be_chosen():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    servers = ServerThread()
    url = servers.add(PlainTextResponse("x"), port=port)
    with servers:
        assert url == f"http://127.0.0.1:{port}"
        assert httpx.get(url, trust_env=False).text == "x"


def test_taken_port_is_refused():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="in use"):
            ServerThread().add(PlainTextResponse("x"), port=taken.getsockname()[1])


def test_stop_leaves_no_thread_and_no_listener():
    before = set(threading.enumerate())
    servers = ServerThread()
    url = servers.add(PlainTextResponse("x"))
    with servers:
        assert set(threading.enumerate()) != before
    assert set(threading.enumerate()) == before
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)


@pytest.mark.parametrize("fault", [Fault.hang(), Fault.drip(30)], ids=["hang", "open-stream"])
def test_stop_cancels_open_answers_within_two_seconds(fault, caplog):
    provider = RecordingProvider("eu-1")
    provider.always(fault)
    servers = ServerThread()
    url = servers.add(provider)
    broken = []

    def ask():
        try:
            httpx.post(f"{url}/v1/chat/completions", json=CHAT, timeout=30, trust_env=False)
        except httpx.TransportError as error:
            broken.append(error)

    asking = threading.Thread(target=ask)
    with servers:
        asking.start()
        while not provider.calls:
            time.sleep(0.01)
        started = time.monotonic()
    assert time.monotonic() - started < 10
    asking.join(5)
    assert len(broken) == 1
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []


def test_stop_closes_idle_connections():
    servers = ServerThread()
    url = servers.add(PlainTextResponse("x"))
    with httpx.Client(trust_env=False) as client:
        servers.start()
        client.get(url)
        started = time.monotonic()
        servers.stop()
        assert time.monotonic() - started < 10


def test_stop_closes_a_connection_that_comes_while_it_stops(monkeypatch):
    servers = ServerThread()
    url = servers.add(PlainTextResponse("x"))
    with socket.socket() as late:
        shutdown = uvicorn.Server.shutdown

        async def overtaken(server, sockets=None):
            """What a busy machine may do: the connection is accepted after uvicorn looked for open ones."""
            server.server_state, open_ones = ServerState(), server.server_state
            await shutdown(server, sockets)
            server.server_state = open_ones

        monkeypatch.setattr(uvicorn.Server, "shutdown", overtaken)
        with servers:
            late.connect(("127.0.0.1", int(url.rsplit(":", 1)[1])))
            time.sleep(0.1)
        late.settimeout(2)
        assert late.recv(1) == b""


def test_app_with_aclose_is_closed_in_the_loop():
    closed_in = []

    class Closable(PlainTextResponse):
        async def aclose(self):
            closed_in.append(threading.current_thread())

    servers = ServerThread()
    servers.add(Closable("x"))
    with servers:
        pass
    assert closed_in
    assert closed_in != [threading.main_thread()]


def test_stop_before_start_releases_the_port():
    servers = ServerThread()
    url = servers.add(PlainTextResponse("x"))
    servers.stop()
    with socket.socket() as again:
        again.bind(("127.0.0.1", int(url.rsplit(":", 1)[1])))


def test_stop_twice_is_harmless():
    servers = ServerThread()
    servers.add(PlainTextResponse("x"))
    servers.start()
    servers.stop()
    servers.stop()


def test_app_is_not_added_to_a_running_thread():
    servers = ServerThread()
    servers.add(PlainTextResponse("x"))
    with servers, pytest.raises(RuntimeError, match="before start"):
        servers.add(PlainTextResponse("y"))


def test_thread_starts_once():
    servers = ServerThread()
    with servers:
        pass
    with pytest.raises(RuntimeError, match="once"):
        servers.start()
