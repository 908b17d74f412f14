"""Costs: what a request was expected to cost beside what LiteLLM billed for it, through a real proxy."""

from __future__ import annotations

import time

import pytest
from fleet import PRICES
from typer.testing import CliRunner

from litellm_plugin.cli import app

pytestmark = pytest.mark.proxy

PRICE_USD = PRICES["eu-a"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_bill_is_litellms_and_the_expectation_differs_by_the_estimates_alone(fleet, stream):
    answer = fleet.send("chat", ["eu-a"], max_tokens=40, **({"stream": True} if stream else {}))

    decision, attempt = fleet.records_of(answer)
    used = attempt["input_tokens"] + attempt["output_tokens"]
    assert attempt["cost_usd"] == pytest.approx(used * PRICE_USD)
    expected_tokens = decision["request"]["input_tokens"] + attempt["expected_output_tokens"]
    assert attempt["expected_cost_usd"] == pytest.approx(expected_tokens * PRICE_USD)
    assert attempt["expected_output_tokens"] <= 40
    (chosen,) = [each for each in decision["candidates"] if each["rank"] == 0]
    assert (
        chosen["expected_cost_usd"]
        == attempt["expected_cost_usd"]
        == pytest.approx(sum(chosen["cost_terms"].values()))
    )


def test_the_length_of_earlier_answers_is_expected_of_the_next(fleet):
    def ask():
        # No other test's answers are of this route.
        headers = {"x-workload": "answer-lengths"}
        return fleet.records_of(fleet.send("messages", ["claude-eu"], max_tokens=5000, headers=headers))[-1]

    first = attempt = ask()
    give_up_s = time.monotonic() + 10.0
    while attempt["expected_output_tokens"] == first["expected_output_tokens"]:
        assert time.monotonic() < give_up_s
        # A snapshot of the statistics is up to 0.1 s old.
        time.sleep(0.15)
        attempt = ask()

    assert attempt["expected_output_tokens"] == pytest.approx(first["output_tokens"], abs=3)


def test_the_report_reads_the_log_of_a_proxy(fleet):
    fleet.records_of(fleet.send("chat", ["eu-a"], max_tokens=25))

    result = CliRunner().invoke(app, ["report", "cost", str(fleet.log_path), "--by", "endpoint"])

    assert result.exit_code == 0
    assert any(line.startswith("eu-a ") for line in result.stdout.splitlines())
