"""Public test doubles: what a deployment of this package talks to, as real servers on loopback.

`RecordingProvider` stands for a provider and `PermitIssuer` for the gateway's signing side; `ServerThread`
serves them. `ReferenceGateway` puts a policy in front of a proxy and `ProxyProcess` runs a real LiteLLM
Proxy. `Ledger` tells, from what the providers recorded, whether anything left its permit. `check_strategy`
holds a routing strategy of your own against its contract. Nothing here imports LiteLLM.
"""

from litellm_plugin.testing.clock import FakeClock
from litellm_plugin.testing.faults import Fault, FaultKind
from litellm_plugin.testing.gateway import AuditRecord, GatewayRule, ReferenceGateway
from litellm_plugin.testing.issuer import PermitIssuer
from litellm_plugin.testing.oracle import Judgement, Ledger, marker
from litellm_plugin.testing.providers import RecordedRequest, RecordingProvider
from litellm_plugin.testing.proxy_process import TEST_MASTER_KEY, ProxyProcess
from litellm_plugin.testing.server import ServerThread
from litellm_plugin.testing.strategy_contract import check_strategy

__all__ = [
    "TEST_MASTER_KEY",
    "AuditRecord",
    "FakeClock",
    "Fault",
    "FaultKind",
    "GatewayRule",
    "Judgement",
    "Ledger",
    "PermitIssuer",
    "ProxyProcess",
    "RecordedRequest",
    "RecordingProvider",
    "ReferenceGateway",
    "ServerThread",
    "check_strategy",
    "marker",
]
