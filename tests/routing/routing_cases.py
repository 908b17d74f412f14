"""Builders and Hypothesis strategies that the routing tests share."""

from __future__ import annotations

from hypothesis import strategies as st

from litellm_plugin.routing import (
    CallType,
    Candidate,
    Capability,
    Cost,
    Prices,
    RequestFacts,
    RoutingPolicy,
    RoutingScope,
    Rule,
    RuleSet,
    Static,
    compile_condition,
)

ENDPOINTS = ("a", "b", "c", "d", "outside")


def a_request(**fields):
    return RequestFacts(**{"model_group": "gpt", "call_type": CallType.CHAT, "input_tokens": 100} | fields)


def a_scope(**fields):
    return RoutingScope(
        **{
            "request_id": "R",
            "endpoints": frozenset({"a", "b", "c"}),
            "policy_version": "42",
            "data_classification": "internal",
            "tenant": "acme",
            "tenant_tier": "pro",
            "latency_class": "interactive",
        }
        | fields
    )


def a_candidate(endpoint, deployment_id=None, *, price=1e-6, **fields):
    return Candidate(
        **{
            "deployment_id": deployment_id or f"{endpoint}-1",
            "endpoint": endpoint,
            "prices": Prices(price, price),
        }
        | fields
    )


def a_policy(strategy=None, *rules, attempts=3):
    default = Rule("default", None, strategy or Cost())
    return RoutingPolicy(RuleSet(tuple(rules), default), attempts)


names = st.sampled_from(ENDPOINTS)
prices = st.one_of(st.none(), st.floats(), st.sampled_from((0.0, 1e-6, 2e-6)))
words = st.sampled_from(("internal", "phi", "baa", "zdr", "interactive", "batch"))
word_sets = st.frozensets(words, max_size=4)
capabilities = st.frozensets(st.sampled_from(Capability), max_size=3)


def candidates_of(ids):
    one = st.builds(
        Candidate,
        deployment_id=ids,
        endpoint=names,
        clearances=st.none() | word_sets,
        attributes=word_sets,
        latency_classes=st.none() | word_sets,
        capabilities=capabilities,
        max_input_tokens=st.none() | st.integers(0, 300),
        prices=st.builds(Prices, prices, prices, st.sampled_from((0.0, 0.01))),
        is_available=st.booleans(),
    )
    return st.lists(one, max_size=8)


scopes = st.builds(
    RoutingScope,
    request_id=st.text(max_size=5),
    endpoints=st.frozensets(names, max_size=5),
    policy_version=st.text(max_size=3),
    data_classification=words,
    tenant=st.text(max_size=3),
    tenant_tier=words,
    latency_class=words,
    requirements=st.frozensets(words, max_size=1),
    preferences=st.lists(names, max_size=3).map(tuple),
)
requests = st.builds(
    RequestFacts,
    model_group=st.text(max_size=5),
    call_type=st.sampled_from(CallType),
    input_tokens=st.integers(0, 300),
    max_output_tokens=st.none() | st.integers(0, 2000),
    stream=st.booleans(),
    needs=st.frozensets(st.sampled_from(Capability), max_size=1),
)
strategies = st.one_of(st.just(Cost()), st.lists(names, max_size=4).map(lambda listed: Static(tuple(listed))))
rules = st.builds(
    Rule,
    name=st.just("rule"),
    condition=st.sampled_from(
        (
            None,
            compile_condition("request.max_output_tokens > 100"),
            compile_condition('permit.data_classification == "phi"'),
        )
    ),
    strategy=strategies,
)
policies = st.builds(
    lambda listed, strategy, attempts: a_policy(strategy, *listed, attempts=attempts),
    st.lists(rules, max_size=1),
    strategies,
    st.integers(1, 10),
)


def situations(ids):
    """Gives the arguments of `decide`, without statistics."""
    return st.fixed_dictionaries(
        {
            "policy": policies,
            "facts": requests,
            "scope": scopes,
            "candidates": candidates_of(ids),
            "statistics": st.none(),
            "seed": st.integers(0, 2**64),
            "tried": st.frozensets(st.text(max_size=3), max_size=3),
        }
    )


any_situation = situations(st.text(max_size=3))
situation = situations(st.uuids().map(str))
