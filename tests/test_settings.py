from __future__ import annotations

import copy
import sys
import traceback
from typing import ClassVar

import pytest
import yaml

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.permit import (
    ClaimConstant,
    ClaimPath,
    Revocations,
    StaticKeys,
    TokenLayout,
    secret_keys,
    symmetric_keys,
)
from litellm_plugin.routing import (
    AssignedBy,
    Balanced,
    Composed,
    Cost,
    Custom,
    Fallback,
    Latency,
    Quality,
    Static,
    Table,
    Weighted,
    WhenExceeded,
)
from litellm_plugin.settings import Flags, check_endpoints, load_policy
from litellm_plugin.state import ProbingPolicy

BLOCK = {
    "permit": {
        "header": "x-llm-permit",
        "audience": "llm-router",
        "binding": "body",
        "issuers": [
            {
                "issuer": "https://policy.example.com",
                "jwks_url": "https://policy.example.com/.well-known/jwks.json",
                "algorithms": ["RS256", "ES256"],
            }
        ],
        "minimum_policy_version": "42",
    },
    "classifications": {"public": {}, "phi": {"require": ["baa"]}},
    "latency_classes": {"interactive": {}},
    "tenant_tiers": ["free", "pro"],
    "rules": [
        {
            "name": "hipaa-pinned",
            "when": 'permit.data_classification == "phi"',
            "use": {"strategy": "static", "endpoints": ["azure-eu-gpt4o"]},
        }
    ],
    "default": {"strategy": "cost"},
    "resilience": {"attempts": 2},
    "decision_log": {"file": "decisions.jsonl", "chain": True},
    "body_fields": ["chat_template_kwargs"],
}
GONE = object()


@pytest.fixture(autouse=True)
def _no_flags(monkeypatch):
    for name in ("ENABLED", "POLICY", "LOG"):
        monkeypatch.delenv(f"PERMIT_ROUTER_{name}", raising=False)


def changed(*path, to):
    """The valid block with one value changed, or taken out."""
    block = copy.deepcopy(BLOCK)
    place = block
    for part in path[:-1]:
        place = place[part]
    if to is GONE:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return block


def load(source, base, **flags):
    return load_policy(source, Flags(**flags), base=base)


def refusal(source, base, **flags):
    with pytest.raises(ConfigurationError) as caught:
        load(source, base, **flags)
    return str(caught.value)


def test_a_whole_block_becomes_a_snapshot(tmp_path):
    snapshot = load(BLOCK, tmp_path)
    rule = snapshot.routing.rules.rules[0]
    assert snapshot.permit.binding == "body"
    assert snapshot.claims.classifications == {"public", "phi"}
    assert snapshot.claims.minimum_policy_version == "42"
    assert snapshot.requirements == {"public": frozenset(), "phi": frozenset({"baa"})}
    assert (rule.name, rule.strategy) == ("hipaa-pinned", Static(("azure-eu-gpt4o",)))
    assert snapshot.routing.rules.default.strategy == Cost()
    assert snapshot.routing.attempts == 2
    assert snapshot.body_fields == {"chat_template_kwargs"}
    assert snapshot.decision_log.chain


def test_what_is_left_out_has_its_default(tmp_path):
    block = {key: BLOCK[key] for key in ("permit", "classifications", "latency_classes", "tenant_tiers")}
    snapshot = load({**block, "default": {"strategy": "cost"}}, tmp_path)
    assert (snapshot.routing.attempts, snapshot.routing.rules.rules) == (3, ())
    assert (snapshot.claims.max_lifetime_s, snapshot.claims.leeway_s) == (300, 5)
    assert not snapshot.decision_log.required


@pytest.mark.parametrize("key", ["classifications", "latency_classes"])
def test_an_entry_with_nothing_behind_it_is_an_empty_one(tmp_path, key):
    assert load(changed(key, "phi", to=None), tmp_path).claims.classifications >= {"phi"}


class TestPolicyFile:
    def test_a_string_is_the_path_of_a_file_beside_the_configuration(self, tmp_path):
        (tmp_path / "policy.yaml").write_text(yaml.safe_dump(BLOCK))
        assert load("policy.yaml", tmp_path) == load(BLOCK, tmp_path)

    def test_an_absolute_path_is_taken_as_it_is(self, tmp_path):
        (tmp_path / "policy.yaml").write_text(yaml.safe_dump(BLOCK))
        assert load(str(tmp_path / "policy.yaml"), tmp_path / "elsewhere") == load(BLOCK, tmp_path)

    def test_the_file_may_hold_the_block_under_its_own_name(self, tmp_path):
        (tmp_path / "policy.yaml").write_text(yaml.safe_dump({"permit_router": BLOCK}))
        assert load("policy.yaml", tmp_path) == load(BLOCK, tmp_path)

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            pytest.param(b"a: [", "cannot be read as YAML", id="not-yaml"),
            pytest.param(b"\xff\xfe\x00", "cannot be read as YAML", id="not-utf8"),
            pytest.param(b"a: 2024-99-99", "cannot be read as YAML", id="impossible-date"),
            pytest.param(b"[" * 5_000, "cannot be read as YAML", id="deep"),
            pytest.param(b"#" * (4 * 1024 * 1024 + 1), "is larger than 4194304 bytes", id="too-large"),
            pytest.param(b"", "a mapping is expected, NoneType stands there", id="empty"),
            pytest.param(b"- a\n", "a mapping is expected, list stands there", id="list"),
        ],
    )
    def test_an_unusable_file_is_named(self, tmp_path, content, said):
        (tmp_path / "policy.yaml").write_bytes(content)
        message = refusal("policy.yaml", tmp_path)
        assert str(tmp_path / "policy.yaml") in message
        assert said in message

    @pytest.mark.parametrize("path", ["absent.yaml", ".", "nul\0.yaml"])
    def test_a_path_without_a_file_is_named(self, tmp_path, path):
        message = refusal(path, tmp_path)
        assert message.startswith("policy file ")
        assert "cannot be read as YAML" in message


class TestFlags:
    def test_without_flags_the_plugin_is_on(self):
        assert Flags() == Flags(enabled=True, policy=None, log=None)

    @pytest.mark.parametrize("value", ["false", "False", "0", "no", "off", " false\n"])
    def test_the_plugin_can_be_switched_off(self, monkeypatch, value):
        monkeypatch.setenv("PERMIT_ROUTER_ENABLED", value)
        assert Flags().enabled is False

    @pytest.mark.parametrize("value", ["", " ", "\n", "true\n"])
    def test_an_empty_switch_counts_as_unset(self, monkeypatch, value):
        monkeypatch.setenv("PERMIT_ROUTER_ENABLED", value)
        assert Flags().enabled is True

    def test_a_switch_that_is_neither_on_nor_off_stops_the_start(self, monkeypatch):
        monkeypatch.setenv("PERMIT_ROUTER_ENABLED", "flase")
        with pytest.raises(ConfigurationError, match=r"PERMIT_ROUTER_ENABLED: .*'flase'"):
            Flags()

    @pytest.mark.parametrize("name", ["POLICY", "LOG"])
    @pytest.mark.parametrize("value", ["", " ", "\n"])
    def test_an_empty_path_counts_as_unset(self, monkeypatch, name, value):
        monkeypatch.setenv(f"PERMIT_ROUTER_{name}", value)
        assert Flags() == Flags(enabled=True, policy=None, log=None)

    @pytest.mark.parametrize("ending", ["", "\n", " \r\n"])
    def test_the_policy_file_of_the_environment_wins(self, monkeypatch, tmp_path, ending):
        (tmp_path / "policy.yaml").write_text(yaml.safe_dump(changed("resilience", "attempts", to=7)))
        monkeypatch.setenv("PERMIT_ROUTER_POLICY", f"policy.yaml{ending}")
        assert load(BLOCK, tmp_path).routing.attempts == 7

    def test_the_log_of_the_environment_wins(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PERMIT_ROUTER_LOG", "/var/log/decisions.jsonl\n")
        assert load(BLOCK, tmp_path).decision_log.file == "/var/log/decisions.jsonl"

    def test_other_variables_with_the_prefix_are_left_alone(self, monkeypatch):
        monkeypatch.setenv("PERMIT_ROUTER_SERVICE_HOST", "10.0.0.1")
        assert Flags() == Flags(enabled=True, policy=None, log=None)


class TestUnknownKeys:
    @pytest.mark.parametrize(
        ("path", "said"),
        [
            pytest.param(
                ("ruels",), "permit_router.ruels: unknown key 'ruels'; did you mean 'rules'?", id="top"
            ),
            pytest.param(
                ("permit", "bindng"),
                "permit_router.permit.bindng: unknown key 'bindng'; did you mean 'binding'?",
                id="permit",
            ),
            pytest.param(
                ("permit", "issuers", 0, "jwks_uri"),
                "permit.issuers.0.jwks_uri: unknown key 'jwks_uri'; did you mean 'jwks_url'?",
                id="issuer",
            ),
            pytest.param(
                ("classifications", "phi", "requires"),
                "classifications.phi.requires: unknown key 'requires'; did you mean 'require'?",
                id="classification",
            ),
            pytest.param(
                ("latency_classes", "interactive", "budget"),
                "latency_classes.interactive.budget: unknown key 'budget'; did you mean 'minimum_budget_ms'?",
                id="latency-class",
            ),
            pytest.param(
                ("rules", 0, "then"), "rules.0.then: unknown key 'then'; did you mean 'when'?", id="rule"
            ),
            pytest.param(
                ("rules", 0, "use", "endpionts"),
                "rules.0.use.endpionts: unknown key 'endpionts'; did you mean 'endpoints'?",
                id="rule-strategy",
            ),
            pytest.param(
                ("default", "weight"),
                "default.weight: unknown key 'weight'; did you mean 'weights'?",
                id="default",
            ),
            pytest.param(
                ("resilience", "atempts"),
                "resilience.atempts: unknown key 'atempts'; did you mean 'attempts'?",
                id="resilience",
            ),
            pytest.param(
                ("decision_log", "path"),
                "decision_log.path: unknown key 'path'. Known: chain, file, required",
                id="decision-log",
            ),
        ],
    )
    def test_an_unknown_key_names_the_nearest_known_one(self, tmp_path, path, said):
        message = refusal(changed(*path, to=1), tmp_path)
        assert message.startswith("litellm_settings.permit_router.")
        assert said in message
        assert "\n" not in message

    def test_every_fault_has_its_line(self, tmp_path):
        block = changed("permit", "bindng", to="body")
        block["rulse"] = []
        assert len(refusal(block, tmp_path).splitlines()) == 2

    def test_a_key_that_is_no_text_is_refused(self, tmp_path):
        assert "permit_router.1: " in refusal({**BLOCK, 1: 2}, tmp_path)


class TestValues:
    def test_a_missing_binding_says_what_to_choose_from(self, tmp_path):
        assert refusal(changed("permit", "binding", to=GONE), tmp_path) == (
            "litellm_settings.permit_router.permit.binding: this key is required: 'body' ties a permit to one "
            "request body, 'single_use' to one use of it as well; 'none' lets a stolen permit carry any body "
            "until it expires"
        )

    @pytest.mark.parametrize(
        "path",
        [
            pytest.param(path, id=".".join(map(str, path)))
            for path in (
                ("permit",),
                ("permit", "audience"),
                ("permit", "issuers"),
                ("permit", "issuers", 0, "issuer"),
                ("permit", "issuers", 0, "algorithms"),
                ("classifications",),
                ("latency_classes",),
                ("tenant_tiers",),
                ("default",),
                ("rules", 0, "name"),
            )
        ],
    )
    def test_a_required_key_is_asked_for(self, tmp_path, path):
        where = ".".join(map(str, path))
        message = refusal(changed(*path, to=GONE), tmp_path)
        assert message == f"litellm_settings.permit_router.{where}: this key is required"

    @pytest.mark.parametrize(
        ("path", "value", "shown"),
        [
            pytest.param(("permit",), "x", "(found 'x')", id="text-for-mapping"),
            pytest.param(("permit", "header"), "X-Permit", "(found 'X-Permit')", id="upper-case-header"),
            pytest.param(("permit", "binding"), "both", "'body', 'single_use' or 'none'", id="binding"),
            pytest.param(("permit", "when_missing"), "allow", "'deny'", id="when-missing"),
            pytest.param(("permit", "minimum_policy_version"), 42, "(found 42)", id="number-for-text"),
            pytest.param(("permit", "leeway_seconds"), 600, "(found 600)", id="too-much-leeway"),
            pytest.param(("permit", "issuers"), [], "at least 1 item", id="no-issuer"),
            pytest.param(
                ("permit", "issuers", 0, "kid_optional"), "yes", "(found 'yes')", id="text-for-bool"
            ),
            pytest.param(("tenant_tiers",), "free", "(found 'free')", id="text-for-list"),
            pytest.param(("tenant_tiers", 0), "a b", "(found 'a b')", id="name-with-space"),
            pytest.param(("classifications",), {}, "at least 1 item", id="no-classification"),
            pytest.param(("classifications",), ["phi"], "dictionary", id="list-of-classifications"),
            pytest.param(("classifications", "p h i"), {}, "(found 'p h i')", id="classification-name"),
            pytest.param(("classifications", "phi", "require"), "baa", "(found 'baa')", id="require-text"),
            pytest.param(("rules",), {}, "list", id="mapping-for-list"),
            pytest.param(("rules", 0, "when"), True, "(found True)", id="bool-for-condition"),
            pytest.param(("default", "strategy"), "costs", "(found 'costs')", id="strategy"),
            pytest.param(("resilience", "attempts"), 0, "(found 0)", id="no-attempts"),
            pytest.param(("resilience", "attempts"), "3", "(found '3')", id="text-for-number"),
            pytest.param(("resilience", "attempts"), True, "(found True)", id="bool-for-number"),
            pytest.param(("resilience", "probing"), {"every_seconds": 1}, "(found 1", id="probed-too-often"),
            pytest.param(("resilience", "probing"), {"requests_per_hour": 0}, "(found 0)", id="no-probes"),
            pytest.param(("resilience", "probing"), {"max_tokens": 4096}, "(found 4096)", id="long-probes"),
            pytest.param(("resilience", "probing"), True, "(found True)", id="bool-for-probing"),
            pytest.param(
                ("resilience", "probing"),
                {"every_seconds": 20, "timeout_seconds": 30},
                "`timeout_seconds` is expected to be `every_seconds` (20) or less, got 30",
                id="probes-that-overlap",
            ),
            pytest.param(
                ("resilience", "probing"),
                {"every_seconds": 20},
                "or less, got 30 (the default)",
                id="probes-that-overlap-by-default",
            ),
            *(
                pytest.param(
                    ("resilience", key),
                    value,
                    f"Input should be a block of keys, or null for never (found {value!r})",
                    id=f"{key}-for-{value}",
                )
                for key, value in (("probing", True), ("breaker", False), ("retry_budget", "20%"))
            ),
            pytest.param(
                ("permit",), "p.yaml", "Input should be a block of keys (found 'p.yaml')", id="permit-text"
            ),
            pytest.param(("decision_log", "file"), "", "(found '')", id="no-file"),
            pytest.param(("body_fields", 0), "Top-K", "(found 'Top-K')", id="body-field"),
        ],
    )
    def test_a_wrong_value_is_shown_with_its_key(self, tmp_path, path, value, shown):
        message = refusal(changed(*path, to=value), tmp_path)
        assert message.startswith(f"litellm_settings.permit_router.{'.'.join(map(str, path))}")
        assert shown in message

    def test_a_long_value_is_cut(self, tmp_path):
        assert len(refusal(changed("permit", "header", to="x y" * 1_000), tmp_path)) < 300

    @pytest.mark.parametrize("source", [[], 1, True])
    def test_a_block_that_is_no_mapping_is_refused(self, tmp_path, source):
        kind = type(source).__name__
        assert refusal(source, tmp_path) == (
            f"litellm_settings.permit_router: a mapping is expected, {kind} stands there"
        )

    def test_no_block_at_all_says_where_to_write_it(self, tmp_path):
        message = refusal(None, tmp_path)
        assert "litellm_settings.permit_router is missing" in message
        assert "PERMIT_ROUTER_POLICY" in message

    def test_an_unknown_algorithm_names_the_nearest(self, tmp_path):
        message = refusal(changed("permit", "issuers", 0, "algorithms", to=["RSA256"]), tmp_path)
        assert "permit.issuers.0.algorithms: unknown algorithm 'RSA256'; did you mean 'RS256'?" in message

    @pytest.mark.parametrize("algorithm", ["none", "HS256", "rs256", "ES256K"])
    def test_an_algorithm_that_is_not_allowed_is_refused(self, tmp_path, algorithm):
        message = refusal(changed("permit", "issuers", 0, "algorithms", to=[algorithm]), tmp_path)
        assert f"unknown algorithm {algorithm!r}" in message

    def test_two_key_sources_are_refused(self, tmp_path):
        message = refusal(changed("permit", "issuers", 0, "jwks_file", to="keys.json"), tmp_path)
        assert message == (
            "litellm_settings.permit_router.permit.issuers.0: exactly one of jwks_url, jwks_file, public_key_file, "
            "secret_env is expected, 2 are given"
        )

    def test_no_key_source_is_refused(self, tmp_path):
        assert "0 are given" in refusal(changed("permit", "issuers", 0, "jwks_url", to=GONE), tmp_path)

    def test_a_key_address_that_is_not_http_is_refused_without_its_password(self, tmp_path):
        message = refusal(
            changed("permit", "issuers", 0, "jwks_url", to="ftp://user:secret@host/keys"), tmp_path
        )
        assert (
            "permit.issuers.0: jwks_url is expected to be an http or https URL, not one of 'ftp'" in message
        )
        assert "secret" not in message

    def test_an_issuer_is_listed_once(self, tmp_path):
        issuers = BLOCK["permit"]["issuers"]
        message = refusal(changed("permit", "issuers", to=[*issuers, *issuers]), tmp_path)
        assert message == (
            "litellm_settings.permit_router.permit.issuers: issuer 'https://policy.example.com' is listed twice"
        )

    def test_static_without_endpoints_is_refused(self, tmp_path):
        message = refusal(changed("default", to={"strategy": "static"}), tmp_path)
        assert message == (
            "litellm_settings.permit_router.default: strategy 'static' needs `endpoints`, a list of endpoint names,"
            " or `by` and `table`"
        )

    def test_cost_with_endpoints_is_refused(self, tmp_path):
        message = refusal(changed("default", "endpoints", to=["a"]), tmp_path)
        assert message.endswith(
            "default: strategy 'cost' takes no `endpoints`; only 'static' does. It takes tolerance, then"
        )

    def test_a_minimum_policy_version_without_an_order_is_refused(self, tmp_path):
        message = refusal(changed("permit", "minimum_policy_version", to="latest"), tmp_path)
        assert message.startswith("litellm_settings.permit_router.permit.minimum_policy_version: ")
        assert "'latest'" in message


class TestForeignTokens:
    def layout(self, tmp_path, *, permit=None, issuer=None):
        block = copy.deepcopy(BLOCK)
        block["permit"] |= permit or {}
        block["permit"]["issuers"][0] |= issuer or {}
        snapshot = load(block, tmp_path)
        return snapshot.permit.trust(snapshot.permit.issuers[0], StaticKeys(symmetric_keys(b"s" * 32)))

    def refusal(self, tmp_path, key, value):
        return refusal(changed("permit", "issuers", 0, key, to=value), tmp_path)

    def test_without_a_mapping_the_layout_is_native(self, tmp_path):
        trust = self.layout(tmp_path)
        assert trust.layout == TokenLayout()
        assert trust.audience == "llm-router"

    @pytest.mark.parametrize("level", ["permit", "issuer"])
    def test_every_form_of_a_mapping_is_read(self, tmp_path, level):
        mapping = {
            "typ": ["at+jwt", "JWT"],
            "claims": {
                "tenant": "org.id",
                "models": ["https://example.com/llm", "models"],
                "regions": {"path": "geo.list", "split": " "},
                "tenant_tier": {"const": "pro"},
            },
            "ignore_claims": ["roles", "org.name", ["https://example.com/x"]],
        }
        assert self.layout(tmp_path, **{level: mapping}).layout == TokenLayout(
            typs=frozenset({"at+jwt", "JWT"}),
            claims={
                "tenant": ClaimPath(("org", "id")),
                "models": ClaimPath(("https://example.com/llm", "models")),
                "regions": ClaimPath(("geo", "list"), split=" "),
                "tenant_tier": ClaimConstant("pro"),
            },
            ignored=frozenset({("roles",), ("org", "name"), ("https://example.com/x",)}),
        )

    def test_an_issuers_own_block_wins(self, tmp_path):
        trust = self.layout(
            tmp_path,
            permit={"typ": "JWT", "claims": {"tenant": "org"}, "ignore_claims": ["roles"]},
            issuer={"typ": "at+jwt", "claims": {}, "ignore_claims": [], "audience": "other"},
        )
        assert trust.layout == TokenLayout(typs=frozenset({"at+jwt"}))
        assert trust.audience == "other"

    @pytest.mark.parametrize(
        ("key", "value", "said"),
        [
            pytest.param("typ", None, "issuers.0.typ: nothing stands here", id="no-typ"),
            pytest.param("typ", [], "at least 1 item", id="empty-typ"),
            pytest.param("typ", "a b", "(found 'a b')", id="typ-with-a-space"),
            pytest.param("audience", None, "issuers.0.audience: nothing stands here", id="no-audience"),
            pytest.param("claims", None, "issuers.0.claims: nothing stands here", id="no-claims"),
            pytest.param(
                "claims", {"tenannt": "org"}, "'tenannt' is no claim of a permit", id="no-such-claim"
            ),
            pytest.param("claims", {"iss": "issuer"}, "'iss' cannot be mapped", id="iss"),
            pytest.param("claims", {"tenant": 7}, "issuers.0.claims.tenant", id="number"),
            pytest.param("claims", {"tenant": ""}, "issuers.0.claims.tenant", id="empty"),
            pytest.param("claims", {"tenant": "a..b"}, "issuers.0.claims.tenant", id="empty-segment"),
            pytest.param("claims", {"tenant": {}}, "either `path`", id="neither"),
            pytest.param(
                "claims", {"tenant_tier": {"path": "a", "const": "pro"}}, "either `path`", id="both"
            ),
            pytest.param(
                "claims",
                {"tenant_tier": {"const": "pro", "split": " "}},
                "either `path`",
                id="split-constant",
            ),
            pytest.param("claims", {"tenant": {"paht": "a"}}, "did you mean 'path'?", id="misspelt"),
            pytest.param(
                "claims", {"tenant": {"path": "a", "split": " "}}, "split is one character", id="split"
            ),
            *[
                pytest.param("claims", {name: {"const": "a"}}, "cannot be a constant", id=f"constant-{name}")
                for name in ("aud", "exp", "jti", "request_id", "authorized_endpoints", "data_classification")
            ],
            pytest.param(
                "claims",
                {"tenant_tier": {"const": "prp"}},
                "unknown tenant_tier 'prp'; did you mean 'pro'?",
                id="undeclared-tier",
            ),
            pytest.param(
                "claims",
                {"latency_class": {"const": "x"}},
                "unknown latency_class 'x'. Known: interactive",
                id="undeclared-class",
            ),
            pytest.param(
                "claims",
                {"tenant": "org", "jti": "org.id"},
                "lies inside another path",
                id="path-inside-a-path",
            ),
            *[
                pytest.param("ignore_claims", [name], "cannot be ignored", id=f"ignored-{name}")
                for name in ("iss", "aud", "exp", "nbf", "models", "max_cost_usd", "body_sha256")
            ],
            pytest.param("ignore_claims", "roles", "issuers.0.ignore_claims", id="text-for-list"),
            pytest.param("ignore_claims", [None], "issuers.0.ignore_claims.0", id="null-name"),
        ],
    )
    def test_a_mapping_that_is_not_safe_stops_the_start(self, tmp_path, key, value, said):
        message = self.refusal(tmp_path, key, value)
        assert message.startswith("litellm_settings.permit_router.permit.issuers.0")
        assert said in message

    def test_a_typ_of_null_is_refused_for_all_issuers_too(self, tmp_path):
        assert "permit.typ" in refusal(changed("permit", "typ", to=None), tmp_path)


class TestRevocation:
    def test_versions_and_revocations_reach_the_claim_policy(self, tmp_path):
        block = changed("permit", "accepted_policy_versions", to=["42", "2026-11-05"])
        block["permit"]["revoked"] = {"jti": ["p1"], "kid": ["k1"], "policy_versions": ["41"]}
        claims = load(block, tmp_path).claims
        assert claims.accepted_policy_versions == {"42", "2026-11-05"}
        assert claims.revocations == Revocations(frozenset({"p1"}), frozenset({"k1"}), frozenset({"41"}))

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            pytest.param("accepted_policy_versions", [], id="accepts-nothing"),
            pytest.param("accepted_policy_versions", [42], id="number"),
            pytest.param("accepted_policy_versions", "42", id="text"),
            pytest.param("revoked", {"jtis": []}, id="unknown-key"),
            pytest.param("revoked", {"kid": ["a/b"]}, id="no-kid"),
            pytest.param("revoked", {"jti": "p1"}, id="text-for-list"),
            pytest.param("revoked", None, id="null"),
        ],
    )
    def test_another_form_is_refused(self, tmp_path, key, value):
        assert f"permit.{key}" in refusal(changed("permit", key, to=value), tmp_path)


class TestSymmetricIssuer:
    ISSUER: ClassVar = {"issuer": "i", "secret_env": "GATEWAY_SECRET", "kid": "hs", "algorithms": ["HS256"]}

    def refusal(self, tmp_path, **members):
        return refusal(changed("permit", "issuers", to=[self.ISSUER | members]), tmp_path)

    def test_the_secret_is_named_by_its_variable(self, tmp_path):
        snapshot = load(changed("permit", "issuers", to=[self.ISSUER]), tmp_path)
        assert snapshot.permit.issuers[0].secret_env == "GATEWAY_SECRET"

    def test_the_secret_makes_the_issuers_trust(self, tmp_path):
        permit = load(changed("permit", "issuers", to=[self.ISSUER]), tmp_path).permit
        keys = secret_keys("GATEWAY_SECRET", {"GATEWAY_SECRET": "s" * 32}, kid="hs")
        trust = permit.trust(permit.issuers[0], keys)
        assert (trust.issuer, trust.algorithms, trust.keys) == ("i", {"HS256"}, keys)

    @pytest.mark.parametrize("algorithm", ["RS256", "HS512", "none"])
    def test_a_symmetric_issuer_takes_hs256_only(self, tmp_path, algorithm):
        message = self.refusal(tmp_path, algorithms=["HS256", algorithm])
        assert f"unknown algorithm {algorithm!r}" in message
        assert message.endswith("Known: HS256")

    def test_a_second_key_source_is_refused(self, tmp_path):
        assert "2 are given" in self.refusal(tmp_path, jwks_file="keys.json")

    def test_a_kid_is_asked_for(self, tmp_path):
        assert "secret_env needs `kid`" in self.refusal(tmp_path, kid=None)

    @pytest.mark.parametrize(
        "secret",
        [
            "hunter2hunter2hunter2hunter2hunter2",
            "c2VjcmV0LXNlY3JldA==",
            "OPEN SESAME",
            "",
            "A" * 65,
            12345678,
        ],
    )
    def test_a_secret_instead_of_its_variable_is_not_repeated(self, tmp_path, secret):
        with pytest.raises(ConfigurationError) as caught:
            load(changed("permit", "issuers", to=[self.ISSUER | {"secret_env": secret}]), tmp_path)
        shown = "".join(traceback.format_exception(caught.value))
        assert "permit.issuers.0.secret_env: the name of an environment variable is expected" in shown
        assert not secret or str(secret) not in shown.replace(__file__, "")


class TestRules:
    @pytest.mark.parametrize(
        ("when", "said"),
        [
            pytest.param("1 + 1", "expected a boolean expression, got int", id="not-boolean"),
            pytest.param("permit.sub == 'a'", "unknown name 'permit.sub'", id="subject"),
            pytest.param("request.input_token > 1", "did you mean request.input_tokens?", id="misspelt"),
            pytest.param("request.input_tokens >", "line 1, column", id="syntax"),
            pytest.param("request.input_tokens == 'a'", "line 1, column", id="types"),
        ],
    )
    def test_a_condition_that_cannot_be_true_or_false_names_its_rule(self, tmp_path, when, said):
        message = refusal(changed("rules", 0, "when", to=when), tmp_path)
        assert message.startswith("litellm_settings.permit_router.rules: rule 'hipaa-pinned': condition ")
        assert said in message

    @pytest.mark.parametrize("name", ["hipaa-pinned", "default"])
    def test_rule_names_are_unique(self, tmp_path, name):
        block = copy.deepcopy(BLOCK)
        block["rules"].append({"name": name, "when": "true", "use": {"strategy": "cost"}})
        assert refusal(block, tmp_path) == (
            f"litellm_settings.permit_router.rules: rule name {name!r} is taken; each rule has a name of its own"
        )


class TestStrategies:
    TIERS: ClassVar = ["small", "medium", "large"]

    def strategy(self, tmp_path, **use):
        block = changed("default", to=use) | {"quality_tiers": self.TIERS}
        return load(block, tmp_path).routing.rules.default.strategy

    def refusal(self, tmp_path, **use):
        message = refusal(changed("default", to=use) | {"quality_tiers": self.TIERS}, tmp_path)
        assert message.startswith("litellm_settings.permit_router.default")
        return message

    @pytest.mark.parametrize(
        ("use", "expected"),
        [
            pytest.param(
                {"strategy": "static", "endpoints": ["a", "b"], "are_equal": True},
                Static(("a", "b"), are_equal=True),
                id="static",
            ),
            pytest.param(
                {"strategy": "static", "by": "permit.tenant", "table": {"acme": ["a"]}, "else": ["b"]},
                Table("permit.tenant", {"acme": Static(("a",))}, Static(("b",))),
                id="table",
            ),
            pytest.param(
                {"strategy": "static", "by": "request.workload", "table": {"x": ["a"]}, "else": "cost"},
                Table("request.workload", {"x": Static(("a",))}, Cost()),
                id="table with a strategy for the rest",
            ),
            pytest.param({"strategy": "cost", "tolerance": 0.05}, Cost(0.05), id="cost"),
            pytest.param({"strategy": "cost", "tolerance": 0}, Cost(0.0), id="a tolerance of nought"),
            pytest.param(
                {"strategy": "quality", "tier": "large", "floor": "medium"},
                Composed(Quality(("small", "medium", "large"), "large", "medium"), Cost()),
                id="quality, the cheapest of a tier first",
            ),
            pytest.param(
                {"strategy": "quality", "minimum_quality": 0.7, "then": "latency"},
                Composed(Quality(("small", "medium", "large"), minimum_quality=0.7), Latency()),
                id="quality, then latency",
            ),
            pytest.param(
                {"strategy": "latency", "tolerance": 0.2, "minimum_samples": 50},
                Latency(0.2, 50),
                id="latency",
            ),
            pytest.param(
                {"strategy": "balanced", "weights": {"cost": 1, "load": 0.5}},
                Balanced({"cost": 1.0, "load": 0.5}, ("small", "medium", "large")),
                id="balanced",
            ),
            pytest.param(
                {"strategy": "weighted", "weights": {"a": 95, "b": 5}, "by": "session"},
                Weighted({"a": 95.0, "b": 5.0}, AssignedBy.SESSION, "default"),
                id="weighted",
            ),
            pytest.param(
                {"strategy": "fallback", "chain": ["a", "b"], "others_last": True},
                Fallback(("a", "b"), others_last=True),
                id="fallback",
            ),
            pytest.param(
                {"strategy": "latency", "then": {"strategy": "cost", "then": "latency"}},
                Composed(Latency(), Composed(Cost(), Latency())),
                id="composed",
            ),
        ],
    )
    def test_a_block_becomes_its_strategy(self, tmp_path, use, expected):
        assert self.strategy(tmp_path, **use) == expected

    def test_assignments_of_two_rules_are_independent(self, tmp_path):
        use = {
            "strategy": "weighted",
            "weights": {"a": 1, "b": 1},
            "then": {"strategy": "weighted", "weights": {"a": 1}},
        }
        rules = load(changed("rules", 0, "use", to=use), tmp_path).routing.rules.rules
        assert (rules[0].strategy.first.salt, rules[0].strategy.then.salt) == (
            "hipaa-pinned",
            "hipaa-pinned/then",
        )

    @pytest.mark.parametrize(
        ("use", "said"),
        [
            pytest.param(
                {"strategy": "latncy"}, "unknown strategy 'latncy'; did you mean 'latency'?", id="name"
            ),
            pytest.param({"strategy": 7}, "default.strategy", id="no-name"),
            pytest.param(
                {"strategy": "cost", "then": "qualty"},
                "default.then.strategy: unknown strategy 'qualty'; did you mean 'quality'?",
                id="then-name",
            ),
            pytest.param(
                {"strategy": "cost", "then": "static"}, "default.then: strategy 'static' needs", id="then"
            ),
            pytest.param({"strategy": "cost", "then": ["static"]}, "default.then", id="then-list"),
            pytest.param({"strategy": "cost", "elze": "x"}, "did you mean 'else'?", id="alias"),
            pytest.param(
                {"strategy": "cost", "weights": {"cost": 1}},
                "takes no `weights`; only 'balanced' and 'weighted' do. It takes tolerance, then",
                id="option-of-another",
            ),
            pytest.param(
                {"strategy": "cost", "else": "cost"}, "takes no `else`; only 'static' does", id="else"
            ),
            pytest.param({"strategy": "cost", "tolerance": 5}, "default.tolerance", id="tolerance"),
            pytest.param({"strategy": "static", "endpoints": []}, "default.endpoints", id="no-endpoints"),
            pytest.param(
                {"strategy": "static", "endpoints": ["a"], "by": "permit.tenant"},
                "either `endpoints` or a table, not both",
                id="both",
            ),
            pytest.param({"strategy": "static", "by": "permit.tenant"}, "a table needs `by`", id="no-table"),
            pytest.param({"strategy": "static", "table": {"a": ["b"]}}, "a table needs `by`", id="no-by"),
            pytest.param({"strategy": "static", "else": ["b"]}, "a table needs `by`", id="else-alone"),
            pytest.param(
                {"strategy": "static", "by": "permit.tenent", "table": {"a": ["b"]}},
                "by: unknown fact 'permit.tenent'; did you mean 'permit.tenant'?",
                id="fact",
            ),
            pytest.param({"strategy": "quality"}, "needs `tier`, the wanted one, `floor`", id="quality"),
            pytest.param(
                {"strategy": "quality", "tier": "huge"},
                "tier: expected one of small, medium, large; got 'huge'",
                id="tier",
            ),
            pytest.param(
                {"strategy": "quality", "tier": "small", "floor": "large"},
                "lies above the wanted tier",
                id="floor",
            ),
            pytest.param(
                {"strategy": "balanced"}, "needs `weights`, what each term counts: cost, latency", id="none"
            ),
            pytest.param(
                {"strategy": "balanced", "weights": {"price": 1}}, "weights: unknown term 'price'", id="term"
            ),
            pytest.param(
                {"strategy": "balanced", "weights": {"cost": 0}},
                "weights: one of them must be above 0",
                id="zero",
            ),
            pytest.param({"strategy": "weighted", "weights": {"a": -1}}, "default.weights.a", id="negative"),
            pytest.param(
                {"strategy": "weighted", "weights": {"a": 1}, "by": "sesion"},
                "by: unknown key 'sesion'; did you mean 'session'?",
                id="by",
            ),
            pytest.param({"strategy": "fallback"}, "needs `chain`, a list of endpoint names", id="chain"),
            pytest.param({"strategy": "custom"}, "needs `class`, the dotted path of a class", id="class"),
            pytest.param({"strategy": "custom", "class": "Cheapest"}, "default.class", id="no-dot"),
            pytest.param(
                {"strategy": "custom", "class": "a.B", "options": {"key": b"\xff"}},
                "default.options.key",
                id="bytes",
            ),
        ],
    )
    def test_what_a_strategy_cannot_take_is_explained(self, tmp_path, use, said):
        assert said in self.refusal(tmp_path, **use)

    def test_four_strategies_stand_inside_each_other_and_no_more(self, tmp_path):
        four = {
            "strategy": "cost",
            "then": {"strategy": "cost", "then": {"strategy": "cost", "then": "cost"}},
        }
        self.strategy(tmp_path, **four)
        assert "5 strategies stand inside each other; 4 are the most" in self.refusal(
            tmp_path, strategy="cost", then=four
        )

    def test_a_strategy_inside_itself_is_refused(self, tmp_path):
        (tmp_path / "policy.yaml").write_text(
            yaml.safe_dump({**BLOCK, "default": None}).replace(
                "default: null", "default: &a {strategy: cost, then: *a}"
            )
        )
        assert "default.then" in refusal("policy.yaml", tmp_path)

    def test_the_rule_of_an_undeclared_tier_is_named(self, tmp_path):
        message = refusal(changed("rules", 0, "use", to={"strategy": "quality", "tier": "large"}), tmp_path)
        assert message == (
            "litellm_settings.permit_router.rules: rule 'hipaa-pinned': "
            "tier: expected one of `quality_tiers`, and none is declared; got 'large'"
        )

    def test_a_tier_has_one_place(self, tmp_path):
        assert "tier 'a' is listed twice" in refusal({**BLOCK, "quality_tiers": ["a", "b", "a"]}, tmp_path)

    def test_preferences_can_be_ignored(self, tmp_path):
        assert load(BLOCK, tmp_path).routing.follows_preferences
        ignoring = load(changed("permit", "preferences", to="ignore"), tmp_path)
        assert not ignoring.routing.follows_preferences
        assert "permit.preferences" in refusal(changed("permit", "preferences", to="off"), tmp_path)


class TestCustomStrategy:
    MODULE: ClassVar = """
from litellm_plugin.routing import Ranked, Ranking

class Cheapest:
    name = "cheapest"
    def __init__(self, *, margin: float = 0.0) -> None:
        self.margin = margin
    def rank(self, inputs, context):
        return Ranking((tuple(Ranked(each) for each in inputs),))

class Nameless:
    rank = Cheapest.rank

class Rankless:
    name = "rankless"

class Waits(Cheapest):
    async def rank(self, inputs, context):
        return None

class OtherSignature(Cheapest):
    def rank(self):
        return None

def cheapest(): ...
"""

    @pytest.fixture(autouse=True)
    def _modules(self, tmp_path, monkeypatch):
        (tmp_path / "own_routing.py").write_text(self.MODULE)
        (tmp_path / "own_broken.py").write_text("raise KeyError('no such thing')")
        (tmp_path / "own_importing.py").write_text("import nothing_of_this_name")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "own_routing", raising=False)

    def use(self, path, **options):
        return changed("default", to={"strategy": "custom", "class": path, "options": options})

    def test_the_class_is_made_with_its_options(self, tmp_path):
        strategy = load(self.use("own_routing.Cheapest", margin=0.5), tmp_path).routing.rules.default.strategy
        assert isinstance(strategy, Custom)
        assert (strategy.name, strategy.strategy.margin) == ("cheapest", 0.5)

    @pytest.mark.parametrize(
        ("path", "options", "said"),
        [
            pytest.param(
                "own_rooting.Cheapest", {}, "there is no module 'own_rooting'; is its folder", id="module"
            ),
            pytest.param(
                "own_routing.sub.Cheapest", {}, "there is no module 'own_routing.sub'", id="submodule"
            ),
            pytest.param(
                "own_importing.X", {}, "imports 'nothing_of_this_name', which is not there", id="import"
            ),
            pytest.param("own_broken.X", {}, "cannot be imported: KeyError: 'no such thing'", id="broken"),
            pytest.param(
                "own_routing.Cheepest", {}, "unknown class 'Cheepest'; did you mean 'Cheapest'?", id="class"
            ),
            pytest.param("own_routing.cheapest", {}, "unknown class 'cheapest'", id="function"),
            pytest.param(
                "own_routing.Cheapest",
                {"margins": 1},
                "it refuses its options ['margins']: TypeError",
                id="options",
            ),
            pytest.param("own_routing.Nameless", {}, "a strategy has a `name`", id="name"),
            pytest.param(
                "own_routing.Rankless", {}, "a strategy has a method `rank(inputs, context)`", id="rank"
            ),
            pytest.param("own_routing.Waits", {}, "`rank` is asynchronous", id="async"),
            pytest.param(
                "own_routing.OtherSignature", {}, "expected `rank(inputs, context)`", id="signature"
            ),
        ],
    )
    def test_what_cannot_be_used_is_explained(self, tmp_path, path, options, said):
        message = refusal(self.use(path, **options), tmp_path)
        assert message.startswith(f"litellm_settings.permit_router.default: class {path!r}: ")
        assert said in message


class TestEndpoints:
    def test_static_endpoints_that_litellm_has_are_fine(self, tmp_path):
        check_endpoints(load(BLOCK, tmp_path), ["azure-eu-gpt4o", "other"])

    def test_an_unknown_static_endpoint_names_the_nearest(self, tmp_path):
        with pytest.raises(ConfigurationError) as caught:
            check_endpoints(load(BLOCK, tmp_path), ["azure-eu-gpt4", "openai-us"])
        assert str(caught.value) == (
            "litellm_settings.permit_router: rule 'hipaa-pinned': unknown endpoint 'azure-eu-gpt4o'; "
            "did you mean 'azure-eu-gpt4'? Known: azure-eu-gpt4, openai-us"
        )

    def test_the_default_rule_is_checked_too(self, tmp_path):
        snapshot = load(changed("default", to={"strategy": "static", "endpoints": ["x"]}), tmp_path)
        with pytest.raises(
            ConfigurationError, match=r"rule 'default': unknown endpoint 'x'\. Known: azure-eu-gpt4o"
        ):
            check_endpoints(snapshot, ["azure-eu-gpt4o"])

    @pytest.mark.parametrize(
        "use",
        [
            pytest.param({"strategy": "fallback", "chain": ["x"]}, id="fallback"),
            pytest.param({"strategy": "weighted", "weights": {"x": 1}}, id="weighted"),
            pytest.param({"strategy": "static", "by": "permit.tenant", "table": {"t": ["x"]}}, id="table"),
            pytest.param({"strategy": "cost", "then": {"strategy": "fallback", "chain": ["x"]}}, id="then"),
        ],
    )
    def test_every_strategys_endpoints_are_checked(self, tmp_path, use):
        with pytest.raises(ConfigurationError, match=r"rule 'default': unknown endpoint 'x'"):
            check_endpoints(load(changed("default", to=use), tmp_path), ["azure-eu-gpt4o"])


class TestConfigHash:
    def test_the_order_of_keys_does_not_change_it(self, tmp_path):
        turned = dict(reversed(BLOCK.items()))
        turned["permit"] = dict(reversed(BLOCK["permit"].items()))
        assert load(turned, tmp_path).config_hash == load(BLOCK, tmp_path).config_hash

    def test_a_default_that_is_written_out_does_not_change_it(self, tmp_path):
        written = changed("permit", "leeway_seconds", to=5)
        assert load(written, tmp_path).config_hash == load(BLOCK, tmp_path).config_hash

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            pytest.param(("permit", "leeway_seconds"), 6, id="leeway"),
            pytest.param(("rules", 0, "when"), "true", id="condition"),
            pytest.param(("rules",), [], id="rules"),
            pytest.param(("classifications", "phi", "require"), [], id="requirement"),
            pytest.param(("permit", "issuers", 0, "algorithms"), ["RS256"], id="algorithms"),
        ],
    )
    def test_another_content_changes_it(self, tmp_path, path, value):
        assert load(changed(*path, to=value), tmp_path).config_hash != load(BLOCK, tmp_path).config_hash


class TestEgress:
    def test_each_place_has_the_classifications_that_it_may_receive(self, tmp_path):
        block = changed("egress", to={"langfuse": ["public"], "mask names": []})
        egress = load_policy(block, Flags(), base=tmp_path).egress
        assert egress == {"langfuse": {"public"}, "mask names": frozenset()}

    def test_a_classification_that_nobody_declared_names_the_nearest(self, tmp_path):
        block = changed("egress", to={"langfuse": ["publik"]})
        with pytest.raises(ConfigurationError) as caught:
            load_policy(block, Flags(), base=tmp_path)
        message = str(caught.value)
        assert message.startswith("litellm_settings.permit_router.egress: 'langfuse'")
        assert "unknown classification 'publik'; did you mean 'public'?" in message

    def test_without_the_key_nothing_is_cleared(self, tmp_path):
        assert load_policy(BLOCK, Flags(), base=tmp_path).egress == {}


class TestPaths:
    ADMINISTRATIVE: ClassVar = {"method": "GET", "path": "/spend/logs", "kind": "administrative"}
    THROUGH: ClassVar = {"method": "POST", "path": "/openai/{endpoint}", "endpoint": "azure-eu-gpt4o"}

    def test_both_kinds_are_read(self, tmp_path):
        snapshot = load({**BLOCK, "paths": [self.ADMINISTRATIVE, self.THROUGH]}, tmp_path)
        assert dict(snapshot.paths) == {
            ("GET", "/spend/logs"): None,
            ("POST", "/openai/{endpoint}"): "azure-eu-gpt4o",
        }

    def test_nothing_is_opened_without_it(self, tmp_path):
        assert not load(BLOCK, tmp_path).paths

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            pytest.param({"kind": None}, "either `kind: administrative` or `endpoint`", id="neither"),
            pytest.param({"endpoint": "x"}, "either `kind: administrative` or `endpoint`", id="both"),
            pytest.param({"kind": "governed"}, "paths.0.kind", id="another-kind"),
            pytest.param({"method": "get"}, "paths.0.method", id="small-letters"),
            pytest.param({"method": "WEBSOCKET"}, "paths.0.method", id="websocket"),
            pytest.param({"path": "spend/logs"}, "paths.0.path", id="relative"),
            pytest.param({"path": "/openai/*"}, "paths.0.path", id="star"),
            pytest.param({"path": "/openai/{endpoint:path}"}, "paths.0.path", id="typed-parameter"),
            pytest.param({"path": "/spend/logs/"}, "paths.0.path", id="trailing-slash"),
            pytest.param({"path": "/spend/logs?a=b"}, "paths.0.path", id="query"),
            pytest.param({"endpiont": "x"}, "did you mean 'endpoint'?", id="misspelt"),
        ],
    )
    def test_another_form_is_refused(self, tmp_path, change, said):
        assert said in refusal({**BLOCK, "paths": [{**self.ADMINISTRATIVE, **change}]}, tmp_path)

    def test_a_path_is_opened_once(self, tmp_path):
        entries = [self.THROUGH, {**self.THROUGH, "endpoint": "other"}]
        assert "is listed twice" in refusal({**BLOCK, "paths": entries}, tmp_path)

    def test_a_pass_through_stands_for_a_known_endpoint(self, tmp_path):
        block = {**BLOCK, "paths": [{**self.THROUGH, "endpoint": "azure-eu-gpt4"}]}
        with pytest.raises(ConfigurationError, match="did you mean 'azure-eu-gpt4o'"):
            check_endpoints(load(block, tmp_path), ["azure-eu-gpt4o"])


class TestBudgets:
    FREE: ClassVar = {
        "per": "tenant",
        "where": 'permit.tenant_tier == "free"',
        "limit_usd": 50,
        "period": "month",
        "when_exceeded": "cheapest",
    }

    def budgets(self, tmp_path, *entries, **changes):
        block = {**BLOCK, "quality_tiers": ["small", "large"], "budgets": list(entries), **changes}
        return load(block, tmp_path).routing.budgets

    def test_all_of_it_is_read(self, tmp_path):
        (budget,) = self.budgets(tmp_path, {**self.FREE, "name": "free"})
        assert (budget.name, budget.per, budget.limit_usd, budget.period) == ("free", "tenant", 50.0, "month")
        assert (budget.where.source, budget.when_exceeded, budget.tier) == (
            self.FREE["where"],
            WhenExceeded.CHEAPEST,
            None,
        )

    def test_it_refuses_if_nothing_else_is_said(self, tmp_path):
        (budget,) = self.budgets(tmp_path, {"per": "provider", "limit_usd": 0.5, "period": "day"})
        assert (budget.when_exceeded, budget.where) == (WhenExceeded.REFUSE, None)

    def test_it_degrades_to_a_tier(self, tmp_path):
        (budget,) = self.budgets(tmp_path, {**self.FREE, "when_exceeded": {"tier": "small"}})
        assert (budget.when_exceeded, budget.tier) == (WhenExceeded.TIER, "small")

    def test_a_name_that_is_left_out_is_the_same_whatever_the_limit_and_the_place(self, tmp_path):
        week = {"per": "tenant", "limit_usd": 1, "period": "week"}
        names = [each.name for each in self.budgets(tmp_path, self.FREE, week)]
        again = [each.name for each in self.budgets(tmp_path, week, {**self.FREE, "limit_usd": 60})]
        assert names == again[::-1]
        assert names[1] == "tenant-week"
        assert names[0].startswith("tenant-month-")

    def test_two_budgets_do_not_share_a_name(self, tmp_path):
        entries = [self.FREE, {**self.FREE, "limit_usd": 60}]
        assert "is taken; give each a `name`" in refusal({**BLOCK, "budgets": entries}, tmp_path)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            pytest.param({"per": "user"}, "budgets.0.per", id="per-what-nobody-knows"),
            pytest.param({"period": "year"}, "budgets.0.period", id="another-period"),
            pytest.param({"limit_usd": 0}, "budgets.0.limit_usd", id="nothing"),
            pytest.param({"limit_usd": float("inf")}, "budgets.0.limit_usd", id="no-limit"),
            pytest.param({"limit_usd": "50"}, "budgets.0.limit_usd", id="text"),
            pytest.param(
                {"when_exceeded": "cheap"}, "`refuse`, `cheapest` or `{tier: NAME}`", id="another-way"
            ),
            pytest.param(
                {"when_exceeded": {"tiers": "small"}}, "`refuse`, `cheapest` or `{tier: NAME}`", id="tiers"
            ),
            pytest.param({"when_exceeded": {"tier": "smal"}}, "did you mean 'small'?", id="unknown-tier"),
            pytest.param({"per": "endpoint"}, "others serve", id="endpoint-with-when-exceeded"),
            pytest.param(
                {"where": 'permit.tenant_tier == "fre"'}, "did you mean 'free'?", id="undeclared-value"
            ),
            pytest.param({"where": "permit.sub == 'x'"}, "unknown name 'permit.sub'", id="identity"),
            pytest.param({"where": "request.input_tokens"}, "expected a boolean", id="no-condition"),
            pytest.param({"limit": 3}, "did you mean 'limit_usd'?", id="misspelt"),
            pytest.param({"name": "a b"}, "budgets.0.name", id="name"),
        ],
    )
    def test_another_form_is_refused(self, tmp_path, change, said):
        block = {**BLOCK, "quality_tiers": ["small"], "budgets": [{**self.FREE, **change}]}
        assert said in refusal(block, tmp_path)

    def test_what_a_budget_reads_is_known(self, tmp_path):
        block = {**BLOCK, "budgets": [{**self.FREE, "where": 'request.language == "de"'}]}
        assert load(block, tmp_path).routing.reads("request.language")
        assert not load(BLOCK, tmp_path).routing.reads("request.language")


class TestSharedStore:
    def test_the_prefix_of_keys_comes_from_the_environment(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PERMIT_ROUTER_REDIS_PREFIX", "router-a:")
        assert load_policy(BLOCK, Flags(), base=tmp_path).redis_prefix == "router-a:"

    @pytest.mark.parametrize("prefix", ["{a}:", "a b", "a" * 65, "ä"])
    def test_a_prefix_that_could_choose_a_slot_or_hide_is_refused(self, monkeypatch, prefix):
        monkeypatch.setenv("PERMIT_ROUTER_REDIS_PREFIX", prefix)
        with pytest.raises(ConfigurationError, match="PERMIT_ROUTER_REDIS_PREFIX"):
            Flags()


class TestProbing:
    def test_it_is_off_unless_the_block_says_so(self, tmp_path):
        assert load(changed("resilience", "attempts", to=2), tmp_path).probing is None

    def test_an_empty_block_switches_it_on(self, tmp_path):
        assert load(changed("resilience", "probing", to={}), tmp_path).probing == ProbingPolicy(
            every_s=60.0, requests_per_hour=60, max_tokens=16, timeout_s=30.0
        )
