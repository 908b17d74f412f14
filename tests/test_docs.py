"""Every YAML and JSON block of the documentation is what it says it is."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import time
from dataclasses import replace
from pathlib import Path

import configuration_reference
import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from litellm_plugin.permit import ClaimPolicy, IssuerTrust, PermitVerifier, StaticKeys, check_body, parse_jwks
from litellm_plugin.routing import (
    Attested,
    CallType,
    Candidate,
    Prices,
    RequestFacts,
    RoutingScope,
    RuleSet,
    decide,
)
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
    "classifications": {"public": {}, "internal": {}, "phi": {}},
    "latency_classes": {"interactive": {}},
    "tenant_tiers": ["free", "pro", "enterprise"],
    "default": {"strategy": "cost"},
}
BLOCKS = [
    pytest.param(kind, text, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, (_, kind, text) in enumerate(FENCE.findall(page.read_text()), start=1)
]


ROUTING_POLICIES = [
    pytest.param(policy, id=f"routing-{number}")
    for number, (_, kind, text) in enumerate(FENCE.findall((ROOT / "docs/routing.md").read_text()), start=1)
    if kind == "yaml" and (policy := yaml.safe_load(text)["litellm_settings"]["permit_router"])
]
MODULE = re.compile(r"^```python\n# (?P<path>\w+/\w+\.py)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
CONTRACT = re.compile(
    r"^```python\n(from litellm_plugin.testing import check_strategy.*?)^```", re.MULTILINE | re.DOTALL
)


@pytest.fixture(autouse=True)
def _modules_of_the_pages(tmp_path, monkeypatch):
    """Each Python example that says its file's name is a module that can be imported."""
    for page in PAGES:
        for found in MODULE.finditer(page.read_text()):
            module = tmp_path / found["path"]
            module.parent.mkdir(exist_ok=True)
            module.write_text(found["text"])
            for name in (module.parent.name, f"{module.parent.name}.{module.stem}"):
                monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize(("kind", "text"), BLOCKS)
def test_a_block_is_valid(kind, text):
    if kind == "json":
        json.loads(text)
        return
    document = yaml.safe_load(text)
    block = document.get("litellm_settings", {}).get("permit_router")
    if block is not None:
        load_policy({**WHOLE, **block}, Flags(), base=ROOT)


@pytest.mark.parametrize("policy", ROUTING_POLICIES)
def test_a_routing_example_makes_a_plan_by_each_of_its_rules(policy):
    snapshot = load_policy({**WHOLE, **policy}, Flags(), base=ROOT)
    names = {endpoint for _, endpoint in snapshot.named_endpoints()} or {"a", "b"}
    listed = [rule.strategy for rule in snapshot.routing.rules.rules]
    models = {each.endpoint: each.model for each in listed if isinstance(each, Attested)}
    candidates = [
        Candidate(name, name, models.get(name), tier="large", region="eu-west", prices=Prices(1e-6, 2e-6))
        for name in sorted(names)
    ]
    scope = RoutingScope("R", frozenset(names), "1", "public", "first-bank", "pro", "interactive")
    facts = RequestFacts(model_group="chat", call_type=CallType.CHAT, input_tokens=100)
    for rule in (*snapshot.routing.rules.rules, snapshot.routing.rules.default):
        policy_of_one = replace(snapshot.routing, rules=RuleSet((), rule))
        decision = decide(policy_of_one, facts, scope, candidates, statistics=None, seed=1)
        assert decision.plan, rule.name
        assert not any("failed" in note for note in decision.notes)


def test_the_example_of_a_strategy_of_ones_own_keeps_the_contract():
    (example,) = CONTRACT.findall((ROOT / "docs/routing.md").read_text())
    scope = {}
    exec(example, scope)  # noqa: S102 - the page's own example
    scope["test_the_strategy_keeps_the_contract"]()


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


def tables(page):
    """What each row of a page's tables is about: its first cell, and a method's path too."""
    found, rows = [], []
    for line in (*page.read_text().splitlines(), ""):
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.split("|")[1:]])
        elif rows:
            about = 2 if rows[0][0] == "method" else 1
            found.append([cells[:about] for cells in rows[2:]])
            rows = []
    return found


@pytest.mark.parametrize("page", [pytest.param(page, id=page.stem) for page in PAGES])
def test_no_table_says_something_twice(page):
    for rows in tables(page):
        assert [row for number, row in enumerate(rows) if row in rows[:number]] == []
