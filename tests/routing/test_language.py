from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litellm_plugin.routing import CallType, load_languages, request_facts
from litellm_plugin.routing.language import detect_language


@pytest.fixture(scope="module", autouse=True)
def _loaded():
    load_languages()


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the capital of France, and how do I get there?", "en"),
        ("Wie komme ich von hier zum Bahnhof?", "de"),
        ("Quelle est la capitale de l'Allemagne ?", "fr"),
        ("¿Cuál es la capital de Francia y cómo llego?", "es"),
        ("Qual è la capitale della Francia?", "it"),
        ("Jaka jest stolica Francji i jak tam dojadę?", "pl"),
        ("Как называется столица Франции?", "ru"),
        ("ما هي عاصمة فرنسا؟", "ar"),
        ("फ्रांस की राजधानी क्या है?", "hi"),
        ("フランスの首都はどこですか。", "ja"),
        ("法国的首都是什么", "zh"),
        ("프랑스의 수도는 어디인가요?", "ko"),
        ("เมืองหลวงของฝรั่งเศสคืออะไร", "th"),
    ],
)
def test_the_language_of_a_prompt(text, language):
    assert detect_language(text) == language


@pytest.mark.parametrize(
    "text",
    ["", "hi", "ok", "12345", "\n\t", "def f(x):\n    return x + 1", "\ud800\udfff", "qwzx vbnm plkj"],
    ids=["nothing", "hi", "ok", "digits", "blanks", "code", "no Unicode", "no words"],
)
def test_it_is_unknown_where_it_is_not_sure(text):
    assert detect_language(text) is None


def test_head_and_tail_tell_the_language_of_a_long_prompt():
    pasted = "const x = require('fs'); " * 10_000
    german = "Bitte erkläre mir ausführlich, was dieser Quelltext hier tut und warum er so langsam ist. "
    assert detect_language(german * 3 + pasted + german * 3) == "de"
    assert detect_language(german * 3, pasted, german * 3) == "de"


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=()), max_size=500), max_size=3))
def test_any_text_has_a_code_of_two_letters_or_none(texts):
    language = detect_language(*texts)
    assert language is None or len(language) == 2


@pytest.mark.parametrize(("wanted", "language"), [(True, "de"), (False, None)])
def test_only_a_request_that_wants_it_has_a_language(wanted, language):
    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Was ist die Hauptstadt von Frankreich?"},
    ]
    facts = request_facts(CallType.CHAT, "g", {"messages": messages}, wants_language=wanted)
    assert facts.language == language
