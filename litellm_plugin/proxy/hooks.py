"""The hooks that LiteLLM calls: its conventions on this side, enforcement and outcomes on the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from litellm.constants import DEFAULT_HEALTH_CHECK_PROMPT
from litellm.integrations.custom_logger import CustomLogger

from litellm_plugin.errors import Reason, RequestDenied, Verdict
from litellm_plugin.proxy.context import Permitted, current_state
from litellm_plugin.proxy.denial import Denial
from litellm_plugin.proxy.deployments import deployment_id, endpoint_name
from litellm_plugin.proxy.enforcement import Enforcement
from litellm_plugin.proxy.observe import ObservedCalls
from litellm_plugin.proxy.outcomes import Outcomes
from litellm_plugin.proxy.schemas import PUBLISHED_CONTENT
from litellm_plugin.proxy.synthetic import select_synthetic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from litellm_plugin.proxy.runtime import Runtime


class PermitRouter(CustomLogger):  # type: ignore[misc] # LiteLLM's classes are untyped here
    """The callback to register as `litellm_plugin.permit_router`.

    Every hook is defined here, on the class that LiteLLM holds: it does not see an inherited pre-call hook.
    Without a runtime the object is inert: it lets everything pass and records nothing.
    """

    def __init__(self, runtime: Runtime | None) -> None:
        super().__init__()
        self.runtime = runtime
        self._enforcement = Enforcement(runtime) if runtime else None
        self._outcomes = Outcomes(runtime) if runtime else None
        self._observed: ObservedCalls | None = None
        if runtime is not None and self._enforcement is not None and runtime.observes:
            self._observed, self._enforcement = ObservedCalls(runtime, self._enforcement), None

    async def async_pre_call_hook(
        self,
        user_api_key_dict: Any,
        cache: Any,
        data: dict[str, Any],
        call_type: Any,
    ) -> dict[str, Any]:
        """Scrubs and plans; ends the request when nothing here is authorized for it."""
        if self._enforcement is not None:
            try:
                self._enforcement.prepare(data, getattr(user_api_key_dict, "team_id", None))
            except Exception as error:  # noqa: BLE001 - the outer guard of the request path: deny
                self._end(error)
        elif self._observed is not None:
            self._observed.prepare(data, getattr(user_api_key_dict, "team_id", None))
        return data

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: list[Any],
        messages: Any,
        request_kwargs: dict[str, Any] | None = None,
        parent_otel_span: Any = None,
    ) -> list[Any]:
        """Narrows LiteLLM's list to exactly the one deployment that the plan names for this attempt."""
        if self._enforcement is None:
            if self._observed is not None:
                self._observed.select(model, healthy_deployments)
            return healthy_deployments
        try:
            synthetic = self._enforcement.synthetic()
            if synthetic is not None:
                return select_synthetic(synthetic, healthy_deployments)
            chosen = self._enforcement.select(model, healthy_deployments)
            entry = next(each for each in healthy_deployments if deployment_id(each) == chosen)
            if request_kwargs is not None:
                # Our plan is the order; LiteLLM's own order level would drop the chosen one again.
                request_kwargs.pop("_target_order", None)
                self._enforcement.scope_cache(request_kwargs, endpoint_name(entry))
        except Exception as error:  # noqa: BLE001 - the outer guard of the request path: deny
            self._end(error)
        return [entry]

    async def async_pre_call_deployment_hook(
        self,
        kwargs: dict[str, Any],
        call_type: Any,
    ) -> dict[str, Any] | None:
        """Holds the call that is about to be made against the permit."""
        if self._enforcement is None:
            if self._observed is not None:
                self._observe(self._observed, kwargs, call_type)
            return None
        try:
            if current_state() is None and is_health_probe(kwargs):
                return None
            if is_search(kwargs, call_type):
                self._enforcement.check_search(kwargs)
                return None
            return {**kwargs, **self._enforcement.check(kwargs)}
        except Exception as error:  # noqa: BLE001 - the outer guard of the request path: deny
            self._end(error)

    async def async_post_call_failure_deployment_hook(
        self,
        request_data: Any,
        exception: Exception,
        call_type: Any,
        fallback_depth: int | None = None,
    ) -> None:
        """Records a failed attempt."""
        if self._outcomes is not None:
            with self._outcomes.guarded():
                self._outcomes.failed(deployment_id(request_data), exception)

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Records a successful attempt, with LiteLLM's own figures."""
        if self._outcomes is not None:
            with self._outcomes.guarded():
                self._outcomes.succeeded(kwargs, start_time, end_time)

    async def async_log_failure_event(
        self,
        kwargs: dict[str, Any],
        response_obj: Any,
        start_time: Any,
        end_time: Any,
    ) -> None:
        """Records a stream that broke; failures before the first byte were recorded already."""
        if self._outcomes is not None:
            with self._outcomes.guarded():
                self._outcomes.broken(kwargs)

    def _observe(self, observed: ObservedCalls, kwargs: dict[str, Any], call_type: Any) -> None:
        if current_state() is None and is_health_probe(kwargs):
            return
        if is_search(kwargs, call_type):
            observed.check_search(kwargs)
        else:
            observed.check(kwargs)

    def _end(self, error: Exception) -> NoReturn:
        """Ends the request: the verdict goes into the state, and LiteLLM gets the one class it never retries."""
        state = current_state()
        if isinstance(error, RequestDenied):
            verdict = error.verdict
        else:
            if self.runtime is not None:
                self.runtime.log.error("A hook failed; the request is denied", exc_info=error)
            verdict = Verdict(
                Reason.INTERNAL_ERROR, "The permit router failed; nothing was sent to a provider."
            )
        if isinstance(state, Permitted):
            state.end(verdict)
        raise self._denial(verdict) from error

    def _denial(self, verdict: Verdict) -> Denial:
        return Denial(verdict)


def is_search(kwargs: dict[str, Any], call_type: Any) -> bool:
    """Whether LiteLLM is about to ask a vector store or a search tool, which are no deployments."""
    # CallTypes takes the name of the function that is called, which is the same for both.
    return getattr(call_type, "value", None) == "asearch" and "query" in kwargs


_PROBE_TAG = "litellm-internal-health-check"
_OTHER_CONTENT = PUBLISHED_CONTENT - {"messages", "prompt", "input"}
# litellm/proxy/health_check.py and main.ahealth_check; the environment may set the default one.
_PROBE_TEXTS = frozenset({"Hey how's it going?", "What's 1 + 1?", "test"})


def is_health_probe(kwargs: dict[str, Any]) -> bool:
    """Whether a call outside any request is LiteLLM's own probe with one of its constant prompts."""
    metadata = kwargs.get("litellm_metadata") or kwargs.get("metadata")
    tags = metadata.get("tags") if isinstance(metadata, dict) else None
    if not isinstance(tags, list | tuple) or _PROBE_TAG not in tags:
        return False
    texts = list(_texts(kwargs))
    return bool(texts) and all(isinstance(text, str) and _is_constant(text) for text in texts)


def _is_constant(text: str) -> bool:
    return text in _PROBE_TEXTS or text == DEFAULT_HEALTH_CHECK_PROMPT


def _texts(kwargs: dict[str, Any]) -> Iterator[object]:
    """Everything that a call would send as content; what is not plain text comes as it is."""
    for message in kwargs.get("messages") or ():
        is_plain = isinstance(message, dict) and set(message) <= {"role", "content"}
        yield message["content"] if is_plain and "content" in message else message
    for name, value in kwargs.items():
        if name in ("prompt", "input", "query"):
            yield from value if isinstance(value, list | tuple) else (value,)
        elif name in _OTHER_CONTENT and value:
            yield {name: value}
