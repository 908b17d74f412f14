import dataclasses

import pytest
from permit_signing import (
    AUDIENCE,
    BODY_SHA256,
    ISSUER,
    KID_FOR,
    NOW,
    POLICY,
    claims,
    encode,
    key_set,
    permit_token,
    private_key,
    signed,
    verifier,
)
from token_mutator import MARKER

from litellm_plugin.errors import PermitRejected, Reason
from litellm_plugin.permit import (
    ClaimPath,
    Revocations,
    StaticKeys,
    TokenLayout,
    check_api_key,
    check_body,
    check_model,
    check_request_id,
    check_tenant,
    recheck,
)
from litellm_plugin.permit.claims import CLAIM_NAMES
from litellm_plugin.permit.expectation import CLAIM_FORMS, listed

MAPPED = TokenLayout(
    claims={
        "tenant": ClaimPath(("who", "tenant")),
        "authorized_endpoints": ClaimPath(("endpoints",), split=" "),
    },
    ignored=frozenset({("tenant",), ("authorized_endpoints",)}),
)


def policy(**changes):
    return dataclasses.replace(POLICY, **changes)


def verified(token, rules=POLICY, **trust):
    return verifier(rules, **trust).verify(token, NOW, 0.0)


def rejection(judge, *arguments, **options):
    with pytest.raises(PermitRejected) as caught:
        judge(*arguments, **options)
    return caught.value


def told(token, **trust):
    """All that comes out about a token; nothing where it is a valid permit."""
    try:
        verified(token, **trust)
    except PermitRejected as rejected:
        return f"{rejected} {rejected.detail} {rejected.expected}"
    return ""


def permit(**members):
    return verified(permit_token(**members))


def with_payload(text):
    return signed({"alg": "ES256", "kid": "ec-1", "typ": "permit+jwt"}, text, private_key("P-256"), "ES256")


@pytest.mark.parametrize(
    ("token", "reason", "expected"),
    [
        pytest.param("nothing", Reason.PERMIT_MALFORMED, "three base64url parts", id="no-jws"),
        pytest.param(
            f"Bearer {permit_token()}",
            Reason.PERMIT_MALFORMED,
            "without a scheme such as 'Bearer'",
            id="scheme",
        ),
        pytest.param("a" * 20_000, Reason.PERMIT_MALFORMED, "at most 16384 characters", id="too-long"),
        pytest.param(
            "e31.e30.e30", Reason.PERMIT_MALFORMED, "base64url without padding or stray bits", id="base64url"
        ),
        pytest.param(
            f"{encode(b'[]')}.e30.e30", Reason.PERMIT_MALFORMED, "one JSON object", id="header-list"
        ),
        pytest.param(f"{encode(b'{')}.e30.e30", Reason.PERMIT_MALFORMED, "one JSON object", id="header-text"),
        pytest.param("e30.e30.e30", Reason.PERMIT_MALFORMED, "a JSON string", id="no-alg"),
        pytest.param(
            permit_token(head={"jku": "https://evil.example"}),
            Reason.PERMIT_MALFORMED,
            "the header exactly alg, kid and typ",
            id="more-header",
        ),
        pytest.param(
            permit_token(head={"kid": "a/b"}), Reason.PERMIT_MALFORMED, "1 to 64 characters", id="kid-text"
        ),
        pytest.param(with_payload(b"[]"), Reason.PERMIT_MALFORMED, "one JSON object", id="payload-list"),
        pytest.param(with_payload(b"{"), Reason.PERMIT_MALFORMED, "one JSON object", id="payload-text"),
        pytest.param(permit_token(iss=...), Reason.CLAIM_MISSING, "the issuer as text", id="no-iss"),
        pytest.param(permit_token(iss=7), Reason.ISS_MISMATCH, "the issuer as text", id="iss-number"),
        pytest.param(permit_token(iss="x"), Reason.ISS_MISMATCH, "an issuer that is declared", id="iss"),
        pytest.param(permit_token(head={"typ": "JWT"}), Reason.TYP_NOT_ALLOWED, "permit+jwt", id="typ"),
        pytest.param(
            permit_token("PS256"),
            Reason.ALG_NOT_ALLOWED,
            "one of the algorithms ES256, EdDSA, RS256",
            id="alg",
        ),
        pytest.param(
            permit_token(head={"kid": "rsa-1"}), Reason.ALG_NOT_ALLOWED, "fits the key", id="alg-of-key"
        ),
        pytest.param(
            permit_token(head={"kid": "old"}), Reason.KEY_UNKNOWN, "a key that this issuer uses now", id="kid"
        ),
        pytest.param(
            permit_token(head={"kid": ...}),
            Reason.KEY_UNKNOWN,
            "a key id (`kid`): this issuer has several keys",
            id="no-kid",
        ),
        pytest.param(
            f"{permit_token().rpartition('.')[0]}.AAAA",
            Reason.SIGNATURE_INVALID,
            "issuer's key",
            id="signature",
        ),
    ],
)
def test_what_is_not_signed_is_told_the_form(token, reason, expected):
    rejected = rejection(verified, token)
    assert (rejected.reason, expected in rejected.expected) == (reason, True)


@pytest.mark.parametrize(
    ("members", "changes", "reason", "expected"),
    [
        pytest.param({"aud": "x"}, {}, Reason.AUD_MISMATCH, "'llm-router'", id="aud"),
        pytest.param({"aud": 7}, {}, Reason.AUD_MISMATCH, "the configured audience", id="aud-number"),
        pytest.param({"exp": NOW - 9, "iat": NOW - 60}, {}, Reason.EXPIRED, "5 s of leeway", id="exp"),
        pytest.param(
            {"exp": NOW + 99, "iat": NOW + 60}, {}, Reason.NOT_YET_VALID, "`iat` at most 5 s", id="iat"
        ),
        pytest.param({"nbf": NOW + 9}, {}, Reason.NOT_YET_VALID, "`nbf` at most 5 s", id="nbf-early"),
        pytest.param({"nbf": NOW - 9}, {}, Reason.CLAIM_INVALID, "`iat` or later", id="nbf"),
        pytest.param(
            {"exp": NOW + 301}, {}, Reason.CLAIM_INVALID, "a lifetime of at most 300 s", id="lifetime"
        ),
        pytest.param({"iat": "1"}, {}, Reason.CLAIM_INVALID, "a JSON integer of seconds", id="seconds"),
        pytest.param({"jti": ...}, {}, Reason.CLAIM_MISSING, "1 to 128 characters", id="missing"),
        pytest.param({"jti": None}, {}, Reason.CLAIM_MISSING, "1 to 128 characters", id="null"),
        pytest.param({"sub": None}, {}, Reason.CLAIM_INVALID, "rather than null", id="optional-null"),
        pytest.param({"max_cost_usd": 0}, {}, Reason.CLAIM_INVALID, "number above 0", id="max-cost"),
        pytest.param(
            {"authorized_endpoints": []},
            {},
            Reason.ENDPOINTS_INVALID,
            "1 to 64 endpoint names",
            id="endpoints",
        ),
        pytest.param(
            {"models": ["a", "a"]}, {}, Reason.CLAIM_INVALID, "1 to 64 model groups without", id="repeated"
        ),
        pytest.param({"roles": 1}, {}, Reason.CLAIM_INVALID, "`ignore_claims`", id="unknown"),
        pytest.param(
            {"data_classification": "x"},
            {},
            Reason.CLAIM_INVALID,
            "one of the declared data classifications: internal, phi, public",
            id="classification",
        ),
        pytest.param(
            {"tenant_tier": "x"}, {}, Reason.CLAIM_INVALID, "the declared tenant tiers: free, pro", id="tier"
        ),
        pytest.param(
            {"latency_class": "x"},
            {},
            Reason.CLAIM_INVALID,
            "the declared latency classes: batch, interactive",
            id="latency",
        ),
        pytest.param(
            {}, {"minimum_policy_version": "43"}, Reason.POLICY_STALE, "43 or later", id="minimum-version"
        ),
        pytest.param(
            {},
            {"accepted_policy_versions": frozenset({"40", "41"})},
            Reason.POLICY_STALE,
            "accepted policy versions: 40, 41",
            id="accepted-versions",
        ),
        pytest.param(
            {},
            {"revocations": Revocations(policy_versions=frozenset({"42"}))},
            Reason.POLICY_STALE,
            "not revoked",
            id="revoked-version",
        ),
        pytest.param(
            {},
            {"revocations": Revocations(jti=frozenset({"permit-1"}))},
            Reason.REVOKED,
            "a permit that is not revoked",
            id="revoked-permit",
        ),
        pytest.param(
            {},
            {"revocations": Revocations(kid=frozenset({"ec-1"}))},
            Reason.REVOKED,
            "a key that is not revoked",
            id="revoked-key",
        ),
    ],
)
def test_what_is_signed_is_told_what_is_declared(members, changes, reason, expected):
    rejected = rejection(verified, permit_token(**members), policy(**changes))
    assert (rejected.reason, expected in rejected.expected) == (reason, True)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        pytest.param({"who": {"tenant": "a", "role": 1}}, "mapped under `claims`", id="unknown-inside"),
        pytest.param({"who": []}, "a JSON object wherever a path", id="container"),
        pytest.param({"endpoints": ["a"]}, "one text that the configured character splits", id="split"),
    ],
)
def test_what_another_layout_expects_is_named(members, expected):
    token = permit_token(**members)
    assert expected in rejection(verified, token, layout=MAPPED).expected


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        pytest.param(
            lambda: check_body(permit(), "0" * 64, required=True), "since `binding` is `body`", id="unbound"
        ),
        pytest.param(
            lambda: check_body(permit(body_sha256=BODY_SHA256), "0" * 64, required=True),
            "byte for byte",
            id="body",
        ),
        pytest.param(lambda: check_model(permit(models=["m"]), "n"), "a model group", id="model"),
        pytest.param(
            lambda: check_api_key(permit(api_key_hash=BODY_SHA256), "sk-1"), "one LiteLLM key", id="key"
        ),
        pytest.param(lambda: check_tenant(permit(), None), "a LiteLLM key of the team", id="tenant"),
        pytest.param(
            lambda: check_request_id(permit(), None), "the configured request header", id="request-id"
        ),
        pytest.param(lambda: recheck(permit(), POLICY, NOW + 99), "`exp` later than now", id="recheck"),
    ],
)
def test_what_the_request_lacks_is_named(check, expected):
    assert expected in rejection(check).expected


def test_a_key_id_is_asked_for_where_an_only_key_needs_one():
    only = dataclasses.replace(key_set(), keys=key_set().keys[1:2])
    rejected = rejection(verified, permit_token(head={"kid": ...}), keys=StaticKeys(only))
    assert (rejected.reason, rejected.expected) == (Reason.KEY_UNKNOWN, "a key id (`kid`)")


@pytest.mark.parametrize("head", [{}, {"kid": "old"}, {"kid": ...}, {"kid": "rsa-1"}, {"typ": "x"}])
@pytest.mark.parametrize("name", sorted(CLAIM_NAMES))
def test_without_a_signature_nothing_declared_is_told(name, head):
    """Whoever cannot sign learns neither issuers, audience and key ids nor what is declared."""
    forged = f"{permit_token(head=head, **{name: 'x'}).rpartition('.')[0]}.AAAA"
    expected = rejection(verified, forged).expected
    declared = {*POLICY.classifications, *POLICY.tenant_tiers, *POLICY.latency_classes}
    assert not [text for text in {ISSUER, AUDIENCE, *KID_FOR.values(), *declared} if text in expected]


@pytest.mark.parametrize(
    "layout", [pytest.param(TokenLayout(), id="native"), pytest.param(MAPPED, id="mapped")]
)
@pytest.mark.parametrize(
    "value",
    [MARKER, [MARKER, MARKER], {MARKER: MARKER}, f"{MARKER} {MARKER}", f"{MARKER}/../x\n"],
    ids=["text", "list", "object", "words", "no-id"],
)
@pytest.mark.parametrize("name", [*sorted(CLAIM_NAMES), "who", "endpoints", MARKER])
def test_text_from_the_token_is_not_repeated(name, value, layout):
    assert MARKER not in told(permit_token(**{name: value}), layout=layout)


@pytest.mark.parametrize("name", ["alg", "kid", "typ", MARKER])
def test_text_from_the_header_is_not_repeated(name):
    assert MARKER not in told(permit_token(head={name: MARKER}))


def test_every_claim_has_a_form():
    assert CLAIM_FORMS.keys() == CLAIM_NAMES


@pytest.mark.parametrize(
    ("count", "text"),
    [
        pytest.param(1, "n00", id="one"),
        pytest.param(10, "n00, n01, n02, n03, n04, n05, n06, n07, n08, n09", id="ten"),
        pytest.param(11, "n00, n01, n02, n03, n04, n05, n06, n07, n08, n09, …", id="eleven"),
    ],
)
def test_ten_names_are_listed_at_most(count, text):
    assert listed({f"n{number:02}" for number in range(count)}) == text


def test_valid_claims_need_no_words():
    assert verified(permit_token(payload=claims())).tenant == "acme"
