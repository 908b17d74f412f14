"""The operations page, as far as a test can hold it: which keys it says that the store has."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parent.parent.parent / "docs" / "operations.md"
_ROW = re.compile(r"^\| `(permit-router:[^`]+)` \|", re.MULTILINE)
_PLACEHOLDER = re.compile(r"<\w+>")


def keys():
    """The keys of the page's table; each is a pattern that whole names of keys match."""
    return {name: _pattern(name) for name in _ROW.findall(PAGE.read_text())}


def _pattern(name):
    return re.compile(".+".join(map(re.escape, _PLACEHOLDER.split(name))))
