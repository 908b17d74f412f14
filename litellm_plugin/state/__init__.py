"""State: what is measured in a rolling window, which permits were used or revoked, and what answers left where; and what may be spent."""

from litellm_plugin.state.affinity import AffinityMemory, AffinityScope
from litellm_plugin.state.budgets import BudgetHold, Budgets, BudgetTab
from litellm_plugin.state.connection import connect
from litellm_plugin.state.histogram import LatencyHistogram
from litellm_plugin.state.memory import MemoryStore
from litellm_plugin.state.replay import MemoryReplayStore, RedisReplayStore
from litellm_plugin.state.revocations import RevokedKind, StoredRevocations
from litellm_plugin.state.store import Store

__all__ = [
    "AffinityMemory",
    "AffinityScope",
    "BudgetHold",
    "BudgetTab",
    "Budgets",
    "LatencyHistogram",
    "MemoryReplayStore",
    "MemoryStore",
    "RedisReplayStore",
    "RevokedKind",
    "Store",
    "StoredRevocations",
    "connect",
]
