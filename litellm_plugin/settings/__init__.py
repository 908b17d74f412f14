"""Settings: environment flags, and the policy block as one immutable snapshot."""

from litellm_plugin.settings.flags import Flags, Mode
from litellm_plugin.settings.permit_block import IssuerBlock, PermitBlock
from litellm_plugin.settings.policy_block import PolicyBlock
from litellm_plugin.settings.snapshot import PolicySnapshot, check_endpoints, load_policy, policy_files

__all__ = [
    "Flags",
    "IssuerBlock",
    "Mode",
    "PermitBlock",
    "PolicyBlock",
    "PolicySnapshot",
    "check_endpoints",
    "load_policy",
    "policy_files",
]
