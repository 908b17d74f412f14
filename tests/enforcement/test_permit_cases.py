"""Permit cases of every family through a real proxy, judged by what the providers received.

The verifier's own tests hold every case; here stand some of each family, and those that only a whole proxy
can decide: where the permit may stand in a request, and what routing makes of it.
"""

from __future__ import annotations

import base64
import http.client
import json
import time
from collections import Counter

import pytest
from fleet import CALLS, PATHS, STREAMING

from litellm_plugin.testing import Fault, PermitIssuer

pytestmark = pytest.mark.proxy

CHAT = PATHS["chat"]
EMBEDDED = PermitIssuer()


def minted(**changes):
    """A permit that is valid but for `changes`."""
    return lambda fleet, raw: fleet.issuer.mint(["eu-a"], **{"body": raw, **changes})


def aged(**seconds):
    """A permit whose times are so many seconds from now."""
    return lambda fleet, raw: fleet.issuer.mint(
        ["eu-a"], body=raw, **{name: int(time.time()) + value for name, value in seconds.items()}
    )


def edited(edit):
    """A valid permit whose three segments were changed after it was signed."""
    return lambda fleet, raw: ".".join(edit(*fleet.issuer.mint(["eu-a"], body=raw).split(".")))


def widened(payload):
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims["authorized_endpoints"].append("us-b")
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()


def respaced(header):
    members = json.loads(base64.urlsafe_b64decode(header + "=="))
    return base64.urlsafe_b64encode(json.dumps(members, indent=1).encode()).rstrip(b"=").decode()


def embedded(fleet, raw):
    jwk = EMBEDDED.jwks()["keys"][0]
    return EMBEDDED.mint(["eu-a"], body=raw, iss=fleet.issuer.issuer, headers={"jwk": jwk})


def recorded(fleet, answer):
    """How the records of this request end; those of the test before may still arrive."""
    decision_id = answer.json()["error"]["decision_id"]
    return [
        (each["outcome"], each["reason"]) for each in fleet.records() if each["decision_id"] == decision_id
    ]


def counters(fleet):
    """What health counts, as {name: count}; a reason that ended nothing counts as absent."""
    health = fleet.client.get("/permit-router/v1/health").json()
    requests = health["requests"]
    return Counter(
        requests["denied"], admitted=requests["admitted"], unknown_endpoints=health["unknown_endpoints"]
    )


def moved(fleet, before):
    """What moved since `before`."""
    return counters(fleet) - before


TRANSPORT = [
    pytest.param(lambda fleet, raw: "a" * 16_385, "permit_malformed", id="R06-one-byte-too-long"),
    pytest.param(edited(lambda h, p, s: (h, p, s + "=")), "permit_malformed", id="R08-padding"),
    pytest.param(edited(lambda h, p, s: (h, p, s + " x")), "permit_malformed", id="R08-blank"),
    pytest.param(edited(lambda h, p, s: (h, "", p, s, s)), "permit_malformed", id="R10-five-segments"),
    pytest.param(edited(lambda h, p, s: ("Bearer " + h, p, s)), "permit_malformed", id="R12-scheme"),
    pytest.param(edited(lambda h, p, s: ('"' + h, p, s + '"')), "permit_malformed", id="R13-quoted"),
    pytest.param(edited(lambda h, p, s: (h, p, "")), "permit_malformed", id="R14-no-signature"),
]
HEADER = [
    pytest.param(minted(headers={"alg": "HS256"}), "alg_not_allowed", id="R23-hs256"),
    pytest.param(minted(headers={"alg": "PS256"}), "alg_not_allowed", id="R24-not-listed"),
    pytest.param(minted(headers={"alg": "ES256"}), "alg_not_allowed", id="R25-not-the-keys"),
    pytest.param(minted(headers={"typ": None}), "typ_not_allowed", id="R26-no-typ"),
    pytest.param(minted(headers={"typ": "at+jwt"}), "typ_not_allowed", id="R26-another-typ"),
    pytest.param(minted(headers={"crit": ["exp"]}), "permit_malformed", id="R28-crit"),
    pytest.param(embedded, "permit_malformed", id="R31-embedded-key"),
]
KEY = [
    pytest.param(minted(headers={"kid": None}), "key_unknown", id="R35-no-kid"),
    pytest.param(minted(headers={"kid": "../../key"}), "permit_malformed", id="R38-traversal"),
    pytest.param(edited(lambda h, p, s: (h, p, "A" * len(s))), "signature_invalid", id="R45-zeros"),
    pytest.param(edited(lambda h, p, s: (h, widened(p), s)), "signature_invalid", id="R46-widened"),
    pytest.param(edited(lambda h, p, s: (respaced(h), p, s)), "signature_invalid", id="R47-header-changed"),
]
CLAIMS = [
    pytest.param(minted(drop=["data_classification"]), "claim_missing", id="R49-absent"),
    pytest.param(minted(jti=None), "claim_missing", id="R49-null"),
    pytest.param(minted(exp=str(2**31)), "claim_invalid", id="R50-text"),
    pytest.param(aged(iat=30), "not_yet_valid", id="R52-future"),
    pytest.param(aged(iat=0, exp=301), "claim_invalid", id="R53-too-long"),
    pytest.param(minted(jti="x" * 129), "claim_invalid", id="R57-too-long"),
    pytest.param(minted(only_on_mondays=True), "claim_invalid", id="R58-unknown-claim"),
]
MEANING = [
    pytest.param(minted(authorized_endpoints=[]), "endpoints_invalid", id="R60-none"),
    pytest.param(minted(authorized_endpoints=["eu-*"]), "endpoints_invalid", id="R60-wildcard"),
    pytest.param(minted(authorized_endpoints=["eu-a"] * 2), "endpoints_invalid", id="R60-twice"),
    pytest.param(minted(tenant_tier="platinum"), "claim_invalid", id="R66-tier"),
    pytest.param(minted(latency_class="sometimes"), "claim_invalid", id="R66-latency-class"),
]


@pytest.mark.parametrize(("permit", "reason"), [*TRANSPORT, *HEADER, *KEY, *CLAIMS, *MEANING])
def test_a_permit_that_is_not_valid_sends_nothing(fleet, permit, reason):
    _, body = fleet.body("chat")
    raw = json.dumps(body).encode()
    before = counters(fleet)

    answer = fleet.post(CHAT, raw, {"x-llm-permit": permit(fleet, raw)})

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, reason)
    assert fleet.calls() == {}
    assert recorded(fleet, answer) == [("denied", reason)]
    assert moved(fleet, before) == {reason: 1}


@pytest.mark.parametrize("name", ["x_llm_permit", "x-permit", "x_permit", "llm-permit"])
def test_a_header_whose_name_looks_alike_holds_no_permit(fleet, name):  # R05
    _, body = fleet.body("chat")
    raw = json.dumps(body).encode()
    before = counters(fleet)

    answer = fleet.post(CHAT, raw, {name: fleet.issuer.mint(["eu-a"], body=raw)})

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "permit_missing")
    assert fleet.calls() == {}
    assert moved(fleet, before) == {"permit_missing": 1}


def test_a_blank_behind_the_headers_name_is_refused_by_the_server(fleet):  # R05
    _, body = fleet.body("chat")
    raw = json.dumps(body).encode()
    url = fleet.client.base_url
    connection = http.client.HTTPConnection(url.host, url.port, timeout=60)
    try:
        headers = {"authorization": f"Bearer {fleet.proxy.master_key}", "content-type": "application/json"}
        headers["x-llm-permit "] = fleet.issuer.mint(["eu-a"], body=raw)
        connection.request("POST", CHAT, raw, headers)
        status = connection.getresponse().status
    finally:
        connection.close()

    assert status == 400
    assert fleet.calls() == {}


@pytest.mark.parametrize(
    ("endpoints", "claims", "reason", "unknown"),
    [
        pytest.param(["nowhere-1", "nowhere-2"], {}, "not_authorized", 2, id="R61-unknown-alone"),
        pytest.param(["claude-eu", "claude-us"], {}, "not_authorized", 0, id="R62-of-another-model-group"),
        pytest.param(
            ["us-a", "us-b"], {"data_classification": "phi"}, "not_eligible", 0, id="R67-not-cleared-alone"
        ),
    ],
)
def test_endpoints_of_which_none_may_serve_are_refused(fleet, endpoints, claims, reason, unknown):
    before = counters(fleet)

    answer = fleet.send("chat", endpoints, permit=claims)

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, reason)
    assert fleet.calls() == {}
    assert recorded(fleet, answer) == [("denied", reason)]
    assert moved(fleet, before) == Counter({reason: 1, "admitted": 1, "unknown_endpoints": unknown})


@pytest.mark.parametrize(
    ("endpoints", "claims", "unknown"),
    [
        pytest.param(["nowhere-1", "eu-a", "nowhere-2"], {}, 2, id="A09-R61-unknown-beside-known"),
        pytest.param(["claude-us", "eu-a"], {}, 0, id="R62-another-group-beside-the-asked-one"),
        pytest.param(
            ["us-b", "eu-a"], {"data_classification": "phi"}, 0, id="R67-not-cleared-beside-cleared"
        ),
    ],
)
def test_what_may_not_serve_leaves_the_others(fleet, endpoints, claims, unknown):
    before = counters(fleet)

    answer = fleet.send("chat", endpoints, permit=claims)

    assert answer.status_code == 200, answer.text
    assert fleet.calls() == {"eu-a": 1}
    assert moved(fleet, before) == Counter({"admitted": 1, "unknown_endpoints": unknown})


def test_a_request_that_is_denied_after_several_attempts_is_counted_once(fleet):
    for name in ("us-a", "us-b"):
        fleet.providers[name].always(Fault.status(500))
    before = counters(fleet)

    answer = fleet.send("chat", ["us-a", "us-b"])

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "chain_exhausted")
    assert fleet.calls() == {"us-a": 1, "us-b": 1}
    assert moved(fleet, before) == {"chain_exhausted": 1, "admitted": 1}


def test_a_provider_that_fails_beside_one_that_serves_counts_no_denial(fleet):
    fleet.providers["us-b"].always(Fault.status(500))
    before = counters(fleet)

    answer = fleet.send("chat", ["us-a", "us-b"])

    assert answer.status_code == 200, answer.text
    assert moved(fleet, before) == {"admitted": 1}


@pytest.mark.parametrize(
    ("call", "stream"),
    [
        pytest.param(call, stream, id=f"A13-{call}-{'stream' if stream else 'whole'}")
        for call in CALLS
        for stream in ((False, True) if call in STREAMING else (False,))
    ],
)
def test_one_permit_means_the_same_on_every_call_type(fleet, call, stream):
    shape = {"stream": True} if stream else {}
    endpoint = "claude-eu" if call == "messages" else "eu-b"

    answer = fleet.send(call, ["nowhere", "eu-b", "claude-eu"], **shape)
    assert answer.status_code == 200, answer.text
    assert (answer.headers["x-permit-endpoint"], answer.headers["x-permit-reason"]) == (endpoint, "selected")
    assert fleet.calls() == {endpoint: 1}

    refused = fleet.send(call, ["nowhere"], **shape)
    assert (refused.status_code, refused.headers["x-permit-reason"]) == (403, "not_authorized")
    assert fleet.calls() == {endpoint: 1}


@pytest.mark.parametrize(
    "says",
    [
        pytest.param({"authorized_endpoints": ["us-b"]}, id="R73-endpoints"),
        pytest.param({"metadata": {"authorized_endpoints": ["us-b"]}}, id="R73-metadata"),
        pytest.param({"specific_deployment": "us-b-1"}, id="R73-specific-deployment"),
        pytest.param({"fallbacks": ["claude"]}, id="R73-fallbacks"),
        pytest.param({"api_base": "http://127.0.0.1:9"}, id="R73-api-base"),
        pytest.param({"user_config": {"model_list": []}}, id="R73-user-config"),
        pytest.param({"model_list": []}, id="R73-model-list"),
        pytest.param({"router_settings_override": {"fallbacks": []}}, id="R73-router-settings"),
        pytest.param({"model": "us-b-1"}, id="R73-deployment-id-as-model"),
    ],
)
def test_a_body_cannot_add_to_its_permit(fleet, says):
    """`test_side_doors` tries each of these, and more, against a proxy that enforces nothing too."""
    fleet.send("chat", ["eu-a"], **says)

    assert fleet.calls().keys() <= {"eu-a"}
