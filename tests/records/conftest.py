import pytest

from litellm_plugin.errors import Reason, Verdict
from litellm_plugin.records import PermitFacts, RequestIds, attempt_record, decision_record
from litellm_plugin.routing.attempts import AttemptStatus
from litellm_plugin.routing.candidates import Candidate, EndpointStatistics, Prices
from litellm_plugin.routing.decision import Assessment, Decision, Exclusion, RuleMatch
from litellm_plugin.routing.facts import CallType, Capability, RequestFacts, RoutingScope

IDS = RequestIds(
    decision_id="0197a3b2c4d55e6f8a9b0c1d2e3f4a5b",
    request_id="req-7f3a9c",
    call_id="5b0f2c1e-6a43-4c1c-9a52-0f1f6f2a7d11",
    trace_id="req-7f3a9c",
)
PERMIT = PermitFacts(
    issuer="https://policy.example.com",
    kid="2026-01",
    jti_hash="9f2c4e6a81b3d507",
    policy_version="42",
    issued_at=1769860799,
    expires_at=1769861099,
    subject="user-81",
)
EU = Candidate(
    deployment_id="azure-eu-gpt4o-1",
    endpoint="azure-eu-gpt4o",
    attributes=frozenset({"baa"}),
    prices=Prices(input_usd=2.5e-06, output_usd=1e-05),
    region="eu",
    tier="large",
)
US = Candidate(deployment_id="openai-us-gpt4o-1", endpoint="openai-us-gpt4o", region="us")


def scope(endpoints=("azure-eu-gpt4o", "azure-eu-gpt4o-mini")):
    return RoutingScope(
        request_id="req-7f3a9c",
        endpoints=frozenset(endpoints),
        policy_version="42",
        data_classification="phi",
        tenant="clinic-12",
        tenant_tier="enterprise",
        latency_class="interactive",
        requirements=frozenset({"baa"}),
    )


def decision(*, verdict=None, model="gpt-4o", statistics=True, max_output_tokens=400):
    measured = (
        EndpointStatistics(812, 3, 1290.5, 2875.0, 4120.0, 310.25, 640.0, 985.5) if statistics else None
    )
    return Decision(
        facts=RequestFacts(
            model_group=model,
            call_type=CallType.CHAT,
            input_tokens=1180,
            max_output_tokens=max_output_tokens,
            stream=True,
            needs=frozenset({Capability.FUNCTION_CALLING}),
        ),
        scope=scope(),
        assessments=(
            Assessment(
                EU,
                expected_cost_usd=0.00695,
                cost_terms={"input": 0.00295, "output": 0.004},
                expected_output_tokens=400,
                rank=None if verdict else 0,
                statistics=measured,
            ),
            Assessment(US, exclusion=Exclusion.NOT_AUTHORIZED),
        ),
        rule=RuleMatch(
            name="hipaa-pinned",
            strategy="static",
            values={"permit.data_classification": "phi", "request.model": model},
            absent={"short-answers": ("request.max_output_tokens",)},
        ),
        plan=() if verdict else (EU,),
        verdict=verdict,
        seed=2851160813,
    )


def build_decision(**changes):
    facts = {
        "time": "2026-01-31T12:00:00.125Z",
        "ids": IDS,
        "instance": "llm-proxy-6c9f:17",
        "config_hash": "4c1d3ab09e77f25d" * 4,
        "mode": "enforce",
        "path": "/v1/chat/completions",
        "method": "POST",
        "decision": decision(),
        "verdict": None,
        "permit": PERMIT,
        "scope": None,
        "call_type": CallType.CHAT,
        "requested_model": "gpt-4o",
        "dropped_fields": ["api_base"],
        "egress_held": ["langfuse"],
        "statistics_age_ms": 412.0,
        "timings_ms": {"verify": 0.131, "bind": 0.024, "decide": 0.064},
    }
    return decision_record(**{**facts, **changes})


def build_attempt(**changes):
    facts = {
        "time": "2026-01-31T12:00:01.498Z",
        "ids": IDS,
        "instance": "llm-proxy-6c9f:17",
        "config_hash": "4c1d3ab09e77f25d" * 4,
        "attempt": 1,
        "deployment_id": EU.deployment_id,
        "endpoint": EU.endpoint,
        "status": AttemptStatus.SUCCESS,
        "http_status": None,
        "error_class": None,
        "total_ms": 1373.218,
        "first_token_ms": 298.4,
        "input_tokens": 1174,
        "output_tokens": 362,
        "cost_usd": 0.006555,
        "expected_cost_usd": 0.00695,
        "expected_output_tokens": 400,
        "cache_hit": False,
        "is_final": True,
    }
    return attempt_record(**{**facts, **changes})


def denial(reason=Reason.NOT_AUTHORIZED):
    return Verdict(reason, "no endpoint of this model group is authorized by the permit")


class Builders:
    decision_record = staticmethod(build_decision)
    attempt_record = staticmethod(build_attempt)
    decision = staticmethod(decision)
    scope = staticmethod(scope)
    denial = staticmethod(denial)
    ids = IDS


@pytest.fixture(scope="session")
def build():
    return Builders
