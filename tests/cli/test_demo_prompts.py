from __future__ import annotations

import json

import pytest

from litellm_plugin.cli.demo.prompts import read_prompts
from litellm_plugin.errors import ConfigurationError


@pytest.fixture
def read(tmp_path):
    def from_text(text: str | bytes):
        path = tmp_path / "prompts.jsonl"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_prompts(path, models=["chat", "claude"], classifications=["public", "phi"])

    return from_text


def test_a_line_of_text_is_a_prompt(read):
    [prompt] = read("What is a permit?\n")
    assert prompt.body() == {
        "model": "chat",
        "messages": [{"role": "user", "content": "What is a permit?"}],
    }
    assert (prompt.key, prompt.classification, prompt.line) == ("demo-acme", None, 1)


def test_an_object_sets_everything(read):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    line = {
        "messages": messages,
        "tenant": "helix",
        "classification": "phi",
        "model": "claude",
        "stream": True,
        "max_tokens": 5,
    }
    [prompt] = read(json.dumps(line))
    assert prompt.body() == {"model": "claude", "messages": messages, "stream": True, "max_tokens": 5}
    assert (prompt.key, prompt.classification) == ("demo-helix", "phi")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        pytest.param("one\n\n  \nfour\n", [1, 4], id="empty lines are skipped and counted"),
        pytest.param("one\r\ntwo\r\n", [1, 2], id="windows line ends"),
        pytest.param(b"\xef\xbb\xbfone\n", [1], id="byte order mark"),
        pytest.param('{"prompt": "a\u2028b"}\ntwo', [1, 2], id="line separator inside a string"),
    ],
)
def test_lines_are_numbered_as_an_editor_numbers_them(read, text, lines):
    assert [prompt.line for prompt in read(text)] == lines


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param('{"prompt": "x"', "a JSON object was expected", id="no JSON"),
        pytest.param('{"promt": "x"}', "unknown key 'promt'; expected are prompt or messages", id="key"),
        pytest.param("{}", "exactly one of prompt and messages", id="neither"),
        pytest.param(
            '{"prompt": "x", "messages": [{"role": "user", "content": "x"}]}', "exactly one", id="both"
        ),
        pytest.param('{"prompt": ""}', "prompt: ", id="empty prompt"),
        pytest.param('{"messages": []}', "messages: ", id="no messages"),
        pytest.param('{"messages": [{"content": "x"}]}', r"messages.0.role: ", id="no role"),
        pytest.param('{"prompt": "x", "max_tokens": "5"}', "max_tokens: .*integer", id="type"),
        pytest.param('{"prompt": "x", "max_tokens": 0}', "max_tokens: ", id="range"),
        pytest.param('{"prompt": "x", "stream": 1}', "stream: ", id="flag"),
        pytest.param('{"prompt": "x", "tenant": "nobody"}', "tenant: one of acme, .*'nobody'", id="tenant"),
        pytest.param(
            '{"prompt": "x", "model": "gpt"}', "model: one of chat, claude was expected", id="model"
        ),
        pytest.param('{"prompt": "x", "classification": "top"}', "one of phi, public", id="classification"),
    ],
)
def test_a_bad_line_is_named_with_what_was_expected(read, line, message):
    with pytest.raises(ConfigurationError, match=rf"line 2: .*{message}"):
        read(f"fine\n{line}\n")


def test_every_bad_line_is_named(read):
    with pytest.raises(ConfigurationError, match=r"(?s)line 1: .*line 3: "):
        read("{\nfine\n{\n")


def test_a_file_without_prompts_is_refused(read):
    with pytest.raises(ConfigurationError, match="at least one prompt"):
        read("\n\n")


def test_a_file_that_is_not_text_is_refused(read):
    with pytest.raises(ConfigurationError, match="UTF-8"):
        read(b"\xff\xfe")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_prompts(tmp_path / "none.txt", models=["chat"], classifications=["phi"])
