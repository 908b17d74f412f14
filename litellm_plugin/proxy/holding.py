"""Holding: a log sink or a guardrail does not run for a request that it is not cleared for.

LiteLLM's own redaction is no switch (1.106, redact_messages.py): before a call and after a failed one it redacts
nothing, it leaves the request's body in `litellm_params.proxy_server_request` and the provider's request in
`additional_args`, and a caller's header wins over it. So a sink that is not cleared is not called at all, and
what cannot be left out ends the request.
"""

from __future__ import annotations

import functools
from contextvars import copy_context
from itertools import chain
from operator import is_
from typing import TYPE_CHECKING, Any, Final

import litellm
from litellm.integrations.custom_guardrail import CustomGuardrail
from litellm.integrations.custom_logger import CustomLogger
from litellm.integrations.SlackAlerting.slack_alerting import SlackAlerting
from litellm.litellm_core_utils import litellm_logging
from litellm.litellm_core_utils.custom_logger_registry import CustomLoggerRegistry
from litellm.types.guardrails import GuardrailEventHooks

from litellm_plugin.errors import RequestDenied
from litellm_plugin.proxy.context import Permitted, SyntheticCall, current_state
from litellm_plugin.proxy.denial import Denial
from litellm_plugin.proxy.egress import (
    CONTENT_FREE,
    DESTINATIONS,
    SWITCHES,
    EgressTable,
    Kind,
    not_cleared,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, MutableMapping

    from litellm_plugin.errors import Verdict

# Hooks that only tell: nothing depends on what they give back.
_TELLING: Final = frozenset(
    {
        "async_dataset_hook",
        "async_log_event",
        "async_log_failure_event",
        "async_log_input_event",
        "async_log_pre_api_call",
        "async_log_stream_event",
        "async_log_success_event",
        "async_post_call_failure_hook",
        "log_event",
        "log_failure_event",
        "log_failure_fallback_event",
        "log_input_event",
        "log_model_group_rate_limit_error",
        "log_post_api_call",
        "log_pre_api_call",
        "log_stream_event",
        "log_success_event",
        "log_success_fallback_event",
    }
)
# LiteLLM's own integrations look at an answer here and leave it as it is; others may refuse it.
_TELLING_OF_LITELLM: Final = _TELLING | {"async_post_call_success_hook"}
# Hooks that see nothing of what a caller writes.
_BLIND: Final = frozenset(
    {
        "async_filter_listed_models",
        "async_log_audit_log_event",
        "async_pre_call_check",
        "get_callback_env_vars",
        "get_proxy_server_request_from_cold_storage_with_object_key",
        "handle_callback_failure",
        "pre_call_check",
        "redact_standard_logging_payload_from_model_call_details",
        "redacts_messages_itself",
        "truncate_standard_logging_payload_content",
    }
)
# LiteLLM's prompt managers fetch a prompt by an id that no caller can say.
_BLIND_OF_LITELLM: Final = _BLIND | {"async_get_chat_completion_prompt", "get_chat_completion_prompt"}
_HOOKS: Final = frozenset(
    name for name, value in vars(CustomLogger).items() if callable(value) and not name.startswith("_")
)
_GUARDING: Final = ("apply_guardrail", "async_moderation_hook", "async_pre_call_hook")
_EVENTS: Final = (
    GuardrailEventHooks.pre_call,
    GuardrailEventHooks.during_call,
    GuardrailEventHooks.post_call,
)
_LISTS: Final = (
    "callbacks",
    "input_callback",
    "success_callback",
    "failure_callback",
    "_async_success_callback",
    "_async_failure_callback",
)
_LISTS_OF_A_REQUEST: Final = (
    "dynamic_input_callbacks",
    "dynamic_success_callbacks",
    "dynamic_async_success_callbacks",
    "dynamic_failure_callbacks",
    "dynamic_async_failure_callbacks",
)
_INTEGRATIONS: Final = ("litellm.integrations.", "litellm_enterprise.")
# LiteLLM adds it by itself; its searches are held against the permit one by one.
_CHECKED_ELSEWHERE: Final = frozenset({"VectorStorePreCallHook", "AnthropicCacheControlHook"})
# litellm.Cache puts this word into the lists; nothing is sent for it.
_WORDS_OF_LITELLM: Final = frozenset({"cache"})
# litellm.types.litellm_params.TRUSTED_CALLBACK_VARS_FIELD; 1.101 has none.
_TRUSTED: Final = "litellm_trusted_callback_vars"
_MARK: Final = "_permit_router_holds"
_NAMES_LIMIT: Final = 4_096


class Holding:
    """Holds LiteLLM's callbacks against the table of cleared classifications.

    Args:
        table: What is configured and cleared.
        own: The plugin's own callback.
        listed: What stands in `litellm_settings.callbacks`, in its order.
        enforced: Whether callbacks are held; otherwise only what would be is told.

    Attributes:
        table: What is configured and cleared now; every one of them has the same names.
    """

    def __init__(
        self, table: EgressTable, own: object, listed: Iterable[str] = (), *, enforced: bool = True
    ) -> None:
        self.table = table
        self._own = own
        self._listed = tuple(listed)
        self._enforced = enforced
        # The objects themselves: an id may pass to a callback that takes another's place.
        self._seen: tuple[object, ...] = ()
        # The objects themselves are kept, so that no id passes to another one.
        self._names: dict[int, tuple[object, frozenset[str] | None]] = {}
        self._guardrails: dict[int, tuple[CustomGuardrail, Callable[..., bool]]] = {}
        self._acting: frozenset[str] = frozenset()

    def install(self) -> None:
        """Puts the switch where LiteLLM dispatches log events and alerts; safe to call again."""
        if not self._enforced:
            return
        _Switch.holding = self
        _install_switch()

    def refusal(self, classification: str) -> Verdict | None:
        """Says why a request of this classification cannot be served; None when it can."""
        self._look()
        held = self.table.held(classification)
        name = next(iter(sorted(held & (self.table.unavoidable | self._acting))), None)
        if name is None:
            name = next((each for each in sorted(self._acting) if each not in self.table.names), None)
        return not_cleared(name, classification) if name is not None else None

    def check_guardrails(self, data: Mapping[str, Any]) -> None:
        """Makes sure that no guardrail would run for this request that is not cleared for it.

        Raises:
            RequestDenied: One would: a key, a team, a policy or the caller names it.
        """
        state = current_state()
        if not isinstance(state, Permitted):
            return
        for guardrail, should_run in self._guardrails.values():
            if self.holds(guardrail) and any(should_run(data=data, event_type=event) for event in _EVENTS):
                raise RequestDenied(
                    not_cleared(str(guardrail.guardrail_name), state.scope.data_classification)
                )

    def drop_callbacks(self, data: MutableMapping[str, Any]) -> None:
        """Takes callbacks that a key or a team named out of this request where it is not cleared for them.

        A destination of their own goes with all of them: `egress` clears a callback where the operator put it.
        LiteLLM makes them before its pre-call hooks run.
        """
        if not self._enforced:
            return
        logging = data.get("litellm_logging_obj")
        for place in (data, data.get("metadata"), data.get("litellm_metadata")):
            if isinstance(place, dict):
                for name in place.keys() & (DESTINATIONS | {_TRUSTED}):
                    del place[name]
        if logging is not None:
            self.drop_destinations(logging)
            self._drop_uncleared(logging)

    def drop_destinations(self, logging: Any) -> None:
        """Empties what a request says of where its callbacks send to, and takes out those that it named so."""
        if not isinstance(current_state(), Permitted):
            return
        dynamic = getattr(logging, "standard_callback_dynamic_params", None) or {}
        # Datadog's and New Relic's are read from here.
        trusted = dict(getattr(logging, "_trusted_callback_vars", ()))
        named = {*dynamic, *trusted} - SWITCHES
        if not named:
            return
        for name in named & dynamic.keys():
            # LiteLLM's records of the call share this mapping.
            del dynamic[name]
        logging._trusted_callback_vars = ()  # noqa: SLF001 - nothing public empties it
        for name in _LISTS_OF_A_REQUEST:
            if getattr(logging, name, None):
                setattr(logging, name, [])

    def _drop_uncleared(self, logging: object) -> None:
        for name in _LISTS_OF_A_REQUEST:
            named = getattr(logging, name, None)
            if named:
                setattr(logging, name, [each for each in named if not self.holds(each)])

    def holds(self, callback: object) -> bool:
        """Whether this callback may not receive what runs here."""
        names = self._names_of(callback)
        return names is not None and self._holds_names(names)

    def _holds_names(self, names: frozenset[str]) -> bool:
        """Whether one of these names may not receive what runs here; what has no name may receive nothing."""
        state = current_state()
        if isinstance(state, SyntheticCall):
            # It is no request of anybody's: what tells of it is the decision log.
            return True
        if not isinstance(state, Permitted):
            return not names or bool(names & self.table.restricted)
        return not names or bool(names & state.held)

    def holds_alerts(self) -> bool:
        """Whether no alert may go out of what runs here; outside a request LiteLLM's alerts name no content."""
        state = current_state()
        if not isinstance(state, Permitted):
            return False
        return any(place.name in state.held for place in self.table.named(Kind.ALERTING))

    def _look(self) -> None:
        """Takes note of callbacks that are new; LiteLLM adds some after the start."""
        lists = [getattr(litellm, name) for name in _LISTS]
        seen = tuple(chain.from_iterable(lists))
        if len(seen) == len(self._seen) and all(map(is_, seen, self._seen)):
            return
        self._seen = seen
        for callback in chain.from_iterable(lists):
            self._take(callback)
        present = set(map(id, litellm.callbacks))
        self._guardrails = {known: guard for known, guard in self._guardrails.items() if known in present}
        self._acting = frozenset(self._acting_names())

    def _take(self, callback: object) -> None:
        names = self._names_of(callback)
        if names is None or not isinstance(callback, CustomLogger) or _MARK in vars(callback):
            return
        if not self._enforced:
            if isinstance(callback, CustomGuardrail):
                self._guardrails[id(callback)] = (callback, callback.should_run_guardrail)
            return
        for hook in _told(callback):
            _silence(self, callback, hook)
        if isinstance(callback, CustomGuardrail):
            self._guard(callback)
        setattr(callback, _MARK, True)

    def _acting_names(self) -> Iterable[str]:
        for callback in litellm.callbacks:
            names = self._names_of(callback)
            if names is None or isinstance(callback, CustomGuardrail | str):
                continue
            if not isinstance(callback, CustomLogger) or acting_hooks(callback):
                yield from names or (f"{type(callback).__module__}.{type(callback).__qualname__}",)

    def _guard(self, guardrail: CustomGuardrail) -> None:
        should_run = guardrail.should_run_guardrail
        self._guardrails[id(guardrail)] = (guardrail, should_run)

        @functools.wraps(should_run)
        def asked(*arguments: Any, **options: Any) -> bool:
            runs = should_run(*arguments, **options)
            if not runs or not self.holds(guardrail):
                return bool(runs)
            self._end(guardrail)
            return False

        guardrail.should_run_guardrail = asked
        for hook in _GUARDING:
            _guarded(self, guardrail, hook)

    def _end(self, guardrail: CustomGuardrail) -> None:
        """Ends the request that this guardrail would see; where the answer is out already it only does not run."""
        state = current_state()
        if not isinstance(state, Permitted) or state.closed or state.response_started:
            return
        verdict = not_cleared(str(guardrail.guardrail_name), state.scope.data_classification)
        state.end(verdict)
        raise Denial(verdict)

    def _names_of(self, callback: object) -> frozenset[str] | None:
        """The configured names that this callback may stand for; None for what carries nothing out."""
        if isinstance(callback, str):
            is_quiet = callback in CONTENT_FREE or callback in _WORDS_OF_LITELLM
            return None if is_quiet else frozenset({callback} & self.table.names)
        known = self._names.get(id(callback))
        if known is None:
            if len(self._names) >= _NAMES_LIMIT:
                self._names.clear()
            known = self._names[id(callback)] = (callback, self._identify(callback))
        return known[1]

    def _identify(self, callback: object) -> frozenset[str] | None:
        if callback is self._own:
            return None
        if isinstance(callback, CustomGuardrail) and callback.guardrail_name in self.table.names:
            return frozenset({str(callback.guardrail_name)})
        name = self._listed_name(callback)
        if name is not None:
            return None if name in CONTENT_FREE else frozenset({name})
        named = callback if hasattr(callback, "__qualname__") else type(callback)
        module = str(getattr(named, "__module__", ""))
        if type(callback).__name__ in _CHECKED_ELSEWHERE or _is_internal(callback, module):
            return None
        standard = frozenset(CustomLoggerRegistry.get_all_callback_strs_from_class_type(type(callback)))
        if standard & CONTENT_FREE:
            return None
        possible = standard | {str(getattr(callback, "callback_name", ""))}
        possible |= {f"{module}.{getattr(callback, '__name__', '')}"}
        # An object does not know its own name; the entries of its module are the ones it may stand for.
        same_module = {name for name in self.table.names if name.rpartition(".")[0] == module}
        return frozenset(possible & self.table.names) or frozenset(same_module)

    def _listed_name(self, callback: object) -> str | None:
        """The entry that this object was made from: LiteLLM keeps the order of `litellm_settings.callbacks`."""
        objects = litellm.callbacks
        own = next((place for place, each in enumerate(objects) if each is self._own), None)
        if own is None or self._own_place is None:
            return None
        place = next((place for place, each in enumerate(objects) if each is callback), None)
        if place is None:
            return None
        position = place - own + self._own_place
        name = self._listed[position] if 0 <= position < len(self._listed) else None
        # An operator's own code is named by a dotted path, LiteLLM's by a word.
        is_litellms = type(callback).__module__.startswith(("litellm.", "litellm_enterprise."))
        return name if name is not None and ("." in name) is not is_litellms else None

    @functools.cached_property
    def _own_place(self) -> int | None:
        return next(
            (place for place, name in enumerate(self._listed) if name.startswith("litellm_plugin.")), None
        )


def acting_hooks(callback: CustomLogger) -> frozenset[str]:
    """The hooks of this callback that see what callers write and that nothing can leave out.

    A callback that rewrites or refuses a request was put there for that: without it the request is another one.
    """
    is_litellms = type(callback).__module__.startswith(_INTEGRATIONS)
    telling = _TELLING_OF_LITELLM if is_litellms else _TELLING
    blind = _BLIND_OF_LITELLM if is_litellms else _BLIND
    return frozenset(_overridden(callback) - telling - blind)


def _told(callback: CustomLogger) -> frozenset[str]:
    is_litellms = type(callback).__module__.startswith(_INTEGRATIONS)
    telling = _TELLING_OF_LITELLM if is_litellms else _TELLING
    return frozenset(_overridden(callback) & telling)


def _overridden(callback: CustomLogger) -> frozenset[str]:
    kind = type(callback)
    return frozenset(hook for hook in _HOOKS if getattr(kind, hook, None) is not getattr(CustomLogger, hook))


def _is_internal(callback: object, module: str) -> bool:
    """Whether LiteLLM registers this itself: spend, limits and the router's own bookkeeping."""
    if isinstance(callback, CustomGuardrail):
        return False
    return module.startswith("litellm.") and not module.startswith(_INTEGRATIONS)


def _silence(holding: Holding, callback: CustomLogger, hook: str) -> None:
    """Shadows one hook of one object; LiteLLM looks for hooks in the class, and calls them on the object."""
    original = getattr(callback, hook)

    if hook.startswith("async_") or hook.endswith(("_fallback_event", "_rate_limit_error")):

        @functools.wraps(original)
        async def told_later(*arguments: Any, **options: Any) -> Any:
            return None if holding.holds(callback) else await original(*arguments, **options)

        setattr(callback, hook, told_later)
        return

    @functools.wraps(original)
    def told(*arguments: Any, **options: Any) -> Any:
        return None if holding.holds(callback) else original(*arguments, **options)

    setattr(callback, hook, told)


def _guarded(holding: Holding, guardrail: CustomGuardrail, hook: str) -> None:
    original = getattr(guardrail, hook)

    @functools.wraps(original)
    async def run(*arguments: Any, **options: Any) -> Any:
        if holding.holds(guardrail):
            holding._end(guardrail)  # noqa: SLF001 - the same room's other half
            return None
        return await original(*arguments, **options)

    setattr(guardrail, hook, run)


class _Switch:
    """Whom LiteLLM's patched dispatch asks: the newest holding of this process."""

    holding: Holding | None = None


def _install_switch() -> None:
    logging = litellm_logging.Logging
    if getattr(logging.should_run_callback, _MARK, False):
        return
    logging.should_run_callback = _marked(_asked(logging.should_run_callback))
    logging.__init__ = _narrowed(logging.__init__)
    SlackAlerting.send_alert = _marked(_alerted(SlackAlerting.send_alert))
    # Synchronous callbacks run in LiteLLM's threads, which do not know the request by themselves.
    executor = litellm_logging.executor
    executor.submit = _carried(executor.submit)


def _marked(function: Any) -> Any:
    setattr(function, _MARK, True)
    return function


def _asked(original: Any) -> Any:
    @functools.wraps(original)
    def should_run_callback(self: Any, callback: Any, *arguments: Any, **options: Any) -> bool:
        if _Switch.holding is not None and _Switch.holding.holds(callback):
            return False
        return bool(original(self, callback, *arguments, **options))

    return should_run_callback


def _narrowed(original: Any) -> Any:
    """What LiteLLM logs with knows no destination from the moment it is made: some paths ask no pre-call hook."""

    @functools.wraps(original)
    def made(self: Any, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        if _Switch.holding is not None:
            _Switch.holding.drop_destinations(self)

    return made


def _alerted(original: Any) -> Any:
    @functools.wraps(original)
    async def send_alert(*arguments: Any, **options: Any) -> Any:
        if _Switch.holding is not None and _Switch.holding.holds_alerts():
            return None
        return await original(*arguments, **options)

    return send_alert


def _carried(submit: Any) -> Any:
    @functools.wraps(submit)
    def submit_here(function: Any, /, *arguments: Any, **options: Any) -> Any:
        return submit(copy_context().run, function, *arguments, **options)

    return submit_here
