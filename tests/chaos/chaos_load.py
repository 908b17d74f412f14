"""The load: requests at a steady rate, each under a permit of its own, from a thread with its own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import threading
import time
import uuid
from dataclasses import dataclass, field

import httpx

from litellm_plugin.testing import marker

PATH = "/v1/chat/completions"
# A request that takes longer than this hangs; an answer that takes this long is a fault's mark.
GIVE_UP_S = 60.0
WATCH_S = 1.0


@dataclass
class Visit:
    """One request, and what came of it."""

    request_id: str
    endpoints: tuple[str, ...]
    is_stream: bool
    leaves: bool
    at_s: float = 0.0
    took_s: float = GIVE_UP_S
    status: int | None = None
    text: str = ""
    is_own: bool = True
    error: str = ""
    has_ended: bool = False

    @property
    def is_denied(self):
        """Whether anything but its own whole answer came, to a client that stayed."""
        if self.leaves:
            return False
        is_whole = "[DONE]" in self.text if self.is_stream else '"choices"' in self.text
        return self.status != 200 or not is_whole or not self.is_own or bool(self.error)


@dataclass
class Target:
    """Where the load goes, who signs its permits, and who is told what they name."""

    url: str
    master_key: str
    issuer: object
    ledger: object
    endpoints: tuple[str, ...]
    group: str = "gpt"
    has_plugin: bool = True


@dataclass
class Load:
    """Sends `rate` requests a second while it is entered, whether or not earlier ones were answered.

    No more than a second's are under way at once: a machine that is too busy for the rate must not gather a crowd.

    A third of them is streamed; every subset of the endpoints is named by some permit. `leaving` is the share of
    clients that go away at once.

    Attributes:
        visits: The requests, in the order in which they were sent.
        healths: What the plugin said of its health meanwhile, and when it was asked.
    """

    target: Target
    rate: float
    leaving: float = 0.0
    visits: list[Visit] = field(default_factory=list)
    healths: list[tuple[float, dict]] = field(default_factory=list)

    def __post_init__(self):
        names = self.target.endpoints
        sizes = range(1, len(names) + 1)
        self._subsets = itertools.cycle([s for size in sizes for s in itertools.combinations(names, size)])
        self._numbers = itertools.count()
        self._ending = threading.Event()
        self._under_way = 0
        self._still = threading.Event()
        self._burst = 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        """Waits for every answer."""
        self._ending.set()
        self._thread.join(GIVE_UP_S + 30)
        assert not self._thread.is_alive(), "the load did not end"

    def burst(self, count):
        """Sends so many requests at once, beside the others."""
        self._burst = count

    @contextlib.contextmanager
    def still(self):
        """A time in which no request is under way, and no permit on its way."""
        self._still.set()
        try:
            end_s = time.monotonic() + GIVE_UP_S
            while self._under_way and time.monotonic() < end_s:
                time.sleep(0.01)
            yield
        finally:
            self._still.clear()

    async def _run(self):
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        client = httpx.AsyncClient(
            base_url=self.target.url, timeout=GIVE_UP_S, trust_env=False, limits=limits
        )
        async with client, asyncio.TaskGroup() as group:
            group.create_task(self._watch(client))
            due_s = time.monotonic()
            while not self._ending.is_set():
                is_due = not self._still.is_set() and self._under_way < max(4, self.rate)
                count, self._burst = is_due + self._burst, 0
                for _ in range(count):
                    self._under_way += 1
                    task = group.create_task(self._visit(client))
                    task.add_done_callback(self._ended)
                due_s += 1 / self.rate
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))

    def _ended(self, _):
        self._under_way -= 1

    async def _watch(self, client):
        while not self._ending.is_set():
            asked_s = time.monotonic()
            with contextlib.suppress(httpx.HTTPError, ValueError):
                answer = await client.get("/permit-router/v1/health")
                self.healths.append((asked_s, answer.json()))
            await asyncio.sleep(WATCH_S)

    async def _visit(self, client):
        number = next(self._numbers)
        visit = Visit(
            request_id=f"load-{uuid.uuid4().hex}",
            endpoints=next(self._subsets),
            is_stream=number % 3 == 0,
            leaves=self.leaving > 0 and number % round(1 / self.leaving) == 1,
        )
        self.visits.append(visit)
        mark = marker()
        self.target.ledger.allow(mark, visit.endpoints)
        body = {"model": self.target.group, "messages": [{"role": "user", "content": f"hello {mark}"}]}
        raw = json.dumps({**body, "stream": True} if visit.is_stream else body).encode()
        token = self.target.issuer.mint(visit.endpoints, body=raw, request_id=visit.request_id)
        headers = {
            "x-llm-permit": token,
            "authorization": f"Bearer {self.target.master_key}",
            "content-type": "application/json",
        }
        visit.at_s = time.monotonic()
        try:
            async with asyncio.timeout(0.02 if visit.leaves else GIVE_UP_S):
                answer = await client.post(PATH, content=raw, headers=headers)
            visit.status, visit.text = answer.status_code, answer.text
            own = visit.request_id if self.target.has_plugin else None
            visit.is_own = answer.headers.get("x-permit-request-id") == own
        except (TimeoutError, httpx.HTTPError) as error:
            visit.error = repr(error)
        visit.took_s = time.monotonic() - visit.at_s
        visit.has_ended = True
