import dataclasses
import json

import pytest
from permit_signing import AUDIENCE, BODY_SHA256, ISSUER, NOW, POLICY, as_bytes, claims

from litellm_plugin.errors import ConfigurationError, PermitRejected, Reason
from litellm_plugin.permit import ClaimPolicy
from litellm_plugin.permit.claims import parse_claims, read_issuer

REQUIRED = [name for name in claims() if name not in {"nbf", "sub", "body_sha256"}]
BAD_SECONDS = ["1800000060", 1800000060.0, 1e300, True, [], -1, 10**18, 10**400, "٣"]


def parse(payload, policy=POLICY, now=NOW):
    return parse_claims(
        as_bytes(payload), kid="ec-1", issuer=ISSUER, audience=AUDIENCE, policy=policy, now=now
    )


def rejection(payload, policy=POLICY, now=NOW):
    with pytest.raises(PermitRejected) as caught:
        parse(payload, policy, now)
    return caught.value.reason, caught.value.detail


def policy(**changes):
    return dataclasses.replace(POLICY, **changes)


def test_minimal_permit_is_accepted():  # A01
    permit = parse(claims())

    assert permit.endpoints == ("azure-eu-gpt4o", "local-llama")
    assert (permit.issuer, permit.jti, permit.kid) == (ISSUER, "permit-1", "ec-1")
    assert (permit.issued_at, permit.not_before, permit.expires_at) == (NOW, None, NOW + 60)
    assert (permit.subject, permit.body_sha256) == (None, None)


def test_optional_claims_are_read():
    permit = parse(claims(nbf=NOW, sub="jörg@example.com", body_sha256=BODY_SHA256))

    assert (permit.not_before, permit.subject, permit.body_sha256) == (NOW, "jörg@example.com", BODY_SHA256)


def test_scope_carries_the_authorization_and_no_identity():
    scope = parse(claims(sub="somebody")).scope(frozenset({"baa"}))

    assert scope.endpoints == {"azure-eu-gpt4o", "local-llama"}
    assert scope.requirements == {"baa"}
    assert "somebody" not in repr(scope)


def test_jti_hash_tells_issuers_apart():
    permit = parse(claims())

    assert len(permit.jti_hash) == 16
    assert permit.jti_hash != dataclasses.replace(permit, issuer="https://other.example").jti_hash


def test_permit_lives_until_its_expiry_and_the_leeway():
    permit = parse(claims())

    assert permit.is_alive(NOW + 64.9, leeway_s=5)
    assert not permit.is_alive(NOW + 65, leeway_s=5)


@pytest.mark.parametrize(
    ("members", "now"),
    [
        pytest.param({"authorized_endpoints": ["one"]}, NOW, id="A02-one-endpoint"),
        pytest.param({"authorized_endpoints": [f"e{n}" for n in range(64)]}, NOW, id="A02-64-endpoints"),
        pytest.param({"exp": NOW + 1}, NOW, id="A03-expires-in-a-second"),
        pytest.param({}, NOW + 60 + 4, id="A03-expired-within-leeway"),
        pytest.param({"nbf": NOW + 4}, NOW, id="A03-nbf-within-leeway"),
        pytest.param({"iat": NOW + 4, "exp": NOW + 60}, NOW, id="A16-iat-within-leeway"),
        pytest.param({"nbf": NOW + 5}, NOW, id="A03-nbf-at-the-leeway"),
        pytest.param({"iat": NOW + 5, "exp": NOW + 60}, NOW, id="A16-iat-at-the-leeway"),
        pytest.param({"nbf": NOW}, NOW - 2.5, id="A16-clock-behind"),
        pytest.param({"iat": NOW - 60, "exp": NOW}, NOW + 2.5, id="A16-clock-ahead"),
        pytest.param({"sub": "J\u00f6rg M\u00fcller \u2013 \u674e"}, NOW, id="A10-non-ascii-subject"),
        pytest.param({"aud": [AUDIENCE]}, NOW, id="A04-aud-as-list-of-one"),
        pytest.param({"jti": "j" * 128, "sub": "s" * 255}, NOW, id="A08-longest-ids"),
        pytest.param({"exp": NOW + 300}, NOW, id="R53-longest-lifetime-is-accepted"),
    ],
)
def test_permit_at_a_limit_is_accepted(members, now):
    parse(claims(**members), now=now)


def test_the_order_of_claims_and_endpoints_is_irrelevant():  # A02
    turned = dict(reversed(claims(authorized_endpoints=["local-llama", "azure-eu-gpt4o"]).items()))

    assert parse(turned).scope(frozenset()) == parse(claims()).scope(frozenset())


def test_an_empty_object_misses_its_claims():  # R48
    assert rejection({})[0] is Reason.CLAIM_MISSING


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="R48-empty"),
        pytest.param(b"null", id="R48-null"),
        pytest.param(b"[]", id="R48-array"),
        pytest.param(b'"text"', id="R48-text"),
        pytest.param(
            as_bytes(claims())[:-1] + b', "authorized_endpoints": ["evil"]}', id="R48-endpoints-twice"
        ),
        pytest.param(as_bytes(claims()).replace(b"42", b'", "x": NaN, "y": "'), id="R48-nan"),
        pytest.param(as_bytes(claims(exp=...))[:-1] + b', "exp": 1e400}', id="R48-exp-overflow"),
        pytest.param(json.dumps(claims()).encode("utf-16"), id="R48-utf-16"),
    ],
)
def test_payload_that_is_not_a_strict_object_is_malformed(payload):
    assert rejection(payload)[0] is Reason.PERMIT_MALFORMED


@pytest.mark.parametrize("value", [pytest.param(..., id="absent"), pytest.param(None, id="null")])
@pytest.mark.parametrize("name", [pytest.param(name, id=f"R49-{name}") for name in REQUIRED])
def test_required_claim_is_missing(name, value):
    assert rejection(claims(**{name: value})) == (Reason.CLAIM_MISSING, name)


ID_CLAIMS = [
    "jti",
    "request_id",
    "policy_version",
    "data_classification",
    "tenant",
    "tenant_tier",
    "latency_class",
]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="R49-empty"),
        pytest.param("x" * 129, id="R57-too-long"),
        pytest.param(7, id="R57-int"),
        pytest.param(["a"], id="R57-list"),
        pytest.param("a\n", id="R57-newline"),
        pytest.param("é", id="R57-non-ascii"),
        pytest.param("\ud800", id="R57-surrogate"),
    ],
)
@pytest.mark.parametrize("name", ID_CLAIMS)
def test_id_of_another_form_is_invalid(name, value):
    assert rejection(claims(**{name: value})) == (Reason.CLAIM_INVALID, name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[pytest.param("exp", value, id=f"R50-exp-{str(value)[:12]}") for value in BAD_SECONDS],
        *[pytest.param("nbf", value, id=f"R51-nbf-{str(value)[:12]}") for value in BAD_SECONDS],
        *[pytest.param("iat", value, id=f"R52-iat-{str(value)[:12]}") for value in BAD_SECONDS],
        pytest.param("nbf", None, id="R51-nbf-null"),
        pytest.param("sub", "", id="R57-sub-empty"),
        pytest.param("sub", "a\nb", id="R57-sub-newline"),
        pytest.param("sub", "x" * 256, id="R57-sub-too-long"),
        pytest.param("body_sha256", BODY_SHA256.upper(), id="R57-body-uppercase"),
        pytest.param("body_sha256", BODY_SHA256[1:], id="R57-body-short"),
        pytest.param("body_sha256", None, id="R57-body-null"),
        pytest.param("data_classification", "secret", id="R66-classification"),
        pytest.param("data_classification", "PHI", id="R66-classification-case"),
        pytest.param("tenant_tier", "gold", id="R66-tier"),
        pytest.param("latency_class", "now", id="R66-latency-class"),
        pytest.param("exp", NOW + 301, id="R53-lifetime"),
        pytest.param("nbf", NOW + 60, id="R54-nbf-at-exp"),
        pytest.param("nbf", NOW - 1, id="R54-nbf-before-iat"),
    ],
)
def test_claim_of_another_form_is_invalid(name, value):
    assert rejection(claims(**{name: value})) == (Reason.CLAIM_INVALID, name)


def test_time_ends_with_the_year_9999():  # R50
    end = 253_402_300_799

    assert parse(claims(iat=end - 60, exp=end), now=end - 60).expires_at == end
    assert rejection(claims(iat=end - 60, exp=end + 1), now=end - 60) == (Reason.CLAIM_INVALID, "exp")


@pytest.mark.parametrize(
    ("members", "leeway_s", "reason"),
    [
        pytest.param({"iat": NOW - 60, "exp": NOW}, 0, Reason.EXPIRED, id="R50-exp-now"),
        pytest.param({"iat": NOW - 60, "exp": NOW - 5}, 5, Reason.EXPIRED, id="R50-beyond-leeway"),
        pytest.param({"iat": NOW - 900, "exp": NOW - 600}, 5, Reason.EXPIRED, id="R50-long-past"),
        pytest.param({"nbf": NOW + 6}, 5, Reason.NOT_YET_VALID, id="R51-nbf-beyond-leeway"),
        pytest.param({"iat": NOW + 6}, 5, Reason.NOT_YET_VALID, id="R52-iat-in-the-future"),
        pytest.param({"iat": NOW - 301}, 5, Reason.CLAIM_INVALID, id="R52-iat-too-old"),
        pytest.param({"iat": NOW + 2, "exp": NOW + 2}, 5, Reason.CLAIM_INVALID, id="R53-no-lifetime"),
    ],
)
def test_permit_out_of_its_time_is_refused(members, leeway_s, reason):
    assert rejection(claims(**members), policy(leeway_s=leeway_s))[0] is reason


@pytest.mark.parametrize(
    "issuer",
    [
        pytest.param("https://evil.example", id="R55-other"),
        pytest.param(ISSUER + "/", id="R55-trailing-slash"),
        pytest.param(ISSUER[:-1], id="R55-prefix"),
        pytest.param(ISSUER.upper(), id="R55-case"),
        pytest.param([ISSUER], id="R55-list"),
        pytest.param("", id="R55-empty"),
    ],
)
def test_other_issuer_is_a_mismatch(issuer):
    assert rejection(claims(iss=issuer)) == (Reason.ISS_MISMATCH, "iss")


@pytest.mark.parametrize(
    "audience",
    [
        pytest.param("other", id="R56-other"),
        pytest.param(AUDIENCE[:-1], id="R56-prefix"),
        pytest.param(AUDIENCE.upper(), id="R56-case"),
        pytest.param("", id="R56-empty"),
        pytest.param([], id="R56-empty-list"),
        pytest.param(["*"], id="R56-wildcard"),
        pytest.param([AUDIENCE, "other"], id="R56-several"),
        pytest.param([AUDIENCE, AUDIENCE], id="R56-twice"),
        pytest.param({AUDIENCE: 1}, id="R56-object"),
        pytest.param(["a"] * 1_000, id="R56-long-list"),
    ],
)
def test_other_audience_is_a_mismatch(audience):
    assert rejection(claims(aud=audience)) == (Reason.AUD_MISMATCH, "aud")


@pytest.mark.parametrize(
    "endpoints",
    [
        pytest.param([], id="R60-empty"),
        pytest.param("azure-eu-gpt4o", id="R60-text"),
        pytest.param({"a": 1}, id="R60-object"),
        pytest.param([f"e{n}" for n in range(65)], id="R60-65"),
        pytest.param(["a", "a"], id="R60-duplicates"),
        pytest.param(["*"], id="R60-star"),
        pytest.param(["azure-*"], id="R60-glob"),
        pytest.param(["a[bc]"], id="R60-regex"),
        pytest.param([""], id="R60-empty-name"),
        pytest.param(["a", None], id="R60-null-item"),
        pytest.param([1], id="R60-int-item"),
        pytest.param([["a"]], id="R60-list-item"),
        pytest.param([{"a": 1}], id="R60-object-item"),
        pytest.param(["a "], id="R60-trailing-space"),
        pytest.param(["\u0430zure"], id="R60-look-alike"),
        pytest.param(["../a"], id="R60-traversal"),
        pytest.param(["a" * 1_000_000], id="R60-one-megabyte"),
        pytest.param(["\ud800"], id="R60-surrogate"),
    ],
)
def test_endpoints_of_another_form_are_invalid(endpoints):
    assert rejection(claims(authorized_endpoints=endpoints)) == (
        Reason.ENDPOINTS_INVALID,
        "authorized_endpoints",
    )


def test_permit_without_narrowing_claims_narrows_nothing():
    permit = parse(claims())

    assert (permit.models, permit.regions, permit.max_cost_usd, permit.api_key_hash) == (None,) * 4
    assert (permit.idempotency_key, permit.preferences) == (None, ())


def test_narrowing_claims_are_read():
    permit = parse(
        claims(
            models=["gpt-4o"],
            regions=["eu-west", "eu-central"],
            max_cost_usd=1,
            api_key_hash=BODY_SHA256,
            idempotency_key="order-7",
        )
    )

    assert (permit.models, permit.regions) == ({"gpt-4o"}, {"eu-west", "eu-central"})
    assert (permit.max_cost_usd, permit.api_key_hash) == (1.0, BODY_SHA256)
    assert permit.idempotency_key == "order-7"


def test_narrowing_claims_reach_the_scope_but_not_the_key():
    scope = parse(claims(regions=["eu"], max_cost_usd=0.25, api_key_hash=BODY_SHA256)).scope(frozenset())

    assert (scope.regions, scope.max_cost_usd) == ({"eu"}, 0.25)
    assert BODY_SHA256 not in repr(scope)


def test_preferences_reorder_and_never_widen():
    permit = parse(claims(preferences=["local-llama", "evil", "azure-eu-gpt4o"]))

    assert permit.preferences == ("local-llama", "azure-eu-gpt4o")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[
            pytest.param(name, value, id=f"R57-{name}-{case}")
            for name in ("models", "regions", "preferences")
            for case, value in (
                ("null", None),
                ("text", "eu"),
                ("object", {"eu": 1}),
                ("65", [f"n{n}" for n in range(65)]),
                ("duplicates", ["eu", "eu"]),
                ("glob", ["eu-*"]),
                ("empty-name", [""]),
                ("null-item", [None]),
                ("int-item", [1]),
                ("traversal", ["../eu"]),
                ("surrogate", ["\ud800"]),
            )
        ],
        pytest.param("models", [], id="R57-models-empty"),
        pytest.param("regions", [], id="R57-regions-empty"),
        *[
            pytest.param("max_cost_usd", value, id=f"R57-max-cost-{str(value)[:8]}")
            for value in (None, 0, -1, 0.0, -0.5, True, "1", [1], {}, 10**400)
        ],
        *[
            pytest.param("api_key_hash", value, id=f"R57-api-key-{str(value)[:8]}")
            for value in (None, "", 7, BODY_SHA256.upper(), BODY_SHA256[1:], BODY_SHA256 + "0", [BODY_SHA256])
        ],
        *[
            pytest.param("idempotency_key", value, id=f"R57-idempotency-{str(value)[:8]!r}")
            for value in (None, "", 7, "a b", "x" * 129, ["a"])
        ],
    ],
)
def test_narrowing_claim_of_another_form_is_invalid(name, value):
    assert rejection(claims(**{name: value})) == (Reason.CLAIM_INVALID, name)


@pytest.mark.parametrize("number", [b"1e400", b"-Infinity", b"NaN"], ids=lambda text: f"R48-{text.decode()}")
def test_cost_that_is_no_finite_number_is_malformed(number):
    payload = as_bytes(claims())[:-1] + b', "max_cost_usd": ' + number + b"}"

    assert rejection(payload)[0] is Reason.PERMIT_MALFORMED


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("roles", id="R58-unknown"),
        pytest.param("Endpoints", id="R58-case"),
        pytest.param("\ud800", id="R58-surrogate"),
        pytest.param("", id="R58-empty-name"),
    ],
)
def test_unknown_claim_is_refused_and_not_repeated(name):
    assert rejection(claims(**{name: 1})) == (Reason.CLAIM_INVALID, "a claim is not known")


@pytest.mark.parametrize(
    ("version", "minimum"),
    [
        pytest.param("41", "42", id="R70-below"),
        pytest.param("2026-11-05", "42", id="R70-other-kind"),
    ],
)
def test_older_policy_is_stale(version, minimum):
    assert rejection(claims(policy_version=version), policy(minimum_policy_version=minimum)) == (
        Reason.POLICY_STALE,
        "policy_version",
    )


def test_minimum_policy_is_accepted():
    parse(claims(policy_version="42"), policy(minimum_policy_version="42"))


def test_minimum_without_an_order_stops_the_start():
    with pytest.raises(ConfigurationError, match="latest"):
        ClaimPolicy(frozenset(), frozenset(), frozenset(), minimum_policy_version="latest")


def test_issuer_is_read_from_an_unverified_payload():
    assert read_issuer(b'{"iss": "x", "anything": 1}') == "x"
