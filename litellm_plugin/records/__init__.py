"""Records: what each decision and attempt leaves behind, the log they go to, its chain, and the counters."""

from litellm_plugin.records.chain import ChainBreak, ChainHead, ChainReport, HashChain, verify_chain
from litellm_plugin.records.counters import Counters
from litellm_plugin.records.decision_log import DecisionLog, FileDecisionLog, NullDecisionLog
from litellm_plugin.records.record import (
    ATTEMPT_SCHEMA,
    DECISION_SCHEMA,
    PROBE_SCHEMA,
    PermitFacts,
    Record,
    RequestIds,
    ShadowedDecision,
    attempt_record,
    decision_record,
    probe_record,
)
from litellm_plugin.records.schema import schemas

__all__ = [
    "ATTEMPT_SCHEMA",
    "DECISION_SCHEMA",
    "PROBE_SCHEMA",
    "ChainBreak",
    "ChainHead",
    "ChainReport",
    "Counters",
    "DecisionLog",
    "FileDecisionLog",
    "HashChain",
    "NullDecisionLog",
    "PermitFacts",
    "Record",
    "RequestIds",
    "ShadowedDecision",
    "attempt_record",
    "decision_record",
    "probe_record",
    "schemas",
    "verify_chain",
]
