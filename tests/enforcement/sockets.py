"""Websockets through a proxy: what the tests of both governed kinds share."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from litellm_plugin.testing import marker

PATHS = {"responses": "/v1/responses", "realtime": "/v1/realtime"}
# Ends a test that would hang; a loaded machine is no failure.
PATIENT_S = 60
LAST = {"responses": "response.completed", "realtime": "response.done"}


class Client:
    """A client of one socket."""

    def __init__(self, socket: Any, kind: str, fleet: Any) -> None:
        self.socket = socket
        self.kind = kind
        self.fleet = fleet

    def say(self, frame: dict[str, Any] | str) -> None:
        # A realtime socket may be closed before its first frame; `close_code` tells.
        with contextlib.suppress(ConnectionClosed):
            self.socket.send(frame if isinstance(frame, str) else json.dumps(frame))

    def create(self, mark: str, **extra: Any) -> None:
        self.say(create(self.kind, mark, **extra))

    def answer(self) -> list[dict[str, Any]]:
        """The events up to the end of one response."""
        events: list[dict[str, Any]] = []
        while not events or events[-1]["type"] != LAST[self.kind]:
            events.append(json.loads(self.socket.recv(PATIENT_S)))
        return events

    def close_code(self) -> tuple[int, str]:
        """How the proxy closed the socket, after what it still said."""
        try:
            while True:
                self.socket.recv(PATIENT_S)
        except ConnectionClosed as closed:
            return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")


def create(kind: str, mark: str, **extra: Any) -> dict[str, Any]:
    """A `response.create` that carries a marker."""
    if kind == "responses":
        return {"type": "response.create", "model": "gpt", "input": f"hello {mark}", **extra}
    content = [{"type": "input_text", "text": f"hello {mark}"}]
    item = {"type": "message", "role": "user", "content": content}
    return {"type": "response.create", "response": {"input": [item], **extra}}


@contextlib.contextmanager
def opened(
    fleet: Any,
    kind: str,
    permit: str | None,
    *,
    query: str | None = None,
    path: str | None = None,
    headers: dict[str, str] | None = None,
):
    query = ("?model=gpt" if kind == "realtime" else "") if query is None else query
    lines = {"authorization": f"Bearer {fleet.proxy.master_key}", **(headers or {})}
    if permit is not None:
        lines["x-llm-permit"] = permit
    url = fleet.proxy.url.replace("http://", "ws://") + (path or PATHS[kind]) + query
    with connect(
        url, additional_headers=lines, proxy=None, close_timeout=5, open_timeout=PATIENT_S
    ) as socket:
        yield Client(socket, kind, fleet)


def allowed(fleet: Any, *endpoints: str) -> str:
    """A fresh marker that may reach these endpoints."""
    mark = marker()
    fleet.ledger.allow(mark, endpoints)
    return mark


def frames(fleet: Any, kind: str | None = None) -> list[tuple[str, str]]:
    """Where each frame arrived, and its type."""
    found = [
        (each.at, name, (each.json or {}).get("type", each.path))
        for name, provider in fleet.providers.items()
        for each in provider.requests
        if each.method != "GET"
    ]
    return [(name, event) for _, name, event in sorted(found)]


def record(fleet: Any, test: Any, wait_s: float = PATIENT_S) -> dict[str, Any]:
    """The first record that passes a test; the log is written in the background."""
    deadline_s = time.monotonic() + wait_s
    while time.monotonic() < deadline_s:
        for each in fleet.records():
            if test(each):
                return each
        time.sleep(0.1)
    raise AssertionError(f"no such record among {len(fleet.records())}")
