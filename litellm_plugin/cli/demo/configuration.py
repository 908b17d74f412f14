"""The demo's configuration: LiteLLM's YAML file, and an environment that points it at simulated providers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml

from litellm_plugin.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from litellm_plugin.testing.issuer import Algorithm

_REFERENCE: Final = "os.environ/"
_ALGORITHMS: Final[tuple[Algorithm, ...]] = ("RS256", "ES256", "EdDSA")
# LiteLLM joins the call's path to these providers' addresses after the version.
_VERSIONED: Final = frozenset({"openai", "hosted_vllm", "text-completion-openai"})


@dataclass(frozen=True, slots=True)
class BaseVariable:
    """A variable that holds a provider's address.

    Attributes:
        endpoint: The endpoint whose deployments use it.
        suffix: What follows the provider's root in it.
    """

    endpoint: str
    suffix: str


@dataclass(frozen=True, slots=True)
class DemoConfiguration:
    """What the demo reads from LiteLLM's file.

    Attributes:
        path: The file.
        groups: The endpoints of each model group, in the file's order.
        classifications: The classifications that permits may name.
        issuer, audience, algorithm, header: How permits are made for it.
        policy_version: The version that permits name.
        base_variables: The variables that hold provider addresses.
        jwks_variable: The variable that holds the address of the issuer's keys.
        variables: Every variable that the file refers to.
    """

    path: Path
    groups: Mapping[str, tuple[str, ...]]
    classifications: tuple[str, ...]
    issuer: str
    audience: str
    algorithm: Algorithm
    header: str
    policy_version: str
    base_variables: Mapping[str, BaseVariable]
    jwks_variable: str
    variables: frozenset[str]

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Every endpoint once, in the file's order."""
        return tuple(dict.fromkeys(name for names in self.groups.values() for name in names))

    def environment(self, urls: Mapping[str, str], jwks_url: str) -> dict[str, str]:
        """The environment in which the file's providers are the ones at `urls`, by endpoint."""
        keys = {name: f"demo-{name.lower().replace('_', '-')}" for name in self.variables}
        # The master key is the proxy process's own; a weak one would not start.
        keys.pop("LITELLM_MASTER_KEY", None)
        bases = {name: urls[base.endpoint] + base.suffix for name, base in self.base_variables.items()}
        return {**keys, **bases, self.jwks_variable: jwks_url}


def read_configuration(path: Path) -> DemoConfiguration:
    """Reads LiteLLM's file as far as the demo needs it; LiteLLM and the plugin check the rest.

    Raises:
        ConfigurationError: The file is missing, or the demo would call a real provider with it.
    """
    document = _load(path)
    block = _mapping(document.get("litellm_settings"), "litellm_settings").get("permit_router")
    policy = _mapping(block, "litellm_settings.permit_router")
    permit = _mapping(policy.get("permit"), "litellm_settings.permit_router.permit")
    issuer = _issuer(permit.get("issuers"))
    entries = _entries(document.get("model_list"))
    return DemoConfiguration(
        path=path,
        groups=_groups(entries),
        classifications=tuple(_mapping(policy.get("classifications"), "permit_router.classifications")),
        issuer=str(issuer.get("issuer")),
        audience=str(permit.get("audience")),
        algorithm=_algorithm(issuer.get("algorithms")),
        header=str(permit.get("header", "x-llm-permit")),
        policy_version=str(permit.get("minimum_policy_version") or "42"),
        base_variables=_base_variables(entries),
        jwks_variable=_jwks_variable(issuer),
        variables=frozenset(_references(document)),
    )


def _load(path: Path) -> Mapping[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"no configuration at {str(path)!r}: run the demo where config.example.yaml is, or name a file with --config"
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{str(path)!r} cannot be read as YAML: {error}") from error
    return _mapping(document, str(path))


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{where}: a mapping is expected, {type(value).__name__} stands there")
    return value


def _entries(model_list: object) -> list[Mapping[str, Any]]:
    if not isinstance(model_list, list) or not model_list:
        raise ConfigurationError("model_list: a list of deployments is expected")
    return [_mapping(entry, f"model_list[{position}]") for position, entry in enumerate(model_list)]


def _groups(entries: list[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    groups: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        name = str(entry.get("model_name"))
        groups[name] = (*groups.get(name, ()), _endpoint(entry))
    return groups


def _endpoint(entry: Mapping[str, Any]) -> str:
    info = _mapping(entry.get("model_info") or {}, "model_info")
    name = info.get("endpoint") or info.get("id")
    if not name:
        raise ConfigurationError(f"deployment of {entry.get('model_name')!r}: model_info.id is required")
    return str(name)


def _base_variables(entries: list[Mapping[str, Any]]) -> dict[str, BaseVariable]:
    variables: dict[str, BaseVariable] = {}
    for entry in entries:
        params = _mapping(entry.get("litellm_params") or {}, "litellm_params")
        endpoint = _endpoint(entry)
        variable = _variable(params.get("api_base"))
        if variable is None:
            raise ConfigurationError(
                f"endpoint {endpoint!r}: api_base: the demo expects os.environ/NAME, so that it can put a "
                "simulated provider there instead of a real one"
            )
        base = BaseVariable(endpoint, "/v1" if _provider(params) in _VERSIONED else "")
        if variables.setdefault(variable, base) != base:
            raise ConfigurationError(
                f"{variable} is the address of endpoint {variables[variable].endpoint!r} and of {endpoint!r}: "
                "the demo expects a variable for each endpoint, to tell them apart"
            )
    return variables


def _provider(params: Mapping[str, Any]) -> str:
    return str(params.get("custom_llm_provider") or str(params.get("model")).partition("/")[0])


def _issuer(issuers: object) -> Mapping[str, Any]:
    if not isinstance(issuers, list) or len(issuers) != 1:
        raise ConfigurationError("permit_router.permit.issuers: the demo expects exactly one issuer")
    return _mapping(issuers[0], "permit_router.permit.issuers[0]")


def _jwks_variable(issuer: Mapping[str, Any]) -> str:
    variable = _variable(issuer.get("jwks_url"))
    if variable is None:
        raise ConfigurationError(
            "permit_router.permit.issuers[0].jwks_url: the demo expects os.environ/NAME, so that it can put "
            "its own issuer there"
        )
    return variable


def _algorithm(listed: object) -> Algorithm:
    names = listed if isinstance(listed, list) else []
    for name in _ALGORITHMS:
        if name in names:
            return name
    raise ConfigurationError(
        f"permit_router.permit.issuers[0].algorithms: the demo signs with one of {', '.join(_ALGORITHMS)}"
    )


def _variable(value: object) -> str | None:
    if isinstance(value, str) and value.startswith(_REFERENCE):
        return value.removeprefix(_REFERENCE)
    return None


def _references(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)
    elif (name := _variable(value)) is not None:
        yield name
