"""Synthetic calls: the plugin's own prompt, and what holds a call with it to the one deployment that it is for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from litellm_plugin.errors import Reason, RequestDenied, Verdict
from litellm_plugin.proxy.deployments import asked_mode, deployment_id, mismatch
from litellm_plugin.proxy.schemas import PUBLISHED_CONTENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from litellm_plugin.proxy.context import SyntheticCall
    from litellm_plugin.proxy.deployments import Deployments

PROMPT: Final = "Reply with one word."
"""All that is ever sent with a synthetic call."""

PROMPT_TOKENS: Final = 16
"""What it counts as before the provider said how many tokens it had, with what providers put round a message."""

_CONTENT: Final[Mapping[str, Mapping[str, object]]] = {
    "chat": {"messages": [{"role": "user", "content": PROMPT}]},
    "embedding": {"input": [PROMPT]},
}


# What a deployment's own parameters may hold that would send a call again, or search for it.
_REPEATING: Final = frozenset(
    {"fallbacks", "context_window_fallback_dict", "num_retries", "vector_store_ids"}
)


def content(mode: str) -> dict[str, object]:
    """What a call of this mode says, and nothing else of content."""
    return dict(_CONTENT[mode])


def select_synthetic(call: SyntheticCall, offered: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The one deployment that a synthetic call is for, out of those that LiteLLM offers.

    Raises:
        RequestDenied: It is not offered.
    """
    found = [each for each in offered if deployment_id(each) == call.deployment_id]
    if not found:
        call.is_refused = True
        raise RequestDenied(
            Verdict(Reason.NOT_AUTHORIZED, "A synthetic call goes to its own deployment alone.")
        )
    return found[:1]


def check_synthetic(call: SyntheticCall, made: Mapping[str, Any], deployments: Deployments) -> dict[str, Any]:
    """Holds a synthetic call that LiteLLM is about to make against what it may be; gives what it must carry.

    Args:
        call: What may be sent; from now on it is made, or refused.
        made: The keyword arguments that LiteLLM is about to call the provider with.
        deployments: The configured deployments.

    Raises:
        RequestDenied: It would go to another deployment or place, says anything but the constant prompt, or was made.
    """
    try:
        carried = _checked(call, made, deployments)
    except RequestDenied:
        call.is_refused = True
        raise
    call.is_made = True
    return carried


def _checked(call: SyntheticCall, made: Mapping[str, Any], deployments: Deployments) -> dict[str, Any]:
    if call.is_made:
        raise RequestDenied(Verdict(Reason.NOT_AUTHORIZED, "A synthetic call is made once."))
    wanted_id = deployment_id(made)
    entry = deployments.configured(wanted_id)
    mode = None if entry is None or wanted_id != call.deployment_id else asked_mode(entry)
    if entry is None or mode is None:
        raise RequestDenied(
            Verdict(Reason.NOT_AUTHORIZED, "A synthetic call goes to its own deployment alone.")
        )
    different = mismatch(made, entry)
    if different is not None:
        raise RequestDenied(
            Verdict(
                Reason.DESTINATION_MISMATCH,
                f"The synthetic call differs from the configured deployment in {different!r}; it was not made.",
            )
        )
    # What the operator configured for every call of the deployment, such as tools, goes along.
    configured: Mapping[str, Any] = entry.get("litellm_params") or {}
    said = {name: made[name] for name in PUBLISHED_CONTENT & made.keys() if made[name]}
    if said != {**{name: configured[name] for name in said.keys() & configured.keys()}, **content(mode)}:
        raise RequestDenied(
            Verdict(Reason.BODY_INVALID, "A synthetic call says the plugin's own prompt alone.")
        )
    # An answer out of a cache tells nothing, and no search is made for it.
    kept_out = dict.fromkeys(_REPEATING & made.keys())
    return {"cache": {"no-cache": True, "no-store": True}, **kept_out}
