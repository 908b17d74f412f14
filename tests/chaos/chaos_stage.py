"""The stage: a real proxy with the plugin, recording providers, and a real Valkey server that faults happen to."""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import signal
import struct
import time
from pathlib import Path

import httpx
from chaos_load import Target
from chaos_relay import Relay
from fleet import LOGGER_MODULE, OPENAI_ENDPOINTS, Fleet
from redis import Redis
from valkey_process import ValkeyProcess

from litellm_plugin.testing import ProxyProcess

# The plugin asks the store once a second; what it asked within three seconds it asks steadily.
STEADY_S = 3.0
PATIENCE_S = 60.0
# A worker takes some ten seconds of a processor for its start, which it may share with many.
START_S = 90.0
PREFIX = "permit-router:"

# Time shifts for everything in the process that asks `time.time` when it wants to know; `datetime.now` does not.
SHIFT_FILE = "clock_shift"
SHIFTED_CLOCK = f"""
import mmap, struct, time

_real = time.time
with open("{SHIFT_FILE}", "rb") as file:
    _shift = mmap.mmap(file.fileno(), 8, prot=mmap.PROT_READ)
time.time = lambda: _real() + struct.unpack_from("d", _shift)[0]
"""


class LimitedFleet(Fleet):
    """Every deployment has limits, far beyond what any load asks for, so that leases are exchanged."""

    def config(self):
        config = super().config()
        for entry in config["model_list"]:
            entry["litellm_params"] |= {"rpm": 1_000_000, "tpm": 1_000_000_000}
        return config


class Stage:
    """One proxy and its store; the store is down until `open_store`.

    Args:
        folder: Where the servers keep what they write.
        workers: How many worker processes the proxy has.
        callbacks: LiteLLM's callbacks.
        shifts_clock: Whether `shift_clock` works.
        policy: Sections of the policy block that replace the stage's own.
        env: Variables that the proxy gets besides.
        has_plugin: Whether the plugin is installed; without it nothing asks the store.

    Attributes:
        unread_s: For how long a worker had not read the store when the last fault ended.
    """

    def __init__(
        self,
        folder,
        *,
        workers=1,
        callbacks=None,
        shifts_clock=False,
        policy=None,
        env=None,
        has_plugin=True,
    ):
        self.workers = workers
        self.has_plugin = has_plugin
        self.unread_s = 0.0
        self.server = ValkeyProcess(_made(folder, "store"))
        self._behind = ValkeyProcess(_made(folder, "behind"))
        registered = {"callbacks": callbacks} if callbacks else {}
        files = (
            {"other_logger.py": LOGGER_MODULE + SHIFTED_CLOCK, SHIFT_FILE: "\0" * 8} if shifts_clock else {}
        )
        self.fleet = LimitedFleet(
            policy={
                "decision_log": {"chain": True},
                # Breakers and retry budgets as they are by default.
                "resilience": {"attempts": 3, "breaker": {}, "retry_budget": {}},
                "budgets": [{"per": "tenant", "period": "month", "limit_usd": 1_000_000}],
                **(policy or {}),
            },
            settings={"litellm_settings": registered},
            env={"PERMIT_ROUTER_REDIS_URL": self.server.url, **(env or {})},
            algorithm="ES256",
            files=files,
            workers=workers,
            registered=has_plugin,
            startup_hook=has_plugin,
        )

    def __enter__(self):
        self.fleet.__enter__()
        try:
            self.fleet.proxy.wait_ready(START_S * self.workers)
            self.fleet.ready()
            if self.has_plugin:
                self.healths(START_S * self.workers)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        try:
            self.fleet.__exit__()
        finally:
            self.server.stop()
            self._behind.stop()

    def restart(self):
        """Another proxy with the same configuration and the same log, in the place of one that ended."""
        fleet = self.fleet
        fleet.client.close()
        fleet.proxy.stop()
        fleet.proxy = ProxyProcess(
            Path(fleet.folder.name, "config.yaml"),
            env={"PERMIT_ROUTER_LOG": str(fleet.log_path), **fleet.env},
            cwd=fleet.folder.name,
            workers=self.workers,
        )
        fleet.client = httpx.Client(base_url=fleet.proxy.url, timeout=30, trust_env=False)
        fleet.ready()
        # A worker refuses with 503 until it has loaded keys, and the first to answer is not the last to do so.
        self.recovery_s(time.monotonic())

    def open_store(self):
        self.server.start()

    @property
    def target(self):
        return Target(
            self.fleet.proxy.url,
            self.fleet.proxy.master_key,
            self.fleet.issuer,
            self.fleet.ledger,
            OPENAI_ENDPOINTS,
            has_plugin=self.has_plugin,
        )

    def begin(self):
        """Forgets what was; returns once every worker reads the store."""
        with self.admin() as client:
            client.flushall()
        if self.has_plugin:
            self.recovery_s(time.monotonic())
        self.fleet.clear()

    def restore(self):
        """Puts the store back in its place, whatever a fault that went wrong left of it."""
        self._behind.stop()
        self.server.stop()
        self.server.start()

    @contextlib.contextmanager
    def restarted(self, **options):
        """The store started anew with other settings; after it without them and what it wrote, and empty."""
        self.server.stop()
        try:
            with self.server.configured(**options):
                self.server.start()
                yield
        finally:
            self.restore()

    @contextlib.contextmanager
    def beside(self, **options):
        """A second server, and its port."""
        with self._behind.configured(**options):
            self._behind.start()
            try:
                yield self._behind
            finally:
                self._behind.stop()

    @contextlib.contextmanager
    def admin(self):
        with Redis.from_url(self.server.url, socket_timeout=10) as client:
            yield client

    @contextlib.contextmanager
    def relayed(self):
        """The store behind a relay, at the same address."""
        self.server.stop()
        self._behind.start()
        try:
            with Relay(self.server.port, self._behind.port) as relay:
                yield relay
        finally:
            self._behind.stop()
            self.server.start()

    def recovery_s(self, since_s):
        """Waits until every worker has read the store since then; gives how long that took, 0 where it never ceased.

        Raises:
            AssertionError: It took longer than a minute.
        """
        found = {}
        with self._apart() as client:
            while len(found) < self.workers:
                asked_s = time.monotonic()
                assert asked_s - since_s < PATIENCE_S, "the store was not read again"
                with contextlib.suppress(httpx.TransportError):
                    health = client.get("/permit-router/v1/health").json()
                    self._note(health, asked_s, since_s, found)
                time.sleep(0.05)
        return max(found.values())

    def _note(self, health, asked_s, since_s, found):
        """Notes when the worker that told its health has read the store, if it has since then."""
        age_s = unread_s(health)
        # Ages are told to a tenth of a second.
        read_s = asked_s - age_s + 0.1
        is_steady = age_s < STEADY_S and asked_s - since_s < 0.5
        if health["status"] == "green" and (is_steady or read_s >= since_s):
            found.setdefault(health["worker"], 0.0 if is_steady else max(0.0, read_s - since_s))

    def healths(self, patience_s=PATIENCE_S):
        """What each worker tells of its health, by its process id.

        Raises:
            AssertionError: A worker did not answer in time.
        """
        found = {}
        end_s = time.monotonic() + patience_s
        with self._apart() as client:
            while len(found) < self.workers:
                assert time.monotonic() < end_s, f"{len(found)} of {self.workers} workers answered"
                health = client.get("/permit-router/v1/health").json()
                found[health["worker"]] = health
        return found

    def _apart(self):
        """A client of the proxy that keeps no connection: one is one worker's for as long as it is kept."""
        limits = httpx.Limits(max_keepalive_connections=0)
        return httpx.Client(base_url=self.fleet.proxy.url, timeout=30, trust_env=False, limits=limits)

    def hold(self, seconds):
        """Lets a fault last, and notes for how long the store was not read by then."""
        time.sleep(seconds)
        url = f"{self.fleet.proxy.url}/permit-router/v1/health"
        self.unread_s = unread_s(httpx.get(url, timeout=30, trust_env=False).json())

    def shift_clock(self, seconds):
        """Sets the proxy's wall clock and the issuer's forward or back, as a machine's administrator might."""
        with (
            Path(self.fleet.folder.name, SHIFT_FILE).open("r+b") as file,
            mmap.mmap(file.fileno(), 8) as shift,
        ):
            struct.pack_into("d", shift, 0, float(seconds))
        self.fleet.issuer._now = lambda: time.time() + seconds

    def pause_proxy(self, seconds):
        os.killpg(self.fleet.proxy.pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.killpg(self.fleet.proxy.pid, signal.SIGCONT)


def unread_s(health):
    """For how long a worker has not read the store; for ever, where it never has."""
    ages_s = (health["revocations_age_seconds"], health["shared_state"]["store"]["age_s"])
    return max(math.inf if age_s is None else age_s for age_s in ages_s)


def _made(folder, name):
    path = Path(folder, name)
    path.mkdir()
    return path
