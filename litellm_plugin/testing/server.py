"""The server thread: any number of ASGI apps on loopback ports, in one background thread."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Self

import uvicorn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from starlette.types import ASGIApp, Receive, Scope, Send

_DROP = "litellm_plugin.testing.drop_connection"
_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 15.0
_GRACE_S = 1
_KEEP_ALIVE_S = 120
_POLL_S = 0.005


async def drop_connection(scope: Scope) -> None:
    """Drop the connection of a request under way, without an end to its answer.

    Raises:
        RuntimeError: The app is not served by a `ServerThread`.
    """
    drop = scope.get("extensions", {}).get(_DROP)
    if drop is None:
        raise RuntimeError("only a ServerThread can drop a connection")
    await drop()


class _App:
    """One app with its server, its socket and the calls under way."""

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        self.app = app
        self.listener = listener
        self.stopping = asyncio.Event()
        self.calls: set[asyncio.Task[None]] = set()
        self.server = uvicorn.Server(
            uvicorn.Config(
                self._handle,
                http="h11",
                ws="websockets-sansio",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                log_level="warning",
                access_log=False,
                proxy_headers=False,  # a forwarded address in scope["client"] would hide the connection
                timeout_graceful_shutdown=_GRACE_S,
                # Longer than a client keeps an idle connection: uvicorn's 5 s end some while they are being reused.
                timeout_keep_alive=_KEEP_ALIVE_S,
            )
        )

    async def serve(self) -> None:
        try:
            await self.server.serve(sockets=[self.listener])
        finally:
            await self._abort_all()
            aclose = getattr(self.app, "aclose", None)
            if aclose is not None:
                await aclose()

    def stop(self) -> None:
        self.stopping.set()
        self.server.should_exit = True
        for call in self.calls:
            call.cancel()

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def drop() -> None:
            await self._drop(scope["client"])

        scope.setdefault("extensions", {})[_DROP] = drop
        if self.stopping.is_set():
            await drop()
            return
        with self._counted_call():
            try:
                await self.app(scope, receive, send)
            except asyncio.CancelledError:
                if not self.stopping.is_set():
                    raise
                await drop()

    @contextlib.contextmanager
    def _counted_call(self) -> Iterator[None]:
        call = asyncio.current_task()
        if call is None:  # pragma: no cover - a coroutine always runs in a task
            raise RuntimeError("an ASGI app must run in a task")
        self.calls.add(call)
        try:
            yield
        finally:
            self.calls.discard(call)

    async def _abort_all(self) -> None:
        """Closes what uvicorn leaves open after its grace: a transport outlives its loop as an open socket."""
        while self.server.server_state.connections:
            for connection in list(self.server.server_state.connections):
                connection.transport.abort()
            await asyncio.sleep(0)

    async def _drop(self, client: tuple[str, int] | None) -> None:
        for connection in list(self.server.server_state.connections):
            # getattr: one of uvicorn's protocols has no `client`; h11's, chosen above, has.
            if getattr(connection, "client", None) == client:
                connection.transport.abort()
        # uvicorn learns of the loss in a callback; without this turn it logs an incomplete answer.
        await asyncio.sleep(0)


class ServerThread:
    """Runs ASGI apps, each on its own port of 127.0.0.1, in one thread with one event loop.

    Ports are bound by `add`, so that an app's URL is known before anything runs. An app that has an
    `aclose` coroutine method is closed in the loop when the thread stops. `stop` cancels what is still
    being answered.
    """

    def __init__(self) -> None:
        self._apps: list[_App] = []
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_requested = asyncio.Event()
        self._is_closed = False

    def add(self, app: ASGIApp, port: int = 0) -> str:
        """Bind a port for the app (0: any free one) and return its base URL, without a trailing slash.

        Raises:
            RuntimeError: The thread was started already.
            OSError: The port is taken.
        """
        if self._thread is not None or self._is_closed:
            raise RuntimeError("expected add() before start()")
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
        except OSError:
            listener.close()
            raise
        self._apps.append(_App(app, listener))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    def start(self) -> Self:
        """Start serving and return once every app accepts connections.

        Raises:
            RuntimeError: The thread was started before, or an app did not start in time.
        """
        if self._thread is not None or self._is_closed:
            raise RuntimeError("a ServerThread starts once")
        started = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run(started)), name="litellm-plugin-testing", daemon=True
        )
        self._thread.start()
        started.wait(_START_TIMEOUT_S)
        if not all(served.server.started for served in self._apps):
            self.stop()
            raise RuntimeError(f"expected every server to start within {_START_TIMEOUT_S:g} s")
        return self

    def stop(self) -> None:
        """Stop serving, cancel open answers, close every socket and join the thread; twice is harmless."""
        self._is_closed = True
        if self._thread is None:
            for served in self._apps:
                served.listener.close()
            return
        if self._loop is not None and self._thread.is_alive():
            # A loop that ends between the question and the call has nothing left to stop.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop_requested.set)
        self._thread.join(_STOP_TIMEOUT_S)
        if self._thread.is_alive():
            raise RuntimeError(f"servers did not stop within {_STOP_TIMEOUT_S:g} s")

    async def _run(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        serving = [asyncio.create_task(served.serve()) for served in self._apps]
        pending = list(zip(self._apps, serving, strict=True))
        while any(not served.server.started and not task.done() for served, task in pending):  # noqa: ASYNC110 - uvicorn tells by attribute only
            await asyncio.sleep(_POLL_S)
        started.set()
        await self._stop_requested.wait()
        for served in self._apps:
            served.stop()
        await asyncio.gather(*serving)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
