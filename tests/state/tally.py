"""A part of the state as simple as it can be, to see what a synchroniser does with any."""

from __future__ import annotations

from litellm_plugin.state.exchange import Contribution, HashChange, LeaseRequest


class Tally:
    """Counts, told at most once, and one lease; notes all that it is told."""

    def __init__(self, key="tally", want=10, limit=1000):
        self._key = key
        self._terms = (limit, want)
        self.pending = 0
        self.spent = 0
        self.told = 0
        self.total = None
        self.lease = None
        self.replies = []
        self.losses = []

    def count(self, amount=1):
        self.pending += amount

    def outgoing(self, now_s):
        limit, want = self._terms
        self.told = self.pending
        changes = (HashChange(self._key, 600.0, {"total": self.pending}),)
        return Contribution(
            changes, (self._key,), (LeaseRequest(self._key, limit, self.spent, want, ttl_s=600.0),)
        )

    def incoming(self, reply, now_s):
        self.replies.append((reply, now_s))
        self.pending -= self.told
        self.total = int(reply.hashes[self._key].get("total", "0"))
        if self._key in reply.leases:
            self.lease, self.spent = reply.leases[self._key], 0

    def lost(self, *, was_sent):
        self.losses.append(was_sent)
        if was_sent:
            self.pending -= self.told
