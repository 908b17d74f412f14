"""The crowd: many more requests at once than a proxy answers in minutes, each under a single-use permit, and what it leaves.

The crowd is a process of its own, and speaks HTTP over bare connections: a client library's pool looks through all its
connections for each request.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import multiprocessing
import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from chaos_faults import Fault, burst
from chaos_load import PATH, Visit
from chaos_run import Outcome, attempted, run
from chaos_stage import Stage

from litellm_plugin.testing import marker

WORKERS = 8
# The proxy answers some 50 a second on two cores.
GIVE_UP_S = 1500.0
LIFETIME_S = 3600
# uvicorn's socket holds 2,048 connections that no worker has taken yet. The kernel drops what comes beyond: that says
# something of the backlog, nothing of the proxy behind it.
CONNECTING_AT_ONCE = 200
MOST_UNTAKEN = 1000
POLL_S = 0.05
_LISTENING = "0A"
# What a worker may keep of a crowd: the pages of its allocator, and connections to the store.
MOST_KEPT = {"rss_mb": 200.0, "descriptors": 20.0, "tasks": 10.0}
SETTLE_S = 120.0
POLICY = {
    "permit": {"binding": "single_use", "max_lifetime_seconds": LIFETIME_S},
    # The last of the crowd waits for longer than a request may by default.
    "resilience": {"attempts": 3, "breaker": {}, "retry_budget": {}, "deadline_ms": None},
}
# LiteLLM keeps its connections to providers for two minutes, unless it is told otherwise.
ENVIRONMENT = {"AIOHTTP_KEEPALIVE_TIMEOUT": "15"}
# Each worker tells its own log lines.
SINGLE_USE = Fault(
    "C13-SINGLE-USE",
    "a burst of single-use permits, eight workers",
    burst,
    changes=lambda _: 2 * WORKERS,
    has_p99=False,
)
NICENESS = 10
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def run_crowd(folder, pace, count):
    """C13, C38: gives a row for each, on a proxy of eight workers."""
    with Stage(folder, workers=WORKERS, policy=POLICY, env=ENVIRONMENT) as stage:
        stage.open_store()
        # Eight busy workers share the processors of one machine with a store that stands for a machine of its own.
        os.setpriority(os.PRIO_PGRP, stage.fleet.proxy.pid, NICENESS)
        yield attempted(SINGLE_USE.name, stage, lambda: run(stage, SINGLE_USE, pace))
        yield attempted("C38", stage, lambda: come_and_go(stage, count))


def come_and_go(stage, count):
    """C38: so many at once, all answered, and the workers are as they were before."""
    stage.begin()
    before = held(stage)
    visits, texts = _prepared(stage, count)
    began_s = time.monotonic()
    _send_apart(stage, visits, texts)
    took_s = time.monotonic() - began_s
    after = _settled(stage, before)
    kept = {name: (getattr(after, name) - getattr(before, name)) / WORKERS for name in MOST_KEPT}
    return Outcome(
        fault="C38",
        what=f"{count:,} single-use permits at once, {WORKERS} workers",
        requests=count,
        denied=[visit for visit in visits if visit.is_denied],
        out_of_set=stage.fleet.out_of_set(),
        slowest_s=max(visit.took_s for visit in visits),
        recovery_s=stage.recovery_s(time.monotonic()),
        others=[
            f"a worker kept {kept[name]:.1f} {name}, at most {most:g} expected"
            for name, most in MOST_KEPT.items()
            if kept[name] > most
        ],
        notes=[f"answered within {took_s:.0f} s", f"before: {before}", f"after: {after}"],
    )


@dataclass(frozen=True)
class Held:
    """What all workers together hold."""

    rss_mb: float
    descriptors: int
    tasks: int

    def __str__(self):
        return f"RSS {self.rss_mb:,.0f} MB, {self.descriptors} descriptors, {self.tasks} tasks"


def held(stage):
    healths = stage.healths()
    return Held(
        rss_mb=sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in healths)
        * _PAGE_BYTES
        / 1e6,
        descriptors=sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in healths),
        tasks=sum(health["tasks"] for health in healths.values()),
    )


def _settled(stage, before):
    """What is held once idle connections are closed and tasks have ended, or after two minutes."""
    end_s = time.monotonic() + SETTLE_S
    while True:
        after = held(stage)
        grown = [getattr(after, name) - getattr(before, name) for name in ("descriptors", "tasks")]
        if max(grown) <= 0 or time.monotonic() > end_s:
            return after
        time.sleep(1)


def _prepared(stage, count):
    """The visits, and each request as its bytes."""
    target = stage.target
    sizes = range(1, len(target.endpoints) + 1)
    subsets = itertools.cycle([s for size in sizes for s in itertools.combinations(target.endpoints, size)])
    visits, texts = [], []
    for number, endpoints in zip(range(count), subsets, strict=False):
        visit = Visit(f"crowd-{uuid.uuid4().hex}", endpoints, is_stream=number % 3 == 0, leaves=False)
        mark = marker()
        target.ledger.allow(mark, endpoints)
        body = {"model": target.group, "messages": [{"role": "user", "content": f"hello {mark}"}]}
        raw = json.dumps({**body, "stream": True} if visit.is_stream else body).encode()
        visits.append(visit)
        texts.append(_request(target, visit, raw))
    return visits, texts


def _request(target, visit, raw):
    token = target.issuer.mint(
        visit.endpoints, body=raw, request_id=visit.request_id, exp=int(time.time()) + LIFETIME_S - 60
    )
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: proxy\r\nconnection: close\r\ncontent-type: application/json\r\n"
        f"content-length: {len(raw)}\r\nauthorization: Bearer {target.master_key}\r\nx-llm-permit: {token}\r\n\r\n"
    )
    return head.encode() + raw


def _send_apart(stage, visits, texts):
    """Sends all from another process, and notes what came."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    sending = context.Process(
        target=_send_all, args=(stage.fleet.proxy.port, texts, there), daemon=True, name="crowd"
    )
    sending.start()
    there.close()
    try:
        for visit, (took_s, answer, error) in zip(visits, here.recv(), strict=True):
            _note(visit, took_s, answer, error)
    finally:
        sending.kill()
        sending.join()


def _note(visit, took_s, answer, error):
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    visit.took_s, visit.error, visit.has_ended = took_s, error, True
    visit.status = int(words[1]) if len(words) > 1 else None
    visit.text = body.decode(errors="replace")
    visit.is_own = f"x-permit-request-id: {visit.request_id}".encode() in head


def _send_all(port, texts, end):
    """In the other process: every answer with its time and its error."""
    end.send(asyncio.run(_gathered(port, texts)))


async def _gathered(port, texts):
    answers = []
    end_s = time.monotonic() + GIVE_UP_S
    for first in range(0, len(texts), CONNECTING_AT_ONCE):
        while _untaken(port) > MOST_UNTAKEN and time.monotonic() < end_s:  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(POLL_S)
        batch = texts[first : first + CONNECTING_AT_ONCE]
        answers += [asyncio.create_task(_answer(port, text)) for text in batch]
        await asyncio.sleep(POLL_S)
    return await asyncio.gather(*answers)


def _untaken(port):
    """How many connections to a listening port wait for a worker to take them."""
    with Path("/proc/net/tcp").open() as sockets:
        # Those that listen stand first.
        for line in sockets:
            _, local, _, state, queues, *_ = line.split()
            if state == _LISTENING and int(local.rpartition(":")[2], 16) == port:
                return int(queues.partition(":")[2], 16)
    raise RuntimeError(f"expected a process that listens on port {port}, found none")


async def _answer(port, text):
    began_s = time.monotonic()
    answer, error = b"", ""
    try:
        async with asyncio.timeout(GIVE_UP_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(text)
            answer = await reader.read()
            writer.close()
    except (TimeoutError, OSError) as wrong:
        error = repr(wrong)
    return time.monotonic() - began_s, answer, error
