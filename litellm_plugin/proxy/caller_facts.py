"""Caller facts: what a request's headers and metadata say of it, beside its body.

| fact | header | metadata |
|---|---|---|
| latency budget | `x-latency-budget-ms` | `latency_budget_ms` |
| workload | `x-workload` | `workload` |
| session | `x-session-id`, `x-litellm-session-id` | `session_id`; the body's `litellm_session_id` |
| a tool writes | `x-request-writes` | `writes` |
| idempotency key | `idempotency-key` | |

They are read before the body is scrubbed and LiteLLM writes into it. A caller may say a thing twice, and then
the tighter word counts; what it says reorders or narrows a choice and never widens it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from litellm_plugin.errors import Reason, RequestDenied, Verdict
from litellm_plugin.routing.facts import CallType, Moment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from litellm_plugin.routing import RequestFacts

_NUMBER: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?", re.ASCII)
_WORKLOAD: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_LONGEST_BUDGET_MS: Final = 2**31 - 1
_DIGEST_BYTES: Final = 16
_SESSION_HEADERS: Final = ("x-session-id", "x-litellm-session-id")


@dataclass(frozen=True, slots=True)
class CallerFacts:
    """What a caller says of a request.

    Attributes:
        latency_budget_ms: The time it allows, one millisecond or more; None when it sets no limit.
        workload: Its name for the kind of work; None when it gave none.
        session: A hash of the tenant and of the caller's name for the conversation; None when it gave none.
        is_idempotent: Whether it gave an idempotency key.
        writes: Whether a tool of the request writes.
    """

    latency_budget_ms: int | None = None
    workload: str | None = None
    session: str | None = None
    is_idempotent: bool = False
    writes: bool = False

    def and_also(self, other: CallerFacts) -> CallerFacts:
        """Both together: the tighter budget, the session that was named first.

        Raises:
            RequestDenied: They name two workloads.
        """
        budgets = [each for each in (self.latency_budget_ms, other.latency_budget_ms) if each is not None]
        return CallerFacts(
            latency_budget_ms=min(budgets, default=None),
            workload=_one_workload([each for each in (self.workload, other.workload) if each is not None]),
            session=self.session or other.session,
            is_idempotent=self.is_idempotent or other.is_idempotent,
            writes=self.writes or other.writes,
        )

    def added_to(self, facts: RequestFacts, wall_s: float) -> RequestFacts:
        """The facts of a body with these, at a time in seconds since the epoch."""
        return replace(
            facts,
            latency_budget_ms=self.latency_budget_ms,
            workload=self.workload,
            session=self.session,
            is_idempotent=self.is_idempotent,
            writes=self.writes,
            moment=utc_moment(wall_s),
        )


def said_in_headers(headers: Iterable[tuple[bytes, bytes]], tenant: str) -> CallerFacts:
    """Reads the headers of a request.

    Raises:
        RequestDenied: A header says something else than is expected of it.
    """
    said: dict[str, list[str]] = {}
    for name, value in headers:
        said.setdefault(name.lower().decode("latin-1"), []).append(value.decode("latin-1").strip())
    budgets = [
        _budget_ms("The header 'x-latency-budget-ms'", each) for each in said.get("x-latency-budget-ms", ())
    ]
    workloads = [_workload("The header 'x-workload'", each) for each in said.get("x-workload", ())]
    flags = [_flag("The header 'x-request-writes'", each) for each in said.get("x-request-writes", ())]
    sessions = [each for name in _SESSION_HEADERS for each in said.get(name, ()) if each]
    return CallerFacts(
        latency_budget_ms=min(budgets, default=None),
        workload=_one_workload(workloads),
        session=_session(tenant, sessions[0]) if sessions else None,
        is_idempotent=any(said.get("idempotency-key", ())),
        writes=any(flags),
    )


def said_in_body(document: Mapping[str, object], call_type: CallType, tenant: str) -> CallerFacts:
    """Reads the metadata of a body as the caller sent it; a pass-through's is in the provider's own schema.

    Raises:
        RequestDenied: A field says something else than is expected of it.
    """
    metadata = document.get("metadata")
    if call_type is CallType.PASS_THROUGH:
        return CallerFacts()
    told = metadata if isinstance(metadata, Mapping) else {}
    budget, workload, writes = (told.get(name) for name in ("latency_budget_ms", "workload", "writes"))
    session = _session_name(told.get("session_id")) or _session_name(document.get("litellm_session_id"))
    return CallerFacts(
        latency_budget_ms=None
        if budget is None
        else _budget_ms("The field 'metadata.latency_budget_ms'", budget),
        workload=None if workload is None else _workload("The field 'metadata.workload'", workload),
        session=_session(tenant, session) if session else None,
        writes=writes is not None and _flag("The field 'metadata.writes'", writes),
    )


def utc_moment(wall_s: float) -> Moment:
    """The moment of a time in seconds since the epoch."""
    now = datetime.fromtimestamp(wall_s, UTC)
    return Moment(hour=now.hour, weekday=now.isoweekday(), month=now.month, date=now.date().isoformat())


def _budget_ms(where: str, value: object) -> int:
    text = str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    if _NUMBER.fullmatch(text) is None or float(text) <= 0:
        raise _invalid(where, "a number of milliseconds above 0")
    return max(1, min(int(float(text)), _LONGEST_BUDGET_MS))


def _workload(where: str, value: object) -> str:
    if not isinstance(value, str) or _WORKLOAD.fullmatch(value) is None:
        raise _invalid(where, "a name of 1 to 64 letters, digits, '.', '_' or '-'")
    return value


def _one_workload(names: list[str]) -> str | None:
    if len(set(names)) > 1:
        raise RequestDenied(
            Verdict(
                Reason.BODY_INVALID,
                f"One workload is expected, the request names {names[0]!r} and {names[1]!r}.",
            )
        )
    return names[0] if names else None


def _flag(where: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    said = value.lower() if isinstance(value, str) else ""
    if said not in ("true", "false"):
        raise _invalid(where, "true or false")
    return said == "true"


def _session_name(value: object) -> str:
    """A session's name; a hint that is no name is none."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _session(tenant: str, name: str) -> str:
    """Two tenants' sessions of one name are two."""
    text = f"{len(tenant)}:{tenant}{name}"
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()


def _invalid(where: str, expected: str) -> RequestDenied:
    """Without what came: the message goes into the decision log, and a caller can write a prompt anywhere."""
    return RequestDenied(Verdict(Reason.BODY_INVALID, f"{where} must be {expected}."))
