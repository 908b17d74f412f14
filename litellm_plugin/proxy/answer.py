"""The answer on its way to the client: a verdict replaces it, our headers join it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from litellm_plugin.errors import Reason, Verdict
from litellm_plugin.proxy import denial
from litellm_plugin.proxy.planning import unserved
from litellm_plugin.routing import CallType

if TYPE_CHECKING:
    from starlette.types import Message, Send

    from litellm_plugin.proxy.context import Attempt, Permitted
    from litellm_plugin.proxy.runtime import Runtime

HEADER_NAMES: Final = (
    "x-permit-request-id",
    "x-permit-decision-id",
    "x-permit-endpoint",
    "x-permit-rule",
    "x-permit-reason",
)
# The OpenAI and Anthropic clients repeat these and every 5xx.
_SENT_AGAIN: Final = frozenset({408, 409, 429})
_FIRST_CLIENT_ERROR: Final = 400
# The provider's time is up, or its limit is reached: another endpoint might have served.
_FAILED_ELSEWHERE: Final = frozenset({408, 429})
_FIRST_SERVER_ERROR: Final = 500
_MODEL_ID_HEADER: Final = b"x-litellm-model-id"
_PREFIX: Final = b"x-permit-"
# A redirect that a provider answered is no answer either.
_FIRST_ERROR_STATUS: Final = 300
_UNDECIDED: Final = Verdict(
    Reason.INTERNAL_ERROR, "An answer came that no attempt belongs to; it was not handed on."
)


class Answer:
    """An ASGI send that knows how the request stands.

    Attributes:
        started: Whether the status line went out.
        status: What LiteLLM answered, also where a verdict takes its place; None until then.
        completed: Whether the last byte went out.
        is_use: Whether the client got what a permit is used up by: an answer, or the provider's word that the
            request itself is wrong. What official clients send again by themselves is none.
    """

    def __init__(self, state: Permitted, send: Send, runtime: Runtime) -> None:
        self._state = state
        self._send = send
        self._runtime = runtime
        self._attempt: Attempt | None = None
        self._is_replaced = False
        self.started = False
        self.completed = False
        self.is_use = False
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        """Sends one message of LiteLLM's answer, or the verdict in its place."""
        if self._is_replaced:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._end_unreported(message["status"])
            if message["status"] >= _FIRST_ERROR_STATUS and self._state.verdict is not None:
                await self.deny(self._state.verdict)
                return
            if message["status"] < _FIRST_ERROR_STATUS and self._is_undecided():
                await self.deny(_UNDECIDED)
                return
            if message["status"] >= _FIRST_ERROR_STATUS and not self._state.attempts:
                self._refused(message["status"])
            message = {**message, "headers": self.begin(message)}
            if not self.is_use:
                self._state.closed = True
                await self._runtime.give_back(self._state)
        elif message["type"] == "http.response.body":
            self.go_on(message)
        await self._send(message)

    def begin(self, message: Message) -> denial.Headers:
        """Notes that LiteLLM's answer goes out, and gives its headers with ours."""
        self.started = True
        self.status = message["status"]
        self.is_use = message["status"] not in _SENT_AGAIN and message["status"] < _FIRST_SERVER_ERROR
        lines = list(message.get("headers", []))
        self._attempt = self._answering(lines)
        return [*_without_ours(lines), *self._headers()]

    def go_on(self, message: Message) -> None:
        """Notes how far the answer's body is."""
        self._state.response_started = self._state.response_started or bool(message.get("body"))
        self.completed = not message.get("more_body", False)

    async def deny(self, verdict: Verdict) -> None:
        """Ends the request with a verdict."""
        self._is_replaced = True
        self.started = self.completed = True
        # What may have taken effect must not be sent again under the same permit.
        self.is_use = verdict.reason is Reason.NOT_REPEATED
        state = self._state
        state.closed = True
        decision_id = self._runtime.recorder.denial(state, verdict)
        payload = denial.body(
            verdict,
            request_id=state.permit.request_id,
            policy_version=state.permit.policy_version,
            decision_id=decision_id,
            template=state.template,
        )
        asked = [each for each in (state.retry_after_s, verdict.retry_after_s) if each is not None]
        lines = denial.headers(verdict, min(asked, default=None))
        ours = self._headers(decision_id=decision_id, reason=str(verdict.reason))
        if not self.is_use:
            await self._runtime.give_back(state)
        await denial.send_http(self._send, verdict, payload, [*lines, *ours])

    def _end_unreported(self, status: int) -> None:
        """Ends a request whose only attempt failed where LiteLLM's retry loop does not look.

        It opens a streamed text completion after that loop is over, so no failure hook fires for it.
        """
        attempt = self._state.current
        if attempt is None or self._state.verdict is not None:
            return
        if attempt.status is not None and not attempt.status.is_retryable:
            return
        is_redirect = _FIRST_ERROR_STATUS <= status < _FIRST_CLIENT_ERROR
        if is_redirect or status in _FAILED_ELSEWHERE or status >= _FIRST_SERVER_ERROR:
            self._state.end(unserved(self._runtime, self._state))

    def _is_undecided(self) -> bool:
        """Whether an answer came although no call passed the final check; one from the cache has passed it.

        A pass-through was decided before LiteLLM saw it, and not every one of them asks a hook.
        """
        return not self._state.attempts and self._state.call_type is not CallType.PASS_THROUGH

    def _answering(self, lines: denial.Headers) -> Attempt | None:
        """The attempt that LiteLLM says this answer is from; a request may make side calls beside it."""
        names = dict(lines)
        answering = names.get(_MODEL_ID_HEADER, b"").decode("latin-1")
        found = (a for a in reversed(self._state.attempts) if a.candidate.deployment_id == answering)
        return next(found, None)

    def _refused(self, status: int) -> None:
        """Records that LiteLLM ended the request by itself, before there was anything to decide."""
        verdict = Verdict(
            Reason.LITELLM_REFUSED, f"LiteLLM refused the request with status {status} before it was routed."
        )
        self._runtime.recorder.denial(self._state, verdict)

    def _headers(self, decision_id: str | None = None, reason: str | None = None) -> denial.Headers:
        state = self._state
        attempt = self._attempt or state.current
        values = dict.fromkeys(HEADER_NAMES, "")
        values["x-permit-request-id"] = state.permit.request_id
        if attempt is not None:
            values["x-permit-decision-id"] = attempt.decision_id
            values["x-permit-endpoint"] = attempt.candidate.endpoint
            values["x-permit-reason"] = "selected" if attempt.number == 1 else "failover"
            values["x-permit-rule"] = next(
                (g.decision.rule.name for g in state.groups.values() if g.decision_id == attempt.decision_id),
                "",
            )
        elif state.recorded is not None and state.denial_id is not None:
            decision_id, reason = decision_id or state.denial_id, reason or str(state.recorded.reason)
        if decision_id is not None:
            values["x-permit-decision-id"] = decision_id
        if reason is not None:
            values["x-permit-reason"] = reason
        return [(name.encode(), value.encode()) for name, value in values.items() if value]


def _without_ours(lines: denial.Headers) -> denial.Headers:
    """What LiteLLM answered without headers that look like ours: a provider must not write them."""
    return [line for line in lines if not line[0].lower().startswith(_PREFIX)]
