from __future__ import annotations

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from litellm_plugin.routing.body.json_text import json_texts

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
)


@given(values.filter(lambda value: value is not None))
def test_a_small_value_is_compact_json(value):
    assert json.loads("".join(json_texts(value))) == value


def test_nothing_has_no_text():
    assert json_texts(None) == []


def test_a_large_value_keeps_its_texts_up_to_a_bound():
    texts = json_texts({"known": ["word"] * 1_000_000})
    assert {"known", "word"} <= set(" ".join(texts).split())
    assert sum(map(len, texts)) < 200_000


def test_one_long_text_is_not_copied():
    long = "x" * 1_000_000
    assert any(text is long for text in json_texts({"a": long}))


def test_what_is_no_json_keeps_its_texts():
    deep = ["word"]
    for _ in range(900):
        deep = [deep]
    assert "word" in "".join(json_texts(deep))
    assert "word" in "".join(json_texts({"word": object(), "b": math.nan}))
