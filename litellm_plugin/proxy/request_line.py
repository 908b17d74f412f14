"""The request line: what a permit binds of a request that has no body, and which paths say one thing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from starlette._utils import get_route_path

from litellm_plugin.errors import Reason, RequestDenied, Verdict
from litellm_plugin.routing.facts import CallType

if TYPE_CHECKING:
    from starlette.types import Scope

# RFC 3986 §3.3 without percent-encoding: LiteLLM decodes what is left of a pass-through's path once more.
_PLAIN_PATH: Final = re.compile(r"(/[A-Za-z0-9._~:@!$&'()*+,;=-]+)+/?")
# Work that goes on without a request, or content that stays, in the published APIs of the
# providers that LiteLLM passes through to, whatever the capitals.
_LATER: Final = re.compile(
    r"(?:[/](?:assistants|async-invoke|batch|batches|batchPredictionJobs|cachedContents|containers|conversations|datasets"
    r"|embed-jobs|evals|files|fine_tuning|fine-tuning|model-invocation-jobs?|skills|threads|tunedModels|uploads?"
    r"|vector_stores|videos)(?=/|$))|:(?:async[A-Z]|batch[A-Z]|predictLongRunning)",
    re.IGNORECASE,
)
_STORED_ID: Final = re.compile(r"/responses/resp_")


def request_line(scope: Scope) -> bytes:
    """Gives `METHOD path`, with `?query` where there is one.

    The path is the decoded one, without the root path; the query is as it was sent. No JSON body and no form
    can be equal to it, so a permit for the one is never one for the other.
    """
    query: bytes = scope["query_string"]
    line = f"{scope.get('method', 'GET')} {get_route_path(scope)}".encode()
    return line + b"?" + query if query else line


def check_path(scope: Scope, call_type: CallType) -> None:
    """Refuses a path that a provider, or LiteLLM, may read in another way than it is written.

    Raises:
        RequestDenied: A pass-through's path leaves its base or starts work for later, or a response's id is
            none of a provider's: LiteLLM answers its own polling ids without asking a hook.
    """
    path = get_route_path(scope)
    if call_type is CallType.STORED_RESPONSE and not _STORED_ID.search(path):
        raise RequestDenied(
            Verdict(Reason.BODY_INVALID, "The id is not of a response that this proxy gave out.")
        )
    if call_type is not CallType.PASS_THROUGH:
        return
    if not _PLAIN_PATH.fullmatch(path) or not {".", ".."}.isdisjoint(path.split("/")):
        raise RequestDenied(
            Verdict(Reason.PATH_NOT_PERMITTED, "A path of plain segments is expected on a pass-through.")
        )
    if _LATER.search(path):
        raise RequestDenied(
            Verdict(
                Reason.PATH_NOT_PERMITTED,
                "Work that runs without a request, and content that stays at a provider, pass with no permit.",
            )
        )
