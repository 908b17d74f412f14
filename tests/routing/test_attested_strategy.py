from __future__ import annotations

from routing_cases import a_candidate, a_policy, a_request, a_scope
from strategy_cases import a_context, bands

from litellm_plugin.errors import Reason
from litellm_plugin.routing import Affinity, Assessment, Attested, Cost, Rule, compile_condition, decide

PINNED = Attested("a", "openai/gpt-4o-2024-11-20")
A1 = a_candidate("a", "a-1", model="openai/gpt-4o-2024-11-20")
A2 = a_candidate("a", "a-2", model="openai/gpt-4o-2024-11-20")
OLD = a_candidate("a", "a-0", model="openai/gpt-4o-2024-08-06")
B = a_candidate("b", model="openai/gpt-4o-2024-11-20", price=0.0)


def ranked(*candidates):
    return PINNED.rank([Assessment(each) for each in candidates], a_context())


def decided(*candidates, **arguments):
    rule = Rule("reproducible", compile_condition('permit.tenant == "acme"'), PINNED)
    policy = a_policy(Cost(), rule, attempts=3)
    return decide(
        policy,
        a_request(),
        a_scope(**arguments.pop("scope", {})),
        candidates,
        statistics=None,
        seed=1,
        **arguments,
    )


def test_the_deployments_with_the_model_are_taken_by_their_ids_whatever_else_there_is():
    ranking = ranked(A2, OLD, B, A1)
    assert bands(ranking) == [["a-1"], ["a-2"]]
    assert ranking.notes == (
        "attested: openai/gpt-4o-2024-11-20 at a alone; no routing, no second attempt, no fallback",
    )


def test_another_model_at_the_endpoint_is_not_taken_and_the_record_says_which_it_is():
    ranking = ranked(OLD, B)
    assert bands(ranking) == []
    assert ranking.notes == ("attested: a serves openai/gpt-4o-2024-08-06, not openai/gpt-4o-2024-11-20",)


def test_an_endpoint_that_is_no_candidate_is_named():
    assert ranked(B).notes == ("attested: a is not among the candidates",)


def test_the_plan_holds_one_attempt_and_says_so():
    decision = decided(A1, A2, B)
    assert ([each.deployment_id for each in decision.plan], decision.most_attempts) == (["a-1"], 1)


def test_neither_preferences_nor_a_session_move_it():
    decision = decided(A1, A2, B, scope={"preferences": ("b",)}, affinity=Affinity(session_deployment="a-2"))
    assert [each.deployment_id for each in decision.plan] == ["a-1"]


def test_the_seed_does_not_matter():
    policy = a_policy(PINNED)
    chosen = {
        decide(policy, a_request(), a_scope(), [A1, A2], statistics=None, seed=seed).chosen
        for seed in range(50)
    }
    assert chosen == {A1}


def test_a_request_whose_model_is_not_there_is_refused():
    assert decided(OLD, B).verdict.reason is Reason.NOT_ELIGIBLE
