from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from litellm_plugin.cli import app


def decision(number, model="gpt", rule="default"):
    return {
        "schema": "permit-router/decision/1",
        "decision_id": f"d-{number}",
        "outcome": "routed",
        "rule": {"name": rule},
        "request": {"model_group": model},
    }


def attempt(number, expected=0.01, billed=0.01, *, endpoint="eu", **members):
    return {
        "schema": "permit-router/attempt/1",
        "decision_id": f"d-{number}",
        "endpoint": endpoint,
        "status": "success",
        "cache_hit": False,
        "is_final": True,
        "expected_cost_usd": expected,
        "cost_usd": billed,
        **members,
    }


@pytest.fixture
def report(tmp_path):
    def run(*records, options=()):
        path = tmp_path / "decisions.jsonl"
        lines = [each if isinstance(each, str) else json.dumps(each) for each in records]
        path.write_text("\n".join(lines) + "\n")
        return CliRunner().invoke(app, ["report", "cost", str(path), *options])

    return run


@pytest.fixture
def groups(report):
    def run(*records, by="endpoint"):
        return json.loads(report(*records, options=["--json", "--by", by]).stdout)["groups"]

    return run


def test_expected_and_billed_are_compared_by_endpoint(groups):
    found = groups(
        attempt(1, 0.012, 0.01),
        attempt(2, 0.01, 0.02),
        attempt(3, 0.01, 0.01),
        attempt(4, 1.0, 2.0, endpoint="us"),
    )
    eu = found["eu"]
    assert (eu["attempts"], eu["compared"]) == (3, 3)
    assert (eu["expected_usd"], eu["billed_usd"]) == pytest.approx((0.032, 0.04))
    assert eu["bias"] == pytest.approx(-0.2)
    assert eu["mean_error"] == pytest.approx((0.2 + 0.5 + 0) / 3)
    assert (eu["error_p50"], eu["error_p90"]) == pytest.approx((0.2, 0.2))
    assert found["us"]["mean_error"] == pytest.approx(0.5)


@pytest.mark.parametrize(("by", "names"), [("model", {"gpt", "claude"}), ("rule", {"default", "short"})])
def test_decisions_tell_the_model_and_the_rule(groups, by, names):
    found = groups(
        decision(1),
        decision(2, "claude", "short"),
        attempt(1, is_final=False, status="timeout"),
        attempt(2),
        attempt(1),
        by=by,
    )
    assert {name: row["attempts"] for name, row in found.items()} == dict.fromkeys(names, 1)


def test_an_attempt_without_its_decision_is_unnamed(groups):
    assert set(groups(attempt(1), by="rule")) == {"(unknown)"}


def test_what_cannot_be_compared_is_counted(groups):
    row = groups(
        attempt(1, None, 0.01), attempt(2, 0.01, None), attempt(3, 0.01, 0), attempt(4, "x", True), attempt(5)
    )["eu"]
    assert (row["attempts"], row["compared"]) == (5, 1)
    assert (row["without_expectation"], row["without_bill"], row["billed_nothing"]) == (2, 2, 1)
    assert (row["expected_usd"], row["billed_usd"]) == (0.01, 0.01)


@pytest.mark.parametrize("members", [{"status": "timeout"}, {"cache_hit": True}])
def test_what_no_provider_answered_is_left_out(groups, members):
    assert groups(attempt(1, **members)) == {}


def test_lines_that_are_no_record_are_told_and_left_out(report):
    result = report(
        "",
        "{torn",
        "[1]",
        '{"level": "info"}',
        "[" * 100_000,
        "\ud83d".encode("utf-8", "surrogatepass").decode("latin-1"),
        attempt(1),
    )
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[-1] == "1 records; 4 lines are no JSON object, 1 are other records"
    assert lines[1].split()[:3] == ["eu", "1", "1"]


def test_calls_with_synthetic_prompts_are_records_and_no_attempts(report):
    probe = {"schema": "permit-router/probe/1", "endpoint": "eu", "status": "success", "cost_usd": 1.0}
    lines = report(attempt(1), probe, {**probe, "status": None}).stdout.splitlines()
    assert lines[1].split()[:3] == ["eu", "1", "1"]
    assert lines[-1] == "3 records; 0 lines are no JSON object, 0 are other records"


def test_an_empty_log_has_an_empty_table(report):
    result = report()
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1].split()[:3] == ["all", "0", "0"]


def test_the_table_shows_bias_and_errors(report):
    lines = report(attempt(1, 0.012, 0.01)).stdout.splitlines()
    assert lines[1].split() == [
        "eu",
        "1",
        "1",
        "0.012000",
        "0.010000",
        "+20.0",
        "%",
        "20.0",
        "%",
        "20.0",
        "%",
        "20.0",
        "%",
        "0",
        "0",
        "0",
    ]
    assert lines[2].split()[0] == "all"


def test_a_missing_log_is_an_error(tmp_path):
    result = CliRunner().invoke(app, ["report", "cost", str(tmp_path / "none.jsonl")])
    assert result.exit_code == 2
    assert "cannot be read: No such file or directory" in result.stderr
