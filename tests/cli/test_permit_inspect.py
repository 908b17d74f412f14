from __future__ import annotations

import json

import jwt
import pytest
import yaml
from typer.testing import CliRunner

from litellm_plugin.cli import app
from litellm_plugin.testing import PermitIssuer

ISSUER = "https://policy.example.com"
BODY = b'{"model": "chat"}\r\n'
# Permits that are made here are judged as of this moment, however long the tests before these take.
NOW = 1_700_000_000
RSA = PermitIssuer(ISSUER, now=lambda: NOW)
GATEWAY = PermitIssuer(ISSUER, algorithm="ES256", now=lambda: NOW)


def block(**permit):
    issuer = {"issuer": ISSUER, "jwks_file": "jwks.json", "algorithms": ["ES256"]}
    return {
        "permit": {"audience": "llm-router", "binding": "body", "issuers": [issuer], **permit},
        "classifications": {"internal": {}, "public": {}},
        "latency_classes": {"interactive": {}},
        "tenant_tiers": ["free", "pro"],
        "default": {"strategy": "cost"},
    }


def issuer_block(**changes):
    issuer = {"issuer": ISSUER, "jwks_file": "jwks.json", "algorithms": ["ES256"], **changes}
    return {"issuers": [{name: value for name, value in issuer.items() if value is not None}]}


def token(**changes):
    return GATEWAY.mint(["a", "b"], body=BODY, **changes)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    GATEWAY.write_jwks("jwks.json")
    (tmp_path / "body").write_bytes(BODY)
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(block()))
    return tmp_path


@pytest.fixture
def inspect(folder):
    def inspect(text, *arguments):
        as_of = () if "--at" in arguments else ("--at", str(NOW))
        told = CliRunner().invoke(app, ["permit", "inspect", *arguments, *as_of], input=text)
        assert told.exception is None or isinstance(told.exception, SystemExit)
        # Whatever comes: neither the token nor its signature is in it.
        for part in (text, text.rpartition(".")[2]):
            assert len(part) < 20 or part not in told.output
        return told

    return inspect


@pytest.fixture
def judge(inspect, folder):
    """Inspects with the body and a policy whose `permit` has these changes."""

    def judge(text, *arguments, **permit):
        (folder / "policy.yaml").write_text(yaml.safe_dump(block(**permit)))
        return inspect(text, "--policy", "policy.yaml", "--body", "body", *arguments)

    return judge


def tampered(text):
    head, payload, signature = text.split(".")
    return f"{head}.{payload}.{signature[::-1][2:]}AA"


FAILING = [
    pytest.param(
        token(iss="https://other"),
        {},
        "issuer",
        "iss_mismatch",
        f'iss "{ISSUER}"',
        '"https://other"',
        id="iss",
    ),
    pytest.param(
        GATEWAY.mint(["a"], drop=["iss"]),
        {},
        "issuer",
        "claim_missing",
        "the issuer as text",
        "absent",
        id="no-iss",
    ),
    pytest.param(
        token(headers={"typ": "JWT"}),
        {},
        "typ",
        "typ_not_allowed",
        "one of the exact values permit+jwt",
        '"JWT"',
        id="typ",
    ),
    pytest.param(
        RSA.mint(["a"]),
        {},
        "algorithm",
        "alg_not_allowed",
        "one of the algorithms ES256",
        '"RS256"',
        id="alg",
    ),
    pytest.param(
        token(headers={"kid": "other"}), {}, "key", "key_unknown", f'kid "{GATEWAY.kid}"', '"other"', id="kid"
    ),
    pytest.param(
        tampered(token()),
        {},
        "signature",
        "signature_invalid",
        "the issuer's key",
        GATEWAY.kid,
        id="signature",
    ),
    pytest.param(
        token(aud="else"), {}, "claims", "aud_mismatch", "'llm-router', as text", '"else"', id="aud"
    ),
    pytest.param(
        token(iat=NOW - 100, exp=NOW - 60), {}, "claims", "expired", "5 s of leeway", "ago", id="expired"
    ),
    pytest.param(
        token(iat=NOW + 600, exp=NOW + 660),
        {},
        "claims",
        "not_yet_valid",
        "`iat` at most 5 s",
        "in ",
        id="early",
    ),
    pytest.param(
        token(iat=NOW, exp=NOW + 3600),
        {},
        "claims",
        "claim_invalid",
        "at most 300 s",
        "3600 s",
        id="lifetime",
    ),
    pytest.param(
        token(exp="soon"), {}, "claims", "claim_invalid", "a JSON integer of seconds", '"soon"', id="exp-text"
    ),
    pytest.param(
        token(nbf=NOW - 999),
        {},
        "claims",
        "claim_invalid",
        "`nbf` at `iat` or later",
        str(NOW - 999),
        id="nbf",
    ),
    pytest.param(
        token(data_classification="secret"),
        {},
        "claims",
        "claim_invalid",
        "one of the declared data classifications: internal, public",
        '"secret"',
        id="classification",
    ),
    pytest.param(
        token(tenant_tier="gold"),
        {},
        "claims",
        "claim_invalid",
        "tenant tiers: free, pro",
        '"gold"',
        id="tier",
    ),
    pytest.param(
        token(latency_class="slow"),
        {},
        "claims",
        "claim_invalid",
        "latency classes: interactive",
        '"slow"',
        id="latency",
    ),
    pytest.param(
        token(authorized_endpoints=["a", "a"]),
        {},
        "claims",
        "endpoints_invalid",
        "1 to 64 endpoint names without repetition",
        '["a", "a"]',
        id="endpoints",
    ),
    pytest.param(token(tenant=None), {}, "claims", "claim_missing", "an id of 1 to 128", "absent", id="null"),
    pytest.param(
        token(limit=3), {}, "claims", "claim_invalid", "only claims that are known", '"limit"', id="unknown"
    ),
    pytest.param(
        token(max_cost_usd=-1), {}, "claims", "claim_invalid", "a JSON number above 0", "-1", id="max-cost"
    ),
    pytest.param(
        token(),
        {"minimum_policy_version": "43"},
        "claims",
        "policy_stale",
        "43 or later",
        '"42"',
        id="stale",
    ),
    pytest.param(
        token(),
        {"accepted_policy_versions": ["1"]},
        "claims",
        "policy_stale",
        "accepted policy versions: 1",
        '"42"',
        id="accepted",
    ),
    pytest.param(
        token(),
        {"revoked": {"policy_versions": ["42"]}},
        "claims",
        "policy_stale",
        "a policy version that is not revoked",
        '"42"',
        id="revoked-policy",
    ),
    pytest.param(
        token(jti="j"),
        {"revoked": {"jti": ["j"]}},
        "claims",
        "revoked",
        "a permit that is not revoked",
        '"j"',
        id="revoked-jti",
    ),
    pytest.param(
        token(),
        {"revoked": {"kid": [GATEWAY.kid]}},
        "claims",
        "revoked",
        "a key that is not revoked",
        f'"{GATEWAY.kid}"',
        id="revoked-kid",
    ),
    pytest.param(
        token(body_sha256="0" * 64),
        {},
        "body",
        "binding_mismatch",
        "byte for byte",
        f"{len(BODY)} bytes",
        id="body",
    ),
    pytest.param(
        GATEWAY.mint(["a"]),
        {},
        "body",
        "binding_mismatch",
        "since `binding` is `body`",
        "absent",
        id="unbound",
    ),
    pytest.param(
        token(strange=1),
        issuer_block(claims={"tenant": "who.tenant"}),
        "claims",
        "claim_invalid",
        "ignore_claims",
        '"strange"',
        id="layout",
    ),
]


@pytest.mark.parametrize(("text", "permit", "check", "reason", "expected", "found"), FAILING)
def test_the_failing_check_is_named(judge, text, permit, check, reason, expected, found):  # noqa: PLR0917
    told = judge(text, **permit)
    lines = told.stdout.splitlines()
    assert told.exit_code == 1
    assert [line.split()[1].rstrip(":") for line in lines if line.startswith("  FAILED")] == [check]
    verdict, expectation, finding = lines[-3:]
    assert verdict.startswith(f"NOT VALID: {reason}")
    assert expected in expectation
    assert found in finding


def test_what_comes_after_the_failing_check_is_not_called_good(judge):
    told = judge(token(headers={"typ": "JWT"}))
    states = [line.split()[0] for line in told.stdout.splitlines() if line.startswith(("  ok", "  not"))]
    assert states == ["ok", "ok", "not", "not", "not", "not", "not"]


def test_a_valid_permit_would_be_admitted(judge):
    told = judge(token())
    assert (told.exit_code, told.stdout.splitlines()[-1]) == (0, "VALID: the router would admit it.")


def test_what_only_the_request_tells_is_listed(inspect, folder):
    (folder / "policy.yaml").write_text(yaml.safe_dump(block(binding="single_use", tenant_is_team=True)))
    told = inspect(token(models=["chat"]), "--policy", "policy.yaml")
    assert told.exit_code == 0
    assert told.stdout.endswith("VALID: the router would admit it with the body that it is bound to.\n")
    for part in ("single_use", "tenant_is_team", "models"):
        assert part in told.stdout.splitlines()[-3]


def test_a_permit_that_is_bound_to_no_body_says_so(inspect, folder):
    (folder / "policy.yaml").write_text(yaml.safe_dump(block(binding="none")))
    told = inspect(GATEWAY.mint(["a"]), "--policy", "policy.yaml")
    assert [line.split("  ")[1] for line in told.stdout.splitlines() if "body: " in line] == ["not bound"]


def test_times_are_told_in_words(inspect):
    told = inspect(token(iat=1_800_000_000, exp=1_800_000_060), "--at", "2027-01-15T08:00:10Z")
    assert "1800000000  (2027-01-15 08:00:00 UTC, 10 s ago)" in told.stdout
    assert "1800000060  (2027-01-15 08:01:00 UTC, in 50 s)" in told.stdout


@pytest.mark.parametrize("at", ["1800000010", "2027-01-15T08:00:10Z", "2027-01-15T09:00:10+01:00"])
def test_a_permit_is_judged_as_of_another_time(judge, at):
    text = token(iat=1_800_000_000, exp=1_800_000_060)
    assert judge(text).exit_code == 1
    assert judge(text, "--at", at).exit_code == 0


@pytest.mark.parametrize("at", ["soon", "2027-01-15T08:00:10", "9" * 40])
def test_a_time_that_is_none_is_refused(judge, at):
    told = judge(token(), "--at", at)
    assert (told.exit_code, "ISO 8601 with an offset" in told.stderr) == (2, True)


def test_control_characters_do_not_reach_the_terminal(inspect):
    told = inspect(GATEWAY.mint(["a"], sub="\x1b[2J", **{"\x1b]0;x": 1}))
    assert "\x1b" not in told.stdout


@pytest.mark.parametrize(
    ("text", "part"),
    [
        pytest.param("", "one is expected on standard input", id="empty"),
        pytest.param("no token", "three base64url segments", id="words"),
        pytest.param("A" * 200_000, "at most 16384 characters", id="long"),
        pytest.param(token(headers={"jku": "https://x"}), "more than alg, kid and typ", id="jku"),
        pytest.param(jwt.PyJWS().encode(b"[1]", GATEWAY.private_key, "ES256"), "not an object", id="list"),
        pytest.param(jwt.PyJWS().encode(b"{", GATEWAY.private_key, "ES256"), "not JSON", id="no-json"),
    ],
)
def test_what_is_no_token_cannot_be_read(inspect, text, part):
    told = inspect(text, "--policy", "policy.yaml")
    assert (told.exit_code, told.stdout) == (2, "")
    assert part in told.stderr


def test_the_token_may_be_an_argument(folder):
    told = CliRunner().invoke(
        app, ["permit", "inspect", token(), "--policy", "policy.yaml", "--at", str(NOW)]
    )
    assert told.exit_code == 0


def test_the_body_may_come_from_standard_input(folder):
    command = ["permit", "inspect", token(), "--policy", "policy.yaml", "--body", "-", "--at", str(NOW)]
    assert CliRunner().invoke(app, command, input=BODY).exit_code == 0
    assert CliRunner().invoke(app, command, input=b"else").exit_code == 1


class TestWithoutKeys:
    @pytest.fixture
    def policy(self, folder):
        (folder / "policy.yaml").write_text(
            yaml.safe_dump(block(**issuer_block(jwks_file=None, jwks_url="https://policy.example.com/keys")))
        )
        return "policy.yaml"

    def test_the_checks_that_were_not_made_are_named(self, inspect, policy):
        told = inspect(token(), "--policy", policy)
        assert told.exit_code == 3
        assert told.stdout.count("  not checked  ") == 3
        assert "behind a URL, which is not asked; --jwks FILE gives them" in told.stdout
        assert "VALID" not in told.stdout

    def test_the_claims_are_judged_nevertheless(self, inspect, policy):
        told = inspect(token(aud="else"), "--policy", policy)
        assert (told.exit_code, "NOT VALID: aud_mismatch" in told.stdout) == (1, True)
        assert "The key and the signature were not checked" in told.stdout

    def test_the_algorithm_is_judged_nevertheless(self, inspect, policy):
        told = inspect(RSA.mint(["a"]), "--policy", policy)
        assert (told.exit_code, "NOT VALID: alg_not_allowed" in told.stdout) == (1, True)

    def test_a_key_set_on_the_command_line_takes_their_place(self, inspect, policy):
        assert inspect(token(), "--policy", policy, "--jwks", "jwks.json").exit_code == 0
        assert inspect(tampered(token()), "--policy", policy, "--jwks", "jwks.json").exit_code == 1

    def test_a_missing_key_file_leaves_the_signature_open(self, inspect, folder):
        (folder / "jwks.json").unlink()
        told = inspect(token(), "--policy", "policy.yaml")
        assert (told.exit_code, "its keys cannot be loaded: jwks.json" in told.stdout) == (3, True)

    def test_a_secret_that_is_not_set_leaves_the_signature_open(self, inspect, folder):
        secret = issuer_block(jwks_file=None, secret_env="NOT_SET_HERE", kid="k", algorithms=["HS256"])
        (folder / "policy.yaml").write_text(yaml.safe_dump(block(**secret)))
        told = inspect(token(headers={"alg": "HS256"}), "--policy", "policy.yaml")
        assert (told.exit_code, "is not set" in told.stdout) == (3, True)


class TestWithoutPolicy:
    def test_it_says_that_nothing_was_judged(self, inspect):
        told = inspect(token(iat=1, exp=2))
        assert (told.exit_code, "Nothing but the form was checked" in told.stdout) == (0, True)

    def test_a_signature_can_be_checked_alone(self, inspect):
        assert "The signature is valid" in inspect(token(), "--jwks", "jwks.json").stdout
        told = inspect(tampered(token()), "--jwks", "jwks.json")
        assert (told.exit_code, "NOT VALID: signature_invalid" in told.stdout) == (1, True)

    def test_a_key_that_is_not_in_the_set_is_named(self, inspect):
        told = inspect(token(headers={"kid": "other"}), "--jwks", "jwks.json")
        assert f'kid "{GATEWAY.kid}"' in told.stdout

    def test_a_body_needs_a_policy(self, inspect):
        told = inspect(token(), "--body", "body")
        assert (told.exit_code, "--config or --policy" in told.stderr) == (2, True)

    def test_a_key_set_that_is_none_is_refused(self, inspect):
        told = inspect(token(), "--jwks", "body")
        assert (told.exit_code, "a JSON Web Key Set with a public key" in told.stderr) == (2, True)


class TestConfiguration:
    @pytest.fixture
    def config(self, folder):
        def config(settings):
            (folder / "litellm.yaml").write_text(json.dumps({"litellm_settings": settings}))
            return "litellm.yaml"

        return config

    def test_the_environment_is_put_in_place(self, inspect, config, monkeypatch):
        monkeypatch.setenv("THE_KEYS", "jwks.json")
        policy = block(**issuer_block(jwks_file="os.environ/THE_KEYS"))
        assert inspect(token(), "--config", config({"permit_router": policy})).exit_code == 0

    def test_an_unset_variable_is_named_with_its_place(self, inspect, config, monkeypatch):
        monkeypatch.delenv("THE_KEYS", raising=False)
        policy = block(**issuer_block(jwks_file="os.environ/THE_KEYS"))
        told = inspect(token(), "--config", config({"permit_router": policy}))
        assert told.exit_code == 2
        assert "permit_router.permit.issuers.0.jwks_file: the environment variable 'THE_KEYS'" in told.stderr

    def test_the_block_may_be_a_file(self, inspect, config):
        assert inspect(token(), "--config", config({"permit_router": "policy.yaml"})).exit_code == 0

    @pytest.mark.parametrize(
        ("settings", "part"),
        [
            pytest.param(None, "litellm_settings: a mapping is expected", id="no-settings"),
            pytest.param({}, "permit_router is missing", id="no-block"),
            pytest.param({"permit_router": {"permitt": {}}}, "did you mean 'permit'", id="typo"),
        ],
    )
    def test_a_wrong_configuration_is_explained(self, inspect, config, settings, part):
        told = inspect(token(), "--config", config(settings))
        assert (told.exit_code, part in told.stderr) == (2, True)

    @pytest.mark.parametrize("option", ["--config", "--policy", "--jwks"])
    def test_a_missing_file_is_named(self, inspect, option):
        told = inspect(token(), option, "none.yaml")
        assert (told.exit_code, "none.yaml" in told.stderr) == (2, True)

    def test_a_configuration_and_a_policy_exclude_each_other(self, inspect, config):
        told = inspect(token(), "--config", config({}), "--policy", "policy.yaml")
        assert (told.exit_code, "one of them is expected" in told.stderr) == (2, True)

    def test_a_token_and_a_body_cannot_both_be_standard_input(self, inspect):
        told = inspect(token(), "--policy", "policy.yaml", "--body", "-")
        assert (told.exit_code, "standard input holds the token" in told.stderr) == (2, True)


class TestModelList:
    @pytest.fixture
    def of(self, inspect, folder):
        """Inspects with a configuration that has these deployments."""

        def of(text, infos):
            models = [{"model_name": "chat", "model_info": info} for info in infos]
            config = {"model_list": models, "litellm_settings": {"permit_router": block()}}
            (folder / "config.yaml").write_text(yaml.safe_dump(config))
            told = inspect(text, "--config", "config.yaml", "--body", "body")
            assert told.exit_code == 0
            return told.output

        return of

    def test_an_endpoint_that_no_deployment_has_is_named(self, of):
        output = of(token(), [{"id": "a-1", "endpoint": "a"}, {"id": "c"}])
        assert "No deployment of the configuration has b; known: a, c." in output
        assert "403" not in output

    def test_a_set_that_nobody_has_is_said_to_serve_nothing(self, of):
        output = of(token(), [{"id": "c"}, None])
        assert "No deployment of the configuration has a, b; known: c." in output
        assert "every request under it gets 403 not_authorized" in output

    def test_of_known_endpoints_nothing_is_said(self, of):
        assert "No deployment" not in of(token(), [{"id": "a"}, {"id": "b"}])

    def test_a_configuration_without_a_list_tells_nothing_of_endpoints(self, inspect, folder):
        config = {"litellm_settings": {"permit_router": block()}}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        assert "No deployment" not in inspect(token(), "--config", "config.yaml", "--body", "body").output
