from __future__ import annotations

import asyncio
import time

import anthropic
import httpx
import openai
import pytest

from litellm_plugin.testing import Fault, RecordingProvider
from litellm_plugin.testing.server import drop_connection

MESSAGES = [{"role": "user", "content": "Say something of twelve words or more, please."}]
CHAT = {"model": "gpt-x", "messages": MESSAGES}


@pytest.fixture
def client(provider_url):
    with openai.OpenAI(
        base_url=f"{provider_url}/v1", api_key="sk-test", max_retries=0, timeout=10
    ) as openai_client:
        yield openai_client


@pytest.fixture
def claude(provider_url):
    with anthropic.Anthropic(base_url=provider_url, api_key="sk-test", max_retries=0, timeout=10) as it:
        yield it


@pytest.fixture
def http(provider_url):
    with httpx.Client(base_url=provider_url, timeout=10, trust_env=False) as http_client:
        yield http_client


def test_chat_is_answered_with_the_requested_model_and_consistent_usage(client, provider):
    answer = client.chat.completions.create(**CHAT)
    assert answer.choices[0].message.content == "answer from eu-1"
    assert answer.model == "gpt-x"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.completion_tokens == len("answer from eu-1") // 4
    assert provider.calls == 1


def test_streamed_chat_joins_to_the_answer_and_ends_with_usage(client):
    chunks = list(client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "answer from eu-1"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 4


def test_streamed_chat_without_include_usage_has_no_usage(client):
    chunks = list(client.chat.completions.create(**CHAT, stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


def test_completion_is_answered(client):
    answer = client.completions.create(model="gpt-x", prompt="Once")
    assert answer.choices[0].text == "answer from eu-1"


def test_streamed_completion_joins_to_the_answer(client):
    chunks = list(client.completions.create(model="gpt-x", prompt="Once", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == "answer from eu-1"
    assert chunks[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize("encoding_format", ["float", "base64", None])
def test_equal_inputs_get_equal_embeddings(client, encoding_format):
    options = {} if encoding_format is None else {"encoding_format": encoding_format}
    answer = client.embeddings.create(model="emb", input=["a", "b", "a"], dimensions=4, **options)
    first, second, third = (item.embedding for item in answer.data)
    assert first == third != second
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 1


def test_token_array_is_one_embedding_input(client):
    answer = client.embeddings.create(model="emb", input=[1, 2, 3], encoding_format="float")
    assert len(answer.data) == 1


def test_response_is_answered(client):
    answer = client.responses.create(model="gpt-x", input="Hello")
    assert answer.output_text == "answer from eu-1"
    assert answer.status == "completed"
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens


def test_streamed_response_follows_the_published_order(client):
    events = list(client.responses.create(model="gpt-x", input="Hello", stream=True))
    kinds = list(dict.fromkeys(event.type for event in events))
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.output_text == "answer from eu-1"
    assert events[-1].response.usage.output_tokens == 4


def test_streamed_response_accumulates_in_the_openai_client(client):
    with client.responses.stream(model="gpt-x", input="Hello") as stream:
        assert stream.get_final_response().output_text == "answer from eu-1"


def test_message_is_answered(claude):
    answer = claude.messages.create(model="claude-x", max_tokens=10, messages=MESSAGES)
    assert answer.content[0].text == "answer from eu-1"
    assert answer.stop_reason == "end_turn"
    assert answer.usage.output_tokens == 4


def test_streamed_message_accumulates_in_the_anthropic_client(claude):
    with claude.messages.stream(model="claude-x", max_tokens=10, messages=MESSAGES) as stream:
        answer = stream.get_final_message()
    assert answer.content[0].text == "answer from eu-1"
    assert answer.model == "claude-x"
    assert answer.usage.output_tokens == 4
    assert answer.usage.input_tokens > 0


def test_models_lists_the_endpoint(client):
    assert [model.id for model in client.models.list()] == ["eu-1"]


def test_unknown_path_is_404_and_recorded(http, provider):
    assert http.post("/v1/files/x?y=1", content=b"secret").status_code == 404
    (request,) = provider.requests
    assert (request.endpoint, request.method, request.path) == ("eu-1", "POST", "/v1/files/x")
    assert request.body == b"secret"
    assert request.json is None


@pytest.mark.parametrize("body", [b"{", b"[]", b'"text"', b"\xff", b"[" * 100_000])
def test_body_that_is_no_object_is_refused_and_recorded(http, provider, body):
    assert http.post("/v1/chat/completions", content=body).status_code == 400
    assert provider.requests[0].body == body


def test_recorded_request_holds_headers_and_json(http, provider):
    http.post("/x/chat/completions", json=CHAT, headers={"Authorization": "Bearer k"})
    (request,) = provider.requests
    assert request.headers["authorization"] == "Bearer k"
    assert request.json == CHAT
    assert request.at <= time.monotonic()


def test_clear_forgets_requests(http, provider):
    http.get("/v1/models")
    provider.clear()
    assert provider.calls == 0
    assert provider.requests == []


def test_answer_can_be_made_from_the_request(client, provider):
    provider.answer = lambda payload: f"you asked {payload['model']}"
    assert client.chat.completions.create(**CHAT).choices[0].message.content == "you asked gpt-x"


@pytest.mark.parametrize(
    "text", ["", "x", "one  two\n\nthree ", "   ", " leading", "日本語のテキスト", '{"a": [1, 2]}']
)
def test_stream_joins_to_any_text(client, provider, text):
    provider.answer = text
    chunks = client.chat.completions.create(**CHAT, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text


def test_token_counts_can_be_set(client, claude, provider):
    provider.prompt_tokens, provider.completion_tokens = 1_000, 0
    assert client.chat.completions.create(**CHAT).usage.total_tokens == 1_000
    message = claude.messages.create(model="claude-x", max_tokens=1, messages=MESSAGES)
    assert (message.usage.input_tokens, message.usage.output_tokens) == (1_000, 0)


def test_latency_delays_the_answer(http, provider):
    provider.latency_s = 0.2
    started = time.monotonic()
    http.post("/v1/chat/completions", json=CHAT)
    assert time.monotonic() - started >= 0.2


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
def test_status_fault_is_an_openai_error(client, provider, code, error):
    provider.fail(Fault.status(code, retry_after=7))
    with pytest.raises(error) as caught:
        client.chat.completions.create(**CHAT)
    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.type
    assert provider.calls == 1


def test_status_fault_is_an_anthropic_error(claude, provider):
    provider.fail(Fault.status(429))
    with pytest.raises(anthropic.RateLimitError) as caught:
        claude.messages.create(model="claude-x", max_tokens=10, messages=MESSAGES)
    assert caught.value.body["error"]["type"] == "rate_limit_error"
    assert "retry-after" not in caught.value.response.headers


@pytest.mark.parametrize("body", [{"error": "custom"}, b'{"error":"custom"}'])
def test_status_fault_can_carry_its_own_body(http, provider, body):
    provider.fail(Fault.status(418, body=body))
    answer = http.post("/v1/chat/completions", json=CHAT)
    assert (answer.status_code, answer.json()) == (418, {"error": "custom"})


def test_queued_faults_go_before_the_standing_one(http, provider):
    provider.always(Fault.status(500))
    provider.fail(Fault.status(429), Fault.status(400))
    codes = [http.post("/v1/chat/completions", json=CHAT).status_code for _ in range(4)]
    provider.always(None)
    assert [*codes, http.post("/v1/chat/completions", json=CHAT).status_code] == [429, 400, 500, 500, 200]


def test_hang_sends_no_headers(http, provider):
    provider.fail(Fault.hang())
    with pytest.raises(httpx.ReadTimeout):
        http.post("/v1/chat/completions", json=CHAT, timeout=0.2)
    assert provider.calls == 1


def test_hang_answers_after_its_time(http, provider):
    provider.fail(Fault.hang(0.1))
    assert http.post("/v1/chat/completions", json=CHAT).status_code == 200


def test_cut_ends_a_stream_without_done(http, provider):
    provider.fail(Fault.cut(after_chunks=2))
    received = []
    with (
        pytest.raises(httpx.RemoteProtocolError),
        http.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as answer,
    ):
        received.extend(answer.iter_lines())
    assert len([line for line in received if line]) == 2
    assert "data: [DONE]" not in received


@pytest.mark.parametrize("after_chunks", [0, 1, 99])
def test_cut_breaks_a_whole_answer_too(http, provider, after_chunks):
    provider.fail(Fault.cut(after_chunks))
    with pytest.raises(httpx.RemoteProtocolError):
        http.post("/v1/chat/completions", json=CHAT)


def test_cut_finds_the_connection_of_a_forwarded_request(http, provider):
    provider.fail(Fault.cut())
    with pytest.raises(httpx.RemoteProtocolError):
        http.post("/v1/chat/completions", json=CHAT, headers={"x-forwarded-for": "192.0.2.1"})


def test_faults_leave_the_server_log_silent(http, provider, caplog):
    provider.fail(Fault.cut(), Fault.hang(0.05))
    with pytest.raises(httpx.RemoteProtocolError):
        http.post("/v1/chat/completions", json={**CHAT, "stream": True})
    http.post("/v1/chat/completions", json=CHAT)
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []


def test_drip_spaces_the_chunks_of_a_stream(http, provider):
    provider.fail(Fault.drip(0.1))
    arrivals = []
    with http.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as answer:
        arrivals.extend(time.monotonic() for _ in answer.iter_raw())
    assert len(arrivals) >= 4
    assert arrivals[-1] - arrivals[0] >= 0.2


async def test_requests_are_recorded_from_many_connections(provider_url, provider):
    async with httpx.AsyncClient(base_url=provider_url, trust_env=False) as http:
        await asyncio.gather(*(http.post("/v1/chat/completions", json=CHAT) for _ in range(50)))
    assert provider.calls == 50


async def test_connection_of_another_server_cannot_be_dropped():
    with pytest.raises(RuntimeError, match="only a ServerThread"):
        await drop_connection({"type": "http"})


async def test_only_http_and_websockets_are_served():
    with pytest.raises(RuntimeError, match="expected an http or websocket scope"):
        await RecordingProvider("x")({"type": "lifespan"}, None, None)
