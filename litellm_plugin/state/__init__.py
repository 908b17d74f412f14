"""State: what is measured of deployments, kept for a rolling window, and which permits were used."""

from litellm_plugin.state.connection import connect
from litellm_plugin.state.histogram import LatencyHistogram
from litellm_plugin.state.memory import MemoryStore
from litellm_plugin.state.replay import MemoryReplayStore, RedisReplayStore
from litellm_plugin.state.store import Store

__all__ = ["LatencyHistogram", "MemoryReplayStore", "MemoryStore", "RedisReplayStore", "Store", "connect"]
