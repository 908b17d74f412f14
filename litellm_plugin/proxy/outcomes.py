"""Outcomes: how attempts ended, read from LiteLLM's callbacks, for the statistics and the decision log.

LiteLLM logs only the first failure of a request, so failures come from the deployment hook, which fires
for each attempt; successes come from the success event, which has usage, price and first-token time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import httpx
import litellm

from litellm_plugin.proxy.causes import causes
from litellm_plugin.proxy.context import Permitted, current_state
from litellm_plugin.proxy.denial import Denial
from litellm_plugin.proxy.deployments import deployment_id
from litellm_plugin.proxy.evidence import shows_provider
from litellm_plugin.proxy.openings import time_left_s
from litellm_plugin.proxy.planning import affinity_scope, next_step, stickiness_of, unserved
from litellm_plugin.proxy.shared_state import Ended
from litellm_plugin.proxy.usage import Doubts, Usage, believable
from litellm_plugin.routing import CallType, Candidate
from litellm_plugin.routing.attempts import AttemptStatus, Measurement
from litellm_plugin.state import read_headers

if TYPE_CHECKING:
    from datetime import datetime

    from litellm_plugin.proxy.context import Attempt
    from litellm_plugin.proxy.runtime import Runtime


class Outcomes:
    """Closes attempts.

    Args:
        runtime: What this worker knows.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        runtime.abandon = self.abandon
        runtime.passed = self.passed
        runtime.failed = self._failed_unheard
        self._logged: set[type[Exception]] = set()
        self._doubts = Doubts(runtime.log)

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Telemetry fails open: what nobody foresaw here is logged once per type and ends no request."""
        try:
            yield
        except Exception as error:  # the guard that the docstring names
            if type(error) not in self._logged:
                self._logged.add(type(error))
                self._runtime.log.exception("An attempt's outcome was not recorded")

    def _failed_unheard(self, failed_id: str, exception: Exception) -> None:
        with self.guarded():
            self.failed(failed_id, exception)

    def failed(self, failed_id: str, exception: Exception) -> None:
        """Closes an attempt that ended with an exception before its answer began."""
        state = current_state()
        attempt = state.open_attempt(failed_id) if isinstance(state, Permitted) else None
        if not isinstance(state, Permitted) or attempt is None or isinstance(exception, Denial):
            return
        http_status = _http_status(exception)
        status = _found_nothing(state, attempt, http_status) or classify(exception)
        self._hear(attempt, _headers(exception))
        now_s = self._runtime.clock.monotonic()
        attempt.status = status
        attempt.may_have_acted = status.may_have_acted and not _was_never_sent(exception, state.handled)
        if status.is_retryable:
            attempt.retry_after_s = _retry_after_s(exception, self._runtime.clock.wall())
            state.end(unserved(self._runtime, state))
        is_final = not isinstance(next_step(self._runtime, state), Candidate)
        self._close(
            state,
            attempt,
            status,
            total_ms=(now_s - attempt.started_s) * 1000,
            http_status=http_status,
            error_class=type(exception).__name__,
            is_final=is_final,
            was_provider_seen=shows_provider(exception, state.handled),
            has_room=_has_room(exception, status),
        )

    def succeeded(self, kwargs: Mapping[str, Any], start: datetime, end: datetime) -> None:
        """Closes an attempt that gave a whole answer."""
        facts: Mapping[str, Any] = kwargs.get("standard_logging_object") or {}
        state = current_state()
        attempt = state.open_attempt(_model_id(kwargs)) if isinstance(state, Permitted) else None
        if not isinstance(state, Permitted) or attempt is None:
            return
        began = kwargs.get("completion_start_time")
        first_token_ms = (began - start).total_seconds() * 1000 if began and began < end else None
        cache_hit = bool(kwargs.get("cache_hit") or facts.get("cache_hit"))
        # A provider that reports no usage for a stream is logged as 0 tokens: unknown, not free.
        used = facts if cache_hit or facts.get("prompt_tokens") or facts.get("completion_tokens") else {}
        if state.call_type is CallType.STORED_RESPONSE:
            used = {}  # The usage of a stored answer was paid for when it was made.
        usage = self._usage(used, state, attempt)
        if not cache_hit:
            self._remember(state, attempt)
            self._hear(attempt, answer_headers(facts))
        self._close(
            state,
            attempt,
            AttemptStatus.SUCCESS,
            total_ms=(end - start).total_seconds() * 1000,
            first_token_ms=first_token_ms,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cost_usd=usage.cost_usd,
            cache_hit=cache_hit,
        )

    def _usage(self, used: Mapping[str, Any], state: Permitted, attempt: Attempt) -> Usage:
        """What the answer took, as far as it can be believed; says once a deployment where it cannot."""
        said = Usage(
            _whole(used.get("prompt_tokens")),
            _whole(used.get("completion_tokens")),
            _billed_usd(used, attempt),
        )
        usage = believable(said, state, attempt)
        self._doubts.compare(attempt.candidate.deployment_id, said, usage)
        return usage

    def _remember(self, state: Permitted, attempt: Attempt) -> None:
        """Notes what this answer left where, for the requests of the same tenant and classification."""
        facts, wanted = state.facts, stickiness_of(state)
        if facts is None or state.is_socket:
            return
        scope, memory, candidate = affinity_scope(state), self._runtime.affinity, attempt.candidate
        keeping = next((each for each in wanted if each.keeps_sessions), None)
        if facts.session is not None and keeping is not None:
            memory.remember_session(
                scope,
                facts.session,
                candidate.deployment_id,
                model_group=attempt.model_group,
                lifetime_s=keeping.session_ttl_s,
            )
        lifetime_s = candidate.cache_lifetime_s
        prefers_warm = any(each.prefers_warm_caches for each in wanted)
        if facts.prefix is not None and lifetime_s is not None and prefers_warm:
            memory.remember_prefix(
                scope,
                facts.prefix,
                candidate.deployment_id,
                tokens=facts.prefix_tokens,
                lifetime_s=lifetime_s,
            )

    def _is_excused(self, state: Permitted, attempt: Attempt, status: AttemptStatus) -> bool:
        """Whether an attempt failed for reasons of this worker, or for want of the request's own time."""
        if status is AttemptStatus.TIMEOUT and self._was_cut_short(state, attempt):
            return True
        return self._runtime.shared.watch.excuses(status, attempt.started_s)

    def _was_cut_short(self, state: Permitted, attempt: Attempt) -> bool:
        """Whether the request's own time ended an attempt that began late in it."""
        left_s = time_left_s(state, self._runtime.clock.monotonic())
        return attempt.number > 1 and left_s is not None and left_s <= _CUT_SHORT_S

    def _hear(self, attempt: Attempt, headers: object) -> None:
        """Takes what the provider says of its own limits."""
        if isinstance(headers, Mapping):
            self._runtime.shared.hear(attempt.candidate.deployment_id, headers)

    def broken(self, kwargs: Mapping[str, Any]) -> None:
        """Closes an attempt whose stream broke; what failed before its stream opened is closed already."""
        state = current_state()
        exception = kwargs.get("exception")
        if not isinstance(state, Permitted) or not isinstance(exception, Exception):
            return
        if isinstance(exception, Denial):
            return
        attempt = state.open_attempt(_model_id(kwargs))
        if attempt is None:
            return
        http_status = _http_status(exception)
        status = _found_nothing(state, attempt, http_status) or classify(exception)
        self._hear(attempt, _headers(exception))
        if status.is_retryable:
            attempt.retry_after_s = _retry_after_s(exception, self._runtime.clock.wall())
        total_ms = (self._runtime.clock.monotonic() - attempt.started_s) * 1000
        self._close(
            state,
            attempt,
            status,
            total_ms=total_ms,
            error_class=type(exception).__name__,
            was_provider_seen=shows_provider(exception, state.handled),
            has_room=_has_room(exception, status),
        )

    def passed(self, state: Permitted, http_status: int | None) -> None:
        """Closes the attempt of a call whose end LiteLLM reports to no hook, or to some only, by its answer's status."""
        attempt = state.current
        if state.call_type not in _UNREPORTED or attempt is None or attempt.status is not None:
            return
        if http_status is None:
            return
        total_ms = (self._runtime.clock.monotonic() - attempt.started_s) * 1000
        is_success = http_status < 300  # noqa: PLR2004 - RFC 9110 §15.3
        status = _found_nothing(state, attempt, http_status) or _of_status(http_status)
        status = AttemptStatus.SUCCESS if is_success else status
        self._close(state, attempt, status, total_ms=total_ms, http_status=http_status)

    def abandon(self, state: Permitted) -> None:
        """Closes what is still open of a request whose client went away, or of which LiteLLM never told the end."""
        for attempt in state.attempts:
            if attempt.status is None:
                total_ms = (self._runtime.clock.monotonic() - attempt.started_s) * 1000
                self._close(state, attempt, state.unreported, total_ms=total_ms)

    def _close(
        self,
        state: Permitted,
        attempt: Attempt,
        status: AttemptStatus,
        *,
        total_ms: float,
        first_token_ms: float | None = None,
        cache_hit: bool | None = None,
        output_tokens: int | None = None,
        was_provider_seen: bool = True,
        has_room: bool = False,
        **facts: Any,
    ) -> None:
        attempt.status = status
        is_measured = not cache_hit and state.call_type not in _UNREPORTED
        # What LiteLLM itself could not make a request of says nothing of the endpoint.
        is_excused = not was_provider_seen or self._is_excused(state, attempt, status)
        may_have_begun = attempt.may_have_acted or not status.may_have_acted
        hold, attempt.hold = attempt.hold, None
        self._runtime.shared.end(
            attempt.candidate.deployment_id,
            hold,
            Ended(
                status,
                began_s=attempt.started_s,
                retry_after_s=0.0 if has_room else attempt.retry_after_s,
                # A provider that refuses a request has not begun it, but has counted it.
                was_sent=not cache_hit and may_have_begun and (was_provider_seen or state.response_started),
                tokens=_sum(facts.get("input_tokens"), output_tokens),
                # A stored answer was paid for when it was made.
                cost_usd=0.0 if state.call_type is CallType.STORED_RESPONSE else facts.get("cost_usd"),
                is_measured=is_measured,
                is_excused=is_excused,
                retry_of=_retry_of(state, attempt),
            ),
        )
        if is_measured and not is_excused:
            self._runtime.shared.measure(
                Measurement(
                    deployment_id=attempt.candidate.deployment_id,
                    status=status,
                    # A session lasts as long as its user talks.
                    total_ms=None if state.is_socket else total_ms,
                    first_token_ms=None if state.is_socket else first_token_ms,
                    output_tokens=output_tokens,
                    answers=state.facts.output_count if state.facts else 1,
                    route=attempt.route,
                )
            )
        self._runtime.recorder.attempt(
            state,
            attempt,
            status,
            total_ms=total_ms,
            first_token_ms=first_token_ms,
            cache_hit=cache_hit,
            output_tokens=output_tokens,
            **facts,
        )


# A request's time is measured by two clocks: ours, and that of LiteLLM's client.
_CUT_SHORT_S: Final = 0.5


def _retry_of(state: Permitted, attempt: Attempt) -> str | None:
    """Where the request's first attempt went; None where this is that attempt."""
    first = next(iter(state.spent), attempt)
    return None if first is attempt else first.candidate.endpoint


def _sum(first: int | None, second: int | None) -> int | None:
    """The tokens of both ways; None where neither is known."""
    return None if first is None and second is None else (first or 0) + (second or 0)


# Calls that LiteLLM's loggers hear of in part, and that take no time that says something of the model.
_UNREPORTED: Final = frozenset({CallType.STORED_RESPONSE, CallType.PASS_THROUGH})
_WILDCARD: Final = "*"
_STATUS_CLASSES: Final = {
    401: AttemptStatus.PROVIDER_AUTH,
    403: AttemptStatus.PROVIDER_AUTH,
    # On the governed paths: the account is not paid, the model is not there.
    402: AttemptStatus.MISCONFIGURED,
    404: AttemptStatus.MISCONFIGURED,
    408: AttemptStatus.TIMEOUT,
    504: AttemptStatus.TIMEOUT,
    # LiteLLM tries these again, RFC 9110 §15.5.10 and RFC 8470 §5.2.
    409: AttemptStatus.SERVER_ERROR,
    425: AttemptStatus.SERVER_ERROR,
    429: AttemptStatus.RATE_LIMITED,
}


def _billed_usd(used: Mapping[str, Any], attempt: Attempt) -> float | None:
    """What LiteLLM billed; it bills 0 where it knows no price, and that is unknown."""
    billed_usd = _number(used.get("response_cost"))
    return billed_usd if billed_usd or attempt.expected_cost_usd is not None else None


@dataclass(frozen=True, slots=True)
class Failure:
    """What an exception of LiteLLM says of an attempt.

    Attributes:
        error: The exception.
        status: How it ended.
        http_status: What the provider answered; None when it did not.
        headers: The headers of that answer; empty without one.
        retry_after_s: When the provider asked to come back; None when it did not.
        was_sent: Whether the provider may have begun it.
        shows_provider: Whether the provider stands behind it at all.
    """

    error: BaseException
    status: AttemptStatus
    http_status: int | None
    headers: Mapping[str, object]
    retry_after_s: float | None
    was_sent: bool
    shows_provider: bool


def read_failure(exception: BaseException, now: float) -> Failure:
    """Reads an exception that ended an attempt.

    Args:
        exception: What LiteLLM raised.
        now: Wall clock, seconds since the epoch.
    """
    status, headers = classify(exception), _headers(exception)
    retry_after_s = _retry_after_s(exception, now) if status.is_retryable else None
    return Failure(
        error=exception,
        status=status,
        http_status=_http_status(exception),
        headers=headers if isinstance(headers, Mapping) else {},
        retry_after_s=0.0 if _has_room(exception, status) else retry_after_s,
        was_sent=not _was_never_sent(exception, None),
        shows_provider=shows_provider(exception, None),
    )


def classify(exception: BaseException) -> AttemptStatus:
    """Puts an exception of LiteLLM into one of the classes that health and retries tell apart."""
    if isinstance(exception, litellm.ContextWindowExceededError):
        return AttemptStatus.CONTEXT_WINDOW
    if isinstance(exception, litellm.ContentPolicyViolationError):
        return AttemptStatus.CONTENT_FILTER
    if isinstance(exception, litellm.Timeout | httpx.TimeoutException | TimeoutError):
        return AttemptStatus.TIMEOUT
    if isinstance(exception, litellm.APIConnectionError | httpx.TransportError | ConnectionError):
        return AttemptStatus.CONNECTION_ERROR
    status = _http_status(exception)
    if status is None:
        return AttemptStatus.SERVER_ERROR
    return _of_status(status)


def _was_never_sent(exception: BaseException, earlier: BaseException | None) -> bool:
    """Whether the provider was not reached at all.

    Args:
        exception: How the attempt ended.
        earlier: The exception that was being handled when the attempt began.
    """
    never_sent = httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout
    return any(isinstance(each, never_sent) for each in causes(exception, earlier))


def _http_status(exception: BaseException) -> int | None:
    """What the provider answered; a router's pass-through raises httpx's own error."""
    response = exception.response if isinstance(exception, httpx.HTTPStatusError) else None
    status = getattr(exception, "status_code", None) if response is None else response.status_code
    return status if isinstance(status, int) else None


def _found_nothing(state: Permitted, attempt: Attempt, http_status: int | None) -> AttemptStatus | None:
    """A caller's id, path or name of a model that the provider does not know is no fault of the endpoint."""
    is_callers = (
        state.call_type in _UNREPORTED
        or state.stored is not None
        or _WILDCARD in (attempt.candidate.model or "")
    )
    is_unknown = http_status == 404 and is_callers  # noqa: PLR2004 - RFC 9110 §15.5.5
    return AttemptStatus.CLIENT_ERROR if is_unknown else None


def _of_status(status: int) -> AttemptStatus:
    if status in _STATUS_CLASSES:
        return _STATUS_CLASSES[status]
    # RFC 9110 §15.4: nobody follows a provider's redirect here, and it is no fault of the caller.
    if 300 <= status < 400:  # noqa: PLR2004 - RFC 9110 §15.4
        return AttemptStatus.MISCONFIGURED
    return AttemptStatus.CLIENT_ERROR if 400 <= status < 500 else AttemptStatus.SERVER_ERROR  # noqa: PLR2004 - RFC 9110 §15


def _retry_after_s(exception: BaseException, now: float) -> float | None:
    """What the provider asked for, in seconds; None when it asked for nothing readable."""
    headers = _headers(exception)
    return read_headers(headers, now).retry_after_s if isinstance(headers, Mapping) else None


def _has_room(exception: BaseException, status: AttemptStatus) -> bool:
    """Whether a 429 names no time and its own headers say that requests and tokens are left: it is no limit of all."""
    headers = _headers(exception)
    if status is not AttemptStatus.RATE_LIMITED or not isinstance(headers, Mapping):
        return False
    said = read_headers(headers, 0.0)
    limits = (said.requests, said.tokens)
    return said.retry_after_s is None and all(each is not None and each.remaining > 0 for each in limits)


def answer_headers(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the provider said of itself: LiteLLM puts its own counts of a model group beside it, under the same names."""
    headers = (facts.get("hidden_params") or {}).get("additional_headers")
    if not isinstance(headers, Mapping):
        return {}
    return {name: value for name, value in headers.items() if str(name).startswith(_PROVIDERS)}


_PROVIDERS: Final = "llm_provider-"


def _headers(exception: BaseException) -> object:
    """The headers of a provider's refusal."""
    response = getattr(exception, "response", None)
    return getattr(exception, "litellm_response_headers", None) or getattr(response, "headers", None)


def _model_id(kwargs: Mapping[str, Any]) -> str:
    """The id of the deployment that a log event is about; empty when it names none."""
    facts: Mapping[str, Any] = kwargs.get("standard_logging_object") or {}
    params: Mapping[str, Any] = kwargs.get("litellm_params") or {}
    return str(facts.get("model_id") or "") or deployment_id(params)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
