from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.routing import compile_condition
from litellm_plugin.routing.tables import row_condition

FACTS = {
    "permit.tenant_tier": "free",
    "request.input_tokens": 812,
    "request.stream": True,
    "request.date": "2026-11-22",
}


def holds(name, cell):
    return compile_condition(row_condition({name: cell})).evaluate(FACTS)


@pytest.mark.parametrize(
    ("name", "cell", "expected"),
    [
        pytest.param("permit.tenant_tier", "free", 'permit.tenant_tier == "free"', id="word"),
        pytest.param("permit.tenant_tier", '"a, b"', 'permit.tenant_tier == "a, b"', id="quoted"),
        pytest.param("permit.tenant_tier", '"[1..5)"', 'permit.tenant_tier == "[1..5)"', id="quoted-interval"),
        pytest.param("permit.tenant_tier", "v1..2", 'permit.tenant_tier == "v1..2"', id="dots"),
        pytest.param(
            "permit.tenant_tier", "free, pro", '(permit.tenant_tier == "free" || permit.tenant_tier == "pro")', id="words"
        ),
        pytest.param("permit.tenant_tier", "not(free)", '!(permit.tenant_tier == "free")', id="not"),
        pytest.param("request.input_tokens", "< 2000", "request.input_tokens < 2000", id="less"),
        pytest.param("request.input_tokens", 5, "request.input_tokens == 5", id="number"),
        pytest.param(
            "request.input_tokens", "[1..5)", "(request.input_tokens >= 1 && request.input_tokens < 5)", id="interval"
        ),
        pytest.param("request.stream", "true", "request.stream == true", id="flag-in-text"),
        pytest.param("request.stream", False, "request.stream == false", id="flag"),
        pytest.param("permit.tenant_tier", "-", "true", id="dash"),
        pytest.param("permit.tenant_tier", "", "true", id="empty"),
    ],
)  # fmt: skip
def test_a_cell_becomes_the_expression_that_one_would_write(name, cell, expected):
    assert row_condition({name: cell}) == expected


@pytest.mark.parametrize(
    ("name", "cell", "is_true"),
    [
        pytest.param("request.input_tokens", "< 812", False, id="less"),
        pytest.param("request.input_tokens", "<= 812", True, id="at-most"),
        pytest.param("request.input_tokens", "(812..900]", False, id="bound-left-out"),
        pytest.param("request.input_tokens", "[812..900]", True, id="bound-in"),
        pytest.param("request.input_tokens", "]811..813[", True, id="other-brackets"),
        pytest.param("request.input_tokens", "1, 2, > 800", True, id="one-of-three"),
        pytest.param("request.input_tokens", [1, 812], True, id="list"),
        pytest.param("request.input_tokens", "not(1, 812)", False, id="none-of"),
        pytest.param("request.date", "[2026-11-01..2026-11-30]", True, id="dates"),
        pytest.param("request.date", ">= 2026-12-01", False, id="date"),
        pytest.param("permit.tenant_tier", ["pro", "free"], True, id="words"),
    ],
)
def test_a_cell_holds_as_it_reads(name, cell, is_true):
    assert holds(name, cell) is is_true


def test_all_cells_of_a_row_must_hold():
    row = {"permit.tenant_tier": "free", "request.input_tokens": "> 1000", "request.stream": "-"}
    assert row_condition(row) == 'permit.tenant_tier == "free" && request.input_tokens > 1000'


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        pytest.param({"permit.sub": "x"}, "unknown name 'permit.sub'", id="unknown"),
        pytest.param({"request.input_tokens": "many"}, "expected a whole number, got 'many'", id="word"),
        pytest.param({"request.input_tokens": "< 1.5"}, "expected a whole number, got '1.5'", id="fraction"),
        pytest.param({"request.input_tokens": True}, "expected a whole number, got 'True'", id="flag"),
        pytest.param({"request.stream": "yes"}, "expected true or false, got 'yes'", id="yes"),
        pytest.param({"permit.tenant_tier": 5}, "expected text, got '5'", id="number"),
        pytest.param({"permit.tenant_tier": "< a"}, "not compared", id="comparison"),
        pytest.param({"permit.tenant_tier": "[1..5)"}, "reads like a test", id="interval of texts"),
        pytest.param({"permit.tenant": "(a..f]"}, "reads like a test", id="interval with a bound left out"),
        pytest.param({"permit.tenant": ["acme", "[a..f]"]}, "reads like a test", id="interval in a list"),
        pytest.param({"permit.tenant": "not([a..f])"}, "reads like a test", id="interval inside not"),
        pytest.param({"request.date": "[2026-01-01..2026-02-01"}, "reads like a test", id="open interval"),
        pytest.param({"permit.tenant": "acme, not(b)"}, "reads like a test", id="not of one of several"),
        pytest.param({"permit.tenant_tier": '"a" b'}, "permit.tenant_tier: expected", id="quotes"),
        pytest.param({"permit.tenant_tier": "a,,b"}, "commas", id="nothing-between-commas"),
    ],
)
def test_a_cell_that_is_no_test_is_refused(cells, message):
    with pytest.raises(ConfigurationError, match="(?i)" + message.replace("(", r"\(")):
        row_condition(cells)


# Without NUL, at which the binding ends a text.
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20))
def test_any_text_in_quotes_is_that_text(text):
    condition = compile_condition(row_condition({"permit.tenant": json.dumps(text)}))
    assert condition.evaluate({"permit.tenant": text})


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), st.sampled_from(sorted(FACTS)))
def test_any_cell_compiles_or_is_refused(cell, name):
    try:
        source = row_condition({name: cell})
    except ConfigurationError:
        return
    compile_condition(source)
