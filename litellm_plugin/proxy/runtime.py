"""The runtime: what one worker of the proxy knows, and the one background task that keeps it current."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import secrets
import socket
from collections import deque
from contextvars import Context
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from litellm_plugin._version import __version__
from litellm_plugin.errors import ConfigurationError, Reason
from litellm_plugin.proxy.clock import Clock, SystemClock
from litellm_plugin.proxy.deployments import Deployments
from litellm_plugin.proxy.egress import EgressTable
from litellm_plugin.proxy.holding import Holding
from litellm_plugin.proxy.in_force import InForce, has_keys, in_force
from litellm_plugin.proxy.key_sources import key_source
from litellm_plugin.proxy.recorder import Recorder
from litellm_plugin.proxy.selfcheck import UNREGISTERED, policy_warnings
from litellm_plugin.proxy.shared_state import SharedState
from litellm_plugin.proxy.worker_store import WorkerStore
from litellm_plugin.records import Counters, FileDecisionLog, NullDecisionLog
from litellm_plugin.routing import load_languages
from litellm_plugin.settings import Mode
from litellm_plugin.state import AffinityMemory
from litellm_plugin.state.store_loop import is_cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from litellm_plugin.permit import Claim, ClaimPolicy, KeySource, Permit, PermitVerifier, Revocations
    from litellm_plugin.proxy.context import Permitted, SyntheticCall
    from litellm_plugin.proxy.reload import Reload
    from litellm_plugin.proxy.shadow import Shadow
    from litellm_plugin.records import DecisionLog
    from litellm_plugin.settings import IssuerBlock, PolicySnapshot

# The read of the stored revocations is one pipeline a period: DESIGN §9 grants a worker two a second.
_PERIOD_S: Final = 1.0
# How long LiteLLM may take to tell the end of an attempt after its request ended: its log events queue.
_REPORT_WAIT_S: Final = 30.0
# For so long the first requests of a worker wait for its first keys; an issuer that is well takes milliseconds.
_FIRST_KEYS_S: Final = 2.0
_DEPLOYMENT_ROUNDS: Final = 30
_PENDING_LIMIT: Final = 10_000
_NOTHING_CONFIGURED: Final = EgressTable()


@dataclass(frozen=True, slots=True)
class Fault:
    """Why governed requests are refused now.

    Attributes:
        reason: The reason they are refused with.
        message: What is wrong, for the operator.
    """

    reason: Reason
    message: str


class Runtime:
    """What one worker knows.

    The runtime exists before LiteLLM reads its configuration, so that admission can refuse until it did:
    without a policy, or with a hook that LiteLLM lost, no governed request passes.

    Args:
        clock: The worker's clock.
        router: The router whose calls are governed; None is the proxy's own.

    Attributes:
        in_force: What requests are judged by; None until LiteLLM loaded its configuration.
        mode: Whether what is computed is enforced; the operator's flag at start, and nothing else, says so.
        reload: Takes a changed policy; None where there is none to watch.
        instance: Names this worker among all of them.
        period_s: How often the background task looks.
        no_context_calls: Model calls that were refused because no permitted request stood behind them.
        is_inert: Whether the operator switched the plugin off.
        expected_deployments: The ids of LiteLLM's model list.
        known_endpoints: The endpoint names of LiteLLM's model list; None until it was loaded.
        counters: How many requests ended how.
        affinity: What answers left where.
        failed: Closes an attempt with its exception, where no hook will; the outcomes put themselves here.
        passed: Closes an attempt by its answer's status, where no hook will; the outcomes put themselves here.
        abandon: Closes what is open of a request; the outcomes put themselves here.
        holding: Keeps callbacks from running that may not.
        probe: Asks deployments that nobody asks, until nobody is to be asked any more; None where that is not done.
        asking: The call with the plugin's own prompt that is under way; None without one.
    """

    def __init__(self, clock: Clock | None = None, router: Any | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self.log = logging.getLogger("LiteLLM Proxy").getChild("permit_router")
        self.deployments = Deployments(router)
        # A process id comes back; what a worker holds must not be another's.
        self.shared = SharedState(self.clock, f"{_instance()}:{secrets.token_hex(4)}")
        self.affinity = AffinityMemory(self.clock.monotonic)
        self.in_force: InForce | None = None
        self.mode = Mode.ENFORCE
        self.reload: Reload | None = None
        self.instance: Final = _instance()
        self.period_s: Final = _PERIOD_S
        self.no_context_calls = 0
        self.is_inert = False
        self.expected_deployments: tuple[str, ...] = ()
        self.known_endpoints: frozenset[str] | None = None
        self.counters = Counters()
        self.abandon: Callable[[Permitted], None] = _nothing
        self.failed: Callable[[str, Exception], None] = _ignore
        self.passed: Callable[[Permitted, int | None], None] = _nothing
        self.holding = Holding(EgressTable(), own=None)
        self.probe: Callable[[], Coroutine[None, None, None]] | None = None
        self.asking: SyntheticCall | None = None
        self._told: list[Fault] = []
        self._missing_deployments = 0
        self._rounds = 0
        self._presence: Callable[[], list[str]] = list
        # Before a policy is loaded there is no log to write to.
        self.recorder = self._new_recorder(NullDecisionLog(), "")
        self._store: Final = WorkerStore(self.clock, self.shared)
        self._releases: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._beat: asyncio.Task[None] | None = None
        self._refresh: asyncio.Task[None] | None = None
        self._probes: asyncio.Task[None] | None = None
        self._has_first_keys = False
        self._first_keys_until_s = math.inf
        self._pending: deque[tuple[float, Permitted]] = deque()

    @property
    def policy(self) -> PolicySnapshot | None:
        """The policy in force; None until LiteLLM loaded its configuration."""
        return self.in_force.policy if self.in_force else None

    @property
    def egress(self) -> EgressTable:
        """Which places beside the endpoints may receive which classification."""
        return self.in_force.egress if self.in_force else _NOTHING_CONFIGURED

    @property
    def observes(self) -> bool:
        """Whether nothing is enforced."""
        return self.mode is Mode.OBSERVE

    @property
    def verifier(self) -> PermitVerifier:
        """Verifies permits.

        Raises:
            ConfigurationError: No policy was loaded yet.
        """
        return self._judged_by().verifier

    @property
    def claims(self) -> ClaimPolicy:
        """What permits may say now: the policy block, with what the shared store revokes beside it.

        Raises:
            ConfigurationError: No policy was loaded yet.
        """
        return self._judged_by().claims

    @property
    def stored_revocations(self) -> Revocations:
        """What the shared store revokes now, whatever a policy says."""
        return self._judged_by().stored

    @property
    def wants_language(self) -> bool:
        """Whether anything reads the language of a prompt: a rule, or an endpoint that declares languages."""
        reads = self.in_force is not None and self.in_force.reads_language
        return reads or self.deployments.declares_languages

    def _judged_by(self) -> InForce:
        if self.in_force is None:
            raise ConfigurationError("no policy is loaded")
        return self.in_force

    def work_in(self, mode: Mode) -> None:
        """Takes the operator's mode, before a policy is loaded: what ends until then counts as that mode says."""
        self.mode = mode
        self.recorder = self._new_recorder(NullDecisionLog(), "")

    def load(
        self,
        policy: PolicySnapshot,
        *,
        base: Path,
        presence: Callable[[], list[str]],
        egress: EgressTable | None = None,
        opened: Callable[[], list[str]] = list,
        shadow: Shadow | None = None,
    ) -> None:
        """Takes the first policy, loads keys from files and opens the decision log.

        Args:
            policy: The validated policy.
            base: The folder that relative key files are taken from.
            presence: Says what of the plugin is no longer in its place; empty when all is.
            egress: Which configured places may receive which classification; None where none is configured.
            opened: Says which opened paths are not what the policy says; empty when all are.
            shadow: The second policy, which is only computed.

        Raises:
            ConfigurationError: A key file, the decision log or the shared store's URL cannot be used.
        """
        sources = tuple(self.key_source(block, base) for block in policy.permit.issuers)
        self._store.connect(policy)
        block = policy.decision_log
        log = FileDecisionLog(block.file, required=block.required, chain=block.chain, writer=self.instance)
        self.recorder = self._new_recorder(log, policy.config_hash)
        self._presence = presence
        loaded = in_force(policy, sources)
        made = replace(loaded, egress=egress or _NOTHING_CONFIGURED, opened=opened, shadow=shadow)
        self.load_models(made)
        self.swap(made)

    def load_models(self, made: InForce) -> None:
        """Loads what a policy reads requests with, before it is in force; not where requests are served.

        Args:
            made: What was made of the validated policy.
        """
        if made.reads_language or self.deployments.declares_languages:
            load_languages()

    def swap(self, made: InForce) -> None:
        """Puts a policy in force, all of it at once; requests under way keep the one that admitted them.

        What was measured, counted, used up and revoked stays, and so do the keys of issuers that it shares with
        the one before.

        Args:
            made: What was made of the validated policy.
        """
        revoking, warnings = made.revoking(self._store.revocations), list(policy_warnings(made.policy))
        # From here on nothing can fail.
        self.holding.table = made.egress
        self.recorder.config_hash = made.policy.config_hash
        self.shared.use(made.policy)
        # Where nobody asks, a turn would keep other workers from it.
        self.shared.probe(made.policy.probing if self.probe is not None else None)
        self.in_force = revoking
        for warning in warnings:
            self.log.warning("%s", warning)

    async def claim(self, permit: Permit, body_sha256: str, policy: PolicySnapshot) -> Claim | None:
        """Takes the one use of a permit, where the policy asks for single use; None where not.

        Args:
            permit: A verified permit.
            body_sha256: SHA-256 of the raw body, 64 lowercase hexadecimal digits.
            policy: The policy that the request is judged by.

        Raises:
            PermitRejected: It was used.
            ReplayStoreLost: Nobody can tell, and the operator wants a refusal then.
        """
        if policy.permit.binding != "single_use":
            return None
        claim = await self._store.single_use(policy).claim(permit, body_sha256, self.clock.wall())
        self.counters.unchecked_uses += not claim.is_recorded
        return claim

    def start(self) -> None:
        """Starts the background tasks in the running loop, once each; without a loop the first request does it."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._synchronise(), name="permit-router-sync")
        if self._beat is None or self._beat.done():
            self._beat = loop.create_task(self.shared.watch.keep_beating(), name="permit-router-beat")
        self._begin_probes(loop)

    def _begin_probes(self, loop: asyncio.AbstractEventLoop) -> None:
        is_wanted = self.policy is not None and self.policy.probing is not None
        if is_wanted and self.probe is not None and (self._probes is None or self._probes.done()):
            # Nothing of the request in which this may run is to go along.
            self._probes = loop.create_task(self.probe(), name="permit-router-probes", context=Context())

    async def stop(self) -> None:
        """Ends the background tasks and closes the connections to the shared store."""
        tasks = [each for each in (self._task, self._beat, self._probes) if each is not None]
        self._task = self._beat = self._probes = None
        if self.reload is not None:
            await self.reload.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self._releases, return_exceptions=True)
        # The task before began it, and begins no other now.
        refresh, self._refresh = self._refresh, None
        if refresh is not None and not refresh.done():
            refresh.cancel()
            await asyncio.gather(refresh, return_exceptions=True)
        await self._store.aclose()

    async def first_keys(self) -> None:
        """Waits for the worker's first load of keys to end, well or not, until 2 s after its first request.

        A worker serves as soon as LiteLLM has started, which may be a moment before that load has ended.
        """
        if self._has_first_keys or self.in_force is None:
            return
        now_s = self.clock.monotonic()
        self._first_keys_until_s = min(self._first_keys_until_s, now_s + _FIRST_KEYS_S)
        refresh, left_s = self._begin_refresh(), self._first_keys_until_s - now_s
        if refresh is not None and left_s > 0:
            await asyncio.wait({refresh}, timeout=left_s)
        self._has_first_keys = refresh is None or refresh.done() or left_s <= 0

    def faults(self) -> list[Fault]:
        """Why governed requests are refused now; empty when they are served. A change is logged once."""
        faults = self._faults()
        if faults != self._told:
            self._tell(faults)
        return faults

    def _faults(self) -> list[Fault]:
        if self.in_force is None:
            return [Fault(Reason.NOT_READY, f"no policy is loaded: {UNREGISTERED}")]
        self.start()
        messages = (*self._presence(), *self.in_force.opened())
        faults = [Fault(Reason.NOT_READY, message) for message in messages]
        now_s = self.clock.monotonic()
        if not any(has_keys(trust.keys, now_s) for trust in self.in_force.trusts):
            faults.append(Fault(Reason.KEYS_UNAVAILABLE, "no issuer's keys are loaded"))
        return faults

    def _tell(self, faults: list[Fault]) -> None:
        self._told = faults
        for fault in faults:
            self.log.error("Requests are refused (%s): %s", fault.reason, fault.message)
        if not faults:
            self.log.info("The permit router is whole again; requests are served")

    def look_at_deployments(self) -> None:
        """Takes over what LiteLLM's router holds now: the endpoints' names, their limits, and who may be probed."""
        self._look_for_deployments()
        self.shared.declare(self.deployments.quotas(), self.deployments.synthetic())
        self.known_endpoints = self.deployments.endpoint_names() or self.known_endpoints

    def _look_for_deployments(self) -> None:
        """Counts what LiteLLM left out of its router: it logs a deployment that it cannot read, and goes on."""
        router = self.deployments.router()
        if router is None:
            return
        missing = [name for name in self.expected_deployments if router.get_deployment(model_id=name) is None]
        if len(missing) != self._missing_deployments:
            self._missing_deployments = len(missing)
            self.log.error(
                "LiteLLM holds no deployment %s; its log at start says why", ", ".join(missing) or "less"
            )

    def health(self) -> dict[str, object]:
        """The body of the health answer: names no key, no address and no tenant."""
        if self.is_inert:
            return {"status": "inert", "version": __version__, "faults": []}
        faults = self.faults()
        now_s = self.clock.monotonic()
        ages = [source.age_s(now_s) for source in self._sources]
        shadow = self.in_force.shadow if self.in_force else None
        return {
            "status": "red" if faults else "green",
            "version": __version__,
            "worker": os.getpid(),
            "tasks": _tasks(),
            "mode": str(self.mode),
            "faults": [{"reason": str(fault.reason), "message": fault.message} for fault in faults],
            "missing_deployments": self._missing_deployments,
            "records_lost": self.recorder.lost,
            "refusals_not_recorded": self.recorder.unrecorded,
            "config_hash": self.policy.config_hash if self.policy else None,
            "jwks_age_seconds": [None if age is None else round(age, 1) for age in ages],
            "no_context_calls": self.no_context_calls,
            "requests": {"admitted": self.counters.admitted, "denied": self.counters.denied},
            "observed": {
                "would_deny": self.counters.would_deny,
                "would_reroute": self.counters.would_reroute,
            },
            "unknown_endpoints": self.counters.unknown_endpoints,
            "unchecked_uses": self.counters.unchecked_uses,
            "reload": self.reload.health() if self.reload else None,
            "shadow": shadow.health() if shadow else None,
            "shared_state": self.shared.report(),
            **self._store.health(now_s),
        }

    def count_admitted(self, state: Permitted) -> None:
        """Counts a request that came in, and the endpoints of its permit that no deployment has."""
        known = self.known_endpoints
        unknown = 0 if known is None else len(state.scope.endpoints - known)
        self.counters.admit(unknown)

    def count_no_context(self) -> None:
        """Counts a model call that was refused because no permitted request stood behind it."""
        self.no_context_calls += 1

    def close(self, state: Permitted, *, answered: bool, used: bool = True) -> None:
        """Ends a request: nothing may be sent for it any more, and open attempts wait for LiteLLM's report.

        Args:
            state: The request.
            answered: Whether the client got the whole answer; otherwise its attempts are abandoned.
            used: Whether a single-use permit is used up; otherwise its body may be sent again.
        """
        state.closed = True
        self.shared.give_back_all(state)
        if not used:
            self._release(state)
        if all(attempt.status is not None for attempt in state.attempts):
            return
        if answered:
            self._pending.append((self.clock.monotonic() + _REPORT_WAIT_S, state))
            if len(self._pending) > _PENDING_LIMIT:
                self.abandon(self._pending.popleft()[1])
        else:
            self.abandon(state)

    async def give_back(self, state: Permitted) -> None:
        """Frees the use of a single-use permit before the client, which gets no answer, can send it again."""
        task = self._release(state)
        if task is not None:
            await asyncio.shield(task)

    def _release(self, state: Permitted) -> asyncio.Task[None] | None:
        claim, state.claim = state.claim, None
        if claim is None:
            return None
        # A task of its own: the request's may be cancelled.
        task = asyncio.get_running_loop().create_task(self._store.single_use(state.policy).release(claim))
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)
        return task

    async def _synchronise(self) -> None:
        """Once a period: refreshes what requests are judged by, and closes attempts that LiteLLM never reported."""
        while True:
            try:
                self._begin_refresh()
                await self._round()
            except Exception:
                self.log.exception("The background task failed; it goes on")
            if is_cancelled():
                return
            await asyncio.sleep(self.shared.pause_s())

    async def synchronise_once(self) -> None:
        """One round of the background task; keys that were due are loaded when it returns, where they can be."""
        refresh = self._begin_refresh()
        waited_for = () if refresh is None else (asyncio.shield(refresh),)
        await asyncio.gather(self._round(), *waited_for)
        await asyncio.shield(self._store.settle())

    def _begin_refresh(self) -> asyncio.Task[None] | None:
        """Loads keys beside the rounds, whose store is no less there where an issuer takes seconds to answer.

        Gives what is under way; None where nothing was due.
        """
        now_s = self.clock.monotonic()
        if self._refresh is not None and not self._refresh.done():
            return self._refresh
        due = [source for source in self._sources if source.is_due(now_s)]
        loop = asyncio.get_running_loop()
        self._refresh = loop.create_task(_refresh(due, now_s), name="permit-router-keys") if due else None
        return self._refresh

    async def _round(self) -> None:
        now_s = self.clock.monotonic()
        await asyncio.gather(self._read_revocations(), self.shared.synchronise())
        await self._store.open_ahead(self.policy)
        self._store.settle()
        if self.reload is not None:
            self.reload.look()
            self._begin_probes(asyncio.get_running_loop())
        # Each round, 0.1 ms for 1,000 deployments; what LiteLLM changes inside of one is seen by the others.
        is_due = self.deployments.have_changed() or self._rounds % _DEPLOYMENT_ROUNDS == 0
        # Until LiteLLM made its router there is nothing to look at.
        if is_due or self.known_endpoints is None:
            self.look_at_deployments()
        self._rounds += 1
        while self._pending and self._pending[0][0] <= now_s:
            self.abandon(self._pending.popleft()[1])

    async def _read_revocations(self) -> None:
        is_changed = await self._store.read_revocations()
        if is_changed and self.in_force is not None:
            self.in_force = self.in_force.revoking(self._store.revocations)

    @property
    def _sources(self) -> tuple[KeySource, ...]:
        return self.in_force.sources if self.in_force else ()

    def key_source(self, block: IssuerBlock, base: Path) -> KeySource:
        """A new source of an issuer's keys; from a file they are loaded at once.

        Raises:
            ConfigurationError: A key file, a secret or the URL cannot be used.
        """
        return key_source(block, base=base, environment=os.environ, monotonic_s=self.clock.monotonic())

    def _new_recorder(self, log: DecisionLog, config_hash: str) -> Recorder:
        return Recorder(
            log,
            instance=self.instance,
            config_hash=config_hash,
            clock=self.clock,
            counters=self.counters,
            mode=self.mode,
        )


async def _refresh(sources: Sequence[KeySource], now_s: float) -> None:
    await asyncio.gather(*(each.refresh(now_s) for each in sources))


def _nothing(_: Permitted, __: int | None = None) -> None:
    """Until the hooks are built no attempt can be made, so there is none to close."""


def _ignore(_: str, __: Exception) -> None:
    """Until the hooks are built no attempt can be made, so none can fail."""


def _tasks() -> int | None:
    """How many tasks this worker's event loop has; None outside of one."""
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return None


def _instance() -> str:
    """Names this worker among all of them."""
    return f"{socket.gethostname()}:{os.getpid()}"
