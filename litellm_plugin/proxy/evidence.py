"""Evidence: whether an attempt's exception shows that its provider was asked.

LiteLLM raises under the names of providers' errors what it could not make a request of: in 1.106 a KeyError in a
transformation is an `APIConnectionError` of status 500, behind which no provider was called. Its own exceptions carry
made-up responses too, without a header.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Final

import httpx
import litellm
from litellm.exceptions import MidStreamFallbackError

from litellm_plugin.proxy.causes import causes

_TRANSPORT: Final = (
    httpx.HTTPStatusError,
    httpx.TransportError,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
    litellm.Timeout,
    # It wraps what an opened stream raised.
    MidStreamFallbackError,
)
# Raised about a request before it is sent.
_LOCAL: Final = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)
# LiteLLM's client below httpx, whose errors mostly come as httpx's; no dependency of ours.
_CLIENT: Final = "aiohttp"


def shows_provider(error: BaseException, earlier: BaseException | None) -> bool:
    """Whether a response, a timeout or an error of the transport stands behind an exception.

    Args:
        error: How the attempt ended.
        earlier: The exception that was being handled when the attempt began.
    """
    return any(_is_evidence(each) for each in causes(error, earlier))


def _is_evidence(error: BaseException) -> bool:
    if isinstance(error, _TRANSPORT):
        return not isinstance(error, _LOCAL)
    if type(error).__module__.partition(".")[0] == _CLIENT:
        return True
    status = getattr(error, "status_code", None)
    # Made-up errors have a status of an error: this was an answer that could not be read.
    is_answer = isinstance(status, int) and 200 <= status < 300  # noqa: PLR2004 - RFC 9110 §15.3
    return is_answer or any(_has_headers(each) for each in _bearers(error))


def _bearers(error: BaseException) -> tuple[object, ...]:
    response = getattr(error, "response", None)
    return (
        getattr(error, "litellm_response_headers", None),
        getattr(error, "headers", None),
        getattr(response, "headers", None),
    )


def _has_headers(headers: object) -> bool:
    return isinstance(headers, Mapping) and bool(headers)
