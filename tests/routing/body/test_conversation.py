from __future__ import annotations

import math

import pytest

from litellm_plugin.routing import BodyFacts, Capability, chat_facts, messages_facts, responses_facts

TOOLS = Capability.FUNCTION_CALLING
PARALLEL = Capability.PARALLEL_FUNCTION_CALLING


def user(content, **fields):
    return {"messages": [{"role": "user", "content": content}], **fields}


def loop(*roles):
    """A conversation of a user, calls of two tools at once, and their results."""
    turns = {
        "user": {"role": "user", "content": "go on"},
        "calls": {"role": "assistant", "tool_calls": [{"function": {"name": name}} for name in "ab"]},
        "result": {"role": "tool", "content": "done"},
        "says": {"role": "assistant", "content": "well"},
    }
    return {"messages": [turns[role] for role in roles]}


def test_an_empty_body_has_no_facts():
    assert chat_facts({}) == messages_facts({}) == responses_facts({}) == BodyFacts()


@pytest.mark.parametrize(
    ("body", "field", "expected"),
    [
        pytest.param(user([{"type": "image_url"}] * 2), "image_count", 2, id="images"),
        pytest.param(user([{"type": "image_url"}]), "needs", {Capability.VISION}, id="vision"),
        pytest.param(user([{"type": "input_audio"}]), "audio_count", 1, id="audio"),
        pytest.param(user([{"type": "input_audio"}]), "needs", {Capability.AUDIO_INPUT}, id="audio need"),
        pytest.param(user([{"type": "file"}]), "document_count", 1, id="document"),
        pytest.param(user([{"type": "file"}]), "needs", {Capability.PDF_INPUT}, id="document need"),
        pytest.param(user("", tools=[]), "needs", set(), id="no tools"),
        pytest.param(user("", functions=[{"name": "f"}]), "needs", {TOOLS}, id="functions"),
        pytest.param(user("", functions=[{"name": "f"}, {"name": "g"}]), "tool_count", 2, id="two functions"),
        pytest.param(user("", tools=[{"type": "web_search"}]), "tool_count", 0, id="provider's tool"),
        pytest.param(
            user("", tools=[{"type": "custom", "custom": {"name": "f"}}]), "tool_count", 1, id="custom tool"
        ),
        pytest.param(
            user("", tools=[{"name": "f"}], parallel_tool_calls=True),
            "needs",
            {TOOLS, PARALLEL},
            id="parallel",
        ),
        pytest.param(
            user("", tools=[{"name": "f"}], parallel_tool_calls=False), "needs", {TOOLS}, id="serial"
        ),
        pytest.param(user("", parallel_tool_calls=True), "needs", set(), id="parallel without tools"),
        pytest.param(
            user("", response_format={"type": "json_schema"}),
            "needs",
            {Capability.RESPONSE_SCHEMA},
            id="schema",
        ),
        pytest.param(user("", response_format={"type": "json_object"}), "needs", set(), id="json mode"),
        pytest.param(user("", stream=True), "stream", True, id="stream"),
        pytest.param(user("", stream="true"), "stream", False, id="stream of text"),
        pytest.param(user("", max_tokens=7), "max_output_tokens", 7, id="max_tokens"),
        pytest.param(
            user("", max_tokens=7, max_completion_tokens=5), "max_output_tokens", 5, id="the newer name first"
        ),
        pytest.param(
            user("", max_tokens=7, max_completion_tokens="5"),
            "max_output_tokens",
            7,
            id="the first that is one",
        ),
        pytest.param(user("", max_tokens=10**400), "max_output_tokens", 2**31 - 1, id="absurd limit"),
        pytest.param(user("", max_tokens=-1), "max_output_tokens", None, id="negative limit"),
        pytest.param(user("", max_tokens=math.nan), "max_output_tokens", None, id="limit is not a number"),
        pytest.param(user("", max_tokens=True), "max_output_tokens", None, id="limit is a boolean"),
        pytest.param(user("", n=3), "output_count", 3, id="n"),
        pytest.param(user("", n=0), "output_count", 1, id="n of nothing"),
        pytest.param(user("", n="3"), "output_count", 1, id="n of text"),
        pytest.param(user("", reasoning_effort="high"), "reasoning_effort", "high", id="effort"),
        pytest.param(user("", reasoning_effort="high"), "needs", {Capability.REASONING}, id="reasoning"),
        pytest.param(user("", reasoning_effort="none"), "needs", set(), id="no reasoning"),
        pytest.param(
            user("", thinking={"type": "enabled", "budget_tokens": 2048}),
            "reasoning_effort",
            "medium",
            id="thinking in chat",
        ),
        pytest.param(loop("user"), "tool_step", 0, id="no loop"),
        pytest.param(loop("user", "calls"), "tool_step", 1, id="called"),
        pytest.param(loop("user", "calls", "result", "result"), "tool_step", 1, id="one round of two calls"),
        pytest.param(loop("user", "calls", "result", "calls", "result"), "tool_step", 2, id="two rounds"),
        pytest.param(loop("user", "calls", "result", "says"), "tool_step", 1, id="answered"),
        pytest.param(loop("user", "calls", "result", "user"), "tool_step", 0, id="the user spoke again"),
    ],
)
def test_chat_facts(body, field, expected):
    assert getattr(chat_facts(body), field) == expected


@pytest.mark.parametrize(
    ("body", "field", "expected"),
    [
        pytest.param(
            user([{"type": "document", "source": {"type": "base64"}}]), "document_count", 1, id="document"
        ),
        pytest.param(
            user([{"type": "document", "source": {"type": "text", "data": "hello"}}]),
            "document_count",
            0,
            id="a document of text is text",
        ),
        pytest.param(
            user([{"type": "tool_result", "content": [{"type": "text", "text": "hey"}, {"type": "image"}]}]),
            "needs",
            {TOOLS, Capability.VISION},
            id="tool result of blocks",
        ),
        pytest.param(
            {"output_config": {"format": {"type": "json_schema"}}},
            "needs",
            {Capability.RESPONSE_SCHEMA},
            id="schema",
        ),
        pytest.param({"tools": [{"type": "web_search_20250305"}]}, "needs", set(), id="provider's tool"),
        pytest.param(
            {"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tool_count", 1, id="caller's tool"
        ),
        pytest.param(
            {"tools": [{"name": "f"}], "tool_choice": {"disable_parallel_tool_use": False}},
            "needs",
            {TOOLS, PARALLEL},
            id="parallel",
        ),
        pytest.param(
            {"tools": [{"name": "f"}], "tool_choice": {"disable_parallel_tool_use": True}},
            "needs",
            {TOOLS},
            id="serial",
        ),
        pytest.param(
            {"thinking": {"type": "enabled", "budget_tokens": 4096}},
            "reasoning_effort",
            "high",
            id="thinking",
        ),
    ],
)
def test_messages_facts(body, field, expected):
    assert getattr(messages_facts(body), field) == expected


def test_a_document_of_text_counts_as_text():
    source = {"type": "content", "content": [{"type": "text", "text": "hello world"}]}
    for each in (source, {"type": "text", "data": "hello world"}):
        assert messages_facts(user([{"type": "document", "source": each}])) == messages_facts(
            user("hello world")
        )


@pytest.mark.parametrize(
    ("body", "field", "expected"),
    [
        pytest.param(
            {"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "document_count", 1, id="file"
        ),
        pytest.param({"tools": [{"type": "web_search"}]}, "needs", set(), id="provider's tool"),
        pytest.param(
            {"text": {"format": {"type": "json_schema"}}}, "needs", {Capability.RESPONSE_SCHEMA}, id="schema"
        ),
        pytest.param({"max_output_tokens": 9}, "max_output_tokens", 9, id="limit"),
        pytest.param({"reasoning": {"effort": "minimal"}}, "reasoning_effort", "minimal", id="effort"),
        pytest.param({"reasoning": {"summary": "auto"}}, "reasoning_effort", None, id="summary alone"),
        pytest.param(
            {"input": [{"type": "function_call", "name": "f"}, {"type": "function_call", "name": "g"}]},
            "tool_step",
            1,
            id="two calls at once",
        ),
    ],
)
def test_responses_facts(body, field, expected):
    assert getattr(responses_facts(body), field) == expected


def test_instructions_come_before_the_input():
    assert responses_facts({"instructions": "be brief", "input": "hello"}) == chat_facts(
        {"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]}
    )


def test_blocks_nested_without_end_are_not_followed():
    block = {"type": "text", "text": "deep " * 1000}
    for _ in range(5000):
        block = {"type": "tool_result", "content": [block]}
    assert chat_facts(user([block])).input_tokens < 10


def test_what_the_user_asked_last_is_kept_for_its_language():
    body = loop("user", "calls", "result", "user", "calls")
    body["messages"][3]["content"] = [{"type": "text", "text": "noch"}, {"type": "text", "text": "einmal"}]
    assert chat_facts(body).asked == ("noch", "einmal")
    assert "einmal" not in repr(chat_facts(body))
