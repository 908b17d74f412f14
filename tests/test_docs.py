"""Every YAML and JSON block of the documentation is what it says it is."""

from __future__ import annotations

import hashlib
import json
import re
import time
from pathlib import Path

import configuration_reference
import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from litellm_plugin.permit import ClaimPolicy, IssuerTrust, PermitVerifier, StaticKeys, check_body, parse_jwks
from litellm_plugin.settings import Flags, load_policy
from litellm_plugin.testing import PermitIssuer

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
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]+))?\)", page.read_text()):
        if target.startswith("http"):
            continue
        aim = (page.parent / target) if target else page
        assert aim.exists(), target
        if anchor:
            assert anchor in anchors(aim), f"{target}#{anchor}"


def anchors(page):
    """What GitHub names the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_configuration_page_has_the_settings_as_they_are():
    current = configuration_reference.page(configuration_reference.PAGE.read_text())
    assert configuration_reference.PAGE.read_text() == current, (
        "python tests/configuration_reference.py --write"
    )


def test_every_block_and_key_of_the_settings_is_explained():
    blocks = configuration_reference.blocks()
    assert configuration_reference.named(configuration_reference.PAGE.read_text()) == set(blocks)
    unexplained = [
        f"{name}.{key}"
        for name, block in blocks.items()
        for key, field in block.model_fields.items()
        if not field.description
    ]
    assert unexplained == []


def test_the_signing_example_makes_a_permit_that_a_proxy_admits(tmp_path, monkeypatch):
    (example,) = re.findall(
        r"^```python\n(import hashlib.*?)^```",
        (ROOT / "docs/permit.md").read_text(),
        re.DOTALL | re.MULTILINE,
    )
    issuer = PermitIssuer(issuer="https://policy.example.com", algorithm="ES256")
    pem = issuer.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "private.pem").write_bytes(pem)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-example")
    scope = {}
    exec(example.replace('"2026-01"', f'"{issuer.kid}"'), scope)  # noqa: S102 - the page's own example
    keys = parse_jwks(json.dumps(issuer.jwks()).encode(), frozenset({"ES256"}))
    policy = ClaimPolicy(frozenset({"internal"}), frozenset({"pro"}), frozenset({"interactive"}))
    trust = IssuerTrust("https://policy.example.com", "llm-router", frozenset({"ES256"}), StaticKeys(keys))

    permit = PermitVerifier([trust], policy).verify(scope["issue"](b"{}"), now=time.time(), monotonic_s=0.0)

    check_body(permit, hashlib.sha256(b"{}").hexdigest(), required=True)
    scope["client"].close()
