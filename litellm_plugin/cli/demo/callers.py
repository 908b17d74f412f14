"""The callers: official clients that go through the gateway, and plain HTTP that goes past it."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, assert_never

import httpx
import openai

from litellm_plugin.cli.demo.scenes import Attacker, Call, Client, Forgery
from litellm_plugin.errors import ConfigurationError
from litellm_plugin.testing import PermitIssuer

if TYPE_CHECKING:
    from litellm_plugin.cli.demo.stage import Stage

_TIMEOUT_S: Final = 60.0
_EXPIRED_S: Final = 600
_CLASSIFICATION_HEADER: Final = "x-data-classification"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a caller got.

    Attributes:
        status: The HTTP status; 0 when there was no answer.
        reason: The reason that the answer names, empty when it names none.
        endpoint: The endpoint that the answer names.
        decision_id: The decision that the answer names.
        text: The answer's text.
        pieces: How many pieces it came in.
        error: The class that the official client raised.
        total_ms: How long it took.
    """

    status: int
    reason: str
    endpoint: str | None
    decision_id: str | None
    text: str
    pieces: int
    error: str | None
    total_ms: float


def check_clients() -> None:
    """Makes sure that the clients which the scenes use are installed.

    Raises:
        ConfigurationError: Says what to install.
    """
    try:
        importlib.import_module("anthropic")
    except ImportError as error:
        raise ConfigurationError(
            "the demo's scenes need Anthropic's client: pip install 'litellm-permit-router[test]'"
        ) from error


def send(stage: Stage, sender: Client | Attacker, call: Call, body: Mapping[str, Any]) -> Answer:
    """Sends one request and reads the whole answer."""
    started_s = time.monotonic()
    if isinstance(sender, Attacker):
        status, headers, text, pieces, error = _past_gateway(stage, sender, body)
    else:
        status, headers, text, pieces, error = _through_gateway(stage, sender, call, body)
    return Answer(
        status=status,
        reason=headers.get("x-permit-reason") or _gateway_code(text),
        endpoint=headers.get("x-permit-endpoint"),
        decision_id=headers.get("x-permit-decision-id"),
        text=text,
        pieces=pieces,
        error=error,
        total_ms=(time.monotonic() - started_s) * 1000,
    )


_Received = tuple[int, Mapping[str, str], str, int, str | None]


def _through_gateway(stage: Stage, client: Client, call: Call, body: Mapping[str, Any]) -> _Received:
    headers = {} if client.classification is None else {_CLASSIFICATION_HEADER: client.classification}
    if call is Call.MESSAGES:
        return _anthropic(stage.gateway_url, client.key, headers, body)
    # Without retries of its own, so that each scene is one request; trust_env: no HTTP proxy to loopback.
    with openai.OpenAI(
        base_url=f"{stage.gateway_url}/v1",
        api_key=client.key,
        default_headers=headers,
        max_retries=0,
        http_client=openai.DefaultHttpxClient(trust_env=False, timeout=_TIMEOUT_S),
    ) as caller:
        return _openai(caller, call, body)


def _openai(client: openai.OpenAI, call: Call, body: Mapping[str, Any]) -> _Received:
    try:
        if call is Call.EMBEDDINGS:
            vectors = client.embeddings.with_raw_response.create(**body)
            count = len(vectors.parse().data)
            return vectors.status_code, vectors.headers, f"{count} vectors", count, None
        raw: Any = client.chat.completions.with_raw_response.create(**body)
        pieces = [*_pieces(raw.parse())] if body.get("stream") else [_text(raw.parse())]
    except openai.APIStatusError as error:
        return error.status_code, error.response.headers, error.response.text, 0, type(error).__name__
    except (openai.APIError, httpx.TransportError) as error:
        return 0, {}, str(error), 0, type(error).__name__
    return raw.status_code, raw.headers, "".join(pieces), len(pieces), None


def _pieces(stream: Any) -> list[str]:
    deltas = (choice.delta.content for chunk in stream for choice in chunk.choices)
    return [delta for delta in deltas if delta]


def _text(completion: Any) -> str:
    return completion.choices[0].message.content or ""


def _anthropic(url: str, key: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> _Received:
    import anthropic  # noqa: PLC0415 - only in the `test` extra; check_clients() spoke of it before

    client = anthropic.Anthropic(
        base_url=url,
        api_key=key,
        default_headers=headers,
        max_retries=0,
        # The client's own class: its releases differ in which HTTP library they take.
        http_client=anthropic.DefaultHttpxClient(trust_env=False, timeout=_TIMEOUT_S),
    )
    try:
        raw: Any = client.messages.with_raw_response.create(**body)
        text = "".join(block.text for block in raw.parse().content)
    except anthropic.APIStatusError as error:
        return error.status_code, error.response.headers, error.response.text, 0, type(error).__name__
    except anthropic.APIError as error:
        return 0, {}, str(error), 0, type(error).__name__
    return raw.status_code, raw.headers, text, 1, None


def _past_gateway(stage: Stage, attacker: Attacker, body: Mapping[str, Any]) -> _Received:
    raw = json.dumps(body).encode()
    headers = {"authorization": f"Bearer {stage.proxy.master_key}", "content-type": "application/json"}
    permit = _permit(stage.issuer, attacker, raw)
    if permit is not None:
        headers[stage.configuration.header] = permit
    with httpx.Client(trust_env=False, timeout=_TIMEOUT_S) as client:
        try:
            answer = client.post(f"{stage.proxy.url}/v1/chat/completions", content=raw, headers=headers)
        except httpx.TransportError as error:
            return 0, {}, str(error), 0, type(error).__name__
    return answer.status_code, answer.headers, answer.text, 1, None


def _permit(issuer: PermitIssuer, attacker: Attacker, body: bytes) -> str | None:
    match attacker.forgery:
        case Forgery.NOTHING:
            return issuer.mint(attacker.endpoints, body=body)
        case Forgery.MISSING:
            return None
        case Forgery.EXPIRED:
            then_s = int(time.time()) - _EXPIRED_S
            return issuer.mint(attacker.endpoints, body=body, iat=then_s, exp=then_s + 60)
        case Forgery.SIGNATURE:
            forger = PermitIssuer(issuer.issuer, issuer.audience, issuer.algorithm)
            return forger.mint(attacker.endpoints, body=body, headers={"kid": issuer.kid})
        case Forgery.OTHER_BODY:
            return issuer.mint(attacker.endpoints, body=b'{"model": "chat", "messages": []}')
    assert_never(attacker.forgery)


def _gateway_code(text: str) -> str:
    """The gateway's own reason in an error's body; empty when the error is not the gateway's."""
    try:
        error = json.loads(text)["error"]
        return str(error["code"]) if error["type"] == "gateway_error" else ""
    except (ValueError, KeyError, TypeError):
        return ""
