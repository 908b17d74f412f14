from __future__ import annotations

import asyncio
import json

import pytest
from fastapi import FastAPI
from proxy_cases import drive, websocket_scope

from litellm_plugin.errors import Reason, Verdict
from litellm_plugin.permit import ReplayStoreLost
from litellm_plugin.proxy.admission import Admission
from litellm_plugin.proxy.context import Denied, Permitted, current_state
from litellm_plugin.proxy.outcomes import Outcomes
from litellm_plugin.proxy.paths import RouteTable
from litellm_plugin.routing.facts import CallType

CREATE = json.dumps({"type": "response.create", "model": "gpt", "input": "hello"})
LOOK = json.dumps(
    {
        "type": "conversation.item.create",
        "item": {"type": "message", "content": [{"type": "input_image", "image_url": "https://evil/x"}]},
    }
)
BARE = '{"type": "response.create"}'
ITEM = json.dumps({"type": "conversation.item.create", "item": {"type": "message", "role": "user"}})
AUDIO = json.dumps({"type": "input_audio_buffer.append", "audio": "UklGRg=="})
CANCEL = '{"type": "response.cancel"}'
BEGUN = {"type": "response.created", "response": {"id": "resp_1"}}
REALTIME = "/v1/realtime"
RESPONSES = "/v1/responses"


class LiteLLM:
    """What LiteLLM would be: it accepts, keeps each frame it reads, and answers each one with an event."""

    def __init__(self):
        routes = FastAPI(openapi_url=None)
        for path in (REALTIME, RESPONSES):
            routes.websocket(path)(lambda: None)
        self.routes = RouteTable(routes.router, is_own=lambda module: module == __name__)
        self.scope = self.state = self.refusal = self.failure = self.end = None
        self.frames = []
        self.event = {"type": "response.done"}
        self.before = lambda: None

    async def __call__(self, scope, receive, send):
        self.scope, self.state = scope, current_state()
        assert (await receive())["type"] == "websocket.connect"
        if self.refusal is not None:
            await send({"type": "websocket.close", "code": self.refusal})
            return
        await send(
            {"type": "websocket.accept", "headers": [(b"x-own", b"1"), (b"x-permit-endpoint", b"spoof")]}
        )
        await send({"type": "websocket.send", "text": '{"type": "session.created"}'})
        while (message := await receive())["type"] == "websocket.receive":
            self.frames.append(message["text"])
            self.before()
            if self.failure is not None:
                raise self.failure
            await send({"type": "websocket.send", "text": json.dumps(self.event)})
        if self.end is not None:
            await send({"type": "websocket.close", "code": self.end})

    @property
    def query(self):
        return self.scope["query_string"]


@pytest.fixture
def litellm():
    return LiteLLM()


@pytest.fixture
def say(bare, litellm):
    """Opens a socket, says these frames and leaves; `frames` that can be called happen in between."""
    app = Admission(litellm, litellm.routes, bare.runtime)

    async def say(
        *frames, path=REALTIME, query=b"model=gpt", headers=(), permit=None, binding="none", **claims
    ):
        if bare.runtime.policy is None:
            bare.load(binding=binding)
        token = bare.issuer.mint(["eu", "us"], **claims) if permit is None else permit
        lines = [*((("x-llm-permit", token),) if token else ()), *headers]
        scope = {**websocket_scope(path, headers=lines), "query_string": query}
        pending = list(frames)
        sent = []

        async def receive():
            if not receive.connected:
                receive.connected = True
                return {"type": "websocket.connect"}
            while pending and callable(pending[0]):
                pending.pop(0)()
            if not pending:
                return {"type": "websocket.disconnect", "code": 1000}
            frame = pending.pop(0)
            return {"type": "websocket.receive", **(frame if isinstance(frame, dict) else {"text": frame})}

        receive.connected = False

        async def send(message):
            sent.append(message)

        await asyncio.create_task(app(scope, receive, send))
        await asyncio.sleep(0)
        return sent

    return say


def close_of(sent):
    assert sent[-1]["type"] == "websocket.close", sent
    return sent[-1]["code"], sent[-1]["reason"]


def texts(sent):
    return [json.loads(each["text"])["type"] for each in sent if each["type"] == "websocket.send"]


class TestHandshake:
    async def test_a_good_permit_opens_the_socket(self, say, litellm):
        sent = await say(AUDIO)
        assert litellm.frames == [AUDIO]
        assert isinstance(litellm.state, Permitted)
        assert (litellm.state.call_type, litellm.state.is_socket) == (CallType.REALTIME, True)
        assert litellm.state.closed
        assert texts(sent) == ["session.created", "response.done"]

    async def test_the_answer_names_the_request_alone(self, say, litellm):
        accept = (await say())[0]
        assert accept["headers"] == [
            (b"x-own", b"1"),
            (b"x-permit-request-id", litellm.state.permit.request_id.encode()),
        ]

    async def test_the_permit_goes_no_further(self, say, litellm):
        await say(headers=[("x-litellm-tags", "a"), ("x-litellm-trace-id", "spoof")])
        headers = dict(litellm.scope["headers"])
        assert not {b"x-llm-permit", b"x-litellm-tags"} & headers.keys()
        assert headers[b"x-litellm-trace-id"] == litellm.state.permit.request_id.encode()

    async def test_keys_among_the_sub_protocols_go_no_further(self, say, litellm):
        await say(headers=[("sec-websocket-protocol", "realtime, openai-insecure-api-key.sk-1, x")])
        assert dict(litellm.scope["headers"])[b"sec-websocket-protocol"] == b"realtime, x"

    @pytest.mark.parametrize(
        ("path", "query", "kept"),
        [
            pytest.param(REALTIME, b"model=g%20pt&guardrails=x&x-llm-permit=y", b"model=g+pt", id="model"),
            pytest.param(
                REALTIME, b"model=gpt&intent=transcription", b"model=gpt&intent=transcription", id="intent"
            ),
            pytest.param(REALTIME, b"model=gpt&intent=other", b"model=gpt", id="other-intent"),
            pytest.param(RESPONSES, b"model=gpt&intent=transcription", b"model=gpt", id="responses"),
            pytest.param(RESPONSES, b"api_base=x&model=", b"", id="nothing"),
        ],
    )
    async def test_of_the_query_the_model_is_left(self, say, litellm, path, query, kept):
        await say(path=path, query=query)
        assert litellm.query == kept

    @pytest.mark.parametrize(
        ("path", "query"),
        [
            pytest.param(REALTIME, b"", id="no-model"),
            pytest.param(REALTIME, b"intent=transcription", id="intent-alone"),
            pytest.param(REALTIME, b"model=", id="empty"),
            pytest.param(REALTIME, b"model=gpt&model=gpt", id="twice"),
            pytest.param(REALTIME, b"model=gpt&%6dodel=other", id="twice-encoded"),
            pytest.param(REALTIME, b"model=gpt&intent=a&intent=b", id="intent-twice"),
            pytest.param(RESPONSES, b"model=gpt&model=other", id="responses-twice"),
        ],
    )
    async def test_a_query_that_names_no_one_model_is_refused(self, say, litellm, path, query):
        assert close_of(await say(path=path, query=query)) == (4403, "body_invalid")
        assert litellm.scope is None

    @pytest.mark.parametrize(
        ("permit", "headers", "close"),
        [
            pytest.param("", (), (4401, "permit_missing"), id="none"),
            pytest.param("x", (), (4401, "permit_malformed"), id="no-jws"),
            pytest.param(None, [("x-llm-permit", "x")], (4401, "permit_malformed"), id="two"),
        ],
    )
    async def test_without_one_valid_permit_the_handshake_is_refused(
        self, say, litellm, permit, headers, close
    ):
        assert await say(permit=permit, headers=headers) == [
            {"type": "websocket.close", "code": close[0], "reason": close[1]}
        ]
        assert litellm.scope is None
        assert isinstance(current_state(), Denied | None)

    async def test_a_worker_that_is_not_ready_closes_with_4503(self, bare, litellm):
        app = Admission(litellm, litellm.routes, bare.runtime)
        exchange = await drive(app, websocket_scope(REALTIME), [{"type": "websocket.connect"}])
        assert close_of(exchange.sent) == (4503, "not_ready")

    async def test_where_bodies_are_bound_a_permit_without_one_is_refused(self, say, litellm):
        assert close_of(await say(binding="body")) == (4401, "binding_mismatch")
        assert litellm.scope is None

    async def test_what_litellm_refuses_passes_and_is_recorded(self, say, litellm, bare):
        litellm.refusal = 1008
        assert await say() == [{"type": "websocket.close", "code": 1008}]
        assert [each["reason"] for each in bare.records()] == ["litellm_refused"]


class TestFrames:
    @pytest.mark.parametrize(
        ("frame", "reason"),
        [
            pytest.param("{", "body_invalid", id="no-json"),
            pytest.param({"bytes": b"{}"}, "body_invalid", id="binary"),
            pytest.param(
                json.dumps({"type": "input_audio_buffer.append", "audio": "x" * 5000}),
                "body_too_large",
                id="large",
            ),
            pytest.param(
                json.dumps({"type": "session.update", "session": {"model": "b"}}), "body_invalid", id="model"
            ),
            pytest.param(LOOK, "egress_not_cleared", id="content-url"),
        ],
    )
    async def test_a_frame_that_may_not_pass_closes_the_socket(self, say, litellm, bare, frame, reason):
        sent = await say(AUDIO, frame, AUDIO)
        assert (close_of(sent), litellm.frames) == ((4403, reason), [AUDIO])
        (denial,) = bare.records()
        assert (denial["outcome"], denial["reason"], denial["method"]) == ("denied", reason, "WEBSOCKET")

    async def test_after_the_close_nothing_is_sent_or_called(self, say, litellm):
        litellm.end = 1011
        sent = await say("{")
        assert [each["type"] for each in sent] == ["websocket.accept", "websocket.send", "websocket.close"]
        assert litellm.state.closed

    async def test_the_first_frame_names_the_model_of_a_responses_socket(self, say, litellm):
        other = CREATE.replace("gpt", "other")
        sent = await say(CREATE, CREATE, other, path=RESPONSES, query=b"")
        assert (close_of(sent), litellm.frames) == ((4403, "body_invalid"), [CREATE, CREATE])
        assert litellm.state.opening == {"model": "gpt", "input": "hello"}

    async def test_a_response_of_this_socket_may_be_built_on(self, say, litellm):
        litellm.event = BEGUN
        on_it = CREATE.replace("}", ', "previous_response_id": "resp_1"}')
        await say(CREATE, on_it, path=RESPONSES)
        assert len(litellm.frames) == 2

    async def test_a_response_of_another_socket_may_not(self, say, litellm):
        on_it = CREATE.replace("}", ', "previous_response_id": "resp_1"}')
        assert close_of(await say(CREATE, on_it, path=RESPONSES)) == (4403, "body_invalid")

    async def test_a_frame_that_cannot_be_judged_closes_the_socket(self, say, litellm, bare, monkeypatch):
        bare.load(binding="none")
        monkeypatch.setattr(bare.clock, "wall", _broken_after(bare.clock.wall, calls=2))
        assert close_of(await say(AUDIO)) == (4403, "internal_error")
        assert litellm.frames == []


def _broken_after(function, calls):
    left = [calls]

    def broken():
        left[0] -= 1
        if left[0] == 0:
            raise RuntimeError("broken")
        return function()

    return broken


class TestTime:
    @pytest.mark.parametrize(
        "frame", [AUDIO, ITEM, BARE, '{"type": "session.update", "session": {"voice": "a"}}']
    )
    async def test_after_expiry_nothing_that_asks_or_tells_goes_on(self, say, litellm, bare, frame):
        sent = await say(AUDIO, lambda: bare.clock.advance(400), frame)
        assert (close_of(sent), litellm.frames) == ((4401, "expired"), [AUDIO])
        assert texts(sent) == ["session.created", "response.done"]

    async def test_after_expiry_something_may_be_taken_back(self, say, litellm, bare):
        sent = await say(BARE, lambda: bare.clock.advance(400), CANCEL)
        assert (sent[-1]["type"], litellm.frames) == ("websocket.send", [BARE, CANCEL])

    async def test_after_revocation_nothing_goes_on(self, say, litellm, bare):
        bare.load(binding="none")
        sent = await say(
            CREATE,
            lambda: bare.load(binding="none", revoked={"jti": ["j1"]}),
            CREATE,
            path=RESPONSES,
            jti="j1",
        )
        assert (close_of(sent), litellm.frames) == ((4401, "revoked"), [CREATE])

    async def test_a_policy_that_is_stale_by_now_closes_with_4403(self, say, litellm, bare):
        bare.load(binding="none")
        sent = await say(
            CREATE, lambda: bare.load(binding="none", minimum_policy_version="99"), CREATE, path=RESPONSES
        )
        assert close_of(sent) == (4403, "policy_stale")


class TestBinding:
    async def test_the_bound_frame_passes(self, say, litellm):
        await say(CREATE, path=RESPONSES, binding="body", body=CREATE.encode())
        assert litellm.frames == [CREATE]

    @pytest.mark.parametrize("frame", [CREATE + " ", CREATE.replace("hello", "other")])
    async def test_another_first_frame_does_not(self, say, litellm, frame):
        sent = await say(frame, path=RESPONSES, binding="body", body=CREATE.encode())
        assert (close_of(sent), litellm.frames) == ((4401, "binding_mismatch"), [])

    async def test_the_claim_counts_wherever_it_is_given(self, say, litellm):
        assert close_of(await say(AUDIO, body=b"other")) == (4401, "binding_mismatch")

    async def test_there_is_no_second_response(self, say, litellm):
        sent = await say(CREATE, CREATE, path=RESPONSES, binding="body", body=CREATE.encode())
        assert (close_of(sent), litellm.frames) == ((4401, "binding_mismatch"), [CREATE])

    async def test_a_bound_item_may_be_answered_once(self, say, litellm):
        sent = await say(ITEM, BARE, CANCEL, BARE, binding="body", body=ITEM.encode())
        assert (close_of(sent), litellm.frames) == ((4401, "binding_mismatch"), [ITEM, BARE, CANCEL])

    async def test_nothing_is_said_beside_the_bound_frame(self, say, litellm):
        sent = await say(ITEM, AUDIO, binding="body", body=ITEM.encode())
        assert (close_of(sent), litellm.frames) == ((4401, "binding_mismatch"), [ITEM])

    async def test_of_a_bare_event_only_the_type_goes_on(self, say, litellm):
        hidden = json.dumps({"type": "response.create", "event_id": "the rest of the prompt", "response": {}})
        await say(ITEM, hidden, binding="body", body=ITEM.encode())
        assert litellm.frames == [ITEM, BARE]


class TestSingleUse:
    async def test_a_socket_gives_one_response(self, say, litellm):
        sent = await say(ITEM, BARE, ITEM, binding="single_use")
        assert (close_of(sent), litellm.frames) == ((4401, "replayed"), [ITEM, BARE])

    async def test_a_response_that_the_provider_began_counts(self, say, litellm):
        litellm.event = BEGUN
        sent = await say(AUDIO, AUDIO, binding="single_use")
        assert (close_of(sent), litellm.frames) == ((4401, "replayed"), [AUDIO])

    async def test_text_that_only_looks_like_a_response_does_not_count(self, say, litellm):
        litellm.event = {"type": "response.output_text.delta", "delta": '"response.created"'}
        await say(AUDIO, AUDIO, binding="single_use")
        assert litellm.frames == [AUDIO, AUDIO]

    async def test_a_permit_opens_one_socket(self, say, litellm, bare):
        bare.load(binding="single_use")
        permit = bare.issuer.mint(["eu"])
        await say(ITEM, permit=permit)
        sent = await say(ITEM, permit=permit)
        assert (close_of(sent), litellm.frames) == ((4401, "replayed"), [ITEM])

    async def test_a_socket_that_ended_without_an_answer_uses_nothing_up(self, say, litellm, bare):
        bare.load(binding="single_use")
        permit = bare.issuer.mint(["eu"])
        litellm.event, litellm.end = {"type": "error"}, 1011
        await say(ITEM, permit=permit)
        await asyncio.sleep(0.01)
        litellm.event = {"type": "response.done"}
        await say(ITEM, permit=permit)
        assert litellm.frames == [ITEM, ITEM]

    async def test_a_lost_store_closes_with_4503(self, say, litellm, bare, monkeypatch):
        bare.load(binding="single_use")

        async def lost(*_):
            raise ReplayStoreLost

        monkeypatch.setattr(bare.runtime, "claim", lost)
        assert close_of(await say(ITEM)) == (4503, "unavailable")


class TestEnd:
    async def test_a_hooks_verdict_closes_in_place_of_what_litellm_says(self, say, litellm, bare):
        def deny():
            litellm.state.verdict = Verdict(Reason.NOT_AUTHORIZED, "No.")

        litellm.before = deny
        sent = await say(AUDIO)
        assert (close_of(sent), texts(sent)) == ((4403, "not_authorized"), ["session.created"])
        assert [(each["outcome"], each["reason"]) for each in bare.records()] == [
            ("denied", "not_authorized")
        ]

    async def test_a_failure_of_litellm_is_told_without_its_text(self, say, litellm, caplog):
        litellm.failure = RuntimeError("sk-secret")
        sent = await say(AUDIO)
        assert close_of(sent) == (4403, "litellm_refused")
        assert "sk-secret" not in json.dumps(sent, default=str)
        assert "LiteLLM failed on websocket" in caplog.text

    async def test_a_server_that_stops_is_no_fault_of_the_endpoint(self, say, litellm, bare):
        Outcomes(bare.runtime)
        litellm.failure = asyncio.CancelledError()

        def begin():
            bare.plan(litellm.state, "eu", "us")
            bare.attempt(litellm.state, "eu")

        litellm.before = begin
        with pytest.raises(asyncio.CancelledError):
            await say(AUDIO)
        assert litellm.state.closed
        assert [each["status"] for each in bare.records() if each["type"] == "attempt"] == ["abandoned"]

    async def test_an_endpoint_that_never_answered_closes_with_4503(self, say, litellm, bare):
        litellm.event, litellm.end = {"type": "error"}, 1011

        def begin():
            bare.plan(litellm.state, "eu", "us")
            bare.attempt(litellm.state, "eu")

        litellm.before = begin
        assert close_of(await say(AUDIO)) == (4503, "unavailable")
        assert [each["reason"] for each in bare.records() if each["type"] == "decision"] == ["unavailable"]

    async def test_litellms_own_close_passes(self, say, litellm):
        litellm.end = 1011
        assert (await say(AUDIO))[-1] == {"type": "websocket.close", "code": 1011}

    @pytest.mark.parametrize(
        ("ending", "status"),
        [
            pytest.param(({"type": "response.done"}, None), "success", id="well"),
            pytest.param(({"type": "response.done"}, 1000), "success", id="closed-well"),
            pytest.param(({"type": "error"}, None), "abandoned", id="left-without-an-answer"),
            pytest.param(({"type": "response.done"}, 1011), "server_error", id="broken"),
            pytest.param(({"type": "error"}, 1011), "connection_error", id="never-answered"),
        ],
    )
    async def test_an_attempt_that_nobody_reports_ends_as_the_socket_did(
        self, say, litellm, bare, ending, status
    ):
        Outcomes(bare.runtime)
        litellm.event, litellm.end = ending

        def begin():
            bare.plan(litellm.state, "eu", "us")
            bare.attempt(litellm.state, "eu")

        litellm.before = begin
        await say(AUDIO)
        bare.clock.advance(60)
        await bare.runtime.synchronise_once()
        assert [each["status"] for each in bare.records() if each["type"] == "attempt"] == [status]
