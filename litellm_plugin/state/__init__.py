"""State: what workers share: measurements, health, limits and budgets; which permits were used or revoked; what answers left where."""

from litellm_plugin.state.affinity import AffinityMemory, AffinityScope
from litellm_plugin.state.breaker_rules import BreakerPolicy
from litellm_plugin.state.breakers import Breakers, Outcome
from litellm_plugin.state.budgets import BudgetHold, Budgets, BudgetTab
from litellm_plugin.state.connection import StoreKind, connect, store_kind
from litellm_plugin.state.exchange import Exchange
from litellm_plugin.state.histogram import LatencyHistogram
from litellm_plugin.state.latency import SharedLatency
from litellm_plugin.state.leases import LeaseBook
from litellm_plugin.state.litellm_settings import litellm_redis_url
from litellm_plugin.state.memory import MemoryStore
from litellm_plugin.state.memory_exchange import MemoryExchange
from litellm_plugin.state.probing import Probing, ProbingPolicy, Turn, TurnCause, TurnEnd
from litellm_plugin.state.provider_headers import read_headers
from litellm_plugin.state.provider_limits import ProviderLimits
from litellm_plugin.state.quotas import Quota, Quotas, QuotaUse
from litellm_plugin.state.redis_exchange import RedisExchange
from litellm_plugin.state.replay import MemoryReplayStore, RedisReplayStore
from litellm_plugin.state.retry_budget import RetryBudget
from litellm_plugin.state.revocations import RevokedKind, StoredRevocations
from litellm_plugin.state.roster import Roster
from litellm_plugin.state.shared_clock import SharedClock
from litellm_plugin.state.stall import LoopWatch
from litellm_plugin.state.store import Store
from litellm_plugin.state.store_loop import StoreLoop
from litellm_plugin.state.sync import Synchroniser

__all__ = [
    "AffinityMemory",
    "AffinityScope",
    "BreakerPolicy",
    "Breakers",
    "BudgetHold",
    "BudgetTab",
    "Budgets",
    "Exchange",
    "LatencyHistogram",
    "LeaseBook",
    "LoopWatch",
    "MemoryExchange",
    "MemoryReplayStore",
    "MemoryStore",
    "Outcome",
    "Probing",
    "ProbingPolicy",
    "ProviderLimits",
    "Quota",
    "QuotaUse",
    "Quotas",
    "RedisExchange",
    "RedisReplayStore",
    "RetryBudget",
    "RevokedKind",
    "Roster",
    "SharedClock",
    "SharedLatency",
    "Store",
    "StoreKind",
    "StoreLoop",
    "StoredRevocations",
    "Synchroniser",
    "Turn",
    "TurnCause",
    "TurnEnd",
    "connect",
    "litellm_redis_url",
    "read_headers",
    "store_kind",
]
