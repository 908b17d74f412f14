"""Slots: the field in which LiteLLM keeps its own metadata of a request.

LiteLLM picks it by words in the path (`/v1/messages`, `responses`, `files`, `thread`, …), and a path may
hold a model's name: only LiteLLM's own reading of the very path is right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from litellm.proxy.litellm_pre_call_utils import _get_metadata_variable_name
from starlette.requests import HTTPConnection

if TYPE_CHECKING:
    from starlette.types import Scope

Slot: TypeAlias = Literal["metadata", "litellm_metadata"]


def metadata_slot(scope: Scope) -> Slot:
    """The field in which LiteLLM keeps its own metadata for the request of this ASGI scope."""
    return (
        "litellm_metadata" if _get_metadata_variable_name(HTTPConnection(scope)) != "metadata" else "metadata"
    )
