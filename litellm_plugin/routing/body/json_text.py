"""JSON text: a value as a prompt carries it, in time that is bounded."""

from __future__ import annotations

import json
from itertools import islice

# A tool's schema or a call's arguments: past this many nodes the size is a floor.
_MOST_NODES = 10_000
_WRITTEN_NODES = 1_000
_WRITTEN_CHARACTERS = 16_384
# Many small texts are one large one; a large text is not copied.
_JOINED_CHARACTERS = 262_144
# What stands between two texts of a compact JSON value.
_STRUCTURE = '","'
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def json_texts(value: object) -> list[str]:
    """A value as compact JSON, or its texts and signs without their order where it is large; nothing for None."""
    if value is None:
        return []
    texts, nodes = _leaves(value)
    characters = sum(map(len, texts))
    if nodes <= _WRITTEN_NODES and characters <= _WRITTEN_CHARACTERS:
        try:
            return [_encode(value)]
        except (TypeError, ValueError, RecursionError):
            pass  # no JSON after all, or nested without end: its texts tell the size as well
    signs = _STRUCTURE * nodes
    return [" ".join(texts), signs] if characters <= _JOINED_CHARACTERS else [*texts, signs]


def _leaves(value: object) -> tuple[list[str], int]:
    """The keys and texts of a value, and how many nodes were walked."""
    texts: list[str] = []
    stack = [value]
    nodes = 0
    while stack and nodes < _MOST_NODES:
        node = stack.pop()
        nodes += 1
        if isinstance(node, str):
            texts.append(node)
        elif isinstance(node, dict):
            texts.extend(islice(node, _MOST_NODES))
            stack.extend(islice(node.values(), _MOST_NODES))
        elif isinstance(node, list):
            stack.extend(islice(node, _MOST_NODES))
    return texts, nodes
