import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from permit_signing import (
    AUDIENCE,
    ISSUER,
    NOW,
    POLICY,
    claims,
    permit_token,
    private_key,
    public_key,
    signed,
    untimed,
)
from permit_signing import verifier as native_verifier

from litellm_plugin.errors import ConfigurationError, PermitRejected, Reason
from litellm_plugin.permit import (
    ClaimConstant,
    ClaimPath,
    IssuerTrust,
    KeySet,
    PermitVerifier,
    StaticKeys,
    TokenLayout,
    VerificationKey,
)
from litellm_plugin.settings import Flags, load_policy

PAGE = Path(__file__).parents[2] / "docs" / "permit.md"
WHOLE = {
    "classifications": {"public": {}, "internal": {}},
    "latency_classes": {"interactive": {}},
    "tenant_tiers": ["free", "pro"],
    "default": {"strategy": "cost"},
}
COMMON = {
    "request_id": "req-71",
    "data_classification": "internal",
    "tenant": "acme",
    "tenant_tier": "pro",
    "latency_class": "interactive",
}
EXAMPLES = {
    "Native": {
        "endpoints": ("azure-eu-gpt4o", "local-llama"),
        "policy_version": "42",
        "models": {"gpt-4o"},
        "max_cost_usd": 0.25,
    },
    "Built by OPA": {
        "endpoints": ("azure-eu-gpt4o",),
        "policy_version": "2026-11-05",
        "jti": "b7c1a1c5-4f0e-4b1e-9a55-3f2a7c9d1e02",
        "body_sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    },
    "An identity provider's access token": {
        "endpoints": ("azure-eu-gpt4o", "local-llama"),
        "policy_version": "42",
        "subject": "00u1a2b3c4",
    },
}


class Example:
    """One worked example of the page: a configuration, and a token that fits it."""

    def __init__(self, title):
        section = PAGE.read_text().split(f"### {title}\n")[1].split("\n### ")[0]
        configuration, head, payload = re.findall(r"```(?:yaml|json)\n(.*?)```", section, re.DOTALL)
        self.head, self.payload = json.loads(head), json.loads(payload)
        block = yaml.safe_load(configuration)["litellm_settings"]["permit_router"]
        self.policy = load_policy({**WHOLE, **block}, Flags(), base=PAGE.parent)

    def verify(self):
        key = VerificationKey(self.head["kid"], frozenset({"ES256"}), public_key("P-256"))
        permit = self.policy.permit
        trust = permit.trust(permit.issuers[0], StaticKeys(KeySet((key,))))
        token = signed(self.head, self.payload, private_key("P-256"), "ES256")
        return PermitVerifier([trust], self.policy.claims).verify(token, self.payload["iat"], 0.0)

    def rejection(self):
        with pytest.raises(PermitRejected) as caught:
            self.verify()
        return caught.value.reason, caught.value.detail

    def containers(self):
        """The payload and every object in it."""
        pending = [self.payload]
        while pending:
            current = pending.pop()
            yield current
            pending += [value for value in current.values() if isinstance(value, dict)]


@pytest.mark.parametrize("title", [pytest.param(title, id=f"A01-{title}") for title in EXAMPLES])
def test_the_token_of_the_page_is_verified(title):
    permit = Example(title).verify()

    for name, value in (COMMON | EXAMPLES[title]).items():
        assert getattr(permit, name) == value, name


@pytest.mark.parametrize("title", [pytest.param(title, id=f"R58-{title}") for title in EXAMPLES])
def test_a_member_that_nobody_reads_is_refused_wherever_it_stands(title):
    for number in range(len(list(Example(title).containers()))):
        example = Example(title)
        list(example.containers())[number]["only_on_weekdays"] = True

        assert example.rejection() == (Reason.CLAIM_INVALID, "a claim is not known")


@pytest.mark.parametrize("title", [pytest.param(title, id=f"R26-{title}") for title in EXAMPLES])
def test_the_typ_of_another_layout_is_not_allowed(title):
    example = Example(title)
    example.head["typ"] = "logout+jwt"

    assert example.rejection()[0] is Reason.TYP_NOT_ALLOWED


def test_a_list_where_a_text_is_split_is_refused():
    example = Example("An identity provider's access token")
    example.payload["https://example.com/llm"]["endpoints"] = ["azure-eu-gpt4o"]

    assert example.rejection() == (Reason.ENDPOINTS_INVALID, "authorized_endpoints")


def test_a_null_where_a_text_is_split_is_a_missing_claim():  # R49
    example = Example("An identity provider's access token")
    example.payload["https://example.com/llm"]["endpoints"] = None

    assert example.rejection() == (Reason.CLAIM_MISSING, "authorized_endpoints")


@pytest.mark.parametrize("text", ["", " ", "a  b", "a b ", "a,b", "a a"])
def test_a_split_text_is_as_strict_as_a_list(text):  # R60
    example = Example("An identity provider's access token")
    example.payload["https://example.com/llm"]["endpoints"] = text

    assert example.rejection() == (Reason.ENDPOINTS_INVALID, "authorized_endpoints")


@pytest.mark.parametrize("text", ["azure-eu-gpt4o local-llama", "azure-eu-gpt4o"])
def test_a_text_is_no_list_without_a_split(text):  # R60
    example = Example("Built by OPA")
    example.payload["decision"]["allow_endpoints"] = text

    assert example.rejection() == (Reason.ENDPOINTS_INVALID, "authorized_endpoints")


@pytest.mark.parametrize("value", [None, [], "x", 7], ids=["null", "list", "text", "number"])
def test_a_container_that_is_no_object_is_refused(value):
    example = Example("Built by OPA")
    example.payload["decision"] = value

    assert example.rejection() == (Reason.CLAIM_INVALID, "a mapped claim's container is no object")


@pytest.mark.parametrize("value", [..., None], ids=["R49-absent", "R49-null"])
def test_a_mapped_claim_is_as_required_as_its_own(value):
    example = Example("Built by OPA")
    labels = example.payload["decision"]["labels"]
    labels.pop("tenant") if value is ... else labels.update(tenant=value)

    assert example.rejection() == (Reason.CLAIM_MISSING, "tenant")


def test_an_absent_container_misses_its_claims():  # R49
    example = Example("An identity provider's access token")
    del example.payload["https://example.com/llm"]

    assert example.rejection()[0] is Reason.CLAIM_MISSING


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("tenant", "globex", id="R58-mapped-elsewhere"),
        pytest.param("latency_class", "interactive", id="R58-constant"),
        pytest.param("request_id", "req-71", id="R58-same-value"),
    ],
)
def test_a_claim_in_two_places_is_refused(name, value):
    example = Example("Built by OPA")
    example.payload[name] = value

    assert example.rejection() == (Reason.CLAIM_INVALID, "a claim is not known")


def test_a_mapped_tokens_own_restriction_still_counts():
    example = Example("Built by OPA")
    example.payload["models"] = ["gpt-4o"]

    assert example.verify().models == {"gpt-4o"}


def test_a_native_token_does_not_fit_a_mapped_issuer():
    layout = TokenLayout(claims={"tenant": ClaimPath(("org",))})

    with pytest.raises(PermitRejected) as caught:
        native_verifier(layout=layout).verify(permit_token(), NOW, 0.0)
    assert caught.value.detail == "a claim is not known"


def test_two_claims_may_have_one_place():
    layout = TokenLayout(claims={"request_id": ClaimPath(("jti",))})

    permit = native_verifier(layout=layout).verify(permit_token(request_id=...), NOW, 0.0)

    assert permit.request_id == permit.jti == "permit-1"


def test_a_layout_does_not_change_with_the_mapping_it_was_made_from():
    mapping = {"tenant": ClaimPath(("org",))}
    layout = TokenLayout(claims=mapping)

    mapping["jti"] = ClaimPath(("org", "id"))

    assert layout == TokenLayout(claims={"tenant": ClaimPath(("org",))})


def test_an_ignored_subject_is_not_read():
    layout = TokenLayout(ignored=frozenset({("sub",), ("roles",)}))

    permit = native_verifier(layout=layout).verify(permit_token(sub=["no", "text"], roles=1), NOW, 0.0)

    assert permit.subject is None


def test_each_issuer_has_its_own_typ():
    keys = StaticKeys(KeySet((VerificationKey("ec-1", frozenset({"ES256"}), public_key("P-256")),)))
    other = TokenLayout(typs=frozenset({"at+jwt"}))
    both = PermitVerifier(
        [
            IssuerTrust(ISSUER, AUDIENCE, frozenset({"ES256"}), keys),
            IssuerTrust("https://other.example", AUDIENCE, frozenset({"ES256"}), keys, layout=other),
        ],
        POLICY,
    )

    with pytest.raises(PermitRejected) as caught:
        both.verify(permit_token(head={"typ": "at+jwt"}), NOW, 0.0)
    assert caught.value.reason is Reason.TYP_NOT_ALLOWED
    assert both.verify(permit_token(head={"typ": "at+jwt"}, iss="https://other.example"), NOW, 0.0)


@pytest.mark.parametrize("name", ["tenant_tier", "latency_class", "policy_version"])
def test_a_claim_that_always_has_one_value_may_be_a_constant(name):
    value = claims()[name]
    layout = TokenLayout(claims={name: ClaimConstant(value)})

    permit = native_verifier(layout=layout).verify(permit_token(**{name: ...}), NOW, 0.0)

    assert getattr(permit, name) == value


def test_a_path_may_be_eight_names_deep():
    layout = TokenLayout(claims={"tenant": ClaimPath(tuple("abcdefgh"))})
    container = "acme"
    for name in reversed("bcdefgh"):
        container = {name: container}

    assert (
        native_verifier(layout=layout).verify(permit_token(a=container, tenant=...), NOW, 0.0).tenant
        == "acme"
    )


def test_a_claim_that_is_read_elsewhere_may_be_ignored_where_it_stood():
    layout = TokenLayout(claims={"tenant": ClaimPath(("org",))}, ignored=frozenset({("tenant",)}))

    permit = native_verifier(layout=layout).verify(permit_token(org="acme", tenant="globex"), NOW, 0.0)

    assert permit.tenant == "acme"


def test_a_neighbour_of_a_claim_may_be_ignored():
    layout = TokenLayout(claims={"exp": ClaimPath(("exp", "at"))}, ignored=frozenset({("exp", "zone")}))

    permit = native_verifier(layout=layout).verify(
        permit_token(exp={"at": NOW + 60, "zone": "UTC"}), NOW, 0.0
    )

    assert permit.expires_at == NOW + 60


def test_ignored_preferences_are_not_read():
    layout = TokenLayout(ignored=frozenset({("preferences",)}))

    assert native_verifier(layout=layout).verify(permit_token(preferences=7), NOW, 0.0).preferences == ()


def test_reading_does_not_change_the_payload():
    payload = claims(org={"id": "acme"}, tenant=...)
    before = json.dumps(payload)

    TokenLayout(claims={"tenant": ClaimPath(("org", "id"))}).read(payload)

    assert json.dumps(payload) == before


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["path", "labels", "tenant", "tier", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@untimed
@given(title=st.sampled_from(sorted(EXAMPLES)), data=st.data())
def test_arbitrary_values_never_raise_another_error(title, data):  # P4
    example = Example(title)
    container = data.draw(st.sampled_from(list(example.containers())))
    container[data.draw(st.sampled_from(sorted(container)))] = data.draw(JSON_VALUES)

    try:
        example.verify()
    except PermitRejected as rejected:
        assert rejected.reason is not Reason.INTERNAL_ERROR  # noqa: PT017 - acceptance is an outcome as well


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"typs": frozenset()}, id="no-typ"),
        pytest.param({"claims": {"role": ClaimPath(("role",))}}, id="no-such-claim"),
        pytest.param({"claims": {"iss": ClaimPath(("issuer",))}}, id="iss"),
        pytest.param({"claims": {"tenant": ClaimPath(())}}, id="empty-path"),
        pytest.param({"claims": {"tenant": ClaimPath(("a", ""))}}, id="empty-segment"),
        pytest.param({"claims": {"tenant": ClaimPath(("a",) * 9)}}, id="deep-path"),
        pytest.param({"claims": {"tenant": ClaimPath(("a",), split=" ")}}, id="split-of-no-list"),
        pytest.param({"claims": {"models": ClaimPath(("a",), split="")}}, id="empty-split"),
        pytest.param({"claims": {"models": ClaimPath(("a",), split=", ")}}, id="long-split"),
        pytest.param({"claims": {"jti": ClaimConstant("a")}}, id="constant-jti"),
        pytest.param({"claims": {"tenant": ClaimPath(("jti", "org"))}}, id="inside-a-claim"),
        pytest.param({"claims": {"tenant": ClaimPath(("a",)), "jti": ClaimPath(("a", "b"))}}, id="nested"),
        pytest.param(
            {"claims": {"tenant": ClaimPath(("a", "b"))}, "ignored": frozenset({("a",)})},
            id="ignored-container",
        ),
        pytest.param(
            {"claims": {"tenant": ClaimPath(("a",))}, "ignored": frozenset({("a", "b")})}, id="ignored-inside"
        ),
        pytest.param(
            {"claims": {"tenant": ClaimPath(("a",))}, "ignored": frozenset({("a",)})}, id="ignored-and-read"
        ),
        pytest.param({"ignored": frozenset({("regions",)})}, id="ignored-restriction"),
        *[
            pytest.param(
                {"claims": {name: ClaimPath(("elsewhere",))}, "ignored": frozenset({(name,)})},
                id=f"ignored-{name}",
            )
            for name in ("aud", "exp", "iat", "nbf")
        ],
        pytest.param({"ignored": frozenset({()})}, id="ignored-nothing"),
    ],
)
def test_a_layout_that_is_not_safe_cannot_exist(members):
    with pytest.raises(ConfigurationError):
        TokenLayout(**members)
