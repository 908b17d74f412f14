"""The contract: every name, signature and habit of LiteLLM, FastAPI and Starlette that `proxy/` relies on.

`make test-enforcement` runs it on the oldest, the locked and the newest LiteLLM. A name that `proxy/` uses and
that is not pinned here fails too, so the tables stay whole.
"""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import inspect
import warnings
from pathlib import Path

import fastapi
import litellm
import openai
import pytest
from fastapi.routing import iter_route_contexts
from litellm.caching.caching import DualCache
from litellm.integrations.custom_guardrail import is_guardrail_intervention
from litellm.integrations.custom_logger import CustomLogger
from litellm.litellm_core_utils.get_llm_provider_logic import get_llm_provider
from litellm.litellm_core_utils.initialize_dynamic_callback_params import _supported_callback_params
from litellm.proxy import proxy_server
from litellm.proxy._types import UserAPIKeyAuth
from litellm.proxy.utils import ProxyLogging
from litellm.types.utils import StandardCallbackDynamicParams
from proxy_cases import http_scope
from route_inventory import litellm_version
from starlette._utils import get_route_path
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import Mount, WebSocketRoute

import litellm_plugin.proxy
from litellm_plugin.errors import Reason, Verdict
from litellm_plugin.proxy.denial import Denial
from litellm_plugin.proxy.egress import DESTINATIONS, SWITCHES
from litellm_plugin.proxy.hooks import PermitRouter
from litellm_plugin.proxy.slots import metadata_slot

# What `proxy/` takes from each foreign package that is part of LiteLLM's app: module to names.
PINNED = {
    "fastapi": {"HTTPException"},
    "fastapi.routing": {"iter_route_contexts"},
    "litellm": {
        "APIConnectionError",
        "ContentPolicyViolationError",
        "ContextWindowExceededError",
        "ServiceUnavailableError",
        "Timeout",
        "callbacks",
        "get_model_info",
        "model_cost",
        "openai_compatible_providers",
    },
    "litellm.constants": {"DEFAULT_HEALTH_CHECK_PROMPT"},
    "litellm.exceptions": {"MidStreamFallbackError"},
    "litellm.integrations.SlackAlerting.slack_alerting": {"SlackAlerting"},
    "litellm.integrations.custom_guardrail": {"CustomGuardrail"},
    "litellm.integrations.custom_logger": {"CustomLogger"},
    "litellm.litellm_core_utils": {"litellm_logging"},
    "litellm.litellm_core_utils.custom_logger_registry": {"CustomLoggerRegistry"},
    "litellm.litellm_core_utils.get_llm_provider_logic": {"get_llm_provider"},
    "litellm.litellm_core_utils.litellm_logging": {"Logging", "executor"},
    "litellm.proxy": {"_lazy_features", "proxy_server"},
    "litellm.proxy._lazy_features": {"LAZY_FEATURES"},
    "litellm.proxy.auth.route_checks": {"RouteChecks"},
    "litellm.proxy.common_utils.encrypt_decrypt_utils": {"decrypt_value_helper"},
    "litellm.proxy.litellm_pre_call_utils": {"_get_metadata_variable_name"},
    "litellm.proxy.proxy_server": {
        "app",
        "llm_router",
        "master_key",
        "proxy_config",
        "user_config_file_path",
    },
    "litellm.types.guardrails": {"GuardrailEventHooks"},
    "litellm.types.router": {"CustomRoutingStrategyBase"},
    "starlette._utils": {"get_route_path"},
    "starlette.middleware.cors": {"CORSMiddleware"},
    "starlette.middleware.exceptions": {"ExceptionMiddleware"},
    "starlette.requests": {"HTTPConnection"},
    "starlette.routing": {"Mount", "WebSocketRoute"},
    "starlette.types": {"ASGIApp", "Message", "Receive", "Scope", "Send"},
}
# What `proxy/` calls on LiteLLM's router: name to the keyword arguments it gives.
ROUTER_METHODS = {"get_deployment": {"model_id"}, "get_model_list": {"model_name", "team_id"}}
HOOKS = {
    "async_pre_call_hook": ["user_api_key_dict", "cache", "data", "call_type"],
    "async_filter_deployments": [
        "model",
        "healthy_deployments",
        "messages",
        "request_kwargs",
        "parent_otel_span",
    ],
    "async_pre_call_deployment_hook": ["kwargs", "call_type"],
    "async_post_call_failure_deployment_hook": [
        "request_data",
        "exception",
        "call_type",
        "fallback_depth",
    ],
    "async_log_success_event": ["kwargs", "response_obj", "start_time", "end_time"],
    "async_log_failure_event": ["kwargs", "response_obj", "start_time", "end_time"],
}
# Its router does not know what `is_guardrail_intervention` says yet.
DENIALS_ARE_ASKED_AGAIN = {"1.101.6"}
FOREIGN = ("litellm", "fastapi", "starlette")
SOURCES = sorted(Path(litellm_plugin.proxy.__file__).parent.glob("*.py"))


class Uses(ast.NodeVisitor):
    """Collects what a module imports from the foreign packages, and the attributes it reads of their modules."""

    def __init__(self) -> None:
        self.modules: dict[str, str] = {}
        self.names: dict[str, set[str]] = {}
        self.router_methods: set[str] = set()

    def visit_Import(self, node):
        for name in node.names:
            root = name.name.split(".")[0]
            if root in FOREIGN:
                self.modules[name.asname or root] = name.name if name.asname else root

    def visit_ImportFrom(self, node):
        if node.level or (node.module or "").split(".")[0] not in FOREIGN:
            return
        for name in node.names:
            self.names.setdefault(node.module, set()).add(name.name)
            if is_module(f"{node.module}.{name.name}"):
                self.modules[name.asname or name.name] = f"{node.module}.{name.name}"

    def visit_Attribute(self, node):
        if isinstance(node.value, ast.Name) and node.value.id in self.modules:
            self.names.setdefault(self.modules[node.value.id], set()).add(node.attr)
        match node.value:
            case ast.Name(id="router" | "llm_router") | ast.Call(func=ast.Attribute(attr="router")):
                self.router_methods.add(node.attr)
        self.generic_visit(node)

    def visit_Call(self, node):
        match node:
            case ast.Call(
                func=ast.Name(id="getattr"), args=[ast.Name(id=name), ast.Constant(value=str(attr)), *_]
            ) if name in self.modules:
                self.names.setdefault(self.modules[name], set()).add(attr)
        self.generic_visit(node)


def is_module(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def uses():
    found: dict[str, set[str]] = {}
    methods: set[str] = set()
    for path in SOURCES:
        visitor = Uses()
        tree = ast.parse(path.read_text())
        # Imports first: a function may read what a later one imports.
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                visitor.visit(node)
        visitor.visit(tree)
        for module, names in visitor.names.items():
            found.setdefault(module, set()).update(names)
        methods |= visitor.router_methods if path.name == "deployments.py" else set()
    return found, methods


def test_everything_that_proxy_takes_is_pinned():
    assert uses()[0] == PINNED


def test_every_call_of_the_router_is_pinned():
    assert uses()[1] == set(ROUTER_METHODS)


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in PINNED.items() for name in sorted(names)]
)
def test_a_pinned_name_exists(module, name):
    assert hasattr(importlib.import_module(module), name)


def test_every_parameter_of_a_callback_is_a_destination_or_a_switch():
    assert {*_supported_callback_params, *StandardCallbackDynamicParams.__annotations__} <= (
        DESTINATIONS | SWITCHES
    )


class TestMetadataSlot:
    """LiteLLM picks it by words in the path; both slots are known here, a third one is not."""

    @pytest.mark.parametrize(
        ("path", "slot"),
        [
            ("/v1/chat/completions", "metadata"),
            ("/v1/messages", "litellm_metadata"),
            ("/v1/responses", "litellm_metadata"),
            ("/engines/my-files/chat/completions", "litellm_metadata"),
        ],
    )
    def test_it_is_one_of_two(self, path, slot):
        assert metadata_slot(http_scope("POST", path)) == slot


def signature(function):
    return list(inspect.signature(function).parameters.values())


class TestHooks:
    @pytest.mark.parametrize(("hook", "names"), HOOKS.items())
    def test_litellm_declares_it_with_these_parameters(self, hook, names):
        declared = getattr(CustomLogger, hook)
        assert [each.name for each in signature(declared)] == ["self", *names]
        assert inspect.iscoroutinefunction(declared)

    @pytest.mark.parametrize(("hook", "names"), HOOKS.items())
    def test_ours_takes_the_same_and_stands_on_the_leaf_class(self, hook, names):
        ours = vars(PermitRouter)[hook]
        theirs = getattr(CustomLogger, hook)
        assert [(each.name, each.kind, each.default) for each in signature(ours)] == [
            (each.name, each.kind, each.default) for each in signature(theirs)
        ]
        assert inspect.iscoroutinefunction(ours)

    def test_no_other_hook_is_ours(self):
        assert {name for name in vars(PermitRouter) if name.startswith("async_")} == set(HOOKS)


class Spy(CustomLogger):
    """Notes which hook is called, and with which keyword arguments."""

    def __init__(self):
        super().__init__()
        self.calls: dict[str, list[dict]] = {}

    def note(self, hook, given):
        self.calls.setdefault(hook, []).append(given)

    async def async_pre_call_hook(self, **given):
        self.note("async_pre_call_hook", given)
        return {**given["data"], "seen": True}

    async def async_filter_deployments(self, **given):
        self.note("async_filter_deployments", given)
        return given["healthy_deployments"][:1]

    async def async_pre_call_deployment_hook(self, kwargs, call_type):
        self.note("async_pre_call_deployment_hook", {"kwargs": kwargs, "call_type": call_type})

    async def async_post_call_failure_deployment_hook(
        self, request_data, exception, call_type, fallback_depth=None
    ):
        self.note(
            "async_post_call_failure_deployment_hook", {"request_data": request_data, "exception": exception}
        )

    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        self.note("async_log_success_event", {"kwargs": kwargs, "start": start_time, "end": end_time})

    async def success_of(self, call_id):
        """The log event of one call; LiteLLM's worker may bring those of earlier tests too."""
        for _ in range(100):
            for given in self.calls.get("async_log_success_event", ()):
                if given["kwargs"]["litellm_call_id"] == call_id:
                    return given
            await asyncio.sleep(0.1)
        raise AssertionError(f"no success event of {call_id}")


class Inheriting(Spy):
    """Defines no hook itself."""


class Refusing(Spy):
    """Refuses as our hooks do."""

    def __init__(self, hook):
        super().__init__()
        self.hook = hook

    def note(self, hook, given):
        super().note(hook, given)
        if hook == self.hook:
            raise Denial(Verdict(Reason.NOT_AUTHORIZED, "no"))


@pytest.fixture
def registered(monkeypatch):
    def register(callback):
        # Our hooks are registered in this one list and nowhere else.
        for name in ("callbacks", "success_callback", "failure_callback"):
            monkeypatch.setattr(litellm, name, [callback] if name == "callbacks" else [])
        for name in ("_async_success_callback", "_async_failure_callback", "input_callback"):
            monkeypatch.setattr(litellm, name, [])
        return callback

    return register


def a_router():
    entries = [
        {
            "model_name": group,
            "litellm_params": {
                "model": "openai/gpt-test",
                "api_key": "sk-test",
                "api_base": "http://127.0.0.1:9",
            },
            "model_info": {"id": name, "endpoint": "an-endpoint", "attributes": ["baa"]},
        }
        for group, name in (("gpt", "a"), ("gpt", "b"), ("other", "c"))
    ]
    return litellm.Router(
        model_list=entries,
        num_retries=2,
        retry_after=0,
        disable_cooldowns=True,
        fallbacks=[{"gpt": ["other"]}],
    )


@pytest.fixture
def router():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return a_router()


MESSAGES = [{"role": "user", "content": "hello"}]


async def served(router, **extra):
    with warnings.catch_warnings():
        # LiteLLM's own warnings of pydantic models and of tasks that it leaves behind.
        warnings.simplefilter("ignore")
        return await router.acompletion(model="gpt", messages=MESSAGES, mock_response="hi", **extra)


@pytest.mark.filterwarnings("ignore")
class TestDispatch:
    async def test_a_call_of_the_router_asks_for_deployments_by_keyword(self, registered, router):
        spy = registered(Spy())
        await served(router)
        (given,) = spy.calls["async_filter_deployments"]
        assert sorted(given) == sorted(HOOKS["async_filter_deployments"])
        assert {each["model_info"]["id"] for each in given["healthy_deployments"]} == {"a", "b"}
        assert given["model"] == "gpt"

    async def test_the_one_deployment_that_is_left_is_called(self, registered, router):
        spy = registered(Spy())
        await served(router)
        kept = spy.calls["async_filter_deployments"][0]["healthy_deployments"][0]
        (given,) = spy.calls["async_pre_call_deployment_hook"]
        assert given["kwargs"]["model_info"]["id"] == kept["model_info"]["id"]
        assert given["kwargs"]["model"] == "openai/gpt-test"
        assert given["kwargs"]["api_base"] == "http://127.0.0.1:9"

    async def test_an_id_as_model_skips_selection_and_meets_the_final_check(self, registered, router):
        spy = registered(Spy())
        await router.acompletion(model="b", messages=MESSAGES, mock_response="hi")
        assert "async_filter_deployments" not in spy.calls
        (given,) = spy.calls["async_pre_call_deployment_hook"]
        assert given["kwargs"]["model_info"]["id"] == "b"

    async def test_a_success_event_names_the_deployment(self, registered, router):
        spy = registered(Spy())
        await served(router, litellm_call_id="this-one")
        given = await spy.success_of("this-one")
        facts = given["kwargs"]["standard_logging_object"]
        assert facts["model_id"] in {"a", "b"}
        assert {"prompt_tokens", "completion_tokens", "response_cost", "cache_hit"} <= set(facts)
        assert given["end"] >= given["start"]

    async def test_a_failed_attempt_is_told_each_time_with_its_deployment(self, registered, router):
        spy = registered(Spy())
        with pytest.raises(litellm.InternalServerError):
            await router.acompletion(
                model="gpt",
                messages=MESSAGES,
                mock_response="litellm.InternalServerError",
                disable_fallbacks=True,
            )
        told = spy.calls["async_post_call_failure_deployment_hook"]
        assert len(told) == len(spy.calls["async_pre_call_deployment_hook"]) == 3
        assert {each["request_data"]["model_info"]["id"] for each in told} <= {"a", "b"}

    @pytest.mark.parametrize("hook", ["async_filter_deployments", "async_pre_call_deployment_hook"])
    async def test_a_denial_ends_the_request(self, registered, router, hook):
        """But on the oldest version, whose router asks again, for retries and for fallbacks: we refuse each time."""
        spy = registered(Refusing(hook))
        with pytest.raises(fastapi.HTTPException) as raised:
            await served(router)
        assert raised.value.status_code == 403
        assert (len(spy.calls[hook]) == 1) is (litellm_version() not in DENIALS_ARE_ASKED_AGAIN)

    async def test_the_denial_is_what_litellm_calls_an_intervention(self):
        assert is_guardrail_intervention(Denial(Verdict(Reason.NOT_AUTHORIZED, "no")))

    @pytest.mark.parametrize(("callback", "is_seen"), [(Spy, True), (Inheriting, False)])
    async def test_the_pre_call_hook_is_seen_on_the_leaf_class_alone(self, registered, callback, is_seen):
        spy = registered(callback())
        logging = ProxyLogging(user_api_key_cache=DualCache())
        data = await logging.pre_call_hook(
            user_api_key_dict=UserAPIKeyAuth(),
            data={"model": "gpt", "messages": MESSAGES},
            call_type="acompletion",
        )
        assert bool(spy.calls) is is_seen
        assert (data.get("seen") is True) is is_seen
        if is_seen:
            assert sorted(spy.calls["async_pre_call_hook"][0]) == sorted(HOOKS["async_pre_call_hook"])

    @pytest.mark.parametrize("hook", ["async_filter_deployments", "async_pre_call_deployment_hook"])
    async def test_the_other_hooks_may_be_inherited(self, registered, router, hook):
        spy = registered(Inheriting())
        await served(router)
        assert hook in spy.calls


@pytest.mark.filterwarnings("ignore")
class TestRouter:
    @pytest.mark.parametrize(("method", "given"), ROUTER_METHODS.items())
    def test_it_has_the_method_with_these_keywords(self, router, method, given):
        assert given <= {each.name for each in signature(getattr(router, method))}

    def test_a_group_is_listed_as_mappings_with_our_facts(self, router):
        listed = router.get_model_list(model_name="gpt")
        assert [each["model_info"]["id"] for each in listed] == ["a", "b"]
        assert listed[0]["model_info"]["attributes"] == ["baa"]
        assert listed[0]["litellm_params"]["model"] == "openai/gpt-test"

    def test_an_unknown_group_is_empty(self, router):
        assert not router.get_model_list(model_name="nothing")

    def test_a_deployment_is_a_model_with_our_facts(self, router):
        found = router.get_deployment(model_id="a").model_dump(exclude_none=True)
        assert found["model_info"]["endpoint"] == "an-endpoint"
        assert found["litellm_params"]["api_base"] == "http://127.0.0.1:9"

    def test_an_unknown_deployment_is_none(self, router):
        assert router.get_deployment(model_id="nothing") is None


class TestProxyServer:
    def test_the_router_is_there_only_after_the_configuration(self):
        assert proxy_server.llm_router is None
        assert "llm_router" in vars(proxy_server)

    def test_the_configuration_can_be_read_while_it_is_loaded(self):
        assert not signature(proxy_server.proxy_config.get_config_state)
        proxy_server.proxy_config.config = {"litellm_settings": {"permit_router": {}}}
        try:
            assert proxy_server.proxy_config.get_config_state()["litellm_settings"] == {"permit_router": {}}
        finally:
            proxy_server.proxy_config.config = {}

    def test_its_master_key_is_known_by_this_name(self):
        assert "master_key" in vars(proxy_server)

    def test_its_folder_is_known_by_this_name(self):
        assert "user_config_file_path" in vars(proxy_server)

    def test_startup_hooks_run_before_the_configuration(self):
        # By its text: the event is wrapped differently in each version, and runs only in a whole proxy.
        event = inspect.getsource(proxy_server).partition("async def proxy_startup_event(")[2]
        assert -1 < event.find('"LITELLM_WORKER_STARTUP_HOOKS"') < event.find(".load_config(")


@pytest.fixture(scope="module")
def layers(litellm_app):
    """LiteLLM's middleware from the outside in, found by the attribute that `proxy/` walks."""
    layer = litellm_app.build_middleware_stack()
    found = []
    while layer is not None:
        found.append(layer)
        layer = getattr(layer, "app", None)
    return found


class TestMiddleware:
    def test_the_stack_has_the_name_that_is_walked(self, litellm_app):
        assert "middleware_stack" in vars(litellm_app)

    def test_one_exception_middleware_is_found_and_wraps_an_app(self, layers):
        (found,) = [layer for layer in layers if isinstance(layer, ExceptionMiddleware)]
        assert callable(found.app)

    @pytest.mark.parametrize("outer", ["LazyFeatureMiddleware", "CORSMiddleware"])
    def test_admission_stands_inside_of(self, layers, outer):
        names = [type(layer).__name__ for layer in layers]
        assert names.index(outer) < names.index("ExceptionMiddleware")

    def test_cors_keeps_the_headers_that_we_extend(self, layers):
        (cors,) = [layer for layer in layers if isinstance(layer, CORSMiddleware)]
        assert isinstance(cors.simple_headers, dict)


@pytest.mark.filterwarnings("ignore")
class TestRoutes:
    def test_contexts_have_what_the_table_reads(self, litellm_app):
        contexts = list(iter_route_contexts(list(litellm_app.router.routes)))
        assert len(contexts) > len(litellm_app.router.routes)
        for context in contexts:
            original = context.original_route
            assert context.path_regex.pattern
            assert context.path is not None
            if not isinstance(original, Mount):
                assert context.path_format is not None
                assert context.methods or isinstance(original, WebSocketRoute)

    def test_a_mount_matches_what_is_under_it(self, litellm_app):
        mounts = [
            context
            for context in iter_route_contexts(list(litellm_app.router.routes))
            if isinstance(context.original_route, Mount)
        ]
        assert {f"{context.path}/*" for context in mounts} >= {"/mcp/*", "/ui/*", "/swagger/*"}

    @pytest.mark.parametrize("path", ["/proxy/v1/models", "/v1/models"])
    def test_a_root_path_is_stripped_where_it_stands(self, path):
        assert get_route_path(http_scope("GET", path, root_path="/proxy")) == "/v1/models"


class TestValues:
    def test_a_provider_is_found_for_a_model(self):
        assert get_llm_provider(model="openai/gpt-test", custom_llm_provider=None)[:2] == (
            "gpt-test",
            "openai",
        )
        assert len(get_llm_provider(model="gpt-test", custom_llm_provider="openai")) == 4

    def test_a_model_that_nobody_has_raises(self):
        with pytest.raises(litellm.exceptions.BadRequestError):
            get_llm_provider(model="nothing-of-this-name")

    def test_the_cost_map_tells_prices_and_windows(self):
        known = litellm.model_cost["gpt-4o"]
        assert {"input_cost_per_token", "output_cost_per_token", "max_input_tokens"} <= set(known)
        assert known["supports_function_calling"] is True

    def test_callbacks_are_one_list(self):
        assert isinstance(litellm.callbacks, list)

    def test_a_timeout_is_a_class_beside_connection_errors(self):
        assert issubclass(litellm.Timeout, Exception)
        assert issubclass(litellm.APIConnectionError, Exception)
        assert not issubclass(litellm.Timeout, litellm.APIConnectionError)


@pytest.mark.parametrize("client", [openai._base_client.SyncAPIClient, openai._base_client.AsyncAPIClient])
def test_the_openai_client_asks_for_each_request_how_often_to_repeat_it(client):
    """`proxy/repeats.py` answers in its place."""
    assert ".get_max_retries(self.max_retries)" in inspect.getsource(client)
