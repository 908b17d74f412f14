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
    EndpointStatistics,
    Prices,
    StatisticsSnapshot,
)
from litellm_plugin.routing.cost import expected_cost_usd
from litellm_plugin.routing.decision import Assessment, Decision, Exclusion, RuleMatch
from litellm_plugin.routing.eligibility import assess
from litellm_plugin.routing.expressions import KNOWN_NAMES, Condition, compile_condition
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
from litellm_plugin.routing.planner import RoutingPolicy, decide
from litellm_plugin.routing.rules import Rule, RuleSet
from litellm_plugin.routing.strategies import Cost, Ranked, Ranking, RankingContext, Static, Strategy
from litellm_plugin.routing.tables import row_condition
from litellm_plugin.routing.tokens import estimate_tokens

__all__ = [
    "KNOWN_NAMES",
    "Affinity",
    "Assessment",
    "AttemptStatus",
    "BodyFacts",
    "CallType",
    "Candidate",
    "Capability",
    "Condition",
    "Cost",
    "Decision",
    "EndpointStatistics",
    "Exclusion",
    "FactValue",
    "LatencyClass",
    "Measurement",
    "Moment",
    "Prices",
    "Ranked",
    "Ranking",
    "RankingContext",
    "RequestFacts",
    "RoutingPolicy",
    "RoutingScope",
    "Rule",
    "RuleMatch",
    "RuleSet",
    "Static",
    "StatisticsSnapshot",
    "Strategy",
    "assess",
    "chat_facts",
    "compile_condition",
    "completion_facts",
    "decide",
    "embedding_facts",
    "estimate_tokens",
    "expected_cost_usd",
    "load_languages",
    "messages_facts",
    "request_facts",
    "responses_facts",
    "row_condition",
]
