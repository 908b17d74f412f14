from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_plugin.routing import (
    BodyFacts,
    CallType,
    Capability,
    chat_facts,
    completion_facts,
    embedding_facts,
    estimate_tokens,
    messages_facts,
    request_facts,
    responses_facts,
)
from litellm_plugin.routing.body_facts import json_characters

TOOLS = frozenset({Capability.FUNCTION_CALLING})
FIELDS = [
    "messages",
    "system",
    "instructions",
    "input",
    "prompt",
    "content",
    "tools",
    "functions",
    "type",
    "text",
    "role",
    "source",
    "data",
    "output",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "stream",
    "response_format",
    "format",
    "output_config",
    "tool_calls",
    "function",
    "function_call",
    "name",
    "arguments",
    "parameters",
    "input_schema",
]
KINDS = ("text", "image", "document", "content", "tool_use", "tool_result", "function_call", "json_schema")
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from(KINDS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=25,
)
bodies = st.dictionaries(st.sampled_from(FIELDS), junk, max_size=6)


@pytest.mark.parametrize(
    ("characters", "tokens"),
    [pytest.param(n, t, id=str(n)) for n, t in ((0, 0), (1, 1), (4, 1), (5, 2), (8, 2), (-3, 0))],
)
def test_four_characters_are_a_token_rounded_up(characters, tokens):
    assert estimate_tokens(characters) == tokens


def user(content, **fields):
    return {"messages": [{"role": "user", "content": content}], **fields}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param({}, BodyFacts(0), id="empty"),
        pytest.param(user("hello"), BodyFacts(5), id="text"),
        pytest.param(user([{"type": "text", "text": "hello"}]), BodyFacts(5), id="text part"),
        pytest.param(
            user([{"type": "image_url", "image_url": {"url": "data:xxxx"}}]),
            BodyFacts(0, needs=frozenset({Capability.VISION})),
            id="image",
        ),
        pytest.param(
            user([{"type": "input_audio", "input_audio": {"data": "xxxx"}}]),
            BodyFacts(0, needs=frozenset({Capability.AUDIO_INPUT})),
            id="audio",
        ),
        pytest.param(
            user([{"type": "file", "file": {"file_data": "xxxx"}}]),
            BodyFacts(0, needs=frozenset({Capability.PDF_INPUT})),
            id="file",
        ),
        pytest.param(user("", functions=[{"name": "f"}]), BodyFacts(1, needs=TOOLS), id="functions"),
        pytest.param(user("", tools=[]), BodyFacts(0), id="no tools"),
        pytest.param(
            user("", response_format={"type": "json_schema"}),
            BodyFacts(0, needs=frozenset({Capability.RESPONSE_SCHEMA})),
            id="schema",
        ),
        pytest.param(user("", response_format={"type": "json_object"}), BodyFacts(0), id="json mode"),
        pytest.param(user("", stream=True), BodyFacts(0, stream=True), id="stream"),
        pytest.param(user("", max_tokens=7), BodyFacts(0, 7), id="max_tokens"),
        pytest.param(
            user("", max_tokens=7, max_completion_tokens=5), BodyFacts(0, 5), id="max_completion_tokens first"
        ),
        pytest.param(
            user("", max_tokens=7, max_completion_tokens="5"), BodyFacts(0, 7), id="the first that is one"
        ),
        pytest.param(user("", max_tokens=10**400), BodyFacts(0, 2**31 - 1), id="absurd limit"),
        pytest.param(user("", max_tokens=-1), BodyFacts(0), id="negative limit"),
        pytest.param(user("", max_tokens=math.nan), BodyFacts(0), id="limit is not a number"),
        pytest.param(user("", max_tokens=True), BodyFacts(0), id="limit is a boolean"),
    ],
)
def test_chat_facts(body, expected):
    assert chat_facts(body) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(
            user([{"type": "document", "source": {"type": "base64", "data": "xxxx"}}]),
            BodyFacts(0, needs=frozenset({Capability.PDF_INPUT})),
            id="document",
        ),
        pytest.param(
            user([{"type": "document", "source": {"type": "text", "data": "hello"}}]),
            BodyFacts(5),
            id="text document",
        ),
        pytest.param(
            user(
                [
                    {
                        "type": "document",
                        "source": {"type": "content", "content": [{"type": "text", "text": "abc"}]},
                    }
                ]
            ),
            BodyFacts(3),
            id="document of blocks",
        ),
        pytest.param(
            user([{"type": "tool_result", "content": [{"type": "text", "text": "hey"}, {"type": "image"}]}]),
            BodyFacts(3, needs=TOOLS | {Capability.VISION}),
            id="tool result of blocks",
        ),
        pytest.param({"system": [{"type": "text", "text": "be"}]}, BodyFacts(2), id="system blocks"),
        pytest.param(
            {"output_config": {"format": {"type": "json_schema"}}},
            BodyFacts(0, needs=frozenset({Capability.RESPONSE_SCHEMA})),
            id="schema",
        ),
        pytest.param(user([{"type": "thinking", "thinking": "hm"}]), BodyFacts(2), id="thinking"),
    ],
)
def test_messages_facts(body, expected):
    assert messages_facts(body) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param({"input": "hello"}, BodyFacts(5), id="text"),
        pytest.param({"instructions": "be", "input": "hello"}, BodyFacts(7), id="instructions"),
        pytest.param(
            {"input": [{"role": "user", "content": [{"type": "input_file"}]}]},
            BodyFacts(0, needs=frozenset({Capability.PDF_INPUT})),
            id="file",
        ),
        pytest.param({"tools": [{"type": "web_search"}]}, BodyFacts(0), id="provider's tool"),
        pytest.param(
            {"text": {"format": {"type": "json_schema"}}},
            BodyFacts(0, needs=frozenset({Capability.RESPONSE_SCHEMA})),
            id="schema",
        ),
        pytest.param({"max_output_tokens": 9}, BodyFacts(0, 9), id="limit"),
    ],
)
def test_responses_facts(body, expected):
    assert responses_facts(body) == expected


@pytest.mark.parametrize(
    ("value", "characters", "largest"),
    [
        pytest.param("hello", 5, None, id="text"),
        pytest.param(["hello"], 5, None, id="batch of one"),
        pytest.param(["hello", "abc"], 8, 5, id="batch"),
        pytest.param([1, 2, 3], 12, None, id="tokens"),
        pytest.param([[1, 2, 3], [4]], 16, 12, id="batch of tokens"),
        pytest.param([], 0, None, id="empty"),
        pytest.param({"a": 1}, 0, None, id="junk"),
    ],
)
def test_completion_and_embedding_inputs(value, characters, largest):
    expected = BodyFacts(characters, largest_characters=largest)
    assert completion_facts({"prompt": value}) == expected
    assert embedding_facts({"input": value}) == expected


SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}}
ARGUMENTS = {"path": "a.txt", "lines": ["x", "y"]}
CONVERSATIONS = (
    {
        "stream": True,
        "max_completion_tokens": 50,
        "response_format": {"type": "json_schema", "json_schema": {}},
        "tools": [
            {"type": "function", "function": {"name": "read", "description": "Reads", "parameters": SCHEMA}}
        ],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Look:"}, {"type": "image_url"}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "type": "function",
                        "function": {
                            "name": "read",
                            "arguments": json.dumps(ARGUMENTS, separators=(",", ":")),
                        },
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "1", "content": "hello"},
        ],
    },
    {
        "stream": True,
        "max_tokens": 50,
        "output_format": {"type": "json_schema", "schema": {}},
        "system": "Be brief.",
        "tools": [{"name": "read", "description": "Reads", "input_schema": SCHEMA}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Look:"}, {"type": "image"}]},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "1", "name": "read", "input": ARGUMENTS}],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "hello"}]},
        ],
    },
    {
        "stream": True,
        "max_output_tokens": 50,
        "text": {"format": {"type": "json_schema", "schema": {}}},
        "instructions": "Be brief.",
        "tools": [{"type": "function", "name": "read", "description": "Reads", "parameters": SCHEMA}],
        "input": [
            {
                "role": "user",
                "content": [{"type": "input_text", "text": "Look:"}, {"type": "input_image"}],
            },
            {
                "type": "function_call",
                "name": "read",
                "arguments": json.dumps(ARGUMENTS, separators=(",", ":")),
            },
            {"type": "function_call_output", "call_id": "1", "output": "hello"},
        ],
    },
)


def test_the_same_conversation_gives_the_same_facts_in_every_dialect():
    chat, messages, responses = CONVERSATIONS
    assert chat_facts(chat) == messages_facts(messages) == responses_facts(responses)
    assert chat_facts(chat).needs == {
        Capability.FUNCTION_CALLING,
        Capability.VISION,
        Capability.RESPONSE_SCHEMA,
    }


@given(st.text(), st.lists(st.text()))
def test_the_same_texts_give_the_same_facts_in_every_dialect(system, texts):
    turns = [{"role": "user", "content": each} for each in texts]
    chat = chat_facts({"messages": [{"role": "system", "content": system}, *turns]})
    assert chat == messages_facts({"system": system, "messages": turns})
    assert chat == responses_facts({"instructions": system, "input": turns})
    assert chat.characters == len(system) + sum(map(len, texts))


@given(st.sampled_from(CallType), st.text(max_size=5), bodies)
def test_junk_never_raises(call_type, model_group, body):
    facts = request_facts(call_type, model_group, body)
    assert facts.input_tokens >= 0
    assert facts.max_output_tokens is None or facts.max_output_tokens >= 0


def test_blocks_nested_without_end_are_not_followed():
    block = {"type": "text", "text": "deep"}
    for _ in range(5000):
        block = {"type": "tool_result", "content": [block]}
    assert chat_facts(user([block])).characters == 0


def test_request_facts_carry_tokens_and_the_largest_input():
    facts = request_facts(CallType.EMBEDDING, "ada", {"input": ["x" * 400, "y" * 40]})
    assert (facts.input_tokens, facts.largest_input_tokens, facts.window_tokens) == (110, 100, 100)


json_values = st.recursive(
    st.booleans() | st.text(st.characters(min_codepoint=97, max_codepoint=122)) | st.just(12345),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(("a", "bb", "ccc")), inner),
)


@given(json_values)
def test_json_characters_are_those_of_compact_json(value):
    assert json_characters(value) == len(json.dumps(value, separators=(",", ":")))


def test_json_characters_stop_at_a_bound():
    assert json_characters([[] for _ in range(1_000_000)]) < 2_000_000
