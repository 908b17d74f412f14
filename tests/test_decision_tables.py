from __future__ import annotations

import pytest
import yaml
from test_settings import BLOCK, load, refusal

ROWS = [
    {"name": "small", "when": {"permit.tenant_tier": "free", "request.input_tokens": "< 2000"}, "use": {"strategy": "cost"}},
    {"when": {"permit.tenant_tier": "-"}, "use": {"strategy": "static", "endpoints": ["a", "b"]}},
]  # fmt: skip
CSV = """name,permit.tenant_tier,request.input_tokens,use.strategy,use.endpoints
small,free,< 2000,cost,
,-,,static,"a, b"
"""


def with_rule(**rule):
    return {**BLOCK, "rules": [{"name": "tiers", **rule}]}


def rules_of(snapshot):
    return [(rule.name, rule.condition.source, rule.strategy) for rule in snapshot.routing.rules.rules]


def matched(snapshot, tier, tokens):
    return snapshot.routing.rules.match({"permit.tenant_tier": tier, "request.input_tokens": tokens})[0].name


def test_a_row_is_a_rule_and_the_first_that_holds_wins(tmp_path):
    snapshot = load(with_rule(table=ROWS), tmp_path)
    assert matched(snapshot, "free", 812) == "tiers/small"
    assert matched(snapshot, "free", 2000) == "tiers/2"
    assert matched(snapshot, "pro", 1) == "tiers/2"


@pytest.mark.parametrize(
    ("name", "text"), [pytest.param("t.csv", CSV, id="csv"), pytest.param("t.yaml", yaml.safe_dump(ROWS), id="yaml")]
)  # fmt: skip
def test_a_file_says_what_the_block_would_say(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    read, written = load(with_rule(table=name), tmp_path), load(with_rule(table=ROWS), tmp_path)
    assert rules_of(read) == rules_of(written)


def test_a_spreadsheets_byte_order_mark_and_empty_lines_are_no_rows(tmp_path):
    (tmp_path / "t.csv").write_text("\ufeff" + CSV + "\n,,,,\n")
    assert [name for name, _, _ in rules_of(load(with_rule(table="t.csv"), tmp_path))] == [
        "tiers/small",
        "tiers/2",
    ]


def test_the_hash_covers_the_file(tmp_path):
    (tmp_path / "t.csv").write_text(CSV)
    before = load(with_rule(table="t.csv"), tmp_path).config_hash
    (tmp_path / "t.csv").write_text(CSV.replace("2000", "3000"))
    assert load(with_rule(table="t.csv"), tmp_path).config_hash != before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(None, "cannot be read", id="missing"),
        pytest.param("", "column use.strategy is expected", id="empty"),
        pytest.param("permit.tenant_tier,use.strategy\nfree\n", "line 2: expected 2 cells, got 1", id="short-row"),
        pytest.param("use.strategy,use.strategy\ncost,cost\n", "more than one 'use.strategy'", id="column-twice"),
        pytest.param("permit.tier,use.strategy\nfree,cost\n", "row 'tiers/1': unknown name 'permit.tier'", id="fact"),
        pytest.param("use.strategy\nchaep\n", "rules.0.table.0.use.strategy", id="strategy"),
        pytest.param('use.strategy\n"cost\n', "cannot be read", id="quote-left-open"),
    ],
)  # fmt: skip
def test_a_bad_file_says_where_and_what_was_expected(tmp_path, text, message):
    if text is not None:
        (tmp_path / "t.csv").write_text(text)
    assert message in refusal(with_rule(table="t.csv"), tmp_path)


def test_a_file_of_another_kind_is_refused(tmp_path):
    assert "a name that ends with .csv or .yaml is expected" in refusal(with_rule(table="t.xlsx"), tmp_path)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        pytest.param({"table": ROWS, "when": "true"}, "`table` stands instead", id="both"),
        pytest.param({"when": "true"}, "`when` and `use` are expected, or `table`", id="without-use"),
        pytest.param({"table": []}, "rules.0.table", id="no-rows"),
    ],
)
def test_a_rule_has_a_condition_or_a_table(tmp_path, rule, message):
    assert message in refusal(with_rule(**rule), tmp_path)


SPLIT = {"strategy": "weighted", "weights": {"a": 95, "b": 5}}


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(SPLIT, id="alone"),
        pytest.param({"strategy": "cost", "then": SPLIT}, id="then"),
        pytest.param(
            {"strategy": "static", "by": "permit.tenant", "table": {"x": ["a"]}, "else": SPLIT}, id="else"
        ),
    ],
)
def test_a_row_that_splits_needs_a_name_to_draw_by(tmp_path, use):
    row = {"when": {"permit.tenant_tier": "free"}, "use": use}
    assert "needs `name`" in refusal(with_rule(table=[row]), tmp_path)
    load(with_rule(table=[{"name": "split", **row}]), tmp_path)


def test_a_row_above_redraws_no_experiment(tmp_path):
    split = {"name": "split", "when": {"permit.tenant_tier": "free"}, "use": SPLIT}
    alone, below = load(with_rule(table=[split]), tmp_path), load(with_rule(table=[ROWS[0], split]), tmp_path)
    assert alone.routing.rules.rules[0].strategy == below.routing.rules.rules[1].strategy


class TestDeclaredValues:
    """A rule that asks for a value that no permit can carry would never match, and its traffic go elsewhere."""

    @pytest.mark.parametrize(
        ("rule", "message"),
        [
            pytest.param({"when": 'permit.tenant_tier == "fre"'}, "unknown tenant_tier 'fre'; did you mean 'free'?", id="equal"),
            pytest.param({"when": '"pihi" != permit.data_classification'}, "unknown data_classification 'pihi'", id="turned round"),
            pytest.param({"when": "permit.latency_class in ['interactive', 'bach']"}, "unknown latency_class 'bach'", id="list"),
        ],
    )  # fmt: skip
    def test_a_condition_on_an_undeclared_value_is_refused(self, tmp_path, rule, message):
        assert message in refusal(with_rule(**rule, use={"strategy": "cost"}), tmp_path)

    def test_a_cell_with_an_undeclared_value_is_refused(self, tmp_path):
        row = {"when": {"permit.tenant_tier": "free, enterprize"}, "use": {"strategy": "cost"}}
        assert "rule 'tiers/1': unknown tenant_tier 'enterprize'" in refusal(with_rule(table=[row]), tmp_path)

    @pytest.mark.parametrize(
        "when",
        [
            'permit.tenant_tier == "free" || permit.tenant == "nobody"',
            'permit.tenant_tier.startsWith("fr") && "x" == "y"',
            'permit.tenant_tier in ["free", "pro"] // == "gone"',
        ],
    )
    def test_what_is_declared_or_compared_otherwise_passes(self, tmp_path, when):
        load(with_rule(when=when, use="cost"), tmp_path)


def test_a_strategys_name_alone_is_enough(tmp_path):
    assert load({**BLOCK, "default": "cost"}, tmp_path).routing.rules.default.strategy.name == "cost"
