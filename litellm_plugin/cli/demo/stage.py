"""The stage: every server and process of the demo, started in order and stopped whatever happens."""

from __future__ import annotations

import contextlib
import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import httpx

from litellm_plugin.cli.demo.tenants import TENANTS
from litellm_plugin.testing import (
    PermitIssuer,
    ProxyProcess,
    RecordingProvider,
    ReferenceGateway,
    ServerThread,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from litellm_plugin.cli.demo.configuration import DemoConfiguration

EVIL: Final = "evil"

_LATENCY_S: Final = 0.02
_HEALTH_TIMEOUT_S: Final = 20.0
_POLL_S: Final = 0.1
_HEALTH_PATH: Final = "/permit-router/v1/health"


@dataclass(frozen=True, slots=True)
class Stage:
    """What is running.

    Attributes:
        configuration: What it was made from.
        issuer: Who signs permits.
        providers: The simulated provider of each endpoint.
        evil: A stranger's server, which no permit names.
        evil_url: Its address.
        proxy: The LiteLLM Proxy.
        gateway_url: The policy gateway's address.
    """

    configuration: DemoConfiguration
    issuer: PermitIssuer
    providers: Mapping[str, RecordingProvider]
    evil: RecordingProvider
    evil_url: str
    proxy: ProxyProcess
    gateway_url: str

    @property
    def sinks(self) -> tuple[RecordingProvider, ...]:
        """Everywhere that a prompt could arrive."""
        return (*self.providers.values(), self.evil)


@contextlib.contextmanager
def open_stage(
    configuration: DemoConfiguration, log_path: Path, say: Callable[[str], object]
) -> Iterator[Stage]:
    """Starts issuer, providers, proxy and gateway; stops them when left, in reverse.

    Args:
        configuration: What to start.
        log_path: The decision log's file.
        say: Is told what happens, as it happens.

    Raises:
        RuntimeError: Something did not start; the message holds the end of the proxy's log.
    """
    issuer = PermitIssuer(configuration.issuer, configuration.audience, configuration.algorithm)
    providers = {name: _provider(name) for name in configuration.endpoints}
    evil = _provider(EVIL)
    with contextlib.ExitStack() as stack:
        backends = _servers(stack)
        urls = {name: backends.add(provider) for name, provider in providers.items()}
        evil_url = backends.add(evil)
        jwks_url = f"{backends.add(issuer.app)}/.well-known/jwks.json"
        backends.start()
        say(f"permit issuer and {len(providers)} simulated providers are up; LiteLLM Proxy is starting")
        environment = {
            **configuration.environment(urls, jwks_url),
            "PERMIT_ROUTER_LOG": str(log_path),
        }
        proxy = stack.enter_context(
            ProxyProcess(configuration.path.resolve(), env=environment, cwd=log_path.parent)
        )
        front = _servers(stack)
        gateway = ReferenceGateway(
            proxy.url,
            issuer,
            TENANTS,
            proxy.master_key,
            configuration.header,
            policy_version=configuration.policy_version,
        )
        gateway_url = front.add(gateway)
        front.start()
        proxy.wait_ready()
        say("LiteLLM Proxy is up; the permit router is fetching the issuer's keys")
        _wait_green(proxy)
        say("ready")
        yield Stage(configuration, issuer, providers, evil, evil_url, proxy, gateway_url)


def _servers(stack: contextlib.ExitStack) -> ServerThread:
    servers = ServerThread()
    stack.callback(servers.stop)
    return servers


def _provider(name: str) -> RecordingProvider:
    provider = RecordingProvider(name)
    numbers = itertools.count(1)
    # Numbered, so that an answer out of a cache shows as one that was given before.
    provider.answer = lambda _payload: f"Simulated answer {next(numbers)} of {name}."
    provider.latency_s = _LATENCY_S
    return provider


def _wait_green(proxy: ProxyProcess) -> None:
    deadline_s = time.monotonic() + _HEALTH_TIMEOUT_S
    text = ""
    with httpx.Client(base_url=proxy.url, timeout=5.0, trust_env=False) as client:
        while time.monotonic() < deadline_s:
            try:
                answer = client.get(_HEALTH_PATH)
            except httpx.TransportError as error:
                text = str(error)
            else:
                if answer.is_success:
                    return
                text = answer.text
            time.sleep(_POLL_S)
    raise RuntimeError(f"the permit router was not ready within {_HEALTH_TIMEOUT_S:g} s: {text[:2_000]}")
