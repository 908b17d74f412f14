from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_plugin.routing import estimate_tokens

any_text = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        # Counted with o200k_base of tiktoken 0.14.
        pytest.param("What is the capital of France? Answer with one word, please.", 14, id="English"),
        pytest.param(
            "Wie heißt die Hauptstadt von Frankreich? Antworte bitte mit einem Wort.", 15, id="German"
        ),
        pytest.param("Как называется столица Франции? Ответь одним словом, пожалуйста.", 15, id="Russian"),
        pytest.param("法国的首都是什么?请只用一个词回答。", 13, id="Chinese"),
        pytest.param("フランスの首都はどこですか。一言で答えてください。", 18, id="Japanese"),
        pytest.param("프랑스의 수도는 어디인가요? 한 단어로 대답해 주세요.", 19, id="Korean"),
        pytest.param("फ्रांस की राजधानी क्या है? कृपया एक शब्द में उत्तर दें।", 17, id="Hindi"),
        pytest.param("ما هي عاصمة فرنسا؟ أجب بكلمة واحدة من فضلك.", 15, id="Arabic"),
        pytest.param("เมืองหลวงของฝรั่งเศสคืออะไร กรุณาตอบด้วยคำเดียว", 16, id="Thai"),
        pytest.param('{"name":"read","path":"/tmp/a.txt","lines":[1,2,3],"ok":true}', 24, id="JSON"),
    ],
)
def test_the_estimate_is_near_in_every_script(text, tokens):
    assert estimate_tokens(text) == pytest.approx(tokens, rel=0.35)


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), (" ", 0), ("\ud800", 2)])
def test_the_smallest_texts(text, tokens):
    assert estimate_tokens(text) == tokens


@given(st.lists(any_text))
def test_any_texts_have_an_estimate(texts):
    assert 0 <= estimate_tokens(*texts) <= 3 * sum(map(len, texts)) + 1


@given(st.lists(any_text, max_size=4), st.lists(any_text, max_size=4))
def test_small_texts_are_counted_whole_wherever_they_are_cut(some, others):
    together = estimate_tokens(*some, *others)
    assert together == pytest.approx(estimate_tokens(*some) + estimate_tokens(*others), abs=2)


@pytest.mark.parametrize(
    "language", ["The quick brown fox jumps. ", "Быстрая лиса прыгает. ", "敏捷的狐狸跳过去。"]
)
def test_a_large_text_grows_with_its_length(language):
    once, often = estimate_tokens(language * 100), estimate_tokens(language * 10_000)
    assert often == pytest.approx(100 * once, rel=0.05)


def test_every_part_of_a_large_text_counts_by_its_share():
    english, chinese = "The quick brown fox jumps. " * 10_000, "敏捷的狐狸跳过去。" * 10_000
    apart = estimate_tokens(english) + estimate_tokens(chinese)
    assert estimate_tokens(english, chinese) == pytest.approx(apart, rel=0.1)
    assert estimate_tokens(chinese, english) == pytest.approx(apart, rel=0.1)


def test_many_small_texts_count_like_one_large_one():
    turns = ["hello there, how are you today? "] * 10_000
    assert estimate_tokens(*turns) == pytest.approx(estimate_tokens("".join(turns)), rel=0.05)
