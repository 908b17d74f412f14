"""The payload: a request's body, read once, and what of it LiteLLM gets to read."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from litellm_plugin.errors import Reason, RequestDenied, Verdict
from litellm_plugin.proxy.bodies import excess
from litellm_plugin.proxy.fields import published
from litellm_plugin.proxy.meaning import is_form

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.types import Message, Receive

    from litellm_plugin.routing.facts import CallType


class Disconnected(Exception):  # noqa: N818 - an event
    """The client went away while its body was read."""


@dataclass(frozen=True, slots=True)
class Payload:
    """What LiteLLM reads as the body.

    Attributes:
        body: The bytes.
        document: The fields by name; of a form the names alone.
        dropped: The fields that a caller sent and LiteLLM does not get, sorted.
        sent: The fields as the caller sent them.
    """

    body: bytes
    document: Mapping[str, object]
    dropped: tuple[str, ...] = ()
    sent: Mapping[str, object] = field(default_factory=dict)

    def replay(self, receive: Receive) -> Receive:
        """A receive that gives the body once, then what the server gives."""
        pending: list[Message] = [{"type": "http.request", "body": self.body, "more_body": False}]

        async def replay() -> Message:
            return pending.pop() if pending else await receive()

        return replay


async def read_body(receive: Receive, limit_bytes: int) -> bytes:
    """Reads a whole body.

    Raises:
        RequestDenied: It is longer than the limit.
        Disconnected: The client went away.
    """
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Disconnected
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit_bytes:
            raise RequestDenied(
                Verdict(Reason.BODY_TOO_LARGE, f"A body of at most {limit_bytes} bytes is expected.")
            )
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def publish(
    read: Callable[[bytes], Mapping[str, object]],
    call_type: CallType,
    body: bytes,
    extra: frozenset[str],
) -> Payload:
    """Takes out of a body what is not in the published schema; a body that holds nothing else stays as it is.

    Args:
        read: Reads the body's fields.
        call_type: Which schema the body follows.
        body: The bytes that the permit binds.
        extra: Fields that the operator opened.

    Raises:
        RequestDenied: The body cannot be read, is too large in a part, or is a form with other fields.
    """
    document = read(body)
    refused = excess(document, call_type)
    if refused is not None:
        raise RequestDenied(refused)
    kept, dropped = published(document, call_type, extra)
    if not dropped:
        return Payload(body, document, sent=document)
    if is_form(call_type):
        raise RequestDenied(
            Verdict(
                Reason.BODY_INVALID, f"The form field {dropped[0][:80]!r} is not in the published schema."
            )
        )
    return Payload(json.dumps(kept, separators=(",", ":")).encode(), kept, dropped, document)
