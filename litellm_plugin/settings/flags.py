"""The environment flags."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ModelWrapValidatorHandler, ValidationError, model_validator
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
        redis_url: Where workers and replicas share state; without it LiteLLM's own Redis, else each worker's memory.
        redis_prefix: What every key there begins with.
    """

    model_config = SettingsConfigDict(env_prefix="PERMIT_ROUTER_", extra="ignore")

    enabled: bool = True
    mode: Mode = Mode.ENFORCE
    policy: Path | None = None
    log: Path | None = None
    redis_url: str | None = None
    redis_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9:._-]{1,64}$")] = "permit-router:"

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
