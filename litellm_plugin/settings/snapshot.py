"""The policy block as one immutable snapshot."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import yaml
from pydantic import ValidationError

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.permit import ClaimConstant, ClaimPolicy, Revocations
from litellm_plugin.routing import LatencyClass, RoutingPolicy, named_endpoints
from litellm_plugin.settings.budget_block import build_budgets
from litellm_plugin.settings.explanation import BLOCK, explain, unknown
from litellm_plugin.settings.policy_block import DecisionLogBlock, PolicyBlock
from litellm_plugin.settings.rules import declared_values, rule_set
from litellm_plugin.settings.table_file import table_files, with_tables

if TYPE_CHECKING:
    from pathlib import Path

    from litellm_plugin.settings.flags import Flags
    from litellm_plugin.settings.permit_block import PermitBlock
    from litellm_plugin.state import BreakerPolicy, ProbingPolicy

_POLICY_FILE_LIMIT_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PolicySnapshot:
    """Everything that one decision is made by; replaced as a whole, never changed.

    Attributes:
        permit: How permits come in and where keys are.
        claims: What the values of claims may be.
        requirements: Attributes each classification demands.
        routing: Rules, strategies and the number of attempts.
        decision_log: Where records go.
        paths: The opened paths by method and template: the endpoint that a pass-through stands for; None where
            LiteLLM's own authentication is all that is asked.
        body_fields: Body fields that pass in addition to the published schemas.
        egress: The classifications that each place beside the endpoints may receive, by its name.
        config_hash: SHA-256 over the block, in canonical JSON; records name it.
        redis_url: Where replicas share state; None keeps it in memory. It may hold a password.
        redis_source: What names that place.
        redis_prefix: What every key there begins with.
        redis_fault: Why a place that LiteLLM shares cannot be used; empty where it can, and where there is none.
        shadow: The file of a second policy that is only computed and recorded; None without.
        quality_tiers: The quality tiers that endpoints may declare, the lowest first; empty leaves them open.
        breaker: When deployments are left alone; None for never.
        probing: When deployments that nobody asks are asked with a constant prompt; None for never.
    """

    permit: PermitBlock
    claims: ClaimPolicy
    requirements: Mapping[str, frozenset[str]]
    routing: RoutingPolicy
    decision_log: DecisionLogBlock
    paths: Mapping[tuple[str, str], str | None]
    body_fields: frozenset[str]
    egress: Mapping[str, frozenset[str]]
    config_hash: str
    redis_url: str | None = field(default=None, repr=False)
    redis_source: str = "PERMIT_ROUTER_REDIS_URL"
    redis_prefix: str = "permit-router:"
    redis_fault: str = ""
    shadow: str | None = None
    quality_tiers: tuple[str, ...] = ()
    breaker: BreakerPolicy | None = None
    probing: ProbingPolicy | None = None

    def named_endpoints(self) -> Iterator[tuple[str, str]]:
        """Every (rule name, endpoint name) that a strategy is told by name."""
        for rule in (*self.routing.rules.rules, self.routing.rules.default):
            for endpoint in named_endpoints(rule.strategy):
                yield rule.name, endpoint


def load_policy(source: object, flags: Flags, *, base: Path) -> PolicySnapshot:
    """Reads the policy block, or the file that holds it, into a snapshot.

    Args:
        source: The value of `litellm_settings.permit_router`: a mapping, or a file's path.
        flags: The environment flags; `policy` and `log` win over what the block says.
        base: The folder that relative paths are taken from.

    Raises:
        ConfigurationError: Names the key, what stands there and what was expected.
    """
    if flags.policy is not None:
        source = str(flags.policy)
    if source is None:
        raise ConfigurationError(
            f"{BLOCK} is missing: write the policy block there, or set PERMIT_ROUTER_POLICY to a file that holds it"
        )
    where = BLOCK
    if isinstance(source, str):
        where = f"policy file {str(base / source)!r}"
        source = _read_policy_file(base / source)
    if not isinstance(source, Mapping):
        raise ConfigurationError(f"{where}: a mapping is expected, {type(source).__name__} stands there")
    block = _parse(with_tables(source, base))
    if flags.log is not None:
        block = block.model_copy(
            update={"decision_log": block.decision_log.model_copy(update={"file": str(flags.log)})}
        )
    return replace(_snapshot(block), redis_url=flags.redis_url, redis_prefix=flags.redis_prefix)


def policy_files(source: object, flags: Flags, *, base: Path) -> tuple[Path, ...]:
    """The files that a policy is read from: its own, where it has one, and its decision tables.

    A file that cannot be read now is named all the same; what it would name is not.

    Args:
        source: The value of `litellm_settings.permit_router`: a mapping, or a file's path.
        flags: The environment flags; `policy` wins over the source.
        base: The folder that relative paths are taken from.
    """
    own: tuple[Path, ...] = ()
    if flags.policy is not None:
        source = str(flags.policy)
    if isinstance(source, str):
        own = (base / source,)
        try:
            source = _read_policy_file(own[0])
        except ConfigurationError:
            return own
    return (*own, *table_files(source, base)) if isinstance(source, Mapping) else own


def check_endpoints(snapshot: PolicySnapshot, known: Sequence[str]) -> None:
    """Makes sure that strategies and opened paths name endpoints that LiteLLM's configuration has.

    Raises:
        ConfigurationError: Names the rule or path, the endpoint and the nearest known one.
    """
    for rule, endpoint in snapshot.named_endpoints():
        if endpoint not in known:
            raise ConfigurationError(f"{BLOCK}: rule {rule!r}: {unknown('endpoint', endpoint, known)}")
    for (method, path), opened in snapshot.paths.items():
        if opened is not None and opened not in known:
            raise ConfigurationError(f"{BLOCK}.paths: {method} {path}: {unknown('endpoint', opened, known)}")


def _read_policy_file(path: Path) -> object:
    try:
        if path.stat().st_size > _POLICY_FILE_LIMIT_BYTES:
            raise ConfigurationError(
                f"policy file {str(path)!r} is larger than {_POLICY_FILE_LIMIT_BYTES} bytes"
            )
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    # ValueError: an impossible date, or a path with a NUL; RecursionError: lists nested thousands deep.
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigurationError(f"policy file {str(path)!r} cannot be read as YAML: {error}") from error
    if isinstance(document, Mapping) and set(document) == {"permit_router"}:
        return document["permit_router"]
    return document


def _parse(source: Mapping[Any, Any]) -> PolicyBlock:
    try:
        return PolicyBlock.model_validate(dict(source))
    except ValidationError as error:
        raise ConfigurationError(explain(error, PolicyBlock)) from error


def _snapshot(block: PolicyBlock) -> PolicySnapshot:
    _check_layouts(block)
    return PolicySnapshot(
        permit=block.permit,
        claims=_claims(block),
        requirements={name: frozenset(entry.require) for name, entry in block.classifications.items()},
        routing=_routing(block),
        decision_log=block.decision_log,
        paths=MappingProxyType({(each.method, each.path): each.endpoint for each in block.paths}),
        body_fields=frozenset(block.body_fields),
        egress={name: frozenset(cleared) for name, cleared in block.egress.items()},
        config_hash=_hash(block),
        shadow=block.shadow,
        quality_tiers=tuple(block.quality_tiers),
        breaker=block.resilience.breaker.policy() if block.resilience.breaker else None,
        probing=block.resilience.probing.policy() if block.resilience.probing else None,
    )


def _check_layouts(block: PolicyBlock) -> None:
    declared = {"tenant_tier": block.tenant_tiers, "latency_class": list(block.latency_classes)}
    for number, issuer in enumerate(block.permit.issuers):
        where = f"{BLOCK}.permit.issuers.{number}"
        try:
            layout = block.permit.layout(issuer)
        except ConfigurationError as error:
            raise ConfigurationError(f"{where}: {error}") from error
        for name, source in layout.claims.items():
            if isinstance(source, ClaimConstant) and source.value not in declared.get(name, [source.value]):
                raise ConfigurationError(f"{where}: claims: {unknown(name, source.value, declared[name])}")


def _claims(block: PolicyBlock) -> ClaimPolicy:
    accepted = block.permit.accepted_policy_versions
    revoked = block.permit.revoked
    try:
        return ClaimPolicy(
            classifications=frozenset(block.classifications),
            tenant_tiers=frozenset(block.tenant_tiers),
            latency_classes=frozenset(block.latency_classes),
            max_lifetime_s=block.permit.max_lifetime_seconds,
            leeway_s=block.permit.leeway_seconds,
            minimum_policy_version=block.permit.minimum_policy_version,
            accepted_policy_versions=None if accepted is None else frozenset(accepted),
            revocations=Revocations(
                jti=frozenset(revoked.jti),
                kid=frozenset(revoked.kid),
                policy_versions=frozenset(revoked.policy_versions),
            ),
        )
    except ConfigurationError as error:
        raise ConfigurationError(f"{BLOCK}.permit.{error}") from error


def _routing(block: PolicyBlock) -> RoutingPolicy:
    return RoutingPolicy(
        rules=rule_set(block),
        budgets=build_budgets(block.budgets, declared_values(block), block.quality_tiers),
        attempts=block.resilience.attempts,
        retries=block.resilience.policy(),
        stickiness=block.stickiness.policy(),
        latency_classes={
            name: LatencyClass(entry.minimum_budget_ms, entry.default_budget_ms)
            for name, entry in block.latency_classes.items()
        },
        context_margin=block.eligibility.context_margin,
        follows_preferences=block.permit.preferences == "reorder",
        when_all_open=block.resilience.when_all_open,
    )


def _hash(block: PolicyBlock) -> str:
    canonical = json.dumps(block.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
