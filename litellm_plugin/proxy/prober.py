"""The prober: asks deployments that nobody asks with the plugin's own prompt, one at a time, and measures the answer.

It is a task of its own that no request waits for. What it asks goes through LiteLLM's router to one deployment by its
configured parameters, without retries and fallbacks, and through the final check as every other call does.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from litellm_plugin.errors import RequestDenied
from litellm_plugin.proxy.caller_facts import utc_moment
from litellm_plugin.proxy.causes import causes
from litellm_plugin.proxy.context import SyntheticCall, enter, leave
from litellm_plugin.proxy.denial import Denial
from litellm_plugin.proxy.outcomes import answer_headers, read_failure
from litellm_plugin.proxy.shared_state import Ended
from litellm_plugin.proxy.synthetic import PROMPT_TOKENS, content
from litellm_plugin.proxy.usage import Doubts, Usage, clamp
from litellm_plugin.routing import CallType, RequestFacts, expected_cost
from litellm_plugin.routing.attempts import AttemptStatus, Measurement
from litellm_plugin.routing.budgets import accounts_without_permit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litellm_plugin.proxy.outcomes import Failure
    from litellm_plugin.proxy.runtime import Runtime
    from litellm_plugin.proxy.shared_state import Hold
    from litellm_plugin.routing import Candidate
    from litellm_plugin.state import ProbingPolicy, Turn

# Turns are granted once a period of the exchange.
_LOOK_S: Final = 0.5
_CLOSE_S: Final = 1.0
# What a provider is told beside the prompt; LiteLLM leaves out what a provider does not know.
_OPTIONS: Final[Mapping[str, Any]] = {
    "num_retries": 0,
    "disable_fallbacks": True,
    "drop_params": True,
    # LiteLLM's loggers have nothing to tell of it: it is no customer's.
    "no-log": True,
    # The final check says so too, but LiteLLM's cache reads the arguments as they were before it.
    "cache": {"no-cache": True, "no-store": True},
}
# Providers put hundreds of tokens of their own round a prompt with tools, never a thousand; a context window, which may
# have a million, would let a lie spend a budget.
_MOST_PROMPTS: Final = 64


@dataclass(slots=True)
class _Answer:
    """What came back of one call; times in milliseconds since it began."""

    call: SyntheticCall
    total_ms: float | None = None
    first_token_ms: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    headers: Mapping[str, object] = field(default_factory=dict)
    failure: Failure | None = None


class Prober:
    """Takes this worker's turns.

    Args:
        runtime: What this worker knows.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._logged: set[type[Exception]] = set()
        self._refused: set[str] = set()
        self._doubts = Doubts(runtime.log)

    async def run(self) -> None:
        """Takes each turn that is granted, until the policy asks nobody any more; its owner keeps and ends the task."""
        while (policy := self._policy) is not None:
            try:
                await self.look(policy)
            except Exception as error:  # the outer guard of a background task
                if type(error) not in self._logged:
                    self._logged.add(type(error))
                    self._runtime.log.exception(
                        "A deployment could not be asked; requests are not touched by it"
                    )
            await asyncio.sleep(_LOOK_S)

    @property
    def _policy(self) -> ProbingPolicy | None:
        policy = self._runtime.policy
        return policy.probing if policy is not None else None

    async def look(self, policy: ProbingPolicy) -> None:
        """Asks one deployment, if it is this worker's turn and nothing of the plugin is out of its place."""
        turn = self._runtime.shared.turn
        if turn is None:
            return
        modes = self._runtime.deployments.synthetic()
        found = self._runtime.deployments.single(turn.deployment_id)
        mode = modes.get(turn.deployment_id)
        if mode is None or not found or self._runtime.faults():
            self._runtime.shared.put_off(turn)
            return
        await self._take(turn, found[0], mode, policy)

    async def _take(self, turn: Turn, candidate: Candidate, mode: str, policy: ProbingPolicy) -> None:
        runtime = self._runtime
        tokens = PROMPT_TOKENS + (policy.max_tokens if mode == "chat" else 0)
        in_force = runtime.policy
        budgets = in_force.routing.budgets if in_force is not None else ()
        day = utc_moment(runtime.clock.wall()).date
        hold = runtime.shared.take_turn(
            turn,
            tokens,
            _cost_usd(candidate, mode, PROMPT_TOKENS, policy.max_tokens),
            accounts_without_permit(budgets, candidate, day),
        )
        if hold is not None:
            await self._ask(turn, hold, candidate, mode, policy)

    async def _ask(
        self, turn: Turn, hold: Hold, candidate: Candidate, mode: str, policy: ProbingPolicy
    ) -> None:
        """Sends one call and tells how it ended, to the shared state and to the decision log."""
        runtime, probe_id = self._runtime, str(uuid.uuid4())
        began_s = runtime.clock.monotonic()
        ended = Ended(AttemptStatus.ABANDONED, began_s, was_sent=False, is_measured=False)
        measured = None
        try:
            runtime.recorder.probe(probe_id, candidate, str(turn.cause))
            # So it ends where nothing can be made of its answer, or this worker is stopped.
            ended = Ended(AttemptStatus.ABANDONED, began_s, is_excused=True)
            answer = _Answer(SyntheticCall(turn.deployment_id))
            try:
                await self._send(answer, mode, policy)
                self._believe(answer, mode, policy)
                ended = self._ended(answer, candidate, mode, began_s)
                measured = _measured(turn.deployment_id, ended, answer)
                runtime.shared.hear(turn.deployment_id, answer.headers)
            finally:
                self._record(probe_id, turn, candidate, ended, answer)
        except RequestDenied:
            runtime.log.debug("Deployment %r was not asked: the log takes no records", turn.deployment_id)
        finally:
            runtime.shared.end_turn(turn, hold, ended, measured)

    def _record(self, probe_id: str, turn: Turn, candidate: Candidate, ended: Ended, answer: _Answer) -> None:
        """Tells the decision log how a call ended, as far as that is known."""
        failure = answer.failure
        with contextlib.suppress(RequestDenied):  # it was sent; there is nothing left to deny
            self._runtime.recorder.probe(
                probe_id,
                candidate,
                str(turn.cause),
                status=ended.status,
                http_status=failure.http_status if failure is not None else None,
                error_class=type(failure.error).__name__ if failure is not None else None,
                total_ms=answer.total_ms,
                first_token_ms=answer.first_token_ms,
                input_tokens=answer.input_tokens,
                output_tokens=answer.output_tokens,
                cost_usd=ended.cost_usd,
            )

    async def _send(self, answer: _Answer, mode: str, policy: ProbingPolicy) -> None:
        """Makes the call in a context of its own, which ends with it."""
        call = self._runtime.asking = answer.call
        token, began_s = enter(call), self._runtime.clock.monotonic()
        try:
            async with asyncio.timeout(policy.timeout_s):
                await self._call(call.deployment_id, mode, policy, answer)
        except Exception as error:  # noqa: BLE001 - whatever LiteLLM raises is how the attempt ended
            answer.failure = read_failure(error, self._runtime.clock.wall())
            answer.headers = answer.failure.headers or answer.headers
        finally:
            answer.total_ms = (self._runtime.clock.monotonic() - began_s) * 1000
            call.closed = True
            self._runtime.asking = None
            leave(token)

    def _believe(self, answer: _Answer, mode: str, policy: ProbingPolicy) -> None:
        """Takes what the provider says of its usage for no more than the call can have had.

        The input is the plugin's own prompt and what the operator configured for every call, of which no token is
        shorter than a byte.
        """
        entry = self._runtime.deployments.configured(answer.call.deployment_id) or {}
        configured = len(ascii(entry.get("litellm_params")))
        said = Usage(answer.input_tokens, answer.output_tokens, None)
        usage = clamp(
            said,
            most_input=_MOST_PROMPTS * PROMPT_TOKENS + configured,
            most_output=policy.max_tokens if mode == "chat" else 0,
        )
        self._doubts.compare(answer.call.deployment_id, said, usage)
        answer.input_tokens, answer.output_tokens = usage.input_tokens, usage.output_tokens

    async def _call(self, deployment_id: str, mode: str, policy: ProbingPolicy, answer: _Answer) -> None:
        """Asks and reads the whole answer, of which nothing but figures is kept."""
        router = self._runtime.deployments.router()
        began_s = self._runtime.clock.monotonic()
        options = {"model": deployment_id, **content(mode), **_OPTIONS, "timeout": policy.timeout_s}
        if mode == "embedding":
            _note(answer, await router.aembedding(**options))  # type: ignore[union-attr] # turns come after the router
            return
        stream = await router.acompletion(  # type: ignore[union-attr] # as above
            **options, max_tokens=policy.max_tokens, stream=True, stream_options={"include_usage": True}
        )
        try:
            async for chunk in stream:
                if answer.first_token_ms is None:
                    answer.first_token_ms = (self._runtime.clock.monotonic() - began_s) * 1000
                _note(answer, chunk)
            _note(answer, stream)
        finally:
            await _closed(stream)

    def _ended(self, answer: _Answer, candidate: Candidate, mode: str, began_s: float) -> Ended:
        failure = answer.failure
        if failure is None:
            cost_usd = _cost_usd(candidate, mode, answer.input_tokens, answer.output_tokens)
            tokens = (answer.input_tokens or 0) + (answer.output_tokens or 0)
            return Ended(AttemptStatus.SUCCESS, began_s, tokens=tokens or None, cost_usd=cost_usd)
        is_refused = answer.call.is_refused or any(
            isinstance(each, Denial) for each in causes(failure.error, None)
        )
        if is_refused:
            self._tell_refused(candidate.deployment_id)
        watch = self._runtime.shared.watch
        return Ended(
            AttemptStatus.ABANDONED if is_refused else failure.status,
            began_s,
            retry_after_s=failure.retry_after_s,
            was_sent=failure.was_sent and answer.call.is_made,
            is_measured=not is_refused,
            is_excused=not failure.shows_provider or watch.excuses(failure.status, began_s),
        )

    def _tell_refused(self, deployment_id: str) -> None:
        """Says once of each deployment that something leads its calls elsewhere."""
        if deployment_id not in self._refused:
            self._refused.add(deployment_id)
            self._runtime.log.warning(
                "Deployment %r was not asked: the final check refused the call", deployment_id
            )


def _measured(deployment_id: str, ended: Ended, answer: _Answer) -> Measurement | None:
    """The times of an attempt that tells something of its deployment."""
    if not ended.is_measured or ended.is_excused:
        return None
    return Measurement(
        deployment_id, ended.status, answer.total_ms, answer.first_token_ms, answer.output_tokens
    )


def _note(answer: _Answer, said: Any) -> None:
    """Takes the figures out of a chunk, a stream or a whole answer, where it has any."""
    usage = getattr(said, "usage", None)
    if usage is not None:
        answer.input_tokens = _count(getattr(usage, "prompt_tokens", None)) or answer.input_tokens
        answer.output_tokens = _count(getattr(usage, "completion_tokens", None)) or answer.output_tokens
    hidden = getattr(said, "_hidden_params", None)
    if isinstance(hidden, dict):
        answer.headers = answer_headers({"hidden_params": hidden}) or answer.headers


async def _closed(stream: Any) -> None:
    """Lets go of a connection whose answer was not read to its end."""
    close = getattr(stream, "aclose", None)
    if close is not None:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_CLOSE_S):
                await close()


def _cost_usd(
    candidate: Candidate, mode: str, input_tokens: int | None, output_tokens: int | None
) -> float | None:
    """What a call of this size costs by the deployment's prices; None where they or the size are unknown."""
    call_type = CallType.EMBEDDING if mode == "embedding" else CallType.CHAT
    if input_tokens is None or (output_tokens is None and call_type is CallType.CHAT):
        return None
    facts = RequestFacts(candidate.deployment_id, call_type, input_tokens, max_output_tokens=output_tokens)
    expected = expected_cost(candidate, facts, answer_tokens=output_tokens)
    return expected.total_usd if expected is not None else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
