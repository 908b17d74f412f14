"""Repeats: the OpenAI client must not send a request again that no record tells.

Every attempt is decided, checked and recorded here. LiteLLM takes `max_retries` out of what the final check
gives some calls (images, moderations, transcriptions: its default of 2 stands there again), so the client
itself is told not to repeat while it works for a request that stands under a permit.
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any, Final

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.proxy.context import current_state

if TYPE_CHECKING:
    from collections.abc import Callable

# The client asks it once for each request, with its own number where the request has none.
_MODULE: Final = "openai._models"
_MARK: Final = "_permit_router_guarded"


def forbid_repeats() -> None:
    """Makes every OpenAI client send each request once inside a request; safe to call again.

    Raises:
        ConfigurationError: The client does not ask how often to repeat where it is known to.
    """
    options = _options()
    asked = getattr(options, "get_max_retries", None)
    if asked is None:
        raise ConfigurationError(
            f"{_MODULE} has no FinalRequestOptions.get_max_retries: this version of the package would repeat "
            "failed calls by itself"
        )
    if not getattr(asked, _MARK, False):
        options.get_max_retries = _guard(asked)


def are_forbidden() -> bool:
    """Whether the client is guarded; a wrapper round the guard passes its mark on."""
    return getattr(getattr(_options(), "get_max_retries", None), _MARK, False)


def _options() -> Any:
    try:
        return getattr(importlib.import_module(_MODULE), "FinalRequestOptions", None)
    except ImportError:
        return None


def _guard(ask: Callable[[Any, int], int]) -> Callable[[Any, int], int]:
    @functools.wraps(ask)
    def guarded(self: Any, max_retries: int) -> int:
        return ask(self, max_retries) if current_state() is None else 0

    setattr(guarded, _MARK, True)
    return guarded
