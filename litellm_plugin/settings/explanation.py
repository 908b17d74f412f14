"""Explanations: what is wrong in the block, in the operator's words."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ValidationError

BLOCK: Final = "litellm_settings.permit_router"


def explain(error: ValidationError, block: type[BaseModel]) -> str:
    """All faults of the block, a line each: the key, what stands there, what was expected."""
    return "\n".join(_explain_one(fault, block) for fault in error.errors(include_url=False))


def _explain_one(fault: Any, block: type[BaseModel]) -> str:
    where = ".".join(str(part) for part in (BLOCK, *fault["loc"]))
    if fault["type"] == "extra_forbidden":
        known = _known_keys(block, fault["loc"][:-1])
        return f"{where}: {unknown('key', str(fault['loc'][-1]), known)}"
    if fault["type"] == "missing":
        return f"{where}: this key is required{_required_hint(str(fault['loc'][-1]))}"
    message = _message(fault, block)
    is_quiet = isinstance(fault["input"], Mapping | list) or fault["loc"][-1:] == ("secret_env",)
    shown = "" if is_quiet else f" (found {fault['input']!r:.80})"
    return f"{where}: {message}{shown}"


def _message(fault: Any, block: type[BaseModel]) -> str:
    if fault["type"] == "model_type":
        return f"Input should be a block of keys{', or null for never' if _may_be_null(block, fault['loc']) else ''}"
    return str(fault["msg"]).removeprefix("Value error, ")


def _may_be_null(block: type[BaseModel], location: tuple[int | str, ...]) -> bool:
    fields = getattr(_model_at(block, location[:-1]), "model_fields", {})
    field = fields.get(location[-1])
    return field is not None and type(None) in getattr(field.annotation, "__args__", ())


def _required_hint(key: str) -> str:
    if key == "binding":
        return ": 'body' ties a permit to one request body, 'single_use' to one use of it as well; 'none' lets a stolen permit carry any body until it expires"
    return ""


def _known_keys(block: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that the model at `location` knows."""
    model = _model_at(block, location)
    return sorted(field.alias or name for name, field in model.model_fields.items())


def _model_at(block: type[BaseModel], location: tuple[int | str, ...]) -> Any:
    """The model at `location`, found by walking the models' annotations."""
    model: Any = block
    for part in location:
        if isinstance(part, int):
            continue
        field = getattr(model, "model_fields", {}).get(part)
        if field is not None:
            model = _model_in(field.annotation) or model
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The settings model inside an annotation such as `list[RuleBlock]` or `dict[str, Block]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(argument) for argument in getattr(annotation, "__args__", ()))
    return next((model for model in found if model is not None), None)


def unknown(kind: str, value: str, known: Sequence[str]) -> str:
    """Says that nothing of this name is known, and which known name is nearest."""
    nearest = difflib.get_close_matches(value, known, n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else "."
    return f"unknown {kind} {value[:80]!r}{hint} Known: {', '.join(known) or 'none'}"
