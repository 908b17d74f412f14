from __future__ import annotations

import pytest

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.routing import (
    Composed,
    Cost,
    Custom,
    Quality,
    Rule,
    RuleMatch,
    RuleSet,
    Static,
    Table,
    compile_condition,
)

DEFAULT = Rule("default", None, Cost())
FACTS = {"request.input_tokens": 5, "permit.tenant": "acme"}


def a_rule(name, source, strategy=None):
    return Rule(name, compile_condition(source) if source else None, strategy or Static(("a",)))


def matched(*rules):
    return RuleSet(rules, DEFAULT).match(FACTS)[1]


def test_the_first_rule_that_matches_wins():
    rules = a_rule("no", "false"), a_rule("one", "true"), a_rule("two", "true")
    rule, match = RuleSet(rules, DEFAULT).match(FACTS)
    assert (rule, match.name) == (rules[1], "one")


def test_the_default_applies_when_no_rule_matches():
    assert matched(a_rule("no", "false")) == RuleMatch("default", "cost", {}, {})


def test_a_rule_without_a_condition_always_matches():
    assert matched(a_rule("all", "")).name == "all"


def test_the_match_holds_strategy_and_values():
    match = matched(a_rule("small", "request.input_tokens < 9"))
    assert match == RuleMatch("small", "static", {"request.input_tokens": 5}, {})


def test_a_rule_that_touches_an_absent_fact_does_not_match_and_is_listed():
    match = matched(a_rule("limit", "request.max_output_tokens > 1"), a_rule("other", "false"))
    assert (match.name, match.absent) == ("default", {"limit": ("request.max_output_tokens",)})


def test_a_rule_that_is_true_in_spite_of_an_absent_fact_matches():
    match = matched(a_rule("either", "request.max_output_tokens > 1 || request.input_tokens == 5"))
    assert (match.name, match.absent) == ("either", {})


def test_a_rule_after_the_match_is_not_looked_at():
    assert matched(a_rule("all", ""), a_rule("limit", "request.max_output_tokens > 1")).absent == {}


@pytest.mark.parametrize(
    "names", [pytest.param(("x", "x"), id="rules"), pytest.param(("default",), id="default")]
)
def test_repeated_names_are_refused(names):
    with pytest.raises(ConfigurationError, match="unique names"):
        RuleSet(tuple(a_rule(name, "") for name in names), DEFAULT)


@pytest.mark.parametrize(
    ("source", "explained"),
    [
        pytest.param(
            'request.input_tokens < 9 && permit.tenant == "acme"',
            'request.input_tokens (5) < 9 && permit.tenant (acme) == "acme"',
            id="names",
        ),
        pytest.param("request . input_tokens < 9 // small\n && true", "request.input_tokens (5) < 9  && true", id="comment"),
        pytest.param('permit.tenant.startsWith("a")', 'permit.tenant (acme).startsWith("a")', id="function"),
        pytest.param(
            '"request.input_tokens" != permit.tenant', '"request.input_tokens" != permit.tenant (acme)', id="text"
        ),
        pytest.param(
            "request.input_tokens == 5 || request.max_output_tokens > 1",
            "request.input_tokens (5) == 5 || request.max_output_tokens (absent) > 1",
            id="absent",
        ),
    ],
)  # fmt: skip
def test_a_match_explains_itself_with_the_values_it_saw(source, explained):
    match = matched(a_rule("rule", source))
    assert match.explained(match.values) == explained


def test_the_default_has_nothing_to_explain():
    assert matched().explained({}) == ""


def test_it_knows_which_facts_its_rules_read():
    rules = RuleSet((a_rule("a", 'request.language == "de"'), a_rule("all", "")), DEFAULT)
    assert rules.reads("request.language")
    assert not rules.reads("request.stream")


BY_LANGUAGE = Table("request.language", {"de": Static(("a",))})
BY_TENANT = Table("permit.tenant", {"acme": Static(("a",))})


@pytest.mark.parametrize(
    ("strategy", "reads"),
    [
        pytest.param(BY_LANGUAGE, True, id="table"),
        pytest.param(Composed(BY_LANGUAGE, Cost()), True, id="first"),
        pytest.param(Composed(Quality(("small",), "small"), BY_LANGUAGE), True, id="then"),
        pytest.param(Table("permit.tenant", {}, Composed(Cost(), BY_LANGUAGE)), True, id="else"),
        pytest.param(Custom("own", Static(("a",))), True, id="a strategy of the operator's own"),
        pytest.param(Composed(Cost(), Custom("own", Cost())), True, id="such a one inside another"),
        pytest.param(Composed(BY_TENANT, Cost()), False, id="table of another fact"),
    ],
)
def test_what_a_strategy_looks_up_is_read(strategy, reads):
    assert RuleSet((a_rule("rule", "", strategy),), DEFAULT).reads("request.language") is reads
    assert RuleSet((), Rule("default", None, strategy)).reads("request.language") is reads
