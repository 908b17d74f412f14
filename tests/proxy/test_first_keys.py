"""A worker that has just begun: its first requests wait for its first keys, for a moment."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace

import pytest
from proxy_cases import POLICY_BLOCK, drive, http_scope
from test_admission import BODY, InnerApp

from litellm_plugin.proxy.admission import Admission
from litellm_plugin.settings import Flags, load_policy


class KeyServer:
    """Answers with an issuer's keys once it is told to; how often it was asked counts."""

    def __init__(self, document):
        self.may_answer = asyncio.Event()
        self.asked = 0
        self._document = document
        self._serving = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/jwks"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self.may_answer.set()
        await asyncio.gather(*self._serving)

    async def _serve(self, reader, writer):
        self.asked += 1
        self._serving.add(asyncio.current_task())
        await reader.readuntil(b"\r\n\r\n")
        await self.may_answer.wait()
        head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(self._document)}\r\nconnection: close\r\n\r\n"
        with contextlib.suppress(ConnectionError):
            writer.write(head.encode() + self._document)
            await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture
async def server(bare, tmp_path):
    bare.issuer.write_jwks(tmp_path / "jwks.json")
    async with KeyServer((tmp_path / "jwks.json").read_bytes()) as server:
        yield server


@pytest.fixture
async def send(bare, server, tmp_path):
    """Sends a request with a good permit through the admission of a worker that has just begun."""
    (issuer,) = POLICY_BLOCK["permit"]["issuers"]
    from_url = {name: value for name, value in issuer.items() if name != "jwks_file"} | {
        "jwks_url": server.url
    }
    block = {**POLICY_BLOCK, "permit": {**POLICY_BLOCK["permit"], "issuers": [from_url]}}
    runtime, inner = bare.runtime, InnerApp()
    runtime.load(load_policy(block, Flags(), base=tmp_path), base=tmp_path, presence=list)
    app = Admission(inner, inner.routes, runtime)

    async def send():
        headers = [("x-llm-permit", bare.issuer.mint(["eu"], body=BODY))]
        scope = http_scope(path="/v1/chat/completions", headers=headers)
        return await drive(app, scope, [{"type": "http.request", "body": BODY, "more_body": False}])

    yield send
    await runtime.stop()


async def test_the_first_requests_wait_for_the_first_keys(send, server):
    requests = [asyncio.create_task(send()) for _ in range(20)]
    async with asyncio.timeout(60):
        while not server.asked:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)
    assert not any(each.done() for each in requests)
    server.may_answer.set()
    assert [answer.status for answer in await asyncio.gather(*requests)] == [200] * 20
    assert server.asked == 1


async def test_c17_where_no_keys_come_they_are_refused_within_seconds(send, bare):
    """The load itself goes on for minutes."""
    (source,) = bare.runtime.in_force.sources
    source._times = replace(source._times, timeout_s=600)
    before_s = time.monotonic()
    answer = await send()
    assert (answer.status, answer.headers["x-permit-reason"]) == (503, "keys_unavailable")
    # 2 s are meant; a loaded machine is no fault of ours.
    assert time.monotonic() - before_s < 60


async def test_c17_the_time_for_the_first_keys_is_the_workers_and_not_each_requests(send, bare, monkeypatch):
    (source,) = bare.runtime.in_force.sources
    source._times = replace(source._times, timeout_s=600)
    assert (await send()).status == 503
    bare.clock.advance(3)

    async def waits(*_, **__):
        raise AssertionError("nobody waits any more")

    with monkeypatch.context() as patched:
        patched.setattr(asyncio, "wait", waits)
        assert {(await send()).status for _ in range(3)} == {503}


async def test_c17_a_load_that_failed_is_waited_for_once(send, server):
    """What comes later is refused at once, while the load is repeated in the background."""
    server._document = b"no keys"
    server.may_answer.set()
    assert (await send()).status == 503
    server.may_answer.clear()
    before_s = time.monotonic()
    answers = [await send() for _ in range(20)]
    assert {answer.status for answer in answers} == {503}
    assert time.monotonic() - before_s < 20
