"""Redirects: no HTTP client follows one while it works for a request."""

from __future__ import annotations

import asyncio

import aiohttp
import httpx
import pytest
import requests
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from litellm_plugin.proxy.context import Administrative, enter, leave
from litellm_plugin.proxy.redirects import forbid_redirects
from litellm_plugin.testing import Fault, RecordingProvider, ServerThread


async def by_httpx(url):
    async with httpx.AsyncClient(follow_redirects=True, trust_env=False) as client:
        return (await client.post(url, content=b"x")).status_code


async def by_httpx_in_a_thread(url):
    def post():
        with httpx.Client(follow_redirects=True, trust_env=False) as client:
            return client.post(url, content=b"x").status_code

    return await asyncio.to_thread(post)


async def by_aiohttp(url):
    async with aiohttp.ClientSession() as session, session.post(url, data=b"x") as answer:
        return answer.status


async def by_aiohttp_that_insists(url):
    async with (
        aiohttp.ClientSession() as session,
        session.request("POST", url, data=b"x", allow_redirects=True) as answer,
    ):
        return answer.status


async def by_requests(url):
    def post():
        with requests.Session() as session:
            session.trust_env = False
            with session.post(url, data=b"x", allow_redirects=True) as answer:
                return answer.status_code

    return await asyncio.to_thread(post)


CLIENTS = [by_httpx, by_httpx_in_a_thread, by_aiohttp, by_aiohttp_that_insists, by_requests]


@pytest.fixture(scope="module")
def servers():
    forbid_redirects()
    source, target = RecordingProvider("source"), RecordingProvider("target")
    servers = ServerThread()
    url, other = servers.add(source), servers.add(target)
    source.always(Fault.redirect(other))
    with servers:
        yield url, target


@pytest.mark.parametrize("post", CLIENTS)
async def test_inside_a_request_a_redirect_is_the_answer(servers, request_state, post):
    url, target = servers
    target.clear()
    request_state(Administrative())

    assert await post(f"{url}/v1/chat/completions") == 307
    assert target.requests == []


@pytest.mark.parametrize("post", CLIENTS)
async def test_outside_a_request_it_is_followed(servers, post):
    url, target = servers
    target.clear()

    await post(f"{url}/v1/chat/completions")

    assert len(target.requests) == 1


class TestSockets:
    @pytest.fixture
    async def url(self):
        """The address of a websocket that sends its callers on to another one."""
        forbid_redirects()

        async def echo(socket):
            await socket.send("elsewhere")

        async with serve(echo, "127.0.0.1", 0) as target:
            port = target.sockets[0].getsockname()[1]

            def send_on(_, __):
                return Response(307, "Moved", Headers(Location=f"ws://127.0.0.1:{port}/"), b"")

            async with serve(echo, "127.0.0.1", 0, process_request=send_on) as source:
                yield f"ws://127.0.0.1:{source.sockets[0].getsockname()[1]}/"

    async def opened(self, url):
        async with connect(url, proxy=None) as socket:
            return await socket.recv()

    async def test_a_handshake_is_not_sent_on_inside_a_request(self, url):
        token = enter(Administrative())
        try:
            with pytest.raises(InvalidStatus) as caught:
                await self.opened(url)
        finally:
            leave(token)
        assert caught.value.response.status_code == 307

    async def test_outside_a_request_it_is(self, url):
        assert await self.opened(url) == "elsewhere"
