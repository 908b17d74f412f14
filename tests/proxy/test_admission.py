from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from dataclasses import replace

import pytest
from fastapi import FastAPI
from proxy_cases import drive, http_scope, websocket_scope
from starlette.responses import Response

from litellm_plugin.errors import Reason, Verdict
from litellm_plugin.proxy.admission import Admission
from litellm_plugin.proxy.answer import Answer
from litellm_plugin.proxy.context import Administrative, Attempt, Denied, Permitted, current_state
from litellm_plugin.proxy.health import HEALTH_PATH
from litellm_plugin.proxy.paths import RouteTable
from litellm_plugin.routing.candidates import Candidate

BODY = b'{"model": "gpt", "messages": []}'


class InnerApp:
    """What LiteLLM would be: it keeps what it saw and answers as a test says."""

    def __init__(self):
        self.scopes = []
        self.states = []
        self.bodies = []
        self.answer = self.serve
        routes = FastAPI(openapi_url=None)
        for path in ("/v1/chat/completions", "/v1/messages"):
            routes.post(path)(lambda: None)
        for path in (
            "/v1/models",
            "/v1/models/{model_id}",
            "/health/readiness",
            "/health/liveliness",
            "/v1/files",
        ):
            routes.get(path)(lambda: None)
        routes.websocket("/vertex_ai/live")(lambda: None)
        self.router = routes.router
        self.routes = RouteTable(self.router, is_own=lambda module: module == __name__)

    async def __call__(self, scope, receive, send):
        self.scopes.append(scope)
        self.states.append(current_state())
        await self.answer(scope, receive, send)

    async def serve(self, scope, receive, send):
        await self.read(receive)
        if isinstance(self.state, Permitted):
            candidate = Candidate("eu-1", "eu")
            self.state.attempts.append(Attempt(1, "decision-1", candidate, started_s=0.0))
        await Response(b"ok", headers={"x-own": "1"})(scope, receive, send)

    async def read(self, receive):
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        self.bodies.append(body)

    @property
    def headers(self):
        return dict(self.scopes[-1]["headers"])

    @property
    def state(self):
        return self.states[-1]


@pytest.fixture
def inner():
    return InnerApp()


@pytest.fixture
def admit(worker, inner):
    """Sends a request with a good permit through admission; `headers` come in addition."""
    app = Admission(inner, inner.routes, worker.runtime)

    async def send(path="/v1/chat/completions", *, body=BODY, headers=(), permit=None, chunks=None, **scope):
        token = worker.issuer.mint(["eu", "us"], body=BODY) if permit is None else permit
        lines = [*((("x-llm-permit", token),) if token else ()), *headers]
        messages = chunks or [{"type": "http.request", "body": body, "more_body": False}]
        return await drive(app, http_scope(path=path, headers=lines, **scope), messages)

    return send


def _after(release, call):
    """The call, once it is released; in the loop's own thread it would wait for itself."""

    def waiting(*arguments, **options):
        if threading.current_thread() is not threading.main_thread():
            release.wait(30)
        return call(*arguments, **options)

    return waiting


def begun(worker, state):
    worker.plan(state, "eu", "us")
    worker.attempt(state, "eu")


class TestAdmitted:
    async def test_a_good_permit_lets_the_request_in(self, admit, inner, worker):
        exchange = await admit()
        assert (exchange.status, exchange.body, inner.bodies) == (200, b"ok", [BODY])
        assert isinstance(inner.state, Permitted)
        assert inner.state.scope.endpoints == {"eu", "us"}
        assert inner.state.timings_ms.keys() == {"verify", "bind"}

    async def test_the_state_ends_with_the_request(self, admit, inner):
        await admit()
        assert inner.state.closed
        assert current_state() is None

    async def test_a_body_in_chunks_is_handed_on_whole(self, admit, inner):
        chunks = [
            {"type": "http.request", "body": BODY[:5], "more_body": True},
            {"type": "http.request", "body": b"", "more_body": True},
            {"type": "http.request", "body": BODY[5:], "more_body": False},
        ]
        assert (await admit(chunks=chunks)).status == 200
        assert inner.bodies == [BODY]

    async def test_after_the_body_the_server_is_heard_again(self, admit, inner):
        heard = []

        async def answer(scope, receive, send):
            heard.extend([(await receive())["type"], (await receive())["type"]])
            await Response()(scope, receive, send)

        inner.answer = answer
        await admit()
        assert heard == ["http.request", "http.disconnect"]

    async def test_the_permit_goes_no_further(self, admit, inner):
        await admit(headers=[("authorization", "Bearer sk-1")])
        assert b"x-llm-permit" not in inner.headers
        assert inner.headers[b"authorization"] == b"Bearer sk-1"

    @pytest.mark.parametrize(
        "name", ["x-litellm-tags", "x-litellm-timeout", "x-litellm-num-retries", "X-LiteLLM-Cache"]
    )
    async def test_a_control_header_goes_no_further(self, admit, inner, name):
        await admit(headers=[(name, "1")])
        assert name.lower().encode() not in inner.headers

    @pytest.mark.parametrize("name", ["x-litellm-api-key", "x-litellm-customer-id", "x-litellm-end-user-id"])
    async def test_a_header_that_says_who_calls_goes_on(self, admit, inner, name):
        await admit(headers=[(name, "1")])
        assert inner.headers[name.encode()] == b"1"

    async def test_the_trace_id_is_the_permits_request_id(self, admit, inner):
        await admit(headers=[("x-litellm-trace-id", "spoofed")])
        traces = [value for name, value in inner.scopes[-1]["headers"] if name == b"x-litellm-trace-id"]
        assert traces == [inner.state.permit.request_id.encode()]

    async def test_a_query_is_stripped(self, admit, inner):
        await admit(query=b"model=other")
        assert inner.scopes[-1]["query_string"] == b""

    async def test_the_callers_scope_is_left_alone(self, worker, inner):
        scope = http_scope(headers=[("x-llm-permit", worker.issuer.mint(["eu"], body=b""))], query=b"a=1")
        before = {**scope, "headers": list(scope["headers"])}
        await drive(Admission(inner, inner.routes, worker.runtime), scope)
        assert scope == before

    async def test_an_authorization_header_may_hold_the_permit(self, bare, inner):
        worker = bare.load(header="authorization")
        lines = [
            ("authorization", f"bearer {worker.issuer.mint(['eu'], body=b'{}')}"),
            ("x-litellm-api-key", "sk-1"),
        ]
        body = [{"type": "http.request", "body": b"{}", "more_body": False}]
        exchange = await drive(
            Admission(inner, inner.routes, worker.runtime), http_scope(headers=lines), body
        )
        assert exchange.status == 200
        assert inner.headers.keys() == {b"x-litellm-api-key", b"x-litellm-trace-id", b"content-type"}

    @pytest.mark.parametrize(
        "lines",
        [
            pytest.param([("content-type", "application/x-www-form-urlencoded")], id="form"),
            pytest.param([("content-type", "multipart/form-data; boundary=x")], id="multipart"),
            pytest.param([("content-type", "application/json; charset=utf-16")], id="utf-16"),
            pytest.param([("content-type", "text/plain")], id="text"),
            pytest.param([], id="none"),
            pytest.param([("content-type", "application/json")] * 2, id="two"),
            pytest.param([("content-type", "application/json"), ("content-encoding", "gzip")], id="gzip"),
        ],
    )
    async def test_bytes_that_are_not_declared_as_plain_json_are_refused(self, worker, inner, lines):
        permit = ("x-llm-permit", worker.issuer.mint(["eu"], body=b"{}"))
        scope = http_scope(headers=[permit, *lines], kind="")
        body = [{"type": "http.request", "body": b"{}", "more_body": False}]
        exchange = await drive(Admission(inner, inner.routes, worker.runtime), scope, body)
        assert (exchange.status, exchange.error["code"], inner.scopes) == (400, "body_invalid", [])

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b'{"prompt": "innocent", "prompt": "secret"}', id="duplicate"),
            pytest.param(b'{"messages": [{"content": "a", "content": "b"}]}', id="nested-duplicate"),
            pytest.param(b"[]", id="list"),
            pytest.param(b"null", id="null"),
            pytest.param(b'{"a": NaN}', id="nan"),
            pytest.param(b"\xff\xfe{\x00}\x00", id="utf-16"),
            pytest.param(b'{"a": 1} {', id="trailing"),
        ],
    )
    async def test_a_body_with_more_than_one_meaning_is_refused(self, worker, inner, body):
        scope = http_scope(headers=[("x-llm-permit", worker.issuer.mint(["eu"], body=body))])
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        exchange = await drive(Admission(inner, inner.routes, worker.runtime), scope, messages)
        assert (exchange.status, exchange.error["code"], inner.scopes) == (400, "body_invalid", [])

    async def test_without_binding_any_body_is_served(self, bare, inner):
        worker = bare.load(binding="none")
        scope = http_scope(headers=[("x-llm-permit", worker.issuer.mint(["eu"]))])
        messages = [{"type": "http.request", "body": b'{"model": "gpt"}', "more_body": False}]
        assert (await drive(Admission(inner, inner.routes, worker.runtime), scope, messages)).status == 200

    async def test_what_is_not_published_never_reaches_litellm(self, bare, inner):
        worker = bare.load(binding="none")
        scope = http_scope(headers=[("x-llm-permit", worker.issuer.mint(["eu"]))])
        body = b'{"model": "gpt", "success_callback": ["x"], "cache": {"no-cache": true, "ttl": 9}}'
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        await drive(Admission(inner, inner.routes, worker.runtime), scope, messages)
        assert inner.bodies == [b'{"model":"gpt","cache":{"no-cache":true}}']
        assert inner.states[0].dropped_fields == ("cache", "success_callback")

    @pytest.mark.parametrize("size_bytes", [999_999, 1_000_000, 1_000_001, 3_000_000])
    async def test_a_large_body_is_served_as_a_small_one_is(self, bare, inner, size_bytes):
        worker = bare.load(binding="none", max_body_bytes=4_000_000)
        scope = http_scope(headers=[("x-llm-permit", worker.issuer.mint(["eu"]))])
        start = b'{"model":"gpt","x":1,"user":"'
        body = start + b"u" * (size_bytes - len(start) - 2) + b'"}'
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        exchange = await drive(Admission(inner, inner.routes, worker.runtime), scope, messages)
        assert (exchange.status, inner.bodies) == (200, [body.replace(b'"x":1,', b"")])
        assert inner.states[0].dropped_fields == ("x",)

    async def test_other_requests_go_on_while_a_large_body_is_read(self, bare, inner, monkeypatch):
        worker = bare.load(binding="none", max_body_bytes=4_000_000)
        token = worker.issuer.mint(["eu"])
        app = Admission(inner, inner.routes, worker.runtime)
        release = threading.Event()
        monkeypatch.setattr("json.dumps", _after(release, json.dumps))
        scope = http_scope(headers=[("x-llm-permit", token)])
        body = b'{"model":"gpt","x":1,"user":"' + b"u" * 1_000_000 + b'"}'
        large = asyncio.create_task(
            drive(app, scope, [{"type": "http.request", "body": body, "more_body": False}])
        )
        await asyncio.sleep(0)
        small = await drive(app, scope, [{"type": "http.request", "body": BODY, "more_body": False}])
        is_waiting = not large.done()
        release.set()
        assert (small.status, is_waiting, (await large).status) == (200, True, 200)

    async def test_a_large_body_is_refused_as_a_small_one_is(self, bare, inner):
        worker = bare.load(max_body_bytes=4_000_000)
        body = b'{"model":"' + b"m" * 2_000_000 + b'"}'
        scope = http_scope(headers=[("x-llm-permit", worker.issuer.mint(["eu"], body=body))])
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        exchange = await drive(Admission(inner, inner.routes, worker.runtime), scope, messages)
        assert (exchange.status, exchange.error["code"], inner.scopes) == (400, "body_invalid", [])

    async def test_a_body_of_published_fields_is_handed_on_as_it_came(self, bare, inner):
        worker = bare.load(binding="none")
        scope = http_scope(headers=[("x-llm-permit", worker.issuer.mint(["eu"]))])
        body = b'{ "model": "gpt",\n "temperature": 1.0 }'
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        await drive(Admission(inner, inner.routes, worker.runtime), scope, messages)
        assert inner.bodies == [body]

    async def test_a_bound_permit_is_held_to_its_body_anyway(self, bare, inner):
        worker = bare.load(binding="none")
        scope = http_scope(headers=[("x-llm-permit", worker.issuer.mint(["eu"], body=b"other"))])
        exchange = await drive(Admission(inner, inner.routes, worker.runtime), scope)
        assert exchange.error["code"] == "binding_mismatch"


class TestCaller:
    """What headers and metadata say of a request."""

    async def send(self, bare, inner, *headers, binding="none", **fields):
        worker = bare.load(binding=binding)
        app = Admission(inner, inner.routes, worker.runtime)
        body = json.dumps({"model": "gpt", "messages": [], **fields}).encode()
        permit = worker.issuer.mint(["eu"], body=body)
        message = {"type": "http.request", "body": body, "more_body": False}
        return await drive(app, http_scope(headers=[("x-llm-permit", permit), *headers]), [message])

    async def test_the_state_keeps_it(self, bare, inner):
        await self.send(
            bare,
            inner,
            ("X-Latency-Budget-Ms", "900"),
            ("idempotency-key", "k"),
            metadata={"latency_budget_ms": 700, "workload": "report", "writes": True},
        )
        caller = inner.state.caller
        assert (caller.latency_budget_ms, caller.workload) == (700, "report")
        assert caller.is_idempotent
        assert caller.writes

    async def test_a_session_in_a_field_that_litellm_does_not_get_counts(self, bare, inner):
        await self.send(bare, inner, litellm_session_id="17")
        assert inner.state.caller.session is not None
        assert "17" not in repr(inner.state.caller)
        assert inner.state.dropped_fields == ("litellm_session_id",)

    @pytest.mark.parametrize(
        ("headers", "fields"),
        [
            pytest.param([("x-latency-budget-ms", "soon")], {}, id="header"),
            pytest.param([], {"metadata": {"latency_budget_ms": 0}}, id="metadata"),
        ],
    )
    async def test_what_makes_no_sense_is_refused_with_what_was_expected(self, bare, inner, headers, fields):
        exchange = await self.send(bare, inner, *headers, **fields)
        assert (exchange.status, exchange.error["code"]) == (400, "body_invalid")
        assert "a number of milliseconds above 0" in exchange.error["message"]
        assert inner.scopes == []

    async def test_a_refused_request_does_not_use_its_permit_up(self, bare, inner):
        await self.send(bare, inner, ("x-workload", "a b"), binding="single_use")
        assert inner.scopes == []
        await self.send(bare, inner, binding="single_use")
        assert inner.state.claim is not None


class TestSingleUse:
    @pytest.mark.parametrize("end", ["verdict", "failure"])
    async def test_the_use_is_free_before_the_client_hears_that_there_is_no_answer(self, bare, inner, end):
        worker = bare.load(binding="single_use")
        permit = worker.runtime.verifier.verify(
            worker.issuer.mint(["eu"], body=BODY), now=worker.clock.wall(), monotonic_s=0.0
        )
        claimed = []

        async def fail(scope, receive, send):
            await inner.read(receive)
            if end == "verdict":
                inner.state.end(Verdict(Reason.CHAIN_EXHAUSTED, "no"))
            await Response(status_code=503)(scope, receive, send)

        async def send(message):
            policy = worker.runtime.policy
            if message["type"] == "http.response.start":
                claimed.append(await worker.runtime.claim(permit, hashlib.sha256(BODY).hexdigest(), policy))

        async def receive():
            return {"type": "http.request", "body": BODY, "more_body": False}

        inner.answer = fail
        first = await worker.runtime.claim(permit, hashlib.sha256(BODY).hexdigest(), worker.runtime.policy)
        state = worker.state("eu")
        state.claim = first
        inner.states.append(state)
        await fail({"type": "http"}, receive, Answer(state, send, worker.runtime))
        assert [each is not None for each in claimed] == [True]


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "code", "status"),
        [
            pytest.param({"permit": ""}, "permit_missing", 401, id="no-permit"),
            pytest.param(
                {"permit": "", "headers": [("x-llm-permit", " ")]}, "permit_missing", 401, id="empty"
            ),
            pytest.param({"headers": [("x-llm-permit", "x")]}, "permit_malformed", 401, id="two"),
            pytest.param(
                {"permit": "", "headers": [("x-llm-permit", "\xe9.\xe9.\xe9")]},
                "permit_malformed",
                401,
                id="latin",
            ),
            pytest.param(
                {"permit": "", "headers": [("X-LLM-Permit", "a.b.c")]}, "permit_malformed", 401, id="junk"
            ),
            pytest.param({"body": BODY + b" "}, "binding_mismatch", 401, id="other-body"),
            pytest.param({"body": b"x" * 4_097}, "body_too_large", 413, id="large-body"),
            pytest.param({"path": "/v1/files", "method": "GET"}, "path_not_permitted", 403, id="path"),
            pytest.param({"path": "/nothing"}, "path_not_permitted", 403, id="no-route"),
            pytest.param({"method": "OPTIONS"}, "path_not_permitted", 403, id="method"),
        ],
    )
    async def test_it_ends_here_with_its_reason(self, *, admit, inner, worker, changes, code, status):
        exchange = await admit(**changes)
        assert (exchange.status, exchange.error["code"]) == (status, code)
        assert exchange.headers["x-permit-reason"] == code
        assert exchange.headers["x-permit-decision-id"] == exchange.error["decision_id"]
        assert exchange.headers["x-should-retry"] == "false"
        assert inner.scopes == []
        (record,) = worker.records()
        assert (record["outcome"], record["reason"]) == ("denied", code)
        assert record["decision_id"] == exchange.error["decision_id"]

    @pytest.mark.parametrize(
        "name",
        [
            pytest.param("x_llm_permit", id="R05-underscores"),
            pytest.param("x-permit", id="R05-shorter"),
            pytest.param("x_permit", id="R05-shorter-underscores"),
            pytest.param("x-llm-permit ", id="R05-blank-behind"),
            pytest.param(" x-llm-permit", id="R05-blank-before"),
            pytest.param("x-llm-permit\0", id="R05-nul"),
            pytest.param("x-llm-permits", id="R05-plural"),
            pytest.param("authorization", id="R05-another-header"),
        ],
    )
    async def test_a_permit_under_a_name_that_looks_alike_counts_as_missing(
        self, *, admit, inner, worker, name
    ):
        lines = [(name, worker.issuer.mint(["eu"], body=BODY))]
        exchange = await admit(permit="", headers=lines)
        assert (exchange.status, exchange.error["code"], inner.scopes) == (401, "permit_missing", [])

    async def test_a_permit_without_a_body_is_refused_where_one_is_required(self, admit, worker):
        exchange = await admit(permit=worker.issuer.mint(["eu"]))
        assert exchange.error["code"] == "binding_mismatch"
        assert "body_sha256 is absent" in exchange.error["message"]

    async def test_a_verified_permit_names_its_request_in_the_denial(self, admit, worker):
        permit = worker.issuer.mint(["eu"], body=b"other", request_id="req-7")
        exchange = await admit(permit=permit)
        assert (exchange.error["request_id"], exchange.error["policy_version"]) == ("req-7", "42")
        assert exchange.headers["x-permit-request-id"] == "req-7"

    async def test_an_expired_permit_is_refused(self, admit, worker):
        permit = worker.issuer.mint(["eu"], body=BODY)
        worker.clock.advance(65)
        assert (await admit(permit=permit)).error["code"] == "expired"

    async def test_no_part_of_a_permit_is_told(self, admit, worker):
        permit = worker.issuer.mint(["eu"], body=b"other")
        exchange = await admit(permit=permit)
        told = exchange.body.decode() + json.dumps(worker.records())
        assert not any(part in told for part in permit.split("."))
        assert hashlib.sha256(b"other").hexdigest() not in told

    async def test_anthropics_path_gets_anthropics_shape(self, admit):
        assert json.loads((await admit("/v1/messages", permit="")).body)["type"] == "error"

    async def test_a_client_that_goes_away_while_its_body_is_read_gets_nothing(self, admit, inner):
        chunks = [{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}]
        exchange = await admit(chunks=chunks)
        assert (exchange.sent, inner.scopes) == ([], [])

    async def test_a_body_that_never_ends_is_cut_off(self, admit):
        chunks = [{"type": "http.request", "body": b"x" * 1_000, "more_body": True} for _ in range(50)]
        assert (await admit(chunks=chunks)).error["code"] == "body_too_large"

    @pytest.mark.parametrize("path", ["/vertex_ai/live", "/v1/chat/completions", "/nothing"])
    async def test_a_websocket_on_another_path_is_closed(self, worker, inner, path):
        scope = websocket_scope(path, headers=[("x-llm-permit", worker.issuer.mint(["eu"]))])
        exchange = await drive(
            Admission(inner, inner.routes, worker.runtime), scope, [{"type": "websocket.connect"}]
        )
        assert exchange.sent == [{"type": "websocket.close", "code": 4403, "reason": "path_not_permitted"}]
        assert inner.scopes == []

    async def test_what_nobody_foresaw_is_refused_too(self, admit, inner, worker, caplog):
        worker.missing = None
        exchange = await admit()
        assert (exchange.status, exchange.error["code"], inner.scopes) == (500, "internal_error", [])
        assert "Admission failed" in caplog.text

    async def test_the_refused_context_may_call_nothing(self, worker, inner):
        seen = []

        async def send(message):
            seen.append(current_state())

        await Admission(inner, inner.routes, worker.runtime)(http_scope(), None, send)
        assert seen == [Denied(), Denied()]


class TestNotReady:
    @pytest.fixture
    def app(self, bare, inner):
        return Admission(inner, inner.routes, bare.runtime)

    async def test_a_governed_path_is_refused_for_now(self, app, inner):
        exchange = await drive(app, http_scope(headers=[("x-llm-permit", "x")]))
        assert (exchange.status, exchange.error["code"]) == (503, "not_ready")
        assert exchange.headers["retry-after"] == "1"
        assert inner.scopes == []

    async def test_readiness_is_red(self, app, inner):
        exchange = await drive(app, http_scope("GET", "/health/readiness"))
        assert (exchange.status, json.loads(exchange.body)["status"], inner.scopes) == (503, "red", [])

    async def test_liveness_is_litellms_own(self, app, inner):
        assert (await drive(app, http_scope("GET", "/health/liveliness"))).status == 200
        assert inner.state == Administrative()

    async def test_the_default_permit_header_goes_no_further_even_now(self, app, inner):
        await drive(app, http_scope("GET", "/v1/models", headers=[("x-llm-permit", "secret")]))
        assert inner.headers == {}

    async def test_a_log_that_cannot_be_opened_does_not_change_the_answer(self, app, bare):
        (bare.folder / "decisions.jsonl").mkdir()
        assert (await drive(app, http_scope())).status == 503

    async def test_a_missing_part_refuses_governed_paths(self, worker, inner):
        worker.missing.append("hooks are gone")
        app = Admission(inner, inner.routes, worker.runtime)
        exchange = await drive(
            app, http_scope(headers=[("x-llm-permit", worker.issuer.mint(["eu"], body=b""))])
        )
        assert (exchange.status, exchange.error["code"]) == (503, "not_ready")

    async def test_keys_that_are_too_old_refuse_for_now(self, worker, inner):
        # The first request of a worker waits for its keys, which are loaded anew.
        worker.runtime._has_first_keys = True
        worker.clock.advance(3_601)
        app = Admission(inner, inner.routes, worker.runtime)
        exchange = await drive(
            app, http_scope(headers=[("x-llm-permit", worker.issuer.mint(["eu"], body=b""))])
        )
        assert (exchange.status, exchange.error["code"]) == (503, "keys_unavailable")


class TestAdministrative:
    async def test_it_needs_no_permit_and_may_call_no_model(self, admit, inner):
        assert (await admit("/v1/models", method="GET", permit="")).status == 200
        assert inner.state == Administrative()

    async def test_it_keeps_its_query_and_headers(self, admit, inner):
        await admit("/v1/models", method="GET", query=b"a=1", headers=[("x-litellm-tags", "1")])
        assert inner.scopes[-1]["query_string"] == b"a=1"
        assert inner.headers == {b"x-litellm-tags": b"1"}

    async def test_readiness_is_litellms_own_when_all_is_well(self, admit):
        assert (await admit("/health/readiness", method="GET", permit="")).body == b"ok"

    async def test_our_own_health_needs_no_permit(self, admit, inner):
        exchange = await admit(HEALTH_PATH, method="GET", permit="")
        assert (exchange.status, json.loads(exchange.body)["status"], inner.scopes) == (200, "green", [])

    async def test_our_own_health_is_there_under_a_root_path(self, admit):
        exchange = await admit(f"/proxy{HEALTH_PATH}", method="GET", permit="", root_path="/proxy")
        assert exchange.status == 200

    async def test_our_own_health_is_for_reading(self, admit):
        assert (await admit(HEALTH_PATH, method="POST")).error["code"] == "path_not_permitted"

    async def test_lifespan_events_pass(self, worker, inner):
        async def answer(scope, receive, send):
            await send({"type": "lifespan.startup.complete"})

        inner.answer = answer
        exchange = await drive(Admission(inner, inner.routes, worker.runtime), {"type": "lifespan"})
        assert exchange.sent == [{"type": "lifespan.startup.complete"}]


class TestAnswers:
    def answering(self, inner, worker, status=200, *, verdict=None, headers=None):
        async def answer(scope, receive, send):
            begun(worker, current_state())
            current_state().verdict = verdict
            await Response(b"from LiteLLM", status, headers=headers)(scope, receive, send)

        inner.answer = answer

    async def test_a_success_says_where_it_came_from(self, admit, inner, worker):
        self.answering(inner, worker)
        headers = (await admit()).headers
        assert headers["x-permit-endpoint"] == "eu"
        assert headers["x-permit-rule"] == "default"
        assert headers["x-permit-reason"] == "selected"
        assert headers["x-permit-decision-id"] == "decision-1"
        assert headers["x-permit-request-id"] == inner.state.permit.request_id

    async def test_a_second_attempt_is_a_failover(self, admit, inner, worker):
        async def answer(scope, receive, send):
            begun(worker, current_state())
            worker.attempt(current_state(), "us")
            await Response()(scope, receive, send)

        inner.answer = answer
        headers = (await admit()).headers
        assert (headers["x-permit-endpoint"], headers["x-permit-reason"]) == ("us", "failover")

    async def test_a_provider_cannot_write_our_headers(self, admit, inner, worker):
        self.answering(inner, worker, headers={"X-Permit-Endpoint": "us", "x-permit-other": "1"})
        exchange = await admit()
        values = [
            value for name, value in exchange.sent[0]["headers"] if name.lower() == b"x-permit-endpoint"
        ]
        assert values == [b"eu"]
        assert "x-permit-other" not in exchange.headers

    @pytest.mark.parametrize("status", [400, 403, 429, 500])
    async def test_a_verdict_replaces_an_error(self, admit, inner, worker, status):
        verdict = Verdict(Reason.CHAIN_EXHAUSTED, "All used up.")
        self.answering(inner, worker, status, verdict=verdict)
        exchange = await admit()
        assert (exchange.status, exchange.error["message"]) == (503, "All used up.")
        assert exchange.headers["x-permit-reason"] == "chain_exhausted"
        assert worker.records()[-1]["decision_id"] == exchange.error["decision_id"]

    async def test_without_a_verdict_litellms_error_stands(self, admit, inner, worker):
        self.answering(inner, worker, 400)
        exchange = await admit()
        assert (exchange.status, exchange.body) == (400, b"from LiteLLM")

    async def test_a_verdict_does_not_replace_a_success(self, admit, inner, worker):
        self.answering(inner, worker, verdict=Verdict(Reason.UNAVAILABLE, "x"))
        assert (await admit()).body == b"from LiteLLM"

    @pytest.mark.parametrize("status", [200, 204])
    async def test_an_answer_that_nobody_decided_is_replaced_and_on_record(
        self, admit, inner, worker, status
    ):
        async def answer(scope, receive, send):
            worker.plan(current_state(), "eu")
            await Response(b"from nowhere" if status == 200 else None, status)(scope, receive, send)

        inner.answer = answer
        exchange = await admit()
        assert (exchange.status, exchange.error["code"]) == (500, "internal_error")
        assert "from nowhere" not in exchange.body.decode()
        record = worker.records()[-1]
        assert record["decision_id"] == exchange.error["decision_id"]
        assert record["reason"] == "internal_error"

    async def test_an_error_that_nobody_decided_is_litellms_own(self, admit, inner):
        async def answer(scope, receive, send):
            await Response(b"from LiteLLM", 404)(scope, receive, send)

        inner.answer = answer
        assert (await admit()).body == b"from LiteLLM"

    async def test_the_shortest_wait_that_a_provider_asked_for_is_passed_on(self, admit, inner, worker):
        async def answer(scope, receive, send):
            state = current_state()
            for name, retry_after_s in (("eu", 9.0), ("us", 7.0), ("other", None)):
                worker.attempt(state, name).retry_after_s = retry_after_s
            state.verdict = Verdict(Reason.UNAVAILABLE, "x")
            await Response(status_code=500)(scope, receive, send)

        inner.answer = answer
        assert (await admit()).headers["retry-after"] == "7"

    async def test_an_exception_with_a_verdict_is_a_denial(self, admit, inner):
        async def answer(scope, receive, send):
            current_state().verdict = Verdict(Reason.NOT_AUTHORIZED, "No.")
            raise RuntimeError("LiteLLM fell over")

        inner.answer = answer
        assert (await admit()).error["code"] == "not_authorized"

    async def test_an_exception_without_one_is_said_to_be_litellms_own(self, admit, inner):
        async def answer(scope, receive, send):
            raise RuntimeError("LiteLLM fell over")

        inner.answer = answer
        exchange = await admit()
        assert (exchange.status, exchange.error["code"]) == (500, "litellm_refused")
        assert "fell over" not in exchange.body.decode()
        assert inner.state.closed

    async def test_an_exception_after_the_first_byte_is_not_papered_over(self, admit, inner, worker):
        async def answer(scope, receive, send):
            begun(worker, current_state())
            await send({"type": "http.response.start", "status": 200, "headers": []})
            current_state().verdict = Verdict(Reason.NOT_AUTHORIZED, "No.")
            raise RuntimeError("LiteLLM fell over")

        inner.answer = answer
        with pytest.raises(RuntimeError, match="fell over"):
            await admit()

    async def test_the_first_byte_of_the_body_starts_the_answer(self, admit, inner, worker):
        seen = []

        async def answer(scope, receive, send):
            begun(worker, current_state())
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for body, more in ((b"", True), (b"a", True), (b"", False)):
                await send({"type": "http.response.body", "body": body, "more_body": more})
                seen.append(current_state().response_started)

        inner.answer = answer
        await admit()
        assert seen == [False, True, True]

    async def test_an_answer_that_stopped_half_way_abandons_its_attempt(self, admit, inner, worker):
        async def answer(scope, receive, send):
            begun(worker, current_state())
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})

        inner.answer = answer
        await admit()
        assert [each.get("status") for each in worker.records()] == ["abandoned"]

    async def test_a_whole_answer_waits_for_litellms_report(self, admit, inner, worker):
        self.answering(inner, worker)
        await admit()
        assert worker.records() == []


class TestOpenedPaths:
    @pytest.fixture
    def opened(self, worker):
        """Opens paths in the worker's policy."""

        def open_paths(paths):
            opened = replace(worker.runtime.policy, paths=paths)
            worker.runtime.in_force = replace(worker.runtime.in_force, policy=opened)

        return open_paths

    async def test_a_foreign_handler_cannot_be_opened_on_a_listed_path(self, worker, inner, opened):
        opened({("POST", "/v1/messages"): "eu"})
        app = Admission(inner, RouteTable(inner.router), worker.runtime)
        exchange = await drive(app, http_scope(path="/v1/messages"))
        assert exchange.error["code"] == "path_not_permitted"

    async def test_an_opened_path_is_administrative(self, admit, inner, opened):
        opened({("GET", "/v1/files"): None})
        answer = await admit("/v1/files", method="GET", permit="", body=b"")
        assert answer.status == 200
        assert isinstance(inner.state, Administrative)

    async def test_its_other_methods_stay_shut(self, admit, inner, opened):
        opened({("POST", "/v1/files"): None})
        answer = await admit("/v1/files", method="GET", permit="", body=b"")
        assert (answer.status, answer.error["code"]) == (403, "path_not_permitted")
        assert inner.scopes == []

    async def test_a_governed_path_stays_governed(self, admit, opened):
        opened({("POST", "/v1/chat/completions"): None})
        answer = await admit(permit="")
        assert (answer.status, answer.error["code"]) == (401, "permit_missing")

    async def test_a_pass_through_needs_a_deployment_of_its_endpoint(self, admit, inner, opened, worker):
        opened({("GET", "/v1/models/{model_id}"): "eu"})
        token = worker.issuer.mint(["eu"], body=b"GET /v1/models/a?b=c")
        answer = await admit("/v1/models/a", method="GET", permit=token, body=b"", query=b"b=c")
        assert (answer.status, answer.error["code"]) == (403, "not_authorized")
        assert inner.scopes == []
        assert [r["type"] for r in worker.records()] == ["decision"]

    async def test_a_pass_through_keeps_its_query_and_one_key(
        self, admit, inner, opened, worker, monkeypatch
    ):
        opened({("GET", "/v1/models/{model_id}"): "eu"})
        candidate = Candidate(deployment_id="eu-1", endpoint="eu")
        monkeypatch.setattr(worker.runtime.deployments, "of_endpoint", lambda _: (candidate,))
        token = worker.issuer.mint(["eu"], body=b"GET /v1/models/a?b=c")
        keys = [
            ("x-api-key", "sk-own"),
            ("authorization", "Bearer sk-litellm"),
            ("authorization", "Bearer x"),
        ]

        answer = await admit("/v1/models/a", method="GET", permit=token, body=b"", query=b"b=c", headers=keys)

        assert answer.status == 200
        assert inner.scopes[-1]["query_string"] == b"b=c"
        assert [v for k, v in inner.scopes[-1]["headers"] if k in {b"authorization", b"x-api-key"}] == [
            b"Bearer sk-litellm"
        ]
