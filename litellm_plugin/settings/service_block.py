"""What service a request may ask for, as it stands in YAML: latency classes, attempts."""

from __future__ import annotations

from pydantic import Field

from litellm_plugin.settings.model import StrictModel


class LatencyClassBlock(StrictModel):
    """A latency class that permits may name."""


class ResilienceBlock(StrictModel):
    """How often a request may be tried."""

    attempts: int = Field(default=3, ge=1, le=10)
