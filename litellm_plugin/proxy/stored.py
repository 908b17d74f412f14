"""Stored responses: which deployment holds the response that an id names.

LiteLLM writes the provider and the deployment into each response id that it gives out, and seals the id
for the key's user and team where it has a signing key. Of any other id it would take the provider's
credentials from wherever it finds some, so only an id that names a configured deployment, with its
own provider, may pass. The format is LiteLLM's `SpecialEnums`.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final

from litellm.proxy.common_utils.encrypt_decrypt_utils import decrypt_value_helper

_PREFIX: Final = "resp_"
_LONGEST_ID: Final = 2_048
_SEALED: Final = re.compile(
    r"litellm_proxy:responses_api:response_id:(resp_[A-Za-z0-9+/=]+);user_id:[^;]*;team_id:[^;]*"
)
# What a provider calls its response goes into the path of a call: letters, digits, - and _ cannot leave it.
_NAMED: Final = re.compile(
    r"litellm:custom_llm_provider:([a-z0-9_]+);model_id:([^;]+);response_id:([A-Za-z0-9_-]{1,256})"
)


@dataclass(frozen=True, slots=True)
class StoredId:
    """What a response id of LiteLLM says.

    Attributes:
        deployment_id: The deployment that made the response.
        provider: LiteLLM's name of the provider that holds it.
        provider_id: The provider's own id of it.
    """

    deployment_id: str
    provider: str
    provider_id: str


def read_stored_id(text: object) -> StoredId | None:
    """Reads a response id, sealed or not; None when LiteLLM did not make it for a deployment."""
    if not isinstance(text, str) or not text.startswith(_PREFIX) or len(text) > _LONGEST_ID:
        return None
    named = _NAMED.fullmatch(_plain(_opened(text)) or "")
    if named is None:
        return None
    provider, deployment_id, provider_id = named.groups()
    return StoredId(deployment_id=deployment_id, provider=provider, provider_id=provider_id)


def _opened(text: str) -> str:
    """The id inside a sealed one; any other id as it is."""
    opened = decrypt_value_helper(
        text.removeprefix(_PREFIX), key="response_id", exception_type="debug", return_original_value=True
    )
    sealed = _SEALED.fullmatch(opened) if isinstance(opened, str) else None
    return sealed.group(1) if sealed else text


def _plain(text: str) -> str | None:
    """The text behind the base64; None where it is written in another way than LiteLLM writes it."""
    encoded = text.removeprefix(_PREFIX)
    try:
        decoded = base64.b64decode(encoded, validate=True)
        return decoded.decode() if base64.b64encode(decoded).decode() == encoded else None
    except (binascii.Error, ValueError):
        return None
