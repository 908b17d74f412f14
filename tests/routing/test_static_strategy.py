from __future__ import annotations

import pytest
from strategy_cases import a_context, an_input, bands

from litellm_plugin.routing import Cost, Fallback, Static, Table

ABC = [an_input("a", cost=3.0), an_input("b", cost=2.0), an_input("c", cost=1.0)]


def test_a_listed_endpoint_that_is_no_candidate_is_named_in_a_note():
    ranking = Static(("x", "b", "y")).rank(ABC, a_context())
    assert bands(ranking) == [["b-1"]]
    assert ranking.notes == ("static: not among the candidates, so not used: x, y",)


def test_a_list_of_present_endpoints_needs_no_note():
    assert Static(("c", "a")).rank(ABC, a_context()).notes == ()


def test_equal_endpoints_are_one_band():
    assert bands(Static(("c", "a"), are_equal=True).rank(ABC, a_context())) == [["a-1", "c-1"]]


class TestTable:
    ROWS = Table("permit.tenant", {"acme": Static(("b", "x")), "zoo": Static(("c",))})

    def test_the_facts_value_picks_the_row(self):
        ranking = self.ROWS.rank(ABC, a_context())
        assert bands(ranking) == [["b-1"]]
        assert ranking.notes == ("static: not among the candidates, so not used: x",)

    def test_a_row_without_a_candidate_leaves_none(self):
        table = Table("permit.tenant", {"acme": Static(("x",))}, Cost())
        assert bands(table.rank(ABC, a_context())) == []

    def test_no_row_and_no_else_leaves_none_and_says_so(self):
        ranking = Table("permit.tenant", {"zoo": Static(("c",))}).rank(ABC, a_context())
        assert bands(ranking) == []
        assert ranking.notes == ("static: no row for permit.tenant ('acme'), and no `else`",)

    def test_where_there_is_no_row_the_else_ranks(self):
        ranking = Table("permit.tenant", {"zoo": Static(("c",))}, Cost()).rank(ABC, a_context())
        assert bands(ranking) == [["c-1"], ["b-1"], ["a-1"]]
        assert ranking.notes == ("static: no row for permit.tenant ('acme'); cost ranks instead",)

    def test_an_absent_fact_has_no_row(self):
        table = Table("request.workload", {"night": Static(("c",))}, Static(("a",)))
        ranking = table.rank(ABC, a_context())
        assert bands(ranking) == [["a-1"]]
        assert "request.workload (absent)" in ranking.notes[0]

    @pytest.mark.parametrize(("by", "value"), [("request.stream", "False"), ("request.input_tokens", "100")])
    def test_other_values_are_compared_as_text(self, by, value):
        assert bands(Table(by, {value: Static(("a",))}).rank(ABC, a_context())) == [["a-1"]]


class TestFallback:
    def test_the_chain_is_the_order(self):
        ranking = Fallback(("c", "x", "a")).rank(ABC, a_context())
        assert bands(ranking) == [["c-1"], ["a-1"]]
        assert ranking.notes == ("fallback: not among the candidates, so skipped: x",)

    def test_the_others_may_come_last(self):
        ranking = Fallback(("c",), others_last=True).rank(ABC, a_context())
        assert bands(ranking) == [["c-1"], ["a-1", "b-1"]]
