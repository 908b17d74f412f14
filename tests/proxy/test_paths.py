from __future__ import annotations

import json

import pytest
from fastapi import APIRouter, FastAPI
from proxy_cases import http_scope, websocket_scope
from starlette.applications import Starlette

from litellm_plugin.proxy.paths import (
    _CACHE_SIZE,
    ADMINISTRATIVE,
    GOVERNED,
    PathKind,
    RouteTable,
    classify_template,
    covered,
    is_litellms,
)
from litellm_plugin.routing.facts import CallType


async def endpoint():
    return {}


def is_of_this_file(module):
    return module == __name__


def an_app():
    app = FastAPI(openapi_url=None)
    for path in ("/chat/completions", "/v1/chat/completions", "/v1/messages", "/v1/responses"):
        app.post(path)(endpoint)
    app.get("/v1/models")(endpoint)
    app.get("/v1/models/{model_id}")(endpoint)
    app.get("/v1/files/{path:path}")(endpoint)
    included = APIRouter(prefix="/v1")
    included.post("/embeddings")(endpoint)
    inner = APIRouter(prefix="/inner")
    inner.post("/deep")(endpoint)
    included.include_router(inner)
    app.include_router(included)
    app.websocket("/v1/responses")(endpoint)
    app.websocket("/v1/other")(endpoint)
    app.mount("/mcp", Starlette())
    return app


@pytest.fixture
def app():
    return an_app()


@pytest.fixture
def table(app):
    return RouteTable(app.router, is_own=is_of_this_file)


def classified(table, method, path, **scope):
    route = table.classify(http_scope(method, path, **scope))
    return route.kind, route.template, route.call_type


@pytest.mark.parametrize(
    ("method", "path", "template", "call_type"),
    [
        pytest.param("POST", "/v1/chat/completions", "/v1/chat/completions", CallType.CHAT, id="chat"),
        pytest.param("POST", "/chat/completions", "/chat/completions", CallType.CHAT, id="bare"),
        pytest.param("POST", "/v1/messages", "/v1/messages", CallType.MESSAGES, id="messages"),
        pytest.param("POST", "/v1/responses", "/v1/responses", CallType.RESPONSES, id="beside-a-websocket"),
        pytest.param("POST", "/v1/embeddings", "/v1/embeddings", CallType.EMBEDDING, id="included"),
    ],
)
def test_a_governed_path(table, method, path, template, call_type):
    assert classified(table, method, path) == (PathKind.GOVERNED, template, call_type)


def test_an_administrative_path(table):
    assert classified(table, "GET", "/v1/models") == (PathKind.ADMINISTRATIVE, "/v1/models", None)


@pytest.mark.parametrize(
    ("method", "path", "template"),
    [
        pytest.param("GET", "/v1/models/gpt", "/v1/models/{model_id}", id="parameter"),
        pytest.param("GET", "/v1/files/a/b", "/v1/files/{path}", id="path-parameter"),
        pytest.param("POST", "/v1/inner/deep", "/v1/inner/deep", id="nested-router"),
        pytest.param("POST", "/inner/deep", None, id="nested-router-without-prefix"),
        pytest.param("POST", "/mcp", None, id="mount-root"),
        pytest.param("POST", "/mcp/v1/chat/completions", "/mcp/*", id="mount"),
        pytest.param("GET", "/nothing", None, id="no-route"),
        pytest.param("GET", "/", None, id="root"),
        pytest.param("POST", "", None, id="empty"),
    ],
)
def test_everything_else_is_refused(table, method, path, template):
    kind, found, call_type = classified(table, method, path)
    assert (kind, call_type) == (PathKind.REFUSED, None)
    assert template is None or found == template


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "post", "WEBSOCKET"]
)
def test_another_method_on_a_governed_path_is_refused(table, method):
    assert classified(table, method, "/v1/chat/completions") == (PathKind.REFUSED, None, None)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions/",
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/V1/chat/completions",
        "/v1/chat/../chat/completions",
        "/v1/chat%2fcompletions",
        "/v1/chat/completions;x=1",
        "/v1/chat/completions?x",
    ],
)
def test_a_spelling_that_the_router_does_not_match_is_refused(table, path):
    assert classified(table, "POST", path)[0] is PathKind.REFUSED


def test_an_encoded_spelling_arrives_decoded_and_is_governed(table):
    scope = {**http_scope("POST", "/v1/chat/completions"), "raw_path": b"/%76%31/chat%2fcompletions"}
    assert table.classify(scope).kind is PathKind.GOVERNED


@pytest.mark.parametrize("path", ["/proxy/v1/chat/completions", "/v1/chat/completions"])
def test_a_root_path_is_stripped_and_need_not_be_there(table, path):
    assert classified(table, "POST", path, root_path="/proxy")[0] is PathKind.GOVERNED


@pytest.mark.parametrize("path", ["/proxyx/v1/chat/completions", "/other/v1/chat/completions"])
def test_another_prefix_is_not(table, path):
    assert classified(table, "POST", path, root_path="/proxy")[0] is PathKind.REFUSED


def test_a_websocket_is_another_route(table):
    route = table.classify(websocket_scope("/v1/responses"))
    assert (route.kind, route.method, route.template, route.call_type) == (
        PathKind.GOVERNED,
        "WEBSOCKET",
        "/v1/responses",
        CallType.RESPONSES_SOCKET,
    )


def test_http_with_the_word_websocket_as_its_method_is_no_websocket(table):
    route = table.classify(http_scope("WEBSOCKET", "/v1/responses"))
    assert (route.kind, route.call_type) == (PathKind.REFUSED, None)


def test_a_websocket_that_is_not_listed_is_refused(table):
    route = table.classify(websocket_scope("/v1/other"))
    assert (route.kind, route.template) == (PathKind.REFUSED, "/v1/other")


def test_a_websocket_on_an_http_path_matches_nothing(table):
    assert table.classify(websocket_scope("/v1/chat/completions")).template is None


def test_the_first_route_that_matches_counts(app, table):
    shadowed = FastAPI(openapi_url=None)
    shadowed.post("/v1/{anything:path}")(endpoint)
    shadowed.post("/v1/chat/completions")(endpoint)
    assert (
        RouteTable(shadowed.router, is_own=is_of_this_file).classify(http_scope()).template
        == "/v1/{anything}"
    )


class TestHandlers:
    """A template is not enough: what serves the path decides."""

    @pytest.fixture
    def foreign(self, app):
        """The app with somebody else's handler before its own."""
        first = FastAPI(openapi_url=None)
        first.post("/v1/messages")(json.dumps)
        first.get("/v1/models")(json.dumps)
        first.router.routes.extend(app.router.routes)
        return first

    @pytest.mark.parametrize(("method", "path"), [("POST", "/v1/messages"), ("GET", "/v1/models")])
    def test_a_foreign_handler_on_a_listed_path_is_refused(self, foreign, method, path):
        table = RouteTable(foreign.router, is_own=is_of_this_file)
        assert classified(table, method, path) == (PathKind.REFUSED, path, None)

    def test_its_neighbours_stay_governed(self, foreign):
        table = RouteTable(foreign.router, is_own=is_of_this_file)
        assert classified(table, "POST", "/v1/chat/completions")[0] is PathKind.GOVERNED

    def test_a_foreign_handler_behind_the_own_one_is_not_asked(self, app):
        app.post("/v1/messages")(json.dumps)
        table = RouteTable(app.router, is_own=is_of_this_file)
        assert classified(table, "POST", "/v1/messages")[0] is PathKind.GOVERNED

    def test_without_being_told_only_litellms_handlers_count(self, app):
        assert RouteTable(app.router).classify(http_scope()).kind is PathKind.REFUSED

    @pytest.mark.parametrize(
        ("module", "own"),
        [
            ("litellm.proxy.proxy_server", True),
            ("litellm.proxy.anthropic_endpoints.endpoints", True),
            ("litellm.proxy.pass_through_endpoints.pass_through_endpoints", False),
            ("litellm.proxy.vertex_ai_endpoints.langfuse_endpoints", False),
            ("litellm_other.proxy", False),
            ("other_logger", False),
            ("", False),
        ],
    )
    def test_litellms_own_modules_are_told_from_its_pass_throughs(self, module, own):
        assert is_litellms(module) is own


@pytest.mark.parametrize(
    ("template", "over"),
    [
        ("/v1/messages", "/v1/messages"),
        ("/v1/{anything}", "/v1/audio/speech"),
        ("/v1/rerank/{subpath:path}", None),
        ("/v1/{subpath:path}", "/v1/audio/speech"),
        ("/{a}/gpt/completions", "/engines/{model}/completions"),
        ("/engines/a/b/completions", "/engines/{model}/completions"),
        ("/models/gpt:generateContent", "/models/{model_name}:generateContent"),
        ("/models/gpt:countTokens", None),
        ("/team/{x}", "/team/delete"),
        ("/search", None),
        ("/search/{subpath:path}", None),
        ("/v1/messages/", None),
        ("/V1/messages", None),
    ],
)
def test_a_template_over_a_listed_one_is_found(template, over):
    assert covered(template) == over


class TestCache:
    def test_a_route_that_is_added_is_found(self, app, table):
        assert classified(table, "GET", "/model/info")[0] is PathKind.REFUSED
        app.get("/model/info")(endpoint)
        assert classified(table, "GET", "/model/info")[0] is PathKind.ADMINISTRATIVE

    def test_a_router_that_is_included_later_is_found(self, app, table):
        assert classified(table, "POST", "/v1/completions")[0] is PathKind.REFUSED
        later = APIRouter(prefix="/v1")
        later.post("/completions")(endpoint)
        app.include_router(later)
        assert classified(table, "POST", "/v1/completions")[0] is PathKind.GOVERNED

    def test_a_route_that_is_taken_out_is_refused(self, app, table):
        assert classified(table, "GET", "/v1/models")[0] is PathKind.ADMINISTRATIVE
        app.router.routes[:] = [
            each for each in app.router.routes if getattr(each, "path", "") != "/v1/models"
        ]
        assert classified(table, "GET", "/v1/models")[0] is PathKind.REFUSED

    def test_a_known_answer_is_given_again(self, table):
        assert table.classify(http_scope()) is table.classify(http_scope())

    def test_methods_are_kept_apart(self, table):
        assert table.classify(http_scope("POST")).kind is PathKind.GOVERNED
        assert table.classify(http_scope("GET")).kind is PathKind.REFUSED

    def test_it_is_bounded(self, table):
        for number in range(_CACHE_SIZE + 10):
            table.classify(http_scope("GET", f"/v1/models/{number}"))
        assert len(table._cache) == _CACHE_SIZE


def test_the_lists_do_not_overlap():
    assert not GOVERNED.keys() & ADMINISTRATIVE


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_no_template_is_refused(method):
    assert classify_template(method, None) == (PathKind.REFUSED, None)
