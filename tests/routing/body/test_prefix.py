from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_plugin.routing import CallType, chat_facts, estimate_tokens, request_facts
from litellm_plugin.routing.body.prefix import NO_PREFIX, cached_prefix

SYSTEM = "You help the customers of a small shop. " * 200
TURN = "Tell me all that you know of the history of this town. " * 30


def chat(*turns, system=SYSTEM, tools=()):
    messages = [{"role": "system", "content": system}] if system else []
    messages += [{"role": role, "content": text} for role, text in turns]
    return {"messages": messages, "tools": list(tools)}


def prefix(body):
    return chat_facts(body).prefix


def test_a_short_prompt_has_none():
    facts = request_facts(CallType.CHAT, "g", chat(("user", TURN * 9), system="Be brief."))
    assert (facts.prefix, facts.prefix_tokens) == (None, 0)


def test_a_long_system_prompt_is_one():
    facts = request_facts(CallType.CHAT, "g", chat(("user", "hi")))
    assert facts.prefix is not None
    assert facts.prefix_tokens == estimate_tokens(SYSTEM)


def test_conversations_share_a_long_system_prompt():
    one, other = chat(("user", "hi")), chat(("user", "hey"), ("assistant", "yes?"), ("user", "bye"))
    assert prefix(one) == prefix(other)


def test_another_system_prompt_or_tool_is_another_prefix():
    tool = {"type": "function", "function": {"name": "read"}}
    variants = [chat(), chat(system=SYSTEM + "!"), chat(tools=[tool]), chat(system="!" + SYSTEM)]
    assert len({prefix(each).digest for each in variants}) == len(variants)


def test_without_a_long_system_prompt_the_conversation_makes_it():
    turns = [("user", TURN), ("assistant", TURN), ("user", TURN), ("assistant", TURN), ("user", TURN)]
    grown = [prefix(chat(*turns[:length], system="Be brief.")) for length in (1, 3, 5)]
    assert grown[0] == grown[1] == NO_PREFIX
    assert grown[2].tokens >= 1024


def test_it_stays_while_the_conversation_grows():
    turns = [("user", TURN), ("assistant", TURN)] * 6
    grown = {prefix(chat(*turns[:length], system="")).digest for length in range(7, 13, 2)}
    assert len(grown) == 1


def test_the_last_turn_of_the_user_is_not_in_it():
    turns = [("user", TURN), ("assistant", TURN)] * 2
    assert prefix(chat(*turns, ("user", "a"))) == prefix(chat(*turns, ("user", "b" * 9000)))


def test_it_stays_through_a_tool_loop():
    body = chat(("user", "go"))
    before = prefix(body)
    body["messages"] += [
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "content": TURN},
    ]
    assert prefix(body) == before


@pytest.mark.parametrize("at", [0, 500_000, 999_999])
def test_a_long_text_is_told_apart_by_its_head_middle_and_tail(at):
    text = "word " * 200_000
    changed = f"{text[:at]}#{text[at + 1 :]}"
    assert cached_prefix([text], 1).digest != cached_prefix([changed], 1).digest


def test_the_cut_between_texts_counts():
    assert cached_prefix([SYSTEM, "ab"], 2).digest != cached_prefix([SYSTEM + "a", "b"], 2).digest


@given(st.lists(st.text(max_size=40), max_size=8), st.integers(0, 8))
def test_any_texts_give_the_same_prefix_again(texts, opening):
    long = [text * 200 for text in texts]
    assert cached_prefix(long, opening) == cached_prefix(long, opening)
