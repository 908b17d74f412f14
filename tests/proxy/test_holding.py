from __future__ import annotations

import asyncio
import types

import litellm
import pytest
from litellm.integrations.custom_guardrail import CustomGuardrail
from litellm.integrations.custom_logger import CustomLogger
from litellm.integrations.generic_api.generic_api_callback import GenericAPILogger
from litellm.integrations.SlackAlerting.slack_alerting import SlackAlerting
from litellm.litellm_core_utils import litellm_logging
from litellm.types.guardrails import GuardrailEventHooks

from litellm_plugin.errors import Reason, RequestDenied
from litellm_plugin.proxy import holding as holding_module
from litellm_plugin.proxy.denial import Denial
from litellm_plugin.proxy.egress import Egress, EgressTable, Kind
from litellm_plugin.proxy.holding import Holding, acting_hooks
from litellm_plugin.proxy.hooks import PermitRouter

OWN = "litellm_plugin.permit_router"


class Telling(CustomLogger):
    def __init__(self):
        super().__init__()
        self.told = []

    def log_pre_api_call(self, model, messages, kwargs):
        self.told.append("before")

    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        self.told.append("success")


class Acting(Telling):
    async def async_moderation_hook(self, data, user_api_key_dict, call_type):
        return None


class Guard(CustomGuardrail):
    ran = 0

    async def async_pre_call_hook(self, user_api_key_dict, cache, data, call_type):
        self.ran += 1


def function(kwargs, response_obj, start_time, end_time):
    """A callback of the oldest sort."""


def table(**cleared):
    """Places of these names; each is cleared for the classifications it lists."""
    places = tuple(Egress(Kind.CALLBACK, name, "x") for name in cleared)
    return EgressTable(
        places,
        {name: frozenset(listed) for name, listed in cleared.items()},
        frozenset({"internal", "phi"}),
    )


@pytest.fixture
def registered(monkeypatch):
    """Puts callbacks beside the plugin's own into LiteLLM's lists, and gives the holding that looked at them."""

    def register(known, *callbacks, listed=()):
        own = PermitRouter(None)
        for name in holding_module._LISTS:
            monkeypatch.setattr(litellm, name, [])
        monkeypatch.setattr(litellm, "callbacks", [own, *callbacks])
        holding = Holding(known, own, (OWN, *listed))
        holding.refusal("internal")
        return holding

    return register


@pytest.fixture
def inside(worker, request_state):
    """Enters a request that these names may not see."""

    def enter(*held):
        state = worker.state()
        state.held = frozenset(held)
        request_state(state)
        return state

    return enter


class TestSinks:
    def test_a_sink_that_is_cleared_is_told(self, registered, inside):
        sink = Telling()
        holding = registered(table(**{"mine.sink": ["internal"]}), sink, listed=["mine.sink"])
        inside()

        sink.log_pre_api_call("m", [], {})
        asyncio.run(sink.async_log_success_event({}, None, None, None))

        assert not holding.holds(sink)
        assert sink.told == ["before", "success"]

    def test_a_sink_that_is_not_cleared_is_not_told(self, registered, inside):
        sink = Telling()
        holding = registered(table(**{"mine.sink": []}), sink, listed=["mine.sink"])
        inside("mine.sink")

        sink.log_pre_api_call("m", [], {})
        asyncio.run(sink.async_log_success_event({}, None, None, None))

        assert holding.holds(sink)
        assert sink.told == []

    def test_a_sink_keeps_its_hooks_where_litellm_looks_for_them(self, registered):
        sink = Telling()
        registered(table(**{"mine.sink": []}), sink, listed=["mine.sink"])
        assert "async_log_success_event" in vars(type(sink))

    def test_what_nobody_listed_may_see_nothing(self, registered, inside):
        sink = Telling()
        holding = registered(table(), sink)
        inside()
        assert holding.holds(sink)

    def test_two_sinks_of_one_module_are_told_apart(self, registered, inside):
        first, second = Telling(), Telling()
        names = {"mine.first": [], "mine.second": ["internal"]}
        holding = registered(table(**names), first, second, listed=list(names))
        inside("mine.first")
        assert (holding.holds(first), holding.holds(second)) == (True, False)

    def test_litellms_own_bookkeeping_is_no_egress(self, registered, inside):
        class Limiter(Acting):
            __module__ = "litellm.proxy.hooks.some_limiter"

        limiter = Limiter()
        holding = registered(table(), limiter)
        inside()
        assert not holding.holds(limiter)
        assert holding.refusal("internal") is None

    @pytest.mark.parametrize(
        ("callback", "held"),
        [
            pytest.param("langfuse", True, id="not-cleared"),
            pytest.param("s3", False, id="cleared"),
            pytest.param("helicone", True, id="not-listed"),
            pytest.param("prometheus", False, id="content-free"),
            pytest.param("cache", False, id="litellms-own-word"),
        ],
    )
    def test_callbacks_that_are_words(self, registered, inside, callback, held):
        holding = registered(table(langfuse=[], s3=["internal"]))
        inside("langfuse")
        assert holding.holds(callback) is held

    def test_a_function_is_known_by_its_module_and_name(self, registered, inside):
        name = f"{function.__module__}.function"
        holding = registered(table(**{name: [], f"{function.__module__}.other": ["internal"]}))
        inside(name)
        assert holding.holds(function)

    def test_an_integration_is_known_by_its_class(self, registered, inside):
        sink = GenericAPILogger.__new__(GenericAPILogger)
        holding = registered(table(generic_api=[]), sink)
        inside("generic_api")
        assert holding.holds(sink)

    def test_a_sink_that_came_later_is_found(self, registered, inside):
        holding = registered(table())
        sink = Telling()
        litellm.success_callback.append(sink)
        holding.refusal("internal")
        inside()

        sink.log_pre_api_call("m", [], {})

        assert sink.told == []

    @pytest.mark.parametrize(("cleared", "held"), [(["internal", "phi"], False), (["internal"], True)])
    def test_without_a_request_only_a_sink_for_everything_is_told(self, registered, cleared, held):
        sink = Telling()
        holding = registered(table(**{"mine.sink": cleared}), sink, listed=["mine.sink"])
        assert holding.holds(sink) is held


class TestCallbacksOfARequest:
    def test_one_that_the_operator_did_not_list_is_taken_out(self, registered, inside):
        holding = registered(table(s3=["internal"]))
        inside()
        logging = types.SimpleNamespace(dynamic_success_callbacks=[Acting(), "s3", "helicone"])

        holding.drop_callbacks({"litellm_logging_obj": logging})

        assert logging.dynamic_success_callbacks == ["s3"]

    def test_without_any_nothing_changes(self, registered):
        logging = types.SimpleNamespace(dynamic_success_callbacks=None)
        registered(table()).drop_callbacks({"litellm_logging_obj": logging})
        assert logging.dynamic_success_callbacks is None

    def test_without_a_logging_object_nothing_is_dropped(self, registered):
        data = {"model": "gpt"}
        registered(table()).drop_callbacks(data)
        assert data == {"model": "gpt"}


class TestDestinationsOfARequest:
    """What a key or a team says of where a callback sends to."""

    def logging(self, trusted=(), **params):
        return types.SimpleNamespace(
            standard_callback_dynamic_params=params,
            _trusted_callback_vars=trusted,
            dynamic_success_callbacks=["s3"],
        )

    @pytest.mark.parametrize("name", ["langsmith_base_url", "langfuse_host", "s3_secret", "made_up_later"])
    def test_one_is_emptied_and_what_was_named_with_it_dropped(self, registered, inside, name):
        holding = registered(table(s3=["internal"]))
        inside()
        logging = self.logging(**{name: "http://evil"}, turn_off_message_logging=True)

        holding.drop_callbacks({"litellm_logging_obj": logging})

        assert logging.standard_callback_dynamic_params == {"turn_off_message_logging": True}
        assert logging.dynamic_success_callbacks == []

    def test_litellms_record_of_the_call_forgets_it_too(self, registered, inside):
        holding = registered(table(s3=["internal"]))
        inside()
        logging = self.logging(langsmith_base_url="http://evil")
        details = {"standard_callback_dynamic_params": logging.standard_callback_dynamic_params}

        holding.drop_callbacks({"litellm_logging_obj": logging})

        assert details == {"standard_callback_dynamic_params": {}}

    def test_one_of_the_trusted_sort_is_emptied(self, registered, inside):
        holding = registered(table(s3=["internal"]))
        inside()
        logging = self.logging(trusted=(("dd_site", "evil"),))

        holding.drop_callbacks({"litellm_logging_obj": logging})

        assert logging._trusted_callback_vars == ()
        assert logging.dynamic_success_callbacks == []

    def test_switches_stay_and_so_does_what_was_named_with_them(self, registered, inside):
        holding = registered(table(s3=["internal"]))
        inside()
        logging = self.logging(langsmith_sampling_rate=0.5, turn_off_message_logging=True)

        holding.drop_callbacks({"litellm_logging_obj": logging})

        assert logging.standard_callback_dynamic_params == {
            "langsmith_sampling_rate": 0.5,
            "turn_off_message_logging": True,
        }
        assert logging.dynamic_success_callbacks == ["s3"]

    @pytest.mark.parametrize("slot", ["metadata", "litellm_metadata"])
    def test_the_request_says_nothing_of_it_any_more(self, registered, slot):
        said = {"langsmith_base_url": "http://evil"}
        data = {**said, "litellm_trusted_callback_vars": said, "model": "gpt", slot: {**said, "tags": []}}

        registered(table()).drop_callbacks(data)

        assert data == {"model": "gpt", slot: {"tags": []}}

    def test_what_the_operators_own_code_says_outside_a_request_stays(self, registered):
        logging = self.logging(langsmith_base_url="http://own")
        registered(table()).drop_callbacks({"litellm_logging_obj": logging})
        assert logging.standard_callback_dynamic_params == {"langsmith_base_url": "http://own"}


class TestActing:
    def test_a_callback_that_acts_ends_requests_it_is_not_cleared_for(self, registered):
        holding = registered(table(**{"mine.it": ["internal"]}), Acting(), listed=["mine.it"])

        assert holding.refusal("internal") is None
        verdict = holding.refusal("phi")

        assert verdict.reason is Reason.EGRESS_NOT_CLEARED
        assert "'mine.it'" in verdict.message

    def test_one_that_nobody_listed_ends_every_request(self, registered):
        verdict = registered(table(), Acting()).refusal("internal")
        assert "Acting" in verdict.message

    def test_a_function_beside_the_plugin_is_told_before_it_can_be_held(self, registered):
        holding = registered(table(**{f"{function.__module__}.function": []}), function)
        assert holding.refusal("internal").reason is Reason.EGRESS_NOT_CLEARED

    @pytest.mark.parametrize(
        ("hook", "acts"),
        [
            ("async_pre_call_hook", True),
            ("async_filter_deployments", True),
            ("async_post_call_success_hook", True),
            ("async_logging_hook", True),
            ("async_pre_call_deployment_hook", True),
            ("async_log_failure_event", False),
            ("async_post_call_failure_hook", False),
            ("log_pre_api_call", False),
        ],
    )
    def test_a_hook_acts_when_something_depends_on_what_it_gives_back(self, hook, acts):
        kind = type("Mine", (CustomLogger,), {hook: lambda self: None})
        assert (hook in acting_hooks(kind())) is acts

    def test_litellms_own_integrations_only_look_at_an_answer(self):
        body = {"__module__": "litellm.integrations.x", "async_post_call_success_hook": lambda self: None}
        assert acting_hooks(type("Otel", (CustomLogger,), body)()) == frozenset()


class TestGuardrails:
    def guard(self, **options):
        return Guard(guardrail_name="mask", event_hook="pre_call", **options)

    def asked(self, guard):
        return guard.should_run_guardrail(data=self.DATA, event_type=GuardrailEventHooks.pre_call)

    DATA = types.MappingProxyType({"metadata": {"guardrails": ["mask"]}})

    def test_one_that_is_cleared_runs(self, registered, inside):
        guard = self.guard()
        holding = registered(table(mask=["internal"]), guard)
        inside()

        holding.check_guardrails(self.DATA)

        assert self.asked(guard) is True

    def test_one_that_is_not_cleared_ends_the_request_it_is_asked_for(self, registered, inside):
        guard = self.guard()
        holding = registered(table(mask=[]), guard)
        inside("mask")

        with pytest.raises(RequestDenied) as denied:
            holding.check_guardrails(self.DATA)

        assert denied.value.verdict.reason is Reason.EGRESS_NOT_CLEARED

    def test_one_that_nobody_asks_for_ends_nothing(self, registered, inside):
        guard = self.guard()
        holding = registered(table(mask=[]), guard)
        inside("mask")

        holding.check_guardrails({"metadata": {}})

        assert guard.should_run_guardrail(data={}, event_type=GuardrailEventHooks.pre_call) is False

    def test_litellm_gets_a_denial_at_the_moment_it_would_run(self, registered, inside):
        guard = self.guard()
        registered(table(mask=[]), guard)
        state = inside("mask")

        with pytest.raises(Denial):
            self.asked(guard)

        assert state.verdict.reason is Reason.EGRESS_NOT_CLEARED

    def test_a_path_that_does_not_ask_is_closed_too(self, registered, inside):
        guard = self.guard()
        registered(table(mask=[]), guard)
        inside("mask")

        with pytest.raises(Denial):
            asyncio.run(guard.async_pre_call_hook(None, None, {}, "completion"))

        assert guard.ran == 0

    def test_after_the_answer_it_only_does_not_run(self, registered, inside):
        guard = self.guard()
        registered(table(mask=[]), guard)
        inside("mask").response_started = True
        assert self.asked(guard) is False

    def test_one_that_was_added_at_run_time_is_cleared_for_nothing(self, registered, inside):
        holding = registered(table(), self.guard(default_on=True))
        inside()
        with pytest.raises(RequestDenied):
            holding.check_guardrails({"metadata": {}})


class TestSwitch:
    @pytest.fixture
    def installed(self, registered, monkeypatch):
        """The switch in LiteLLM's dispatch, taken out again afterwards."""

        def install(known):
            holding = registered(known)
            monkeypatch.setattr(
                litellm_logging.Logging, "should_run_callback", litellm_logging.Logging.should_run_callback
            )
            monkeypatch.setattr(litellm_logging.Logging, "__init__", litellm_logging.Logging.__init__)
            monkeypatch.setattr(SlackAlerting, "send_alert", SlackAlerting.send_alert)
            monkeypatch.setattr(litellm_logging.executor, "submit", litellm_logging.executor.submit)
            monkeypatch.setattr(holding_module._Switch, "holding", None)
            holding.install()
            return holding

        return install

    def runs(self, callback):
        logging = litellm_logging.Logging.__new__(litellm_logging.Logging)
        logging.standard_callback_dynamic_params = {}
        return logging.should_run_callback(callback, {}, "success_handler")

    def test_a_word_that_is_not_cleared_does_not_run(self, installed, inside):
        installed(table(langfuse=[], s3=["internal"]))
        inside("langfuse")
        assert (self.runs("langfuse"), self.runs("s3")) == (False, True)

    def test_what_litellm_logs_with_is_made_without_a_destination(self, installed, inside):
        installed(table(langfuse=["internal"]))
        inside()
        logging = litellm_logging.Logging(
            model="m",
            messages=[],
            stream=False,
            call_type="acompletion",
            start_time=None,
            litellm_call_id="c",
            function_id="f",
            kwargs={"langfuse_host": "http://evil"},
            dynamic_success_callbacks=["langfuse"],
        )
        assert logging.standard_callback_dynamic_params == {}
        assert logging.dynamic_success_callbacks == []

    def test_litellms_threads_know_the_request(self, installed, inside):
        installed(table(langfuse=["internal"]))
        inside()
        assert litellm_logging.executor.submit(self.runs, "langfuse").result(timeout=60) is True

    def test_it_is_installed_once(self, installed):
        holding = installed(table())
        patched = litellm_logging.Logging.should_run_callback
        holding.install()
        assert litellm_logging.Logging.should_run_callback is patched

    @pytest.mark.parametrize(("held", "sent"), [((), True), (("slack",), False)])
    def test_an_alert_goes_out_only_for_what_it_is_cleared_for(
        self, installed, inside, monkeypatch, held, sent
    ):
        alerts = []

        async def send_alert(self, message):
            alerts.append(message)

        monkeypatch.setattr(SlackAlerting, "send_alert", send_alert)
        monkeypatch.delattr(litellm_logging.Logging.should_run_callback, holding_module._MARK, raising=False)
        installed(EgressTable((Egress(Kind.ALERTING, "slack", "x"),), {}, frozenset({"internal"})))
        inside(*held)

        asyncio.run(SlackAlerting.send_alert(None, "slow"))

        assert bool(alerts) is sent
