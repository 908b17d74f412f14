"""The environment flags."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any

from pydantic import ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from litellm_plugin.errors import ConfigurationError


class Mode(enum.StrEnum):
    """What becomes of a request that may not go on, or not there.

    Attributes:
        ENFORCE: It is refused, or sent where it may go.
        OBSERVE: It passes to LiteLLM's own routing; what would have become of it is computed, recorded and counted.
    """

    ENFORCE = "enforce"
    OBSERVE = "observe"


class Flags(BaseSettings):
    """The environment flags; each begins with `PERMIT_ROUTER_`.

    Attributes:
        enabled: `false` makes the plugin inert; nothing is enforced then.
        mode: `observe` computes and records everything, and enforces nothing.
        policy: A file that holds the policy block, instead of the one in LiteLLM's YAML.
        log: The decision log's file, instead of `decision_log.file`.
        redis_url: Where workers and replicas share which permits were used and read what is revoked; uses are kept
            in memory, per worker, without it.
    """

    model_config = SettingsConfigDict(env_prefix="PERMIT_ROUTER_", extra="ignore")

    enabled: bool = True
    mode: Mode = Mode.ENFORCE
    policy: Path | None = None
    log: Path | None = None
    redis_url: str | None = None

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, values: Any, read: ModelWrapValidatorHandler[Flags]) -> Flags:
        """Trims what the environment says; a flag that is empty counts as unset."""
        given = {name: value.strip() if isinstance(value, str) else value for name, value in values.items()}
        try:
            return read({name: value for name, value in given.items() if value != ""})
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            flag = f"PERMIT_ROUTER_{str(fault['loc'][0]).upper()}"
            raise ConfigurationError(f"{flag}: {fault['msg']} (found {fault['input']!r:.80})") from error
