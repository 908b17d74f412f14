"""The relay: a loopback port between a client and a Valkey server that is slow, wrong or both."""

from __future__ import annotations

import asyncio
import contextlib
import threading

# What sets a connection up: a server that is loading or without its master still answers these.
_SETUP = frozenset({b"AUTH", b"CLIENT", b"HELLO", b"SELECT"})
_AGGREGATES = {b"*": 1, b"~": 1, b">": 1, b"%": 2, b"|": 2}
_TEXTS = b"$=!"


class Relay:
    """Passes commands on one by one and their replies back, from `start` to `stop`.

    Attributes:
        delay_s: How long every arrival of bytes waits before it is looked at.
        error: The error that every command gets instead of its reply, as `LOADING …`; None passes them on.
        skew_s: By how much the server's clock seems to be off: the replies to TIME are rewritten.
        commands: How many commands came, those of setting up a connection aside.
    """

    def __init__(self, port, server_port):
        self.delay_s = 0.0
        self.error = None
        self.skew_s = 0
        self.commands = 0
        self._port = port
        self._server_port = server_port
        self._listening = threading.Event()
        self._loop = None
        self._ending = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self):
        self._thread.start()
        assert self._listening.wait(10), "the relay does not listen"
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the relay did not end"

    async def _run(self):
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        serving = set()

        async def serve(reader, writer):
            serving.add(asyncio.current_task())
            try:
                await self._serve(reader, writer)
            finally:
                serving.discard(asyncio.current_task())

        server = await asyncio.start_server(serve, "127.0.0.1", self._port)
        self._listening.set()
        await self._ending.wait()
        server.close()
        for task in tuple(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, reader, writer):
        behind = None
        arriving = asyncio.StreamReader()
        feeding = asyncio.create_task(self._feed(reader, arriving))
        try:
            replies, behind = await asyncio.open_connection("127.0.0.1", self._server_port)
            while True:
                raw = await _value(arriving)
                writer.write(await self._reply(raw, replies, behind))
        except (OSError, EOFError):
            pass
        except asyncio.CancelledError:
            # The relay ends; a handler that says so to asyncio's server would only be logged.
            pass
        finally:
            feeding.cancel()
            for each in filter(None, (writer, behind)):
                each.close()

    async def _feed(self, reader, arriving):
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65_536):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                arriving.feed_data(chunk)
        arriving.feed_eof()

    async def _reply(self, raw, replies, behind):
        name = raw.split(b"\r\n", 3)[2].upper()
        if name not in _SETUP:
            self.commands += 1
            if self.error is not None:
                return b"-" + self.error.encode() + b"\r\n"
        behind.write(raw)
        reply = await _value(replies)
        return self._skewed(reply) if name == b"TIME" else reply

    def _skewed(self, reply):
        head, size, seconds, rest = reply.split(b"\r\n", 3)
        moved = str(int(seconds) + self.skew_s).encode()
        assert len(moved) == len(seconds)
        return b"\r\n".join((head, size, moved, rest))


async def _value(reader):
    """One value of the Redis protocol (RESP2, RESP3) as its bytes: a command is one too."""
    line = await reader.readuntil(b"\r\n")
    kind = line[:1]
    if kind in _TEXTS and (size := int(line[1:])) >= 0:
        return line + await reader.readexactly(size + 2)
    parts = [line]
    if kind in _AGGREGATES:
        parts += [await _value(reader) for _ in range(int(line[1:]) * _AGGREGATES[kind])]
    return b"".join(parts)
