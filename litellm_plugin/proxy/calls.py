"""Calls: one call of a `litellm.Router` without the proxy, and the permit that stands behind it."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from litellm_plugin.errors import RequestDenied
from litellm_plugin.proxy.context import Permitted, current_state, enter, leave
from litellm_plugin.proxy.denial import Denial

if TYPE_CHECKING:
    from collections.abc import Iterator

    from litellm_plugin.errors import Verdict
    from litellm_plugin.permit import Claim, Permit
    from litellm_plugin.proxy.hooks import PermitRouter


class CallDenied(Denial, RequestDenied):
    """A router's call ends with a verdict.

    Both at once: the HTTPException that LiteLLM neither retries nor falls back from, and the error that
    callers of a router catch as `litellm_plugin.errors.RequestDenied`.

    Attributes:
        verdict: The reason and a sentence.
        decision_id: The record in the decision log that says so; None where there is none.
    """

    def __init__(self, verdict: Verdict, decision_id: str | None = None) -> None:
        Denial.__init__(self, verdict)
        self.verdict = verdict
        self.decision_id = decision_id

    def __str__(self) -> str:
        return f"{self.verdict.reason}: {self.verdict.message}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.verdict!r})"


@dataclass(slots=True, eq=False)
class Grant:
    """A permit that a caller entered.

    Attributes:
        owner: The strategy that it was handed to; it holds for that strategy's router alone.
        permit: The verified permit.
        outer: The grant that was in force before.
        claim: The use of a single-use permit, until a call takes it.
        is_single_use: Whether one call may be made and no other.
        calls: The calls under way.
        closed: Whether its context was left, so that nothing may be sent on its behalf.
    """

    owner: object
    permit: Permit
    outer: Grant | None = None
    claim: Claim | None = None
    is_single_use: bool = False
    calls: dict[int, RouterCall] = field(default_factory=dict)
    closed: bool = False

    def close(self) -> None:
        """Forbids every further attempt; streams that are open go on."""
        self.closed = True
        for call in self.calls.values():
            call.closed = True


@dataclass(slots=True, eq=False)
class RouterCall(Permitted):
    """The state of one call.

    Attributes:
        grant: The permit that stands behind it.
        hooks: What LiteLLM's hooks do for it.
    """

    grant: Grant | None = None
    hooks: PermitRouter | None = None


grants: Final[ContextVar[Grant | None]] = ContextVar("permit_router_grant", default=None)
"""The grant that was entered last in this context."""


def grant_of(owner: object) -> Grant | None:
    """The innermost grant in force here that was handed to this strategy."""
    grant = grants.get()
    while grant is not None and grant.owner is not owner:
        grant = grant.outer
    return grant


def current_call() -> RouterCall | None:
    """The call that runs here; None outside any, and inside a request of the proxy."""
    state = current_state()
    return state if isinstance(state, RouterCall) else None


@contextlib.contextmanager
def inside(call: RouterCall) -> Iterator[None]:
    """Runs a block as part of a call, and gives the context back as it was."""
    granted, entered = grants.set(call.grant), enter(call)
    try:
        yield
    finally:
        leave(entered)
        grants.reset(granted)
