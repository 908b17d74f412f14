from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_plugin.routing import (
    CallType,
    completion_facts,
    embedding_facts,
    estimate_tokens,
    request_facts,
)

LONG, SHORT = "a longer text than the other one", "short"


@pytest.mark.parametrize(
    ("value", "tokens", "largest"),
    [
        pytest.param(LONG, estimate_tokens(LONG), None, id="text"),
        pytest.param([LONG], estimate_tokens(LONG), None, id="batch of one"),
        pytest.param([SHORT, LONG], estimate_tokens(SHORT, LONG), estimate_tokens(LONG), id="batch"),
        pytest.param([1, 2, 3], 3, None, id="tokens"),
        pytest.param([[1, 2, 3], [4]], 4, 3, id="batch of tokens"),
        pytest.param([], 0, None, id="empty"),
        pytest.param({"a": 1}, 0, None, id="junk"),
    ],
)
def test_completion_and_embedding_inputs(value, tokens, largest):
    for facts in (completion_facts({"prompt": value}), embedding_facts({"input": value})):
        assert (facts.input_tokens, facts.largest_input_tokens) == (tokens, largest)


def test_the_largest_input_is_the_one_of_most_tokens():
    facts = embedding_facts({"input": ["x" * 60, "你好" * 25]})
    assert facts.largest_input_tokens == estimate_tokens("你好" * 25) > estimate_tokens("x" * 60)


def test_request_facts_carry_the_largest_input():
    facts = request_facts(CallType.EMBEDDING, "ada", {"input": [LONG, SHORT]})
    assert facts.window_tokens == facts.largest_input_tokens == estimate_tokens(LONG)


def test_a_rerank_reads_the_query_with_each_document():
    facts = request_facts(CallType.RERANK, "r", {"query": SHORT, "documents": [LONG, {"text": LONG}]})
    assert facts.input_tokens >= 2 * (estimate_tokens(SHORT) + estimate_tokens(LONG))
    assert estimate_tokens(SHORT, LONG) <= facts.largest_input_tokens < facts.input_tokens


@pytest.mark.parametrize(
    ("call_type", "body", "field", "expected"),
    [
        pytest.param(CallType.IMAGE_GENERATION, {"n": 3}, "output_count", 3, id="images"),
        pytest.param(CallType.IMAGE_EDIT, {"n": "3"}, "output_count", 3, id="images of a form"),
        pytest.param(
            CallType.IMAGE_EDIT, {"image": [object(), object()]}, "image_count", 2, id="edited images"
        ),
        pytest.param(CallType.IMAGE_EDIT, {"image": object()}, "image_count", 1, id="edited image"),
        pytest.param(CallType.TRANSCRIPTION, {"file": object()}, "audio_count", 1, id="recording"),
        pytest.param(CallType.TRANSCRIPTION, {"stream": "true"}, "stream", True, id="stream of a form"),
        pytest.param(CallType.COMPLETION, {"prompt": "x", "n": 2}, "output_count", 2, id="completions"),
        pytest.param(CallType.RESPONSES_SOCKET, {"input": "x"}, "stream", True, id="socket"),
        pytest.param(CallType.REALTIME, {}, "stream", True, id="realtime"),
        pytest.param(CallType.PASS_THROUGH, {"messages": []}, "window_tokens", 0, id="a pass-through fits"),
    ],
)
def test_facts_of_other_bodies(call_type, body, field, expected):
    assert getattr(request_facts(call_type, "g", body), field) == expected


FIELDS = [
    "messages",
    "system",
    "instructions",
    "input",
    "prompt",
    "content",
    "contents",
    "parts",
    "role",
    "tools",
    "functions",
    "type",
    "text",
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
    "n",
    "tool_calls",
    "function",
    "function_call",
    "functionCall",
    "functionResponse",
    "response",
    "name",
    "arguments",
    "args",
    "parameters",
    "input_schema",
    "thinking",
    "budget_tokens",
    "reasoning",
    "reasoning_effort",
    "effort",
    "generationConfig",
    "thinkingConfig",
    "thinkingBudget",
    "candidateCount",
    "tool_choice",
    "query",
    "documents",
    "image",
    "file",
]
KINDS = [
    "text",
    "image",
    "document",
    "content",
    "tool_use",
    "tool_result",
    "function_call",
    "json_schema",
    "user",
    "assistant",
    "tool",
]
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from(KINDS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=25,
)
bodies = st.dictionaries(st.sampled_from(FIELDS), junk, max_size=6)


@pytest.mark.parametrize(
    ("call_type", "body", "characters"),
    [
        pytest.param("speech", {"input": "\u58f0" * 440}, 440, id="of any script"),
        pytest.param("speech", {"input": "abc", "instructions": "Whisper."}, 3, id="not how it is said"),
        pytest.param("speech", {"input": ["abc"]}, 0, id="junk"),
        pytest.param("embedding", {"input": "abc"}, 0, id="another call"),
    ],
)
def test_what_is_spoken_is_counted_in_characters(call_type, body, characters):
    assert request_facts(CallType(call_type), "m", body).spoken_characters == characters


@given(st.sampled_from(CallType), st.text(max_size=5), bodies)
def test_junk_never_raises(call_type, model_group, body):
    facts = request_facts(call_type, model_group, body)
    assert facts.input_tokens >= facts.prefix_tokens >= 0
    assert facts.output_count >= 1
    assert facts.max_output_tokens is None or facts.max_output_tokens >= 0
    assert facts.largest_input_tokens is None or facts.largest_input_tokens <= facts.input_tokens
