"""The JSON Schemas (draft 2020-12) that the records obey."""

from __future__ import annotations

import json
from importlib import resources
from typing import cast

from litellm_plugin.records.record import ATTEMPT_SCHEMA, DECISION_SCHEMA, PROBE_SCHEMA


def schemas() -> dict[str, dict[str, object]]:
    """Loads the shipped schemas, by the name that a record carries as `schema`."""
    return {
        DECISION_SCHEMA: _load("decision.schema.json"),
        ATTEMPT_SCHEMA: _load("attempt.schema.json"),
        PROBE_SCHEMA: _load("probe.schema.json"),
    }


def _load(name: str) -> dict[str, object]:
    text = resources.files("litellm_plugin.records").joinpath(name).read_text(encoding="utf-8")
    return cast("dict[str, object]", json.loads(text))
