from __future__ import annotations

import signal
import socket
import sys
import time

import httpx
import openai
import pytest

from litellm_plugin.testing import TEST_MASTER_KEY, ProxyProcess
from litellm_plugin.testing.proxy_process import _environment

CONFIG = """
model_list:
  - model_name: group
    litellm_params:
      model: openai/gpt-4o-mini
      api_base: {url}/v1
      api_key: sk-provider
    model_info: {{id: eu-1}}
  - model_name: claude
    litellm_params:
      model: anthropic/claude-3-5-haiku-20241022
      api_base: {url}
      api_key: sk-provider
    model_info: {{id: eu-2}}
  - model_name: vectors
    litellm_params:
      model: openai/text-embedding-3-small
      api_base: {url}/v1
      api_key: sk-provider
    model_info: {{id: eu-3}}
  - model_name: texts
    litellm_params:
      model: text-completion-openai/gpt-3.5-turbo-instruct
      api_base: {url}/v1
      api_key: sk-provider
    model_info: {{id: eu-4}}
general_settings:
  master_key: os.environ/LITELLM_MASTER_KEY
"""
MESSAGES = [{"role": "user", "content": "hello"}]


def test_environment_inherits_no_keys_and_no_proxies(monkeypatch):
    for name in ("OPENAI_API_KEY", "HTTPS_PROXY", "https_proxy", "DATABASE_URL", "LITELLM_SALT_KEY"):
        monkeypatch.setenv(name, "leak")
    variables = _environment({"EXTRA": "1"}, startup_hook=True)
    assert "leak" not in variables.values()
    assert variables["EXTRA"] == "1"
    assert variables["LITELLM_WORKER_STARTUP_HOOKS"] == "litellm_plugin:require"
    assert variables["LITELLM_MASTER_KEY"] == TEST_MASTER_KEY


def test_environment_without_startup_hook_names_none():
    assert "LITELLM_WORKER_STARTUP_HOOKS" not in _environment({}, startup_hook=False)


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """Let a shell script stand in for the litellm command: it ignores its arguments."""

    def install(script):
        path = tmp_path / "litellm"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    return install


def test_early_exit_is_told_with_the_log(stand_in):
    stand_in("echo refused: bad block >&2; exit 3")
    with ProxyProcess("x.yaml") as proxy, pytest.raises(RuntimeError, match=r"exited with 3(.|\n)*bad block"):
        proxy.wait_ready(10)


def test_exit_code_of_a_refused_start(stand_in):
    stand_in("echo refused; exit 4")
    with ProxyProcess("x.yaml") as proxy:
        assert proxy.wait_exit(10) == 4
        assert proxy.wait_exit(10) == 4
        assert "refused" in proxy.log_text()


def test_silence_is_told_when_time_runs_out(stand_in):
    stand_in("echo still loading; sleep 60")
    proxy = ProxyProcess("x.yaml")
    with pytest.raises(RuntimeError, match=r"not ready within 0.5 s(.|\n)*still loading"):
        proxy.wait_ready(0.5)
    assert proxy.wait_exit(0) == -signal.SIGTERM


def test_process_that_goes_on_has_no_exit_code(stand_in):
    stand_in("sleep 60")
    with ProxyProcess("x.yaml") as proxy, pytest.raises(TimeoutError, match="did not exit within"):
        proxy.wait_exit(0.1)


def test_stop_ends_children_that_ignore_sigterm(stand_in, tmp_path):
    stand_in(
        f"(trap '' TERM; while :; do echo beat >> {tmp_path}/beats; sleep 0.02; done) & echo child; wait"
    )
    with ProxyProcess("x.yaml") as proxy:
        while not (tmp_path / "beats").exists():
            time.sleep(0.01)
    beats = (tmp_path / "beats").stat().st_size
    time.sleep(0.2)
    assert (tmp_path / "beats").stat().st_size == beats
    assert proxy.log_text() == "child\n"
    proxy.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a port is bound once")
def test_nobody_else_is_given_the_port_and_the_process_can_bind_it(stand_in):
    stand_in("sleep 60")
    with ProxyProcess("x.yaml") as proxy:
        with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
            stranger.bind(("127.0.0.1", proxy.port))
        with socket.socket() as own:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            own.bind(("127.0.0.1", proxy.port))
            own.listen()


@pytest.mark.proxy
def test_real_proxy_answers_every_call_type_from_the_provider(tmp_path, provider, provider_url):
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(url=provider_url))
    with (
        ProxyProcess(config, startup_hook=False, cwd=tmp_path).wait_ready() as proxy,
        openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=proxy.master_key, max_retries=0) as client,
        httpx.Client(
            base_url=proxy.url, headers={"x-api-key": proxy.master_key}, timeout=30, trust_env=False
        ) as http,
    ):
        for model in ("group", "claude"):
            chat = client.chat.completions.create(model=model, messages=MESSAGES)
            assert chat.choices[0].message.content == "answer from eu-1"
            assert chat.usage.completion_tokens == 4
            chunks = list(client.chat.completions.create(model=model, messages=MESSAGES, stream=True))
            assert _joined(chunks) == "answer from eu-1"
            response = client.responses.create(model=model, input="hello")
            assert response.output_text == "answer from eu-1"
            events = list(client.responses.create(model=model, input="hello", stream=True))
            assert events[-1].response.output_text == "answer from eu-1"
            message = {"model": model, "max_tokens": 50, "messages": MESSAGES}
            assert http.post("/v1/messages", json=message).json()["content"][0]["text"] == "answer from eu-1"
            streamed = http.post("/v1/messages", json={**message, "stream": True}).text
            assert "event: message_stop" in streamed
        for model in ("group", "texts"):
            completion = client.completions.create(model=model, prompt="hello")
            assert completion.choices[0].text == "answer from eu-1"
            texts = client.completions.create(model=model, prompt="hello", stream=True)
            assert (
                "".join(chunk.choices[0].text or "" for chunk in texts if chunk.choices)
                == completion.choices[0].text
            )
        vectors = client.embeddings.create(model="vectors", input=["a", "b"])
        assert len(vectors.data) == 2
    assert {request.path for request in provider.requests} >= {
        "/v1/chat/completions",
        "/v1/messages",
        "/v1/responses",
        "/v1/completions",
        "/v1/embeddings",
    }


def _joined(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
