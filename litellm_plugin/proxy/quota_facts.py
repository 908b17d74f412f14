"""Quotas as LiteLLM's configuration states them: requests and tokens a minute of a deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter, ValidationError

from litellm_plugin.state import Quota
from litellm_plugin.state.leases import MOST_UNITS

if TYPE_CHECKING:
    from collections.abc import Mapping

LIMITS: Final = ("rpm", "tpm")
"""What LiteLLM calls a deployment's limits."""

# litellm/types/router.py, LiteLLM_Params: `int | None`, which pydantic makes of text too; model_info stays as written.
_PARAMETER: Final = TypeAdapter(int)


def quota(entry: Mapping[str, Any]) -> Quota:
    """What a deployment may be sent in a minute, from where LiteLLM looks for it and in its order.

    Source: litellm/router_strategy/lowest_tpm_rpm_v2.py. What is no whole number of 0 or more is no limit, and
    neither is one that is too large to be counted.

    Args:
        entry: An entry of LiteLLM's model list.
    """
    return Quota(requests_per_minute=_first(entry, "rpm"), tokens_per_minute=_first(entry, "tpm"))


def limit_parameter(value: object) -> object:
    """What LiteLLM makes of a limit in `litellm_params`; the value itself where it refuses it."""
    if isinstance(value, bool):
        return value
    try:
        return _PARAMETER.validate_python(value)
    except ValidationError:
        return value


def is_limit(value: object) -> bool:
    """Whether a value is a limit as `quota` reads it, or one that is larger than what is counted."""
    if isinstance(value, float):
        return value >= 0 and value.is_integer()
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _first(entry: Mapping[str, Any], name: str) -> int | None:
    sections = (entry, entry.get("litellm_params") or {}, entry.get("model_info") or {})
    values = (section.get(name) for section in sections)
    return next((limit for value in values if (limit := _limit(value)) is not None), None)


def _limit(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= MOST_UNITS else None
