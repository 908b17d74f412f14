"""Routing: pure decisions; request facts, permit scope and candidates in, a plan or a verdict out."""

from litellm_plugin.routing.attempts import AttemptStatus, Measurement
from litellm_plugin.routing.body_facts import (
    BodyFacts,
    chat_facts,
    completion_facts,
    embedding_facts,
    estimate_tokens,
    messages_facts,
    request_facts,
    responses_facts,
)
from litellm_plugin.routing.candidates import (
    Affinity,
    Candidate,
    EndpointStatistics,
    Prices,
    PriceStep,
    StatisticsSnapshot,
)
from litellm_plugin.routing.cost import ExpectedCost, expected_cost, route_of
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
from litellm_plugin.routing.planner import RoutingPolicy, decide
from litellm_plugin.routing.rules import Rule, RuleSet
from litellm_plugin.routing.strategies import Cost, Ranked, Ranking, RankingContext, Static, Strategy

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
    "ExpectedCost",
    "FactValue",
    "Measurement",
    "Moment",
    "PriceStep",
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
    "expected_cost",
    "messages_facts",
    "request_facts",
    "responses_facts",
    "route_of",
]
