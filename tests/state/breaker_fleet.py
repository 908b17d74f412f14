"""Workers that share breakers through one exchange in memory, and move only when a test says so."""

from __future__ import annotations

from dataclasses import replace

from litellm_plugin.routing import AttemptStatus
from litellm_plugin.routing.health import HEALTHY
from litellm_plugin.state import BreakerPolicy, Breakers, Outcome
from litellm_plugin.state.exchange import Batch, Contribution, Reply
from litellm_plugin.state.memory_exchange import MemoryExchange

FAILED = AttemptStatus.SERVER_ERROR
SUCCESS = AttemptStatus.SUCCESS
POLICY = BreakerPolicy()


class FakeStore:
    """One exchange and its clock; `now_s` may be set to anything, as a server's may."""

    def __init__(self, now_s=1_700_000_000.0):
        self.now_s = now_s
        self.exchange = MemoryExchange(lambda: self.now_s)

    def flush(self):
        self.exchange = MemoryExchange(lambda: self.now_s)


class Worker:
    """One worker's breakers, and the exchange that it turns to once a period."""

    def __init__(self, store, name="w", policy=POLICY, chance=lambda: 0.0, **options):
        self.store, self.name, self.sequence = store, name, 0
        self.breakers = Breakers(policy, chance, **options)

    @property
    def now_s(self):
        return self.store.now_s

    def record(self, status, deployment_id="d", times=1, **fields):
        for _ in range(times):
            self.breakers.record(Outcome(deployment_id, status, **fields), self.now_s)

    def health(self, deployment_id="d"):
        return self.breakers.health(self.now_s).get(deployment_id, HEALTHY)

    def want(self, deployment_id="d"):
        self.breakers.want([deployment_id], self.now_s)

    def take(self, deployment_id="d"):
        return self.breakers.take_probe(deployment_id, self.now_s)

    def turn(self):
        """One exchange that is answered; gives what was sent."""
        contribution = self.breakers.outgoing(self.now_s)
        reply = self.ask(contribution)
        self.breakers.incoming(reply, self.now_s)
        return contribution

    def lose(self, *, was_sent):
        contribution = self.breakers.outgoing(self.now_s)
        if was_sent:
            self.ask(contribution)
        self.breakers.lost(was_sent=was_sent)

    def ask(self, contribution: Contribution) -> Reply:
        self.sequence += 1
        waiting = self.store.exchange.exchange(Batch(self.name, self.sequence, contribution))
        try:
            waiting.send(None)
        except StopIteration as ended:
            return ended.value
        raise AssertionError("the exchange in memory waits for nothing")

    def probe(self, status, **fields):
        """Takes a probe and ends it; the exchange before grants it."""
        self.want()
        self.turn()
        assert self.take()
        self.record(status, is_probe=True, **fields)


def workers(count, policy=POLICY, **changes):
    store = FakeStore()
    return store, [Worker(store, f"w{number}", replace(policy, **changes)) for number in range(count)]


def a_worker(**changes):
    store, (worker,) = workers(1, **changes)
    return store, worker
