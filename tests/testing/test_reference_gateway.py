from __future__ import annotations

import gzip
import hashlib
import socket
import time

import anthropic
import httpx
import jwt
import openai
import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from litellm_plugin.testing import (
    Fault,
    GatewayRule,
    PermitIssuer,
    RecordingProvider,
    ReferenceGateway,
    ServerThread,
)

RULE = GatewayRule(endpoints=("eu-1", "us-1"), tenant="acme", may_classify=("phi",))
CHAT = {"model": "gpt-x", "messages": [{"role": "user", "content": "hello"}]}
CALLER = {"authorization": "Bearer sk-caller"}


@pytest.fixture
def issuer():
    return PermitIssuer(algorithm="ES256")


@pytest.fixture
def gateway_to(issuer):
    servers = ServerThread()

    def start(upstream):
        url = upstream if isinstance(upstream, str) else servers.add(upstream)
        gateway = ReferenceGateway(url, issuer, {"sk-caller": RULE}, "sk-upstream")
        gateway_url = servers.add(gateway)
        servers.start()
        return gateway, gateway_url

    yield start
    servers.stop()


@pytest.fixture
def upstream():
    return RecordingProvider("eu-1")


@pytest.fixture
def gateway_and_url(gateway_to, upstream):
    return gateway_to(upstream)


@pytest.fixture
def gateway(gateway_and_url):
    return gateway_and_url[0]


@pytest.fixture
def http(gateway_and_url):
    with httpx.Client(base_url=gateway_and_url[1], timeout=10, trust_env=False) as client:
        yield client


def permit_claims(issuer, request):
    keys = jwt.PyJWKSet.from_dict(issuer.jwks())
    return jwt.decode(
        request.headers["x-llm-permit"], keys[issuer.kid], algorithms=["ES256"], audience="llm-router"
    )


def test_openai_client_works_through_the_gateway(gateway_and_url):
    with openai.OpenAI(base_url=f"{gateway_and_url[1]}/v1", api_key="sk-caller") as client:
        assert client.chat.completions.create(**CHAT).choices[0].message.content == "answer from eu-1"


def test_anthropic_client_works_through_the_gateway(gateway_and_url):
    with (
        anthropic.Anthropic(base_url=gateway_and_url[1], api_key="sk-caller") as client,
        client.messages.stream(model="c", max_tokens=9, messages=CHAT["messages"]) as stream,
    ):
        assert stream.get_final_text() == "answer from eu-1"


def test_audit_record_joins_to_the_permit(http, gateway, issuer, upstream):
    http.post("/v1/chat/completions", json=CHAT, headers=CALLER)
    (record,) = gateway.audit
    claims = permit_claims(issuer, upstream.requests[0])
    assert (record.request_id, record.jti) == (claims["request_id"], claims["jti"])
    assert (record.tenant, record.policy_version) == (claims["tenant"], claims["policy_version"])
    assert list(record.endpoints) == claims["authorized_endpoints"] == ["eu-1", "us-1"]
    assert record.classification == claims["data_classification"] == "internal"


def test_permit_is_bound_to_the_body_as_sent(http, issuer, upstream):
    body = b'{ "model":"m" ,"messages":[]}'
    http.post("/v1/chat/completions", content=body, headers=CALLER)
    (request,) = upstream.requests
    assert request.body == body
    assert permit_claims(issuer, request)["body_sha256"] == hashlib.sha256(body).hexdigest()


def test_each_request_has_a_fresh_id(http, gateway):
    for _ in range(2):
        http.post("/v1/chat/completions", json=CHAT, headers=CALLER)
    first, second = gateway.audit
    assert first.request_id != second.request_id


def test_permit_and_keys_of_the_caller_are_dropped(http, issuer, upstream):
    forged = {**CALLER, "X-LLM-Permit": "forged", "x-litellm-api-key": "sk-other", "x-api-key": "sk-third"}
    http.post("/v1/chat/completions", json=CHAT, headers=forged)
    (request,) = upstream.requests
    assert permit_claims(issuer, request)["tenant"] == "acme"
    assert request.headers["authorization"] == "Bearer sk-upstream"
    assert not {"x-litellm-api-key", "x-api-key"} & set(request.headers)


def test_hop_by_hop_headers_end_at_the_gateway(http, upstream):
    hops = {"connection": "keep-alive, x-hop", "x-hop": "1", "te": "trailers", "x-end": "2"}
    http.post("/v1/chat/completions", json=CHAT, headers={**CALLER, **hops})
    headers = upstream.requests[0].headers
    assert headers["x-end"] == "2"
    assert not {"x-hop", "te"} & set(headers)


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer sk-no"}, {"x-api-key": "sk-no"}])
def test_unknown_key_is_refused(http, gateway, upstream, headers):
    answer = http.post("/v1/chat/completions", json=CHAT, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "unknown_api_key"
    assert (upstream.calls, gateway.audit) == (0, [])


def test_listed_classification_can_be_declared(http, gateway, issuer, upstream):
    http.post("/v1/chat/completions", json=CHAT, headers={**CALLER, "x-data-classification": "phi"})
    assert permit_claims(issuer, upstream.requests[0])["data_classification"] == "phi"
    assert gateway.audit[0].classification == "phi"
    assert "x-data-classification" not in upstream.requests[0].headers


def test_unlisted_classification_is_refused(http, upstream):
    declared = {**CALLER, "x-data-classification": "public"}
    assert http.post("/v1/chat/completions", json=CHAT, headers=declared).status_code == 403
    assert upstream.calls == 0


def test_stream_arrives_unbuffered(http, upstream):
    upstream.fail(Fault.drip(0.15))
    arrivals = []
    with http.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}, headers=CALLER) as it:
        assert it.headers["content-type"].startswith("text/event-stream")
        arrivals.extend(time.monotonic() for _ in it.iter_raw())
    assert len(arrivals) >= 4
    assert arrivals[-1] - arrivals[0] >= 0.3


def test_cut_stream_is_cut_for_the_caller(http, upstream, caplog):
    upstream.fail(Fault.cut())
    with pytest.raises(httpx.RemoteProtocolError):
        http.post("/v1/chat/completions", json={**CHAT, "stream": True}, headers=CALLER)
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []


def test_status_and_headers_pass_through(http, upstream):
    upstream.fail(Fault.status(429, retry_after=3))
    answer = http.post("/v1/chat/completions", json=CHAT, headers=CALLER)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")


def test_path_and_query_pass_through_as_spelled(gateway_to):
    seen = []

    async def echo(request):
        seen.append((request.method, request.scope["raw_path"], request.scope["query_string"]))
        return Response(status_code=204)

    _, url = gateway_to(Starlette(routes=[Route("/{path:path}", echo, methods=["DELETE"])]))
    httpx.delete(f"{url}/v1/a%2Fb?x=1&y=%20z", headers=CALLER, trust_env=False)
    assert seen == [("DELETE", b"/v1/a%2Fb", b"x=1&y=%20z")]


def test_encoded_body_and_repeated_headers_pass_through(gateway_to):
    async def zipped(request):
        answer = Response(gzip.compress(b"hello"), headers={"content-encoding": "gzip"})
        answer.set_cookie("a", "1")
        answer.set_cookie("b", "2")
        return answer

    _, url = gateway_to(Starlette(routes=[Route("/x", zipped)]))
    answer = httpx.get(f"{url}/x", headers=CALLER, trust_env=False)
    assert answer.text == "hello"
    assert answer.headers["content-encoding"] == "gzip"
    assert len(answer.headers.get_list("set-cookie")) == 2
    assert int(answer.headers["content-length"]) == len(gzip.compress(b"hello"))


def test_request_target_that_names_a_host_is_refused(gateway_and_url, upstream):
    port = int(gateway_and_url[1].rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(b"GET @elsewhere.test/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-caller\r\n\r\n")
        assert raw.recv(65_536).startswith(b"HTTP/1.1 400 ")
    assert upstream.calls == 0


def test_unreachable_upstream_is_502(gateway_to):
    _, url = gateway_to("http://127.0.0.1:1")
    answer = httpx.post(f"{url}/v1/chat/completions", json=CHAT, headers=CALLER, trust_env=False)
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "upstream_unavailable"


async def test_lifespan_closes_the_client(issuer):
    gateway = ReferenceGateway("http://127.0.0.1:1", issuer, {}, "sk-upstream")
    client = gateway._connections()
    sent = []

    async def receive():
        return {"type": "lifespan"}

    async def send(message):
        sent.append(message["type"])

    await gateway({"type": "lifespan"}, receive, send)
    assert client.is_closed
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
