"""The same content gives the same facts in chat, messages, responses and Gemini bodies."""

from __future__ import annotations

import pytest
from dialects import AUDIO, BUDGETS, DOCUMENT, IMAGE, Round, Said, Talk, chat, gemini, messages, responses
from hypothesis import given
from hypothesis import strategies as st

from litellm_plugin.routing.body import chat_facts, generate_content_facts, messages_facts, responses_facts

SCHEMA = {"type": "object", "properties": {"path": {"type": "string", "description": "Wo ist es?"}}}
READ, LIST = ("read", "Reads a file", SCHEMA), ("list", "", {})
CALLED = ("read", {"path": "a.txt", "lines": ["x", 3, None, True]}, "nothing in it")
ALL = (chat, messages, responses, gemini)
READERS = {
    chat: chat_facts,
    messages: messages_facts,
    responses: responses_facts,
    gemini: generate_content_facts,
}


def same_facts(talk, dialects=ALL):
    """The facts that every dialect gives, which must be one and the same."""
    facts = [READERS[dialect](dialect(talk)) for dialect in dialects]
    assert all(each == facts[0] for each in facts), dict(zip(dialects, facts, strict=True))
    return facts[0]


@pytest.mark.parametrize(
    ("talk", "expected"),
    [
        pytest.param(Talk(), {"input_tokens": 0}, id="nothing"),
        pytest.param(Talk(turns=(Said(("hello",)),)), {"asked": ("hello",), "tool_step": 0}, id="text"),
        pytest.param(Talk(turns=(Said(("Привет", "你好")),)), {"asked": ("Привет", "你好")}, id="scripts"),
        pytest.param(Talk(system="Be brief.", turns=(Said(("hello",)),)), {"asked": ("hello",)}, id="system"),
        pytest.param(
            Talk(turns=(Said(("a",)), Round("b"), Said(("c",)))), {"asked": ("c",)}, id="three turns"
        ),
        pytest.param(Talk(tools=(READ, LIST), turns=(Said(("go",)),)), {"tool_count": 2}, id="tools"),
        pytest.param(
            Talk(tools=(READ,), turns=(Said(("go",)), Round("hm", (CALLED,)))), {"tool_step": 1}, id="loop"
        ),
        pytest.param(
            Talk(tools=(READ,), turns=(Said(("go",)), Round("", (CALLED, CALLED)), Round("", (CALLED,)))),
            {"tool_step": 2},
            id="two rounds, one of two calls",
        ),
        pytest.param(
            Talk(tools=(READ,), turns=(Said(("go",)), Round("", (CALLED,)), Round("done"), Said(("and?",)))),
            {"tool_step": 0, "asked": ("and?",)},
            id="after the loop",
        ),
        pytest.param(
            Talk(turns=(Said(("see",), (IMAGE, IMAGE)),)),
            {"image_count": 2, "document_count": 0},
            id="images",
        ),
        pytest.param(Talk(turns=(Said(("read",), (DOCUMENT,)),)), {"document_count": 1}, id="document"),
        pytest.param(Talk(turns=(Said(("x",)),), has_schema=True), {}, id="schema"),
        pytest.param(Talk(turns=(Said(("x",)),), stream=True), {"stream": True}, id="stream"),
        pytest.param(Talk(turns=(Said(("x",)),), limit=99), {"max_output_tokens": 99}, id="limit"),
        *[
            pytest.param(Talk(turns=(Said(("x",)),), effort=effort), {"reasoning_effort": effort}, id=effort)
            for effort in BUDGETS
        ],
        pytest.param(Talk(system="Long words. " * 2000, turns=(Said(("x",)),)), {}, id="a prefix"),
    ],
)
def test_the_same_content_gives_the_same_facts(talk, expected):
    facts = same_facts(talk)
    assert {name: getattr(facts, name) for name in expected} == expected


def test_audio_is_the_same_where_a_dialect_has_it():
    talk = Talk(turns=(Said(("hear",), (AUDIO, AUDIO)),))
    assert same_facts(talk, (chat, responses, gemini)).audio_count == 2


def test_several_answers_are_the_same_where_a_dialect_has_them():
    assert same_facts(Talk(turns=(Said(("x",)),), outputs=3), (chat, gemini)).output_count == 3


def test_parallel_calls_are_the_same_where_a_dialect_has_them():
    talk = Talk(tools=(READ,), turns=(Said(("x",)),), parallel=True)
    assert "parallel_function_calling" in same_facts(talk, (chat, messages, responses)).needs


names = st.text("abcdefgh_", min_size=1, max_size=8)
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)
arguments = st.dictionaries(
    names, st.none() | st.booleans() | st.integers() | texts | st.lists(texts, max_size=3), max_size=3
)
said = st.builds(
    Said,
    st.lists(texts, max_size=3).map(tuple),
    st.lists(st.sampled_from((IMAGE, DOCUMENT)), max_size=2).map(tuple),
)
rounds = st.builds(Round, texts, st.lists(st.tuples(names, arguments, texts), max_size=3).map(tuple))
talks = st.builds(
    Talk,
    system=texts | texts.map(lambda text: text * 400),
    tools=st.lists(st.tuples(names, texts, arguments), max_size=3).map(tuple),
    turns=st.lists(said | rounds, max_size=7).map(tuple),
    limit=st.none() | st.integers(0, 10**6),
    stream=st.booleans(),
    has_schema=st.booleans(),
    effort=st.none() | st.sampled_from(sorted(BUDGETS)),
)


@given(talks)
def test_any_conversation_gives_the_same_facts_in_every_dialect(talk):
    facts = same_facts(talk)
    assert facts.tool_count == len(talk.tools)
    assert facts.image_count == sum(turn.media.count(IMAGE) for turn in talk.turns if isinstance(turn, Said))
    assert facts.reasoning_effort == talk.effort
