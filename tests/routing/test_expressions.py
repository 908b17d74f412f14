from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing_cases import a_request, a_scope

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.routing import KNOWN_NAMES, Moment, compile_condition

FACTS = {**a_request().names(), **a_scope().names()}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param("request.input_tokens == 100", True, id="integer"),
        pytest.param("request.input_tokens > 100", False, id="false"),
        pytest.param('permit.tenant_tier in ["pro", "free"]', True, id="list"),
        pytest.param("!request.stream", True, id="boolean"),
        pytest.param('permit.tenant.startsWith("ac")', True, id="method"),
        pytest.param("request.max_output_tokens > 0", False, id="absent fact"),
        pytest.param("request.max_output_tokens > 0 || true", True, id="absent fact does not matter"),
        pytest.param("request.input_tokens / 0 == 1", False, id="error while evaluating"),
        pytest.param('permit.tenant.matches("[")', False, id="broken pattern"),
    ],
)
def test_only_true_matches(source, expected):
    assert compile_condition(source).evaluate(FACTS) is expected


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("\ud800", id="lone surrogate"),
        pytest.param(7, id="wrong type"),
        pytest.param(None, id="null"),
    ],
)
def test_a_value_that_the_fact_cannot_have_does_not_match(value):
    assert not compile_condition('request.model != "x"').evaluate({**FACTS, "request.model": value})


def test_an_integer_beyond_64_bits_does_not_match():
    assert not compile_condition("request.input_tokens > 0").evaluate({"request.input_tokens": 2**70})


@given(st.dictionaries(st.sampled_from(KNOWN_NAMES), st.integers() | st.text() | st.booleans()))
def test_evaluation_never_raises(facts):
    source = 'request.input_tokens > 3 || permit.tenant_tier == "x" || request.stream'
    assert compile_condition(source).evaluate(facts) in (True, False)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        pytest.param("true", (), id="none"),
        pytest.param('permit.tenant == "request.model"', ("permit.tenant",), id="name in a string"),
        pytest.param("request.stream // request.model", ("request.stream",), id="name in a comment"),
        pytest.param("request . input_tokens > 1", ("request.input_tokens",), id="spaces"),
        pytest.param("(request).input_tokens > 1", ("request.input_tokens",), id="parentheses"),
        pytest.param(".request.stream", ("request.stream",), id="leading dot"),
        pytest.param("[1].exists(request, request > 0)", (), id="shadowed by a loop variable"),
        pytest.param(
            'permit.tenant == "a" && request.model == "b" && request.model != "c"',
            ("request.model", "permit.tenant"),
            id="several",
        ),
    ],
)
def test_names_are_the_facts_that_the_expression_reads(source, names):
    assert compile_condition(source).names == names


def test_absent_facts_are_named():
    condition = compile_condition("request.max_output_tokens > 5 && request.stream")
    assert condition.absent(FACTS) == ("request.max_output_tokens",)


def test_values_are_those_of_the_facts_it_reads():
    condition = compile_condition("request.max_output_tokens > 5 && request.stream")
    assert condition.values(FACTS) == {"request.stream": False}


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        pytest.param("permit.sub == 'a'", ("unknown name 'permit.sub'",), id="identity"),
        pytest.param("request.input_tokenz > 1", ("did you mean request.input_tokens?",), id="typing error"),
        pytest.param(".permit.tennant == 'a'", ("did you mean permit.tenant?",), id="leading dot"),
        pytest.param("nothing > 1", ("unknown name 'nothing'. Known names:",), id="nothing near"),
        pytest.param("request.foo", KNOWN_NAMES, id="the list of known names"),
        pytest.param("permit.tenant_tier == 1", ("column 20", "no matching overload"), id="types"),
        pytest.param("request.stream &&", ("line 1, column 18", "Syntax error"), id="syntax"),
        pytest.param("", ("condition ''", "Syntax error"), id="empty"),
        pytest.param("request.input_tokens", ("expected a boolean expression, got int",), id="not boolean"),
        pytest.param("dyn(true)", ("expected a boolean expression, got dyn",), id="dynamic"),
        pytest.param("'\ud800' == 'a'", ("not valid Unicode",), id="lone surrogate"),
        pytest.param("true\x00 && (", ("Syntax error",), id="null character"),
        pytest.param("(" * 200 + "true" + ")" * 200, ("recursion limit",), id="too deep"),
    ],
)
def test_a_wrong_expression_is_a_configuration_error_that_says_what_is_wrong(source, parts):
    with pytest.raises(ConfigurationError) as caught:
        compile_condition(source)
    assert [part for part in parts if part not in str(caught.value)] == []


def test_the_error_names_the_expression_and_stays_short():
    with pytest.raises(ConfigurationError, match=r"condition 'aaa") as caught:
        compile_condition("a" * 5000)
    assert len(str(caught.value)) < 1500


def test_every_fact_of_a_full_request_is_known():
    request = a_request(
        max_output_tokens=1,
        reasoning_effort="low",
        language="en",
        latency_budget_ms=500,
        workload="search",
        moment=Moment(hour=0, weekday=1, month=1, date="2026-01-05"),
    )
    full = {**request.names(), **a_scope().names()}
    assert set(full) == set(KNOWN_NAMES)


def test_conditions_of_one_source_are_equal():
    assert compile_condition("true") == compile_condition("true")
