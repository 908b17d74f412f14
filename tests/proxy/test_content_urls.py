"""URLs in content: what LiteLLM or a provider would fetch is found, what only reads like one is not."""

from __future__ import annotations

import pytest

from litellm_plugin.proxy.content_urls import names_url

URL = "https://evil.example/what-the-caller-wrote.png"
DATA = "data:image/png;base64,iVBORw0KGgo="


def chat(*parts):
    return {"messages": [{"role": "user", "content": list(parts)}]}


def responses(*items):
    return {"input": list(items)}


def gemini(*parts):
    return {"contents": [{"role": "user", "parts": list(parts)}]}


def source(url):
    return {"type": "url", "url": url}


NAMING = [
    pytest.param(lambda url: chat({"type": "image_url", "image_url": {"url": url}}), id="chat-image"),
    pytest.param(lambda url: chat({"type": "image_url", "image_url": url}), id="chat-image-text"),
    pytest.param(lambda url: chat({"type": "file", "file": {"file_id": url}}), id="chat-file-id"),
    pytest.param(lambda url: chat({"type": "file", "file": {"file_data": url}}), id="chat-file-data"),
    pytest.param(lambda url: chat({"type": "video_url", "video_url": {"url": url}}), id="chat-video"),
    pytest.param(lambda url: chat({"type": "audio_url", "audio_url": {"url": url}}), id="chat-audio"),
    pytest.param(lambda url: chat({"type": "input_audio", "input_audio": {"data": url}}), id="chat-input-audio"),
    pytest.param(lambda url: {"messages": [{"role": "user", "content": "", "images": [url]}]}, id="ollama-images"),
    pytest.param(lambda url: chat({"type": "image", "source": source(url)}), id="messages-image"),
    pytest.param(lambda url: chat({"type": "document", "source": source(url)}), id="messages-document"),
    pytest.param(
        lambda url: chat({"type": "tool_result", "content": [{"type": "image", "source": source(url)}]}),
        id="messages-tool-result",
    ),
    pytest.param(lambda url: {"system": [{"type": "document", "source": source(url)}]}, id="messages-system"),
    pytest.param(
        lambda url: responses({"role": "user", "content": [{"type": "input_image", "image_url": url}]}),
        id="responses-image",
    ),
    pytest.param(
        lambda url: responses({"role": "user", "content": [{"type": "input_file", "file_url": url}]}),
        id="responses-file",
    ),
    pytest.param(
        lambda url: responses({"type": "computer_call_output", "output": {"image_url": url}}),
        id="responses-computer-output",
    ),
    pytest.param(
        lambda url: responses({"type": "function_call_output", "output": [{"image_url": url}]}),
        id="responses-function-output",
    ),
    pytest.param(lambda url: gemini({"fileData": {"fileUri": url}}), id="gemini"),
    pytest.param(lambda url: gemini({"file_data": {"file_uri": url}}), id="gemini-snake-case"),
    pytest.param(
        lambda url: {"systemInstruction": {"parts": [{"fileData": {"fileUri": url}}]}}, id="gemini-system"
    ),
    pytest.param(lambda url: responses({"type": "image_url", "image_url": {"url": url}}), id="moderation"),
    pytest.param(lambda url: {"image": url}, id="image-edit"),
    pytest.param(
        lambda url: {"item": {"type": "message", "content": [{"type": "input_image", "image_url": url}]}},
        id="realtime-item",
    ),
]  # fmt: skip


@pytest.mark.parametrize("body", NAMING)
def test_a_url_in_content_is_found(body):
    assert names_url(body(URL))


@pytest.mark.parametrize("body", NAMING)
def test_content_itself_is_no_url(body):
    assert not names_url(body(DATA))


@pytest.mark.parametrize(
    "url",
    [
        "http://x",
        "HTTPS://x",
        " \n\thttp://x",
        "\x00http://x",
        "ht\ntp://x",
        "http:\t//x",
        "ftp://x",
        "gs://x/y",
        "s3://x/y",
        "file:///etc/passwd",
        "http://" + "x" * 10_000,
        " " * 10_000 + "http://x",
    ],
)
def test_a_scheme_is_read_as_url_parsers_do(url):
    assert names_url(chat({"type": "image_url", "image_url": {"url": url}}))


@pytest.mark.parametrize(
    "text",
    [
        DATA,
        'data:image/svg+xml,<svg xmlns="http://www.w3.org/2000/svg"/>',
        "file-abc123",
        "iVBORw0KGgo//=",
        "",
        "see http://x",
        None,
        7,
    ],
)
def test_what_has_no_scheme_of_its_own_is_no_url(text):
    assert not names_url(chat({"type": "image_url", "image_url": {"url": text}}))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"messages": [{"role": "user", "content": URL}]}, id="text"),
        pytest.param(chat({"type": "text", "text": URL}), id="text-part"),
        pytest.param({"input": URL}, id="input-text"),
        pytest.param({"input": [URL]}, id="embedded-texts"),
        pytest.param({"prompt": URL}, id="prompt"),
        pytest.param(
            {"tools": [{"type": "function", "function": {"parameters": {"url": URL}}}]}, id="tool-schema"
        ),
        pytest.param(
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": {"url": URL}}}]}]},
            id="tool-call",
        ),
        pytest.param(chat({"type": "tool_use", "name": "open", "input": {"url": URL}}), id="tool-use"),
        pytest.param(gemini({"functionCall": {"name": "open", "args": {"url": URL}}}), id="function-call"),
        pytest.param(
            gemini({"functionResponse": {"name": "open", "response": {"url": URL}}}), id="function-response"
        ),
        pytest.param(
            chat({"type": "document", "source": {"type": "text", "data": URL}}), id="document-of-text"
        ),
        pytest.param(
            chat({"type": "web_search_tool_result", "content": [{"type": "web_search_result", "url": URL}]}),
            id="search-result",
        ),
        pytest.param(
            chat({"type": "text", "text": "x", "citations": [{"type": "web", "url": URL}]}), id="citation"
        ),
        pytest.param(
            responses({"content": [{"type": "output_text", "annotations": [{"url": URL}]}]}), id="annotation"
        ),
        pytest.param(responses({"type": "web_search_call", "action": {"url": URL}}), id="search-call"),
        pytest.param({"metadata": {"url": URL}}, id="metadata"),
        pytest.param({}, id="nothing"),
        pytest.param({"messages": None, "input": 7}, id="misshapen"),
    ],
)
def test_what_nobody_fetches_is_no_url(body):
    assert not names_url(body)


def test_depth_costs_no_recursion():
    body = {"type": "image", "source": source(URL)}
    for _ in range(100_000):
        body = {"content": [body]}
    assert names_url({"messages": [body]})


@pytest.mark.parametrize("scheme", ["gs", "s3", "GS"])
@pytest.mark.parametrize("inputs", [lambda url: url, lambda url: ["text", url]], ids=["text", "list"])
def test_an_input_in_object_storage_is_an_address(scheme, inputs):
    assert names_url({"model": "m", "input": inputs(f"{scheme}://bucket/picture.png")})


@pytest.mark.parametrize(
    "text", ["https://example.com is a site", "see gs://bucket/picture.png", "gs:bucket"]
)
def test_an_input_that_mentions_an_address_is_text(text):
    assert not names_url({"model": "m", "input": text})
