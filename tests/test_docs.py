"""Every YAML and JSON block of the documentation is what it says it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from litellm_plugin.settings import Flags, load_policy

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^( *)```(yaml|json)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
WHOLE = {
    "permit": {
        "audience": "a",
        "binding": "body",
        "issuers": [{"issuer": "i", "jwks_url": "https://i.example.com/jwks", "algorithms": ["RS256"]}],
    },
    "classifications": {"public": {}},
    "latency_classes": {"interactive": {}},
    "tenant_tiers": ["pro"],
    "default": {"strategy": "cost"},
}
BLOCKS = [
    pytest.param(kind, text, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, (_, kind, text) in enumerate(FENCE.findall(page.read_text()), start=1)
]


@pytest.mark.parametrize(("kind", "text"), BLOCKS)
def test_a_block_is_valid(kind, text):
    if kind == "json":
        json.loads(text)
        return
    document = yaml.safe_load(text)
    block = document.get("litellm_settings", {}).get("permit_router")
    if block is not None:
        load_policy({**WHOLE, **block}, Flags(), base=ROOT)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target
