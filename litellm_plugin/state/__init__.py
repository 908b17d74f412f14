"""State: what is measured of deployments, kept for a rolling window."""

from litellm_plugin.state.histogram import LatencyHistogram
from litellm_plugin.state.memory import MemoryStore
from litellm_plugin.state.store import Store

__all__ = ["LatencyHistogram", "MemoryStore", "Store"]
