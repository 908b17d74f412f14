"""The reference tables of docs/configuration.md, made from the settings' blocks: `--write` puts them there."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from litellm_plugin.settings.policy_block import PolicyBlock

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
_TABLE = re.compile(r"<!-- (?P<name>\w+) -->\n.*?<!-- end -->", re.DOTALL)


def blocks(root: type[BaseModel] = PolicyBlock) -> dict[str, type[BaseModel]]:
    """Every block below the root, itself included, by name."""
    found: dict[str, type[BaseModel]] = {}
    _collect(root, found)
    return found


def _collect(block: type[BaseModel], found: dict[str, type[BaseModel]]) -> None:
    """Adds a block and those below it; a block may hold itself."""
    if block.__name__ in found:
        return
    found[block.__name__] = block
    for field in block.model_fields.values():
        for inner in _blocks_in(field.annotation):
            _collect(inner, found)


def table(block: type[BaseModel]) -> str:
    """One row for each key of a block: what is expected, what stands there when it is left out, what it means."""
    rows = ["| key | expects | default | meaning |", "|---|---|---|---|"]
    for name, field in block.model_fields.items():
        default = (
            "required" if field.is_required() else _default(field.get_default(call_default_factory=True))
        )
        rows.append(f"| `{field.alias or name}` | {_expects(field)} | {default} | {field.description} |")
    return "\n".join(rows)


def page(text: str) -> str:
    """The page with its tables as the settings have them now."""
    known = blocks()
    return _TABLE.sub(lambda m: f"<!-- {m['name']} -->\n{table(known[m['name']])}\n<!-- end -->", text)


def named(text: str) -> set[str]:
    """The blocks whose tables the page holds."""
    return {found["name"] for found in _TABLE.finditer(text)}


def _blocks_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [block for argument in get_args(annotation) for block in _blocks_in(argument)]


def _default(value: Any) -> str:
    if value is None or value is PydanticUndefined:
        return ""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_defaults=True)
    return f"`{yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix('...' + chr(10)).strip()}`"


def _expects(field: Any) -> str:
    bounds = {
        name: getattr(each, name) for each in field.metadata for name in ("ge", "le") if hasattr(each, name)
    }
    words = {
        (True, True): "{ge:,} to {le:,}",
        (True, False): "{ge:,} or more",
        (False, True): "at most {le:,}",
    }
    said = words.get(("ge" in bounds, "le" in bounds), "").format(**bounds)
    return ", ".join(filter(None, [_kind(field.annotation), said]))


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _linked(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_kind(each) for each in arguments if each is not type(None)))
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    words = {list: "list of {}", dict: "mapping of names to {}", Annotated: "{}"}.get(origin)
    if words is not None:
        return words.format(_kind(arguments[0 if origin is Annotated else -1]))
    return {str: "text", int: "whole number", float: "number", bool: "`true` or `false`"}.get(
        annotation, "anything"
    )


def _linked(block: type[BaseModel]) -> str:
    words = re.sub(r"(?<!^)(?=[A-Z])", " ", block.__name__.removesuffix("Block")).lower()
    return f"[{words}](#{words.replace(' ', '-')})"


if __name__ == "__main__":
    current = page(PAGE.read_text(encoding="utf-8"))
    if "--write" in sys.argv:
        PAGE.write_text(current, encoding="utf-8")
    sys.exit(PAGE.read_text(encoding="utf-8") != current)
