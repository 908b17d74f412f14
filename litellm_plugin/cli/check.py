"""The command `permit-router check`: what the start would say of a configuration, without starting."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.proxy.config_file import read_config, resolved, unset_variables
from litellm_plugin.proxy.key_sources import key_source
from litellm_plugin.proxy.selfcheck import (
    INERT,
    configuration_warnings,
    declared_endpoints,
    deployment_ids,
    policy_warnings,
    probing_warnings,
    read_policy,
    read_shadow,
    registration_findings,
    synthetic_deployments,
)
from litellm_plugin.routing import Static
from litellm_plugin.settings import Flags
from litellm_plugin.state import connect

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from litellm_plugin.routing import Rule
    from litellm_plugin.settings import PolicySnapshot

_REFUSED: Final = 1
_UNREADABLE: Final = 2


def check(
    config: Annotated[Path, typer.Argument(help="LiteLLM's configuration, as `litellm --config` takes it.")],
) -> None:
    """Says what the start would refuse in a configuration, and what to write instead.

    Nothing is started, fetched or sent; LiteLLM is imported only where `paths` opens some of its paths, or deployments are probed. Exit code 0: the permit router would start;
    1: it would refuse to; 2: the configuration cannot be read.
    """
    try:
        document = read_config(config)
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(_UNREADABLE) from error
    settings = resolved(document, os.environ)
    # Where `paths` needs LiteLLM's own lists of paths: its import would fetch prices.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    findings = list(registration_findings(settings))
    policy: PolicySnapshot | None = None
    enabled = True
    try:
        flags = Flags()
        enabled = flags.enabled
        policy = read_policy(settings, flags, base=config.resolve().parent)
        read_shadow(policy, settings, flags, base=config.resolve().parent)
    except ConfigurationError as error:
        findings += str(error).splitlines()
    else:
        findings += [*_key_findings(policy, config.resolve().parent), *_store_findings(policy)]
    for finding in findings:
        print(f"refused: {finding}")
    if policy is not None and not findings:
        for line in _summary(policy, settings):
            print(line)
    for warning in _warnings(document, settings, policy, enabled=enabled):
        print(f"warning: {warning}")
    if findings:
        raise typer.Exit(_REFUSED)


def _store_findings(policy: PolicySnapshot) -> Iterator[str]:
    if policy.redis_url is None:
        return
    try:
        connect(policy.redis_url, source=policy.redis_source)  # opens nothing yet
    except ConfigurationError as error:
        yield str(error)


def _key_findings(policy: PolicySnapshot, base: Path) -> Iterator[str]:
    for block in policy.permit.issuers:
        try:
            key_source(block, base=base, environment=os.environ, monotonic_s=time.monotonic())
        except ConfigurationError as error:
            yield str(error)


def _warnings(
    document: Mapping[str, Any],
    settings: Mapping[str, Any],
    policy: PolicySnapshot | None,
    *,
    enabled: bool,
) -> Iterator[str]:
    if not enabled:
        yield INERT
    unset = unset_variables(document, os.environ)
    if unset:
        yield f"not set in this environment: {', '.join(unset)}"
    # Of the document as it is written: a variable that is not set here still says that there is an address.
    yield from configuration_warnings(document)
    if policy is not None:
        yield from policy_warnings(policy)
        yield from probing_warnings(settings, policy)


def _summary(policy: PolicySnapshot, settings: Mapping[str, Any]) -> Iterator[str]:
    yield "The permit router would start."
    for block in policy.permit.issuers:
        source = "a URL, not fetched here" if block.jwks_url else "a secret" if block.secret_env else "a file"
        yield f"  issuer: {block.issuer} ({', '.join(block.algorithms)}; keys from {source})"
    yield f"  permits: header {policy.permit.header}, audience {policy.permit.audience}, binding {policy.permit.binding}"
    endpoints = declared_endpoints(settings)
    yield f"  endpoints: {', '.join(endpoints) or 'none'} (deployments: {len(deployment_ids(settings))})"
    probing = policy.probing
    if probing is not None:
        asked = ", ".join(_asked(settings)) or "none"
        yield f"  probed: {asked} (after {probing.every_s:g} s of silence, {probing.requests_per_hour} an hour at most)"
    yield f"  classifications: {', '.join(sorted(policy.requirements))}"
    for rule in (*policy.routing.rules.rules, policy.routing.rules.default):
        yield f"  rule: {rule.name} → {_strategy(rule)}"


def _asked(settings: Mapping[str, Any]) -> Iterator[str]:
    declared = synthetic_deployments(settings)
    if not declared:
        return
    # The mode of a model may stand in LiteLLM's cost map alone.
    from litellm_plugin.proxy.candidate_facts import candidate_facts  # noqa: PLC0415 - LiteLLM takes seconds to import

    for entry in declared:
        facts = candidate_facts(entry)
        name = facts.candidate.deployment_id
        yield name if facts.takes_synthetic_prompts else f"not {name} (by the mode of its model)"


def _strategy(rule: Rule) -> str:
    listed = rule.strategy.endpoints if isinstance(rule.strategy, Static) else ()
    return f"{rule.strategy.name}: {', '.join(listed)}" if listed else rule.strategy.name
