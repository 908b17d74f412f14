"""State: what is measured in a rolling window, which permits were used or revoked, and what answers left where."""

from litellm_plugin.state.affinity import AffinityMemory, AffinityScope
from litellm_plugin.state.breaker_rules import BreakerPolicy
from litellm_plugin.state.breakers import Breakers, Outcome
from litellm_plugin.state.connection import connect
from litellm_plugin.state.histogram import LatencyHistogram
from litellm_plugin.state.memory import MemoryStore
from litellm_plugin.state.replay import MemoryReplayStore, RedisReplayStore
from litellm_plugin.state.retry_budget import RetryBudget
from litellm_plugin.state.revocations import RevokedKind, StoredRevocations
from litellm_plugin.state.stall import LoopWatch
from litellm_plugin.state.store import Store

__all__ = [
    "AffinityMemory",
    "AffinityScope",
    "BreakerPolicy",
    "Breakers",
    "LatencyHistogram",
    "LoopWatch",
    "MemoryReplayStore",
    "MemoryStore",
    "Outcome",
    "RedisReplayStore",
    "RetryBudget",
    "RevokedKind",
    "Store",
    "StoredRevocations",
    "connect",
]
