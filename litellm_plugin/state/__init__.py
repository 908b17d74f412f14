"""State: what is measured of deployments in a rolling window, which permits were used, and what was revoked."""

from litellm_plugin.state.connection import connect
from litellm_plugin.state.histogram import LatencyHistogram
from litellm_plugin.state.memory import MemoryStore
from litellm_plugin.state.replay import MemoryReplayStore, RedisReplayStore
from litellm_plugin.state.revocations import RevokedKind, StoredRevocations
from litellm_plugin.state.store import Store

__all__ = [
    "LatencyHistogram",
    "MemoryReplayStore",
    "MemoryStore",
    "RedisReplayStore",
    "RevokedKind",
    "Store",
    "StoredRevocations",
    "connect",
]
