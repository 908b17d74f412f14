from __future__ import annotations

import base64
import hashlib
import json
import stat

import jwt
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from typer.testing import CliRunner

from litellm_plugin.cli import app
from litellm_plugin.cli.permit.key_pair import KeyAlgorithm, public_jwk
from litellm_plugin.permit import SUPPORTED_ALGORITHMS

ISSUER = "https://policy.example.com"
AUDIENCE = "llm-router"
BODY = b'{"model": "chat"}\r\n'


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    return lambda *arguments, **options: CliRunner().invoke(app, ["permit", *arguments], **options)


@pytest.fixture
def mint(run):
    def mint(*arguments, key="keys/private.pem", **options):
        named = ["--issuer", ISSUER, "--audience", AUDIENCE, "--endpoint", "a", "--endpoint", "b"]
        return run("mint", "--key", key, *named, *arguments, **options)

    return mint


def policy(algorithm="ES256", /, **permit):
    issuer = {"issuer": ISSUER, "jwks_file": "keys/jwks.json", "algorithms": [algorithm]}
    return {
        "permit": {"audience": AUDIENCE, "binding": "body", "issuers": [issuer], **permit},
        "classifications": {"internal": {}, "public": {}},
        "latency_classes": {"interactive": {}},
        "tenant_tiers": ["pro"],
        "default": {"strategy": "cost"},
    }


def payload_of(token):
    return jwt.decode(token, options={"verify_signature": False})


def pem(private, encryption=None):
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_permit_of_a_new_key_is_admitted(run, mint, tmp_path, algorithm):
    assert run("keys", "--algorithm", algorithm, "--out", "keys").exit_code == 0
    (tmp_path / "body.json").write_bytes(BODY)
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy(algorithm)))
    token = mint("--body", "body.json").stdout
    told = run("inspect", "--policy", "policy.yaml", "--body", "body.json", input=token)
    assert (told.exit_code, told.stdout.splitlines()[-1]) == (0, "VALID: the router would admit it.")


@pytest.mark.parametrize("algorithm", sorted(SUPPORTED_ALGORITHMS))
def test_a_key_of_every_algorithm_signs_what_it_is_for(run, mint, algorithm):
    run("keys", "--algorithm", algorithm, "--out", "keys")
    told = run("inspect", "--jwks", "keys/jwks.json", input=mint().stdout)
    assert (told.exit_code, "The signature is valid" in told.stdout) == (0, True)
    assert f'alg  "{algorithm}"' in told.stdout


def test_every_supported_algorithm_can_be_asked_for():
    assert {algorithm.value for algorithm in KeyAlgorithm} == SUPPORTED_ALGORITHMS


class TestKeys:
    def test_only_the_owner_may_read_the_private_key(self, run, tmp_path):
        run("keys", "--algorithm", "ES256", "--out", "keys")
        assert stat.S_IMODE((tmp_path / "keys/private.pem").stat().st_mode) == 0o600

    def test_the_key_set_has_no_private_half(self, run, tmp_path):
        run("keys", "--algorithm", "ES256", "--out", "keys", "--kid", "2026-01")
        (key,) = json.loads((tmp_path / "keys/jwks.json").read_bytes())["keys"]
        assert key.keys() == {"kty", "crv", "x", "y", "kid", "alg", "use"}
        assert key["kid"] == "2026-01"

    def test_the_printed_yaml_is_a_valid_issuer(self, run, mint, tmp_path):
        printed = yaml.safe_load(run("keys", "--algorithm", "ES256", "--out", "keys").stdout)
        (tmp_path / "body").write_bytes(BODY)
        block = policy() | {"permit": {"audience": AUDIENCE, "binding": "body"}}
        block["permit"] |= printed["litellm_settings"]["permit_router"]["permit"]
        (tmp_path / "litellm.yaml").write_text(yaml.safe_dump({"litellm_settings": {"permit_router": block}}))
        told = run("inspect", "--config", "litellm.yaml", input=mint("--body", "body").stdout)
        assert told.exit_code == 0

    def test_the_private_key_is_not_printed(self, run, tmp_path):
        told = run("keys", "--algorithm", "ES256", "--out", "keys")
        lines = (tmp_path / "keys/private.pem").read_text().splitlines()
        assert not any(line in told.output for line in lines)

    @pytest.mark.parametrize("name", ["private.pem", "jwks.json"])
    def test_an_existing_file_is_not_overwritten(self, run, tmp_path, name):
        (tmp_path / "keys").mkdir()
        (tmp_path / "keys" / name).write_text("mine")
        told = run("keys", "--algorithm", "ES256", "--out", "keys")
        assert (told.exit_code, "not overwritten" in told.stderr) == (2, True)
        assert [path.read_text() for path in (tmp_path / "keys").iterdir()] == ["mine"]

    def test_a_dangling_link_is_not_followed(self, run, tmp_path):
        (tmp_path / "keys").mkdir()
        (tmp_path / "keys/private.pem").symlink_to(tmp_path / "elsewhere")
        assert run("keys", "--algorithm", "ES256", "--out", "keys").exit_code == 2
        assert not (tmp_path / "elsewhere").exists()

    def test_a_kid_that_no_permit_can_name_is_refused(self, run, tmp_path):
        told = run("keys", "--algorithm", "ES256", "--out", "keys", "--kid", "a b")
        assert (told.exit_code, "A-Za-z0-9._-" in told.stderr) == (2, True)
        assert not (tmp_path / "keys").exists()

    def test_the_usual_kid_is_the_thumbprint(self):
        # RFC 8037, appendices A.1 and A.3
        d = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
        private = ed25519.Ed25519PrivateKey.from_private_bytes(base64.urlsafe_b64decode(d + "="))
        assert public_jwk(private, "EdDSA")["kid"] == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


class TestMint:
    @pytest.fixture(autouse=True)
    def _keys(self, run):
        run("keys", "--algorithm", "ES256", "--out", "keys", "--kid", "2026-01")

    def test_the_token_stands_alone_on_standard_output(self, mint):
        told = mint()
        assert told.stdout.count("\n") == 1
        assert jwt.get_unverified_header(told.stdout.strip()) == {
            "alg": "ES256",
            "kid": "2026-01",
            "typ": "permit+jwt",
        }

    def test_it_says_that_it_is_for_development(self, mint):
        told = mint()
        assert "DEVELOPMENT" in told.stderr
        assert told.stdout.strip() not in told.stderr

    def test_it_holds_what_was_asked_for(self, mint):
        options = {
            "tenant": "globex",
            "tier": "free",
            "classification": "phi",
            "latency-class": "batch",
            "policy-version": "7",
            "request-id": "req-1",
            "expires-in": "90",
        }
        token = mint(*(word for name, value in options.items() for word in (f"--{name}", value))).stdout
        claims = payload_of(token.strip())
        assert claims["exp"] - claims["iat"] == 90
        assert claims["authorized_endpoints"] == ["a", "b"]
        names = (
            "tenant",
            "tenant_tier",
            "data_classification",
            "latency_class",
            "policy_version",
            "request_id",
        )
        assert [claims[name] for name in names] == ["globex", "free", "phi", "batch", "7", "req-1"]

    def test_further_claims_are_json(self, mint):
        told = mint("--claim", "max_cost_usd=0.25", "--claim", 'models=["chat"]', "--claim", 'sub="a=b"')
        claims = payload_of(told.stdout.strip())
        assert (claims["max_cost_usd"], claims["models"], claims["sub"]) == (0.25, ["chat"], "a=b")

    @pytest.mark.parametrize("text", ["models", "=1", "sub=alice", "n=NaN"])
    def test_a_claim_that_is_no_json_is_named(self, mint, text):
        told = mint("--claim", text)
        assert (told.exit_code, told.stdout) == (2, "")
        assert f"--claim {text!r}" in told.stderr
        assert "name=json is expected" in told.stderr

    def test_the_body_is_bound_by_its_exact_bytes(self, mint, tmp_path):
        (tmp_path / "body").write_bytes(BODY)
        token = mint("--body", "body").stdout.strip()
        assert payload_of(token)["body_sha256"] == hashlib.sha256(BODY).hexdigest()

    def test_the_body_may_come_from_standard_input(self, mint):
        token = mint("--body", "-", input=BODY).stdout.strip()
        assert payload_of(token)["body_sha256"] == hashlib.sha256(BODY).hexdigest()

    def test_a_missing_body_is_named(self, mint):
        told = mint("--body", "none.json")
        assert (told.exit_code, "the body 'none.json' cannot be read" in told.stderr) == (2, True)

    def test_a_key_of_unknown_id_asks_for_one(self, mint, tmp_path):
        (tmp_path / "keys/jwks.json").unlink()
        assert "--kid is expected" in mint().stderr
        assert jwt.get_unverified_header(mint("--kid", "k").stdout.strip())["kid"] == "k"

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            pytest.param(b"no key", "PEM form without a password", id="no-pem"),
            pytest.param(
                pem(ec.generate_private_key(ec.SECP256R1()), BestAvailableEncryption(b"x")),
                "PEM form without a password",
                id="encrypted",
            ),
            pytest.param(pem(ec.generate_private_key(ec.SECP256K1())), "secp256r1", id="curve"),
            pytest.param(
                pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)),  # noqa: S505
                "2048",
                id="weak",
            ),
        ],
    )
    def test_a_wrong_key_is_refused(self, mint, tmp_path, data, expected):
        (tmp_path / "other.pem").write_bytes(data)
        told = mint("--kid", "k", key="other.pem")
        assert (told.exit_code, expected in told.stderr) == (2, True)

    def test_an_algorithm_that_does_not_fit_the_key_is_refused(self, mint):
        told = mint("--algorithm", "RS256")
        assert (told.exit_code, told.stderr) == (2, "error: the key does not fit the algorithms\n")
