from __future__ import annotations

import io

import pytest
from rich.console import Console

from litellm_plugin.cli.demo.callers import Answer
from litellm_plugin.cli.demo.decisions import Decisions
from litellm_plugin.cli.demo.play import Played, differences
from litellm_plugin.cli.demo.report import explanation, scene_row, table
from litellm_plugin.cli.demo.scenes import Client, Expected, Scene

SCENE = Scene(
    "a scene",
    Client("demo-globex"),
    Expected(200, "failover", "openai-eu", ("vllm-de", "openai-eu"), rule="default"),
)


def candidate(endpoint, *, rank=None, exclusion=None, detail="", cost=0.5):
    return {
        "deployment_id": f"{endpoint}-1",
        "endpoint": endpoint,
        "rank": rank,
        "exclusion": exclusion,
        "detail": detail,
        "expected_cost_usd": cost,
    }


DECISION = {
    "request_id": "req-1",
    "tenant": "globex",
    "data_classification": "phi",
    "requested_model": "chat",
    "permit": {"policy_version": "42"},
    "authorized_endpoints": ["a", "b"],
    "rule": {"name": "default", "strategy": "cost"},
    "dropped_fields": [],
    "candidates": [
        candidate("c", exclusion="attribute_missing", detail="baa"),
        candidate("d"),
        candidate("b", rank=1, cost=None),
        candidate("a", rank=0),
    ],
}


def played(**changes):
    answer = {
        "status": 200,
        "reason": "failover",
        "endpoint": "openai-eu",
        "decision_id": "d1",
        "text": "x",
        "pieces": 1,
        "error": None,
        "total_ms": 12.0,
    }
    arrivals = changes.pop("arrivals", ("vllm-de", "openai-eu"))
    return Played(SCENE, "m", Answer(**answer | changes), arrivals, repeats=False)


def decisions(**attempt):
    attempts = {"d1": ({"status": "success", "cost_usd": 0.25, "cache_hit": False} | attempt,)}
    return Decisions({"d1": DECISION}, attempts, 2, ())


def drawn(row, known):
    console = Console(file=io.StringIO(), width=200)
    console.print(table([row], known, ["vllm-de", "openai-eu", "azure-eu"]))
    return console.file.getvalue()


def test_a_scene_as_expected_has_no_differences():
    assert list(differences(played(), decisions())) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"status": 500}, "status: expected 200, got 500", id="status"),
        pytest.param({"reason": "selected"}, "reason: expected 'failover'", id="reason"),
        pytest.param({"endpoint": "evil"}, "endpoint: expected 'openai-eu', got 'evil'", id="endpoint"),
        pytest.param({"arrivals": ("vllm-de",)}, "arrivals: expected", id="fewer arrivals"),
        pytest.param(
            {"arrivals": ("vllm-de", "openai-eu", "evil")}, "arrivals: expected", id="more arrivals"
        ),
        pytest.param({"decision_id": None}, "a decision record was expected", id="no record"),
    ],
)
def test_what_came_otherwise_is_said(changes, message):
    assert any(message in said for said in differences(played(**changes), decisions()))


def test_a_row_shows_the_failed_endpoint_before_the_one_that_answered():
    shown = drawn(scene_row(played(), is_good=True), decisions())
    assert "vllm-de ✗ → openai-eu" in shown
    assert "200 failover" in shown


@pytest.mark.parametrize(
    ("attempt", "cost"),
    [
        pytest.param({}, "$0.2500000", id="billed"),
        pytest.param({"cost_usd": 0.0}, "~$0.5000000", id="a stream without usage shows what was expected"),
        pytest.param({"cost_usd": 0.0, "cache_hit": True}, "$0 ", id="cached"),
    ],
)
def test_a_row_shows_what_a_request_cost(attempt, cost):
    assert cost in drawn(scene_row(played(), is_good=True), decisions(**attempt))


def test_a_decision_is_told_with_the_first_failing_reason_of_each_candidate():
    assert list(explanation(DECISION)) == [
        "Request req-1 of tenant globex, data classification phi, asked for 'chat'.",
        "Its permit (policy version 42) authorizes a, b.",
        "Rule 'default' applied: strategy cost.",
        "  chosen  a (a-1): expected cost $0.5000000",
        "  then    b (b-1): cost unknown",
        "  left    d (d-1): eligible, but not in the plan; expected cost $0.5000000",
        "  out     c (c-1): attribute_missing: baa",
    ]
