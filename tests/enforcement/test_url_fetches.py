"""Addresses in content: whoever names one would choose the host that its text is fetched from."""

from __future__ import annotations

import json

import pytest
from fleet import POLICY, Fleet, deployment

from litellm_plugin.testing import RecordingProvider, marker

pytestmark = pytest.mark.proxy

PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses"}


class UrlFleet(Fleet):
    """LiteLLM may fetch from one more host, on loopback, as it may from any public one."""

    def config(self):
        self.evil = RecordingProvider("evil")
        self.evil_url = self.servers.add(self.evil)
        self.policy = {"egress": {**POLICY["egress"], "content_urls": ["public"]}, **self.policy}
        host = self.evil_url.removeprefix("http://")
        self.settings = {"litellm_settings": {"user_url_allowed_hosts": [host]}}
        config = super().config()
        config["litellm_settings"]["callbacks"] = ["litellm_plugin.permit_router", "other_logger.logger"]
        facts = ["function_calling", "vision", "response_schema", "audio_input", "pdf_input"]
        seeing = {"id": "claude-eu-seeing", "capabilities": facts, "max_input_tokens": 1_000_000}
        reading = {"id": "eu-a-reading", "capabilities": facts, "max_input_tokens": 1_000_000}
        config["model_list"] += [
            deployment(self.providers["claude-eu"], "seeing", self.urls["claude-eu"], **seeing),
            deployment(self.providers["eu-a"], "reading", self.urls["eu-a"], **reading),
        ]
        return config


@pytest.fixture(scope="module")
def shared_urls():
    with UrlFleet() as fleet:
        yield fleet.ready()


@pytest.fixture
def urls(shared_urls):
    shared_urls.clear()
    shared_urls.evil.clear()
    return shared_urls


def sent(fleet, call, model, content, classification):
    mark = marker()
    url = f"{fleet.evil_url}/{mark}.png"
    part = json.loads(json.dumps(content).replace("URL", url))
    messages = [{"role": "user", "content": [{"type": "text", "text": "hi"}, part]}]
    if call == "responses":
        body = {"model": model, "input": [{"role": "user", "content": [part]}]}
    else:
        body = {"model": model, "messages": messages, "max_tokens": 16}
    raw = json.dumps(body).encode()
    token = fleet.issuer.mint(["claude-eu", "eu-a"], body=raw, data_classification=classification)
    return mark, fleet.post(PATHS[call], raw, {"x-llm-permit": token})


def fetched(fleet, mark):
    return [each.path for each in fleet.evil.requests if mark in each.path]


IMAGE = {"type": "image_url", "image_url": {"url": "URL"}}
ROWS = [
    pytest.param("chat", "seeing", IMAGE, True, id="anthropic-image"),
    pytest.param("chat", "reading", {"type": "file", "file": {"file_id": "URL"}}, True, id="openai-file"),
    pytest.param("chat", "reading", IMAGE, False, id="openai-image"),
    pytest.param(
        "messages",
        "seeing",
        {"type": "image", "source": {"type": "url", "url": "URL"}},
        False,
        id="messages-image",
    ),
    pytest.param(
        "responses", "reading", {"type": "input_image", "image_url": "URL"}, False, id="responses-image"
    ),
]


@pytest.mark.parametrize(("call", "model", "content", "is_fetched"), ROWS)
def test_an_address_that_is_not_cleared_reaches_nobody(urls, call, model, content, is_fetched):
    mark, answer = sent(urls, call, model, content, "internal")

    assert answer.status_code == 403, answer.text
    assert answer.json()["error"]["code"] == "egress_not_cleared"
    assert "base64 or a data URL" in answer.json()["error"]["message"]
    assert fetched(urls, mark) == []
    assert urls.calls() == {}
    (record,) = urls.records_of(answer, attempts=0)
    assert record["reason"] == "egress_not_cleared"


@pytest.mark.parametrize(("call", "model", "content", "is_fetched"), ROWS)
def test_control_one_that_is_cleared_is_fetched_or_sent_on(urls, call, model, content, is_fetched):
    mark, _ = sent(urls, call, model, content, "public")

    if is_fetched:
        assert fetched(urls, mark)
    else:
        bodies = [each.body for provider in urls.providers.values() for each in provider.requests]
        assert any(mark.encode() in body for body in bodies)


def test_content_itself_is_served(urls):
    data = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    _, answer = sent(urls, "chat", "reading", data, "internal")

    assert answer.status_code == 200, answer.text
    assert urls.calls() == {"eu-a": 1}
