"""What the tests of the proxy room share: a policy, a worker on a fake clock, and requests as ASGI sees them."""

from __future__ import annotations

import asyncio
import contextvars
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from litellm_plugin.proxy.context import Attempt, Permitted, RoutedGroup
from litellm_plugin.proxy.in_force import in_force
from litellm_plugin.proxy.outcomes import Outcomes
from litellm_plugin.routing import decide
from litellm_plugin.routing.candidates import Candidate
from litellm_plugin.routing.facts import CallType, RequestFacts
from litellm_plugin.settings import Flags, load_policy

if TYPE_CHECKING:
    from litellm_plugin.testing import FakeClock, PermitIssuer

POLICY_BLOCK = {
    "permit": {
        "audience": "llm-router",
        "binding": "body",
        "max_body_bytes": 4096,
        "issuers": [
            {"issuer": "https://policy.example.test", "jwks_file": "jwks.json", "algorithms": ["ES256"]}
        ],
    },
    "classifications": {"internal": {}, "phi": {"require": ["baa"]}},
    "latency_classes": {"interactive": {}},
    "tenant_tiers": ["pro"],
    "default": {"strategy": "cost"},
}


@dataclass
class Worker:
    """A runtime with keys and a decision log in a folder of its own."""

    runtime: object
    issuer: PermitIssuer
    clock: FakeClock
    folder: object
    missing: list = field(default_factory=list)

    def load(self, blocks=None, **permit):
        self.issuer.write_jwks(self.folder / "jwks.json")
        policy = self._policy(blocks, permit)
        self.runtime.load(policy, base=self.folder, presence=lambda: self.missing)
        Outcomes(self.runtime)
        return self

    def reload(self, blocks=None, **permit):
        """Puts another policy in force."""
        self.runtime.swap(in_force(self._policy(blocks, permit), self.runtime.in_force.sources))

    def _policy(self, blocks, permit):
        block = {**POLICY_BLOCK, **(blocks or {}), "permit": {**POLICY_BLOCK["permit"], **permit}}
        block["decision_log"] = {"file": str(self.folder / "decisions.jsonl")}
        return load_policy(block, Flags(), base=self.folder)

    def records(self):
        path = self.folder / "decisions.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def state(self, *endpoints, call_type=CallType.CHAT):
        """The state of a request that was admitted for `endpoints` and planned for group `gpt`."""
        policy = self.runtime.policy
        token = self.issuer.mint(endpoints or ("eu", "us"))
        permit = self.runtime.verifier.verify(
            token, now=self.clock.wall(), monotonic_s=self.clock.monotonic()
        )
        return Permitted(
            policy=policy,
            permit=permit,
            scope=permit.scope(frozenset()),
            call_type=call_type,
            method="POST",
            template="/v1/chat/completions",
            received_s=self.clock.monotonic(),
        )

    def plan(self, state, *names):
        """Gives the state a decision over deployments of these endpoint names."""
        candidates = tuple(Candidate(deployment_id=f"{name}-1", endpoint=name) for name in names)
        facts = RequestFacts("gpt", state.call_type, input_tokens=1)
        decision = decide(state.policy.routing, facts, state.scope, candidates, statistics=None, seed=1)
        state.groups["gpt"] = RoutedGroup("decision-1", decision)
        return decision

    def attempt(self, state, name):
        """Begins an attempt at a deployment."""
        candidate = Candidate(deployment_id=f"{name}-1", endpoint=name)
        attempt = Attempt(len(state.attempts) + 1, "decision-1", candidate, self.clock.monotonic())
        state.attempts.append(attempt)
        return attempt


@dataclass
class Exchange:
    """One request driven through an ASGI app in a context of its own, as a server does it."""

    sent: list = field(default_factory=list)

    @property
    def status(self):
        return self.sent[0]["status"]

    @property
    def headers(self):
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self):
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    @property
    def error(self):
        return json.loads(self.body)["error"]


def http_scope(
    method="POST",
    path="/v1/chat/completions",
    *,
    headers=(),
    query=b"",
    root_path="",
    kind="application/json",
):
    lines = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    if method == "POST" and kind:
        lines.append((b"content-type", kind.encode()))
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": root_path,
        "query_string": query,
        "headers": lines,
    }


def websocket_scope(path, *, headers=()):
    return {**http_scope("GET", path, headers=headers), "type": "websocket"}


async def drive(app, scope, messages=()):
    """Sends `messages` (or one empty body) to an app and gives what it answered."""
    exchange = Exchange()
    pending = list(messages) or [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive():
        return pending.pop(0) if pending else {"type": "http.disconnect"}

    async def send(message):
        exchange.sent.append(message)

    await asyncio.create_task(app(scope, receive, send), context=contextvars.copy_context())
    return exchange
