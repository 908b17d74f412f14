"""The operator's settings: environment flags, and the policy block as one immutable snapshot."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal, assert_never
from urllib.parse import urlsplit

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.permit import (
    PERMIT_TYP,
    SUPPORTED_ALGORITHMS,
    SYMMETRIC_ALGORITHMS,
    ClaimConstant,
    ClaimPath,
    ClaimPolicy,
    ClaimSource,
    IssuerTrust,
    KeySource,
    Revocations,
    TokenLayout,
)
from litellm_plugin.routing import (
    Condition,
    Cost,
    RoutingPolicy,
    Rule,
    RuleSet,
    Static,
    Strategy,
    compile_condition,
)

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:/-]{1,128}$")]

_BLOCK: Final = "litellm_settings.permit_router"
_KEY_SOURCES: Final = ("jwks_url", "jwks_file", "public_key_file", "secret_env")
_POLICY_FILE_LIMIT_BYTES: Final = 4 * 1024 * 1024


class Flags(BaseSettings):
    """The environment flags; each begins with `PERMIT_ROUTER_`.

    Attributes:
        enabled: `false` makes the plugin inert; nothing is enforced then.
        policy: A file that holds the policy block, instead of the one in LiteLLM's YAML.
        log: The decision log's file, instead of `decision_log.file`.
        redis_url: Where workers and replicas share what single use needs; in memory, per worker, without it.
    """

    model_config = SettingsConfigDict(env_prefix="PERMIT_ROUTER_", extra="ignore")

    enabled: bool = True
    policy: Path | None = None
    log: Path | None = None
    redis_url: str | None = None

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, values: Any, read: ModelWrapValidatorHandler[Flags]) -> Flags:
        """Trims what the environment says; a flag that is empty counts as unset."""
        given = {name: value.strip() if isinstance(value, str) else value for name, value in values.items()}
        try:
            return read({name: value for name, value in given.items() if value != ""})
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            flag = f"PERMIT_ROUTER_{str(fault['loc'][0]).upper()}"
            raise ConfigurationError(f"{flag}: {fault['msg']} (found {fault['input']!r:.80})") from error


class _Strict(BaseModel):
    # hide_input_in_errors: a traceback must not show a secret that stands in the wrong place.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


def _segments(value: object) -> object:
    """`a.b` is the path a, b; a name that holds dots itself is written as a list."""
    return value.split(".") if isinstance(value, str) else value


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Kid = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
ClaimSegments = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=256)]],
    BeforeValidator(_segments),
    Field(min_length=1, max_length=8),
]
Typs = Annotated[
    list[Annotated[str, Field(pattern=r"^[A-Za-z0-9.+/_-]{1,64}$")]],
    BeforeValidator(_listed),
    Field(min_length=1, max_length=8),
]


class ClaimSourceBlock(_Strict):
    """Where a claim stands in an issuer's tokens, or the one value that it always has."""

    path: ClaimSegments | None = None
    split: str | None = Field(default=None, min_length=1, max_length=1)
    const: Name | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        """A path alone, as text or as a list, needs no mapping around it."""
        return {"path": value} if isinstance(value, str | list) else value

    @model_validator(mode="after")
    def _is_one_of_two(self) -> ClaimSourceBlock:
        if (self.path is None) == (self.const is None) or (self.split is not None and self.path is None):
            raise ValueError("either `path`, with or without `split`, or `const` is expected")
        return self

    @property
    def source(self) -> ClaimSource:
        """The same for the verifier."""
        if self.const is not None:
            return ClaimConstant(self.const)
        return ClaimPath(tuple(self.path or ()), self.split)


class IssuerBlock(_Strict):
    """One gateway that may sign permits, and where its keys are."""

    issuer: str = Field(min_length=1, max_length=512)
    jwks_url: str | None = None
    jwks_file: str | None = None
    public_key_file: str | None = None
    secret_env: str | None = None
    kid: Kid | None = None
    audience: str | None = Field(default=None, min_length=1)
    typ: Typs | None = None
    claims: dict[str, ClaimSourceBlock] | None = None
    ignore_claims: list[ClaimSegments] | None = None
    algorithms: list[str] = Field(min_length=1)
    kid_optional: bool = False
    allow_http: bool = False
    refresh_seconds: Annotated[float, Field(strict=False, ge=1, le=86_400)] = 300.0
    max_stale_seconds: Annotated[float, Field(strict=False, ge=1, le=604_800)] = 3_600.0

    @field_validator("secret_env", mode="before")
    @classmethod
    def _names_a_variable(cls, value: object) -> object:
        # Capitals only, so that most secrets written here by mistake are told apart from a name.
        if not isinstance(value, str) or not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,63}", value):
            raise ValueError(
                "the name of an environment variable is expected, in capitals, digits and _; never the secret itself"
            )
        return value

    @field_validator("audience", "typ", "claims", "ignore_claims", mode="before")
    @classmethod
    def _is_said(cls, value: object) -> object:
        if value is None:
            raise ValueError(
                "nothing stands here; leave the key out to take what `permit` says for all issuers"
            )
        return value

    @field_validator("algorithms")
    @classmethod
    def _are_supported(cls, value: list[str], info: ValidationInfo) -> list[str]:
        known = SYMMETRIC_ALGORITHMS if info.data.get("secret_env") else SUPPORTED_ALGORITHMS
        for algorithm in value:
            if algorithm not in known:
                raise ValueError(_unknown("algorithm", algorithm, sorted(known)))
        return value

    @model_validator(mode="after")
    def _is_refreshed_in_time(self) -> IssuerBlock:
        if self.refresh_seconds > self.max_stale_seconds:
            raise ValueError(
                f"refresh_seconds ({self.refresh_seconds:g}) is longer than max_stale_seconds "
                f"({self.max_stale_seconds:g}): the keys would stop counting before they are loaded again"
            )
        return self

    @model_validator(mode="after")
    def _has_one_source(self) -> IssuerBlock:
        given = [name for name in _KEY_SOURCES if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"exactly one of {', '.join(_KEY_SOURCES)} is expected, {len(given)} are given")
        scheme = urlsplit(self.jwks_url).scheme if self.jwks_url else "https"
        if scheme not in {"https", "http"}:
            raise ValueError(f"jwks_url is expected to be an http or https URL, not one of {scheme[:80]!r}")
        has_one_key = self.public_key_file is not None or self.secret_env is not None
        if has_one_key != (self.kid is not None) and not self.kid_optional:
            raise ValueError(
                "a public_key_file or secret_env needs `kid`, the id that permits name it by, or `kid_optional: true`; no other source takes `kid`"
            )
        return self


class RevokedBlock(_Strict):
    """What was taken back before it expired."""

    jti: list[Name] = Field(default=[], max_length=10_000)
    kid: list[Kid] = Field(default=[], max_length=10_000)
    policy_versions: list[Name] = Field(default=[], max_length=10_000)


class PermitBlock(_Strict):
    """How a permit comes in and what makes it valid."""

    header: str = Field(default="x-llm-permit", pattern=r"^[a-z0-9-]{1,64}$")
    audience: str = Field(min_length=1)
    binding: Literal["body", "single_use", "none"]
    single_use_when_unavailable: Literal["deny", "admit"] = "deny"
    request_id_header: str | None = Field(default=None, pattern=r"^[a-z0-9-]{1,64}$")
    tenant_is_team: bool = False
    issuers: list[IssuerBlock] = Field(min_length=1)
    when_missing: Literal["deny"] = "deny"
    typ: Typs = [PERMIT_TYP]
    claims: dict[str, ClaimSourceBlock] = {}
    ignore_claims: list[ClaimSegments] = []
    minimum_policy_version: str | None = None
    accepted_policy_versions: list[Name] | None = Field(default=None, min_length=1, max_length=1_000)
    revoked: RevokedBlock = RevokedBlock()
    max_lifetime_seconds: int = Field(default=300, ge=1, le=86_400)
    leeway_seconds: int = Field(default=5, ge=0, le=60)
    max_permit_bytes: int = Field(default=16_384, ge=1_024, le=65_536)
    max_body_bytes: int = Field(default=32 * 1024 * 1024, ge=1_024)

    @field_validator("issuers")
    @classmethod
    def _are_distinct(cls, value: list[IssuerBlock]) -> list[IssuerBlock]:
        names = [block.issuer for block in value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"issuer {name[:80]!r} is listed twice")
        return value

    def trust(self, block: IssuerBlock, keys: KeySource) -> IssuerTrust:
        """What is accepted from one of the issuers; what its own block leaves out is taken from here.

        Args:
            block: One of `issuers`.
            keys: Where its keys come from.

        Raises:
            ConfigurationError: Its mapping contradicts itself, or would ignore what restricts a permit.
        """
        return IssuerTrust(
            issuer=block.issuer,
            audience=self.audience if block.audience is None else block.audience,
            algorithms=frozenset(block.algorithms),
            keys=keys,
            kid_optional=block.kid_optional,
            layout=self.layout(block),
        )

    def layout(self, block: IssuerBlock) -> TokenLayout:
        """How the tokens of one of the issuers are read.

        Raises:
            ConfigurationError: The mapping contradicts itself, or would ignore what restricts a permit.
        """
        claims = self.claims if block.claims is None else block.claims
        ignored = self.ignore_claims if block.ignore_claims is None else block.ignore_claims
        return TokenLayout(
            typs=frozenset(self.typ if block.typ is None else block.typ),
            claims={name: entry.source for name, entry in claims.items()},
            ignored=frozenset(tuple(path) for path in ignored),
        )


class ClassificationBlock(_Strict):
    """What a data classification demands of an endpoint."""

    require: list[Name] = []


class LatencyClassBlock(_Strict):
    """A latency class that permits may name."""


class StrategyBlock(_Strict):
    """Which strategy ranks the eligible endpoints."""

    strategy: Literal["static", "cost"]
    endpoints: list[Name] | None = None

    @model_validator(mode="after")
    def _is_complete(self) -> StrategyBlock:
        if self.strategy == "static" and not self.endpoints:
            raise ValueError("strategy 'static' needs `endpoints`, a list of endpoint names")
        if self.strategy != "static" and self.endpoints is not None:
            raise ValueError(f"strategy {self.strategy!r} takes no `endpoints`; only 'static' does")
        return self


class RuleBlock(_Strict):
    """One rule: the first whose condition is true picks the strategy."""

    name: Name
    when: str = Field(min_length=1, max_length=4_096)
    use: StrategyBlock


class ResilienceBlock(_Strict):
    """How often a request may be tried."""

    attempts: int = Field(default=3, ge=1, le=10)


class DecisionLogBlock(_Strict):
    """Where decision records go."""

    file: str = Field(default="decisions.jsonl", min_length=1)
    chain: bool = False
    required: bool = False


class PolicyBlock(_Strict):
    """The whole block."""

    permit: PermitBlock
    classifications: dict[Name, ClassificationBlock] = Field(min_length=1)
    latency_classes: dict[Name, LatencyClassBlock] = Field(min_length=1)
    tenant_tiers: list[Name] = Field(min_length=1)
    rules: list[RuleBlock] = []
    default: StrategyBlock
    resilience: ResilienceBlock = ResilienceBlock()
    decision_log: DecisionLogBlock = DecisionLogBlock()
    body_fields: list[Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")]] = []

    @field_validator("classifications", "latency_classes", mode="before")
    @classmethod
    def _empty_entries(cls, value: object) -> object:
        """`phi:` with nothing behind it means `phi: {}`."""
        if not isinstance(value, Mapping):
            return value
        return {key: {} if entry is None else entry for key, entry in value.items()}

    @field_validator("rules")
    @classmethod
    def _rules_are_distinct(cls, value: list[RuleBlock]) -> list[RuleBlock]:
        names = [rule.name for rule in value]
        for name in names:
            if name == "default" or names.count(name) > 1:
                raise ValueError(f"rule name {name!r} is taken; each rule has a name of its own")
        return value


@dataclass(frozen=True, slots=True)
class PolicySnapshot:
    """Everything that one decision is made by; replaced as a whole, never changed.

    Attributes:
        permit: How permits come in and where keys are.
        claims: What the values of claims may be.
        requirements: Attributes each classification demands.
        routing: Rules, strategies and the number of attempts.
        decision_log: Where records go.
        body_fields: Body fields that pass in addition to the published schemas.
        config_hash: SHA-256 over the block, in canonical JSON; records name it.
        redis_url: Where replicas share state; None keeps it in memory. It may hold a password.
    """

    permit: PermitBlock
    claims: ClaimPolicy
    requirements: Mapping[str, frozenset[str]]
    routing: RoutingPolicy
    decision_log: DecisionLogBlock
    body_fields: frozenset[str]
    config_hash: str
    redis_url: str | None = field(default=None, repr=False)

    def static_endpoints(self) -> Iterator[tuple[str, str]]:
        """Every (rule name, endpoint name) that a static strategy lists."""
        for rule in (*self.routing.rules.rules, self.routing.rules.default):
            if isinstance(rule.strategy, Static):
                for endpoint in rule.strategy.endpoints:
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
            f"{_BLOCK} is missing: write the policy block there, or set PERMIT_ROUTER_POLICY to a file that holds it"
        )
    where = _BLOCK
    if isinstance(source, str):
        where = f"policy file {str(base / source)!r}"
        source = _read_policy_file(base / source)
    if not isinstance(source, Mapping):
        raise ConfigurationError(f"{where}: a mapping is expected, {type(source).__name__} stands there")
    block = _parse(source)
    if flags.log is not None:
        block = block.model_copy(
            update={"decision_log": block.decision_log.model_copy(update={"file": str(flags.log)})}
        )
    return _snapshot(block, flags.redis_url)


def check_endpoints(snapshot: PolicySnapshot, known: Sequence[str]) -> None:
    """Makes sure that static strategies name endpoints that LiteLLM's configuration has.

    Raises:
        ConfigurationError: Names the rule, the endpoint and the nearest known one.
    """
    for rule, endpoint in snapshot.static_endpoints():
        if endpoint not in known:
            raise ConfigurationError(f"{_BLOCK}: rule {rule!r}: {_unknown('endpoint', endpoint, known)}")


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
        raise ConfigurationError(_explain(error)) from error


def _explain(error: ValidationError) -> str:
    """All faults of the block, a line each: the key, what stands there, what was expected."""
    return "\n".join(_explain_one(fault) for fault in error.errors(include_url=False))


def _explain_one(fault: Any) -> str:
    where = ".".join(str(part) for part in (_BLOCK, *fault["loc"]))
    if fault["type"] == "extra_forbidden":
        known = _known_keys(fault["loc"][:-1])
        return f"{where}: {_unknown('key', str(fault['loc'][-1]), known)}"
    if fault["type"] == "missing":
        return f"{where}: this key is required{_required_hint(str(fault['loc'][-1]))}"
    message = fault["msg"].removeprefix("Value error, ")
    is_quiet = isinstance(fault["input"], Mapping | list) or fault["loc"][-1:] == ("secret_env",)
    shown = "" if is_quiet else f" (found {fault['input']!r:.80})"
    return f"{where}: {message}{shown}"


def _required_hint(key: str) -> str:
    if key == "binding":
        return ": 'body' ties a permit to one request body, 'single_use' to one use of it as well; 'none' lets a stolen permit carry any body until it expires"
    return ""


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """The keys that the model at `location` knows; found by walking the models' annotations."""
    model: Any = PolicyBlock
    for part in location:
        if isinstance(part, int):
            continue
        field = getattr(model, "model_fields", {}).get(part)
        if field is not None:
            model = _model_in(field.annotation) or model
    return sorted(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The settings model inside an annotation such as `list[RuleBlock]` or `dict[str, Block]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(argument) for argument in getattr(annotation, "__args__", ()))
    return next((model for model in found if model is not None), None)


def _unknown(kind: str, value: str, known: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(value, known, n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else "."
    return f"unknown {kind} {value[:80]!r}{hint} Known: {', '.join(known) or 'none'}"


def _snapshot(block: PolicyBlock, redis_url: str | None) -> PolicySnapshot:
    _check_layouts(block)
    return PolicySnapshot(
        permit=block.permit,
        claims=_claims(block),
        requirements={name: frozenset(entry.require) for name, entry in block.classifications.items()},
        routing=RoutingPolicy(rules=_rules(block), attempts=block.resilience.attempts),
        decision_log=block.decision_log,
        body_fields=frozenset(block.body_fields),
        config_hash=_hash(block),
        redis_url=redis_url,
    )


def _check_layouts(block: PolicyBlock) -> None:
    declared = {"tenant_tier": block.tenant_tiers, "latency_class": list(block.latency_classes)}
    for number, issuer in enumerate(block.permit.issuers):
        where = f"{_BLOCK}.permit.issuers.{number}"
        try:
            layout = block.permit.layout(issuer)
        except ConfigurationError as error:
            raise ConfigurationError(f"{where}: {error}") from error
        for name, source in layout.claims.items():
            if isinstance(source, ClaimConstant) and source.value not in declared.get(name, [source.value]):
                raise ConfigurationError(f"{where}: claims: {_unknown(name, source.value, declared[name])}")


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
        raise ConfigurationError(f"{_BLOCK}.permit.{error}") from error


def _rules(block: PolicyBlock) -> RuleSet:
    return RuleSet(
        rules=tuple(
            Rule(name=rule.name, condition=_condition(rule), strategy=_strategy(rule.use))
            for rule in block.rules
        ),
        default=Rule(name="default", condition=None, strategy=_strategy(block.default)),
    )


def _condition(rule: RuleBlock) -> Condition:
    try:
        return compile_condition(rule.when)
    except ConfigurationError as error:
        raise ConfigurationError(f"{_BLOCK}.rules: rule {rule.name!r}: {error}") from error


def _strategy(use: StrategyBlock) -> Strategy:
    match use.strategy:
        case "static":
            return Static(endpoints=tuple(use.endpoints or ()))
        case "cost":
            return Cost()
        case _:
            assert_never(use.strategy)


def _hash(block: PolicyBlock) -> str:
    canonical = json.dumps(block.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
