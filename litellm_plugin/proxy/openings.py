"""Openings: an attempt has served when its answer began, so a stream's first item is read where retries are made.

LiteLLM's retry loop is over when a stream was opened, before its first item came. A stream that breaks in
between goes to LiteLLM's own fallbacks, not to the plan's next candidate; and what LiteLLM calls the caller's
fault it does not repeat, although an endpoint with a larger window could serve it. Each pass of that loop goes
through the router's `make_call`, on all call types, in 1.101, 1.106 and 1.109; it is wrapped here.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import sys
from typing import TYPE_CHECKING, Any, Final, Self

import litellm

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.proxy.causes import causes
from litellm_plugin.proxy.context import Permitted, current_state
from litellm_plugin.proxy.denial import Denial
from litellm_plugin.routing import CallType, Candidate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from litellm_plugin.proxy.context import Attempt
    from litellm_plugin.proxy.planning import Planner
    from litellm_plugin.proxy.runtime import Runtime

# In 1.109 litellm.router is a facade, and the loop is in the core behind it.
_MODULES: Final = (("litellm.router_python_core", "PythonCore"), ("litellm.router", "Router"))
_METHOD: Final = "make_call"
_MARK: Final = "_permit_router_guarded"
_STREAMING: Final = frozenset(
    {
        CallType.CHAT,
        CallType.COMPLETION,
        CallType.MESSAGES,
        CallType.RESPONSES,
        CallType.GENERATE_CONTENT,
    }
)

# A loop's clock stands still within a turn, so that its timers come early by as much: an attempt that ended before the
# request's time was up would be followed by another.
_GRACE_S: Final = 0.5


def watch_openings() -> None:
    """Wraps the step of LiteLLM's retry loop that makes one attempt; safe to call again.

    Raises:
        ConfigurationError: LiteLLM's router does not make attempts where it is known to.
    """
    owner = _owner()
    if owner is None:
        raise ConfigurationError(
            f"LiteLLM's router has no {_METHOD}: this version makes its attempts in a way that is not known here"
        )
    made = getattr(owner, _METHOD)
    if not getattr(made, _MARK, False):
        setattr(owner, _METHOD, _guard(made))


def are_watched() -> bool:
    """Whether attempts are made through the wrapper; a wrapper round it passes its mark on."""
    return getattr(getattr(_owner(), _METHOD, None), _MARK, False)


def _owner() -> Any:
    for module, name in _MODULES:
        try:
            owner = getattr(importlib.import_module(module), name, None)
        except ImportError:
            continue
        if hasattr(owner, _METHOD):
            return owner
    return None


def _guard(make: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(make)
    async def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        state = current_state()
        if not isinstance(state, Permitted) or state.openings is None:
            return await make(self, *args, **kwargs)
        return await state.openings.attempt(state, functools.partial(make, self, *args, **kwargs))

    setattr(guarded, _MARK, True)
    return guarded


class Openings:
    """Makes attempts: until the first item of a stream, within the request's time.

    Args:
        runtime: What this worker knows.
        planner: Says what follows.
    """

    def __init__(self, runtime: Runtime, planner: Planner) -> None:
        self._runtime = runtime
        self._planner = planner

    async def attempt(self, state: Permitted, make: Callable[[], Awaitable[Any]]) -> Any:
        """Runs one pass of LiteLLM's retry loop.

        Raises:
            Exception: What LiteLLM raised; where the plan goes on and LiteLLM's loop would not, an error that it
                does repeat.
        """
        if state.is_socket:
            return await make()
        made = len(state.attempts)
        outer, state.handled = state.handled, sys.exception()
        is_opened = False
        try:
            async with asyncio.timeout(self._time_left_s(state)):
                answer = await make()
                is_opened = state.call_type in _STREAMING and hasattr(type(answer), "__aiter__")
                return await self._opened(state, answer) if is_opened else answer
        except Exception as error:
            cause = _providers_error(error, state.handled) if is_opened else error
            wanted = self._failed(state, state.attempts[made:], cause)
            if wanted is error:
                raise
            raise wanted from wanted.__cause__
        finally:
            state.handled = outer

    async def _opened(self, state: Permitted, stream: Any) -> Any:
        outer, state.awaited = state.awaited, state.current
        items = aiter(stream)
        try:
            first = await anext(items)
        except StopAsyncIteration:
            return BegunStream(stream, items, ())
        finally:
            state.awaited = outer
        return BegunStream(stream, items, (first,))

    def _time_left_s(self, state: Permitted) -> float | None:
        left_s = time_left_s(state, self._runtime.clock.monotonic())
        return None if left_s is None else left_s + _GRACE_S

    def _failed(self, state: Permitted, made: list[Attempt], error: Exception) -> Exception:
        """What LiteLLM's loop gets for the error that a pass ended with."""
        if not made or isinstance(error, Denial):
            return error
        for attempt in made:
            if attempt.status is None:
                self._runtime.failed(attempt.candidate.deployment_id, error)
        if getattr(error, "status_code", None) in _REPEATED or not self._goes_on(state, made[-1].model_group):
            return error
        repeated: Exception = litellm.ServiceUnavailableError(
            message=f"{type(error).__name__}: another endpoint is tried", llm_provider="", model=""
        )
        repeated.__cause__ = error
        return repeated

    def _goes_on(self, state: Permitted, group: str) -> bool:
        routed = state.groups.get(group)
        if routed is None:
            return False
        if not isinstance(self._planner.following(state, routed), Candidate):
            self._planner.enlarge(state, routed)
        return isinstance(self._planner.following(state, state.groups[group]), Candidate)


# What LiteLLM's loop repeats by itself: litellm.should_retry, but for what it takes back.
_REPEATED: Final = frozenset({408, 409, 429, *range(500, 600)})


def time_left_s(state: Permitted, now_s: float) -> float | None:
    """How long the request may be worked on, in seconds; None without a limit."""
    deadline_ms = state.policy.routing.retries.deadline_ms
    if deadline_ms is None or state.is_socket:
        return None
    return max(0.0, state.received_s + deadline_ms / 1000 - now_s)


def _providers_error(error: Exception, earlier: BaseException | None) -> Exception:
    """The provider's own error behind one that LiteLLM, or a fallback that was refused, put in its place."""
    chain = causes(error, earlier) if isinstance(error, Denial) else (error,)
    originals = (getattr(each, "original_exception", None) for each in chain)
    return next((each for each in originals if isinstance(each, Exception)), error)


class BegunStream:
    """Stands for LiteLLM's own stream, of which the first items were read already.

    Its items, its attributes and its class are those of that stream.

    Args:
        stream: LiteLLM's stream.
        items: Its iterator.
        first: What was read of it.
    """

    __slots__ = ("__weakref__", "_begun_first", "_begun_items", "_begun_stream")

    def __init__(self, stream: Any, items: Any, first: tuple[Any, ...]) -> None:
        object.__setattr__(self, "_begun_stream", stream)
        object.__setattr__(self, "_begun_items", items)
        object.__setattr__(self, "_begun_first", list(first))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._begun_first:
            return self._begun_first.pop()
        return await anext(self._begun_items)

    async def aclose(self) -> None:
        """Leaves the stream where it is."""
        close = getattr(self._begun_stream, "aclose", None)
        if close is not None:
            await close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._begun_stream, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._begun_stream, name, value)

    @property  # type: ignore[misc] # read-only here
    def __class__(self) -> Any:
        """LiteLLM's own class, so that `isinstance` says of this stream what it says of LiteLLM's."""
        return self._begun_stream.__class__
