"""Routing: pure decisions; request facts, permit scope and candidates in, a plan or a verdict out."""

from litellm_plugin.routing.attempts import AttemptStatus, Measurement
from litellm_plugin.routing.body import (
    BodyFacts,
    chat_facts,
    completion_facts,
    embedding_facts,
    messages_facts,
    request_facts,
    responses_facts,
)
from litellm_plugin.routing.candidates import (
    Affinity,
    Candidate,
    CandidateGroup,
    EndpointStatistics,
    Prices,
    PriceStep,
    StatisticsSnapshot,
)
from litellm_plugin.routing.cost import ExpectedCost, expected_cost, route_of
from litellm_plugin.routing.decision import Assessment, Decision, Exclusion, RuleMatch
from litellm_plugin.routing.eligibility import assess, identity_exclusion
from litellm_plugin.routing.expressions import KNOWN_NAMES, Condition, compared_texts, compile_condition
from litellm_plugin.routing.facts import (
    CallType,
    Capability,
    FactValue,
    Moment,
    RequestFacts,
    RoutingScope,
)
from litellm_plugin.routing.language import load_languages
from litellm_plugin.routing.latency_classes import LatencyClass
from litellm_plugin.routing.planner import RoutingPolicy, choose, decide
from litellm_plugin.routing.replay import replay
from litellm_plugin.routing.retries import Chain, Halt, PastAttempt, Retry, RetryPolicy, following
from litellm_plugin.routing.rules import Rule, RuleSet
from litellm_plugin.routing.stickiness import Stickiness
from litellm_plugin.routing.strategies import (
    BALANCED_TERMS,
    AssignedBy,
    Attested,
    Balanced,
    Composed,
    Cost,
    Custom,
    Fallback,
    Latency,
    Quality,
    Ranked,
    Ranking,
    RankingContext,
    Static,
    Strategy,
    Table,
    Weighted,
    bands_by_score,
    named_endpoints,
)
from litellm_plugin.routing.tables import row_condition
from litellm_plugin.routing.tokens import estimate_tokens

__all__ = [
    "BALANCED_TERMS",
    "KNOWN_NAMES",
    "Affinity",
    "Assessment",
    "AssignedBy",
    "AttemptStatus",
    "Attested",
    "Balanced",
    "BodyFacts",
    "CallType",
    "Candidate",
    "CandidateGroup",
    "Capability",
    "Chain",
    "Composed",
    "Condition",
    "Cost",
    "Custom",
    "Decision",
    "EndpointStatistics",
    "Exclusion",
    "ExpectedCost",
    "FactValue",
    "Fallback",
    "Halt",
    "Latency",
    "LatencyClass",
    "Measurement",
    "Moment",
    "PastAttempt",
    "PriceStep",
    "Prices",
    "Quality",
    "Ranked",
    "Ranking",
    "RankingContext",
    "RequestFacts",
    "Retry",
    "RetryPolicy",
    "RoutingPolicy",
    "RoutingScope",
    "Rule",
    "RuleMatch",
    "RuleSet",
    "Static",
    "StatisticsSnapshot",
    "Stickiness",
    "Strategy",
    "Table",
    "Weighted",
    "assess",
    "bands_by_score",
    "chat_facts",
    "choose",
    "compared_texts",
    "compile_condition",
    "completion_facts",
    "decide",
    "embedding_facts",
    "estimate_tokens",
    "expected_cost",
    "following",
    "identity_exclusion",
    "load_languages",
    "messages_facts",
    "named_endpoints",
    "replay",
    "request_facts",
    "responses_facts",
    "route_of",
    "row_condition",
]
