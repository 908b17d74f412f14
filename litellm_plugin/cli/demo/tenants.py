"""The tenants: what the demo's policy gateway decides for each caller's API key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.testing import GatewayRule

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_EVERYWHERE: Final = (
    "vllm-de",
    "openai-us",
    "azure-us",
    "anthropic-us",
    "openai-eu",
    "azure-eu",
    "anthropic-eu",
)

TENANTS: Final[Mapping[str, GatewayRule]] = {
    "demo-acme": GatewayRule(_EVERYWHERE, tenant="acme", tenant_tier="enterprise", may_classify=("public",)),
    "demo-initech": GatewayRule(_EVERYWHERE, tenant="initech", tenant_tier="pro", may_classify=("public",)),
    "demo-globex": GatewayRule(("vllm-de", "openai-eu"), tenant="globex", tenant_tier="pro"),
    "demo-hobby": GatewayRule(
        ("vllm-de", "openai-us"), tenant="hobby", tenant_tier="free", data_classification="public"
    ),
    "demo-mercy-clinic": GatewayRule(
        ("openai-eu", "azure-us", "azure-eu"),
        tenant="mercy-clinic",
        tenant_tier="enterprise",
        may_classify=("phi",),
    ),
    # A gateway's mistake, on purpose: openai-us has signed no BAA and stands in the set nevertheless.
    "demo-helix": GatewayRule(
        ("openai-us", "azure-us", "azure-eu"),
        tenant="helix",
        tenant_tier="pro",
        data_classification="phi",
        may_classify=("internal",),
    ),
}

KEYS: Final[Mapping[str, str]] = {rule.tenant: key for key, rule in TENANTS.items()}
"""The API key of each tenant."""


def check_tenants(endpoints: Iterable[str], classifications: Iterable[str]) -> None:
    """Makes sure that the gateway's decisions mean something in a configuration.

    Raises:
        ConfigurationError: A tenant is authorized for an endpoint, or sends data of a classification, that the
            configuration does not have.
    """
    known_endpoints, known_classifications = frozenset(endpoints), frozenset(classifications)
    for rule in TENANTS.values():
        missing = sorted(frozenset(rule.endpoints) - known_endpoints)
        missing += sorted({rule.data_classification, *rule.may_classify} - known_classifications)
        if missing:
            raise ConfigurationError(
                f"the demo's tenant {rule.tenant!r} expects {', '.join(missing)}, which the configuration does not "
                "have; keep the endpoints and classifications of config.example.yaml"
            )
