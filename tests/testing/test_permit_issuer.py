from __future__ import annotations

import hashlib
import json
import uuid

import httpx
import jwt
import pytest

from litellm_plugin.testing import FakeClock, PermitIssuer, ServerThread

CLAIMS = {
    "iss",
    "aud",
    "iat",
    "exp",
    "jti",
    "request_id",
    "authorized_endpoints",
    "policy_version",
    "data_classification",
    "tenant",
    "tenant_tier",
    "latency_class",
}


def verified(issuer, permit, jwks=None):
    header = jwt.get_unverified_header(permit)
    keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(jwks or issuer.jwks()).keys}
    return jwt.decode(
        permit,
        keys[header["kid"]],
        algorithms=[issuer.algorithm],
        audience=issuer.audience,
        issuer=issuer.issuer,
    )


@pytest.fixture(params=["RS256", "ES256", "EdDSA"])
def issuer(request):
    return PermitIssuer(algorithm=request.param)


def test_minted_permit_verifies_against_the_jwks(issuer):
    permit = issuer.mint(["eu-1", "us-1"])
    claims = verified(issuer, permit)
    assert set(claims) == CLAIMS
    assert claims["authorized_endpoints"] == ["eu-1", "us-1"]
    assert claims["exp"] - claims["iat"] == 60
    assert jwt.get_unverified_header(permit) == {
        "alg": issuer.algorithm,
        "kid": issuer.kid,
        "typ": "permit+jwt",
    }


def test_jwk_is_public_and_for_signatures(issuer):
    (jwk,) = issuer.jwks()["keys"]
    assert (jwk["use"], jwk["alg"], jwk["kid"]) == ("sig", issuer.algorithm, issuer.kid)
    assert "d" not in jwk
    assert "key_ops" not in jwk


def test_ids_are_fresh_uuids():
    issuer = PermitIssuer(algorithm="EdDSA")
    first, second = (issuer.claims(authorized_endpoints=["a"]) for _ in range(2))
    assert len({first["jti"], first["request_id"], second["jti"], second["request_id"]}) == 4
    assert uuid.UUID(first["jti"]).version == 4


def test_body_binds_the_permit():
    issuer = PermitIssuer(algorithm="EdDSA")
    claims = verified(issuer, issuer.mint(["a"], body=b"{}"))
    assert claims["body_sha256"] == hashlib.sha256(b"{}").hexdigest()


def test_overrides_and_drops_make_broken_permits():
    issuer = PermitIssuer(algorithm="EdDSA")
    permit = issuer.mint(["a"], drop=["tenant", "exp"], authorized_endpoints="a", extra=1)
    claims = verified(issuer, permit)
    assert claims["authorized_endpoints"] == "a"
    assert claims["extra"] == 1
    assert not {"tenant", "exp"} & set(claims)


def test_header_fields_are_replaced_and_removed():
    issuer = PermitIssuer()
    permit = issuer.mint(["a"], headers={"alg": "none", "kid": None, "typ": "JWT"})
    assert jwt.get_unverified_header(permit) == {"alg": "none", "typ": "JWT"}


def test_header_alg_does_not_change_the_signature():
    issuer = PermitIssuer()
    permit = issuer.mint(["a"], headers={"alg": "HS256"})
    signing_input, signature = permit.rsplit(".", 1)
    algorithm = jwt.get_algorithm_by_name("RS256")
    raw = jwt.utils.base64url_decode(signature)
    assert algorithm.verify(signing_input.encode(), issuer.private_key.public_key(), raw)


def test_clock_can_be_given():
    clock = FakeClock(wall_s=1_000.9)
    claims = PermitIssuer(algorithm="EdDSA", now=clock.wall).claims(authorized_endpoints=[])
    assert (claims["iat"], claims["exp"]) == (1_000, 1_060)


def test_rotation_keeps_the_old_key_published():
    issuer = PermitIssuer(algorithm="ES256")
    old = issuer.mint(["a"])
    old_kid = issuer.kid
    assert issuer.rotate() == issuer.kid != old_kid
    assert verified(issuer, old)
    assert verified(issuer, issuer.mint(["a"]))


def test_rotation_can_drop_the_old_key():
    issuer = PermitIssuer(algorithm="ES256")
    old_kid = issuer.kid
    issuer.rotate(drop_old=True)
    assert [key["kid"] for key in issuer.jwks()["keys"]] == [issuer.kid] != [old_kid]


def test_app_serves_the_jwks_and_counts_fetches():
    issuer = PermitIssuer(algorithm="EdDSA")
    servers = ServerThread()
    url = servers.add(issuer.app)
    with servers:
        answer = httpx.get(f"{url}/.well-known/jwks.json", trust_env=False)
    assert answer.json() == issuer.jwks()
    assert issuer.fetches == 1


def test_jwks_file_is_written_in_one_step(tmp_path):
    issuer = PermitIssuer(algorithm="EdDSA")
    path = tmp_path / "jwks.json"
    issuer.write_jwks(path)
    assert json.loads(path.read_text()) == issuer.jwks()
    assert list(tmp_path.iterdir()) == [path]
