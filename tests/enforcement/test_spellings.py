"""Spellings: however a path is written, it is governed or refused, and never led past the permit."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
from fleet import Fleet

pytestmark = pytest.mark.proxy

CHAT = "/v1/chat/completions"
ROOT = "/gateway"
ELSEWHERE = ["claude-eu"]


@dataclass
class Wire:
    """An answer as it came over the socket."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return json.loads(self.body)["error"]["code"]


def spell(fleet, target, endpoints, *, method="POST", headers=None) -> Wire:
    """Sends a chat with a permit for `endpoints`; the request target goes onto the wire as it is written."""
    mark, body = fleet.body("chat")
    fleet.ledger.allow(mark, endpoints)
    raw = json.dumps(body).encode()
    lines = {
        "authorization": f"Bearer {fleet.proxy.master_key}",
        "content-type": "application/json",
        "x-llm-permit": fleet.issuer.mint(list(endpoints), body=raw),
        "connection": "close",
        **(headers or {}),
    }
    address = urlsplit(fleet.proxy.url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
    try:
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in {"host": address.netloc, "content-length": str(len(raw)), **lines}.items():
            connection.putheader(name, value)
        connection.endheaders(raw)
        answer = connection.getresponse()
        return Wire(
            answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        )
    finally:
        connection.close()


GOVERNED = [
    pytest.param("/v1%2fchat/completions", id="encoded-slash"),
    pytest.param("/v1%2Fchat%2Fcompletions", id="encoded-slashes-upper"),
    pytest.param("%2fv1/chat/completions", id="encoded-leading-slash"),
    pytest.param("/%76%31/chat/completions", id="encoded-letters"),
    pytest.param("/v1/chat/%63ompletions", id="encoded-last-part"),
    pytest.param("/v1/chat/completions?", id="empty-query"),
    pytest.param("/v1/chat/completions?path=/health", id="query"),
    # A template's pattern ends with `$`, which lets one newline stand behind it, for LiteLLM's router too.
    pytest.param("/v1/chat/completions%0a", id="encoded-newline"),
]
REFUSED = [
    pytest.param("//v1/chat/completions", id="two-leading-slashes"),
    pytest.param("/v1//chat/completions", id="two-slashes"),
    pytest.param("/%2fv1/chat/completions", id="encoded-second-slash"),
    pytest.param("/v1/chat/completions/", id="trailing-slash"),
    pytest.param("/v1/chat/completions%2f", id="encoded-trailing-slash"),
    pytest.param("/V1/chat/completions", id="upper-case"),
    pytest.param("/v1/Chat/Completions", id="capitals"),
    pytest.param("/v1/chat/completions;x=1", id="path-parameter"),
    pytest.param("/v1;x=1/chat/completions", id="path-parameter-inside"),
    pytest.param("/v1/chat/../chat/completions", id="dot-segments"),
    pytest.param("/v1/chat/%2e%2e/chat/completions", id="encoded-dot-segments"),
    pytest.param("/health/liveliness/../../v1/chat/completions", id="dots-after-an-administrative-path"),
    pytest.param("/v1/./chat/completions", id="dot"),
    pytest.param("/v1%252fchat/completions", id="twice-encoded"),
    pytest.param("/v1/chat/completions%3fx=1", id="encoded-question-mark"),
    pytest.param("/v1/chat/completions%20", id="encoded-blank"),
    pytest.param("/v1/chat/completions%00", id="encoded-nul"),
    pytest.param("/v1\\chat\\completions", id="backslashes"),
    pytest.param("/v1/chat/completions%0a%0a", id="encoded-newlines"),
    pytest.param("/v1/chat%c0%afcompletions", id="overlong-slash"),
    pytest.param("/v1/chat/completions.json", id="suffix"),
    pytest.param("/health/liveliness", id="an-administrative-path-with-another-method"),
    # h11, which LiteLLM brings, takes neither a scheme and host nor a fragment off the target.
    pytest.param("http://127.0.0.1/v1/chat/completions", id="absolute-form"),
    pytest.param("http://other.example/v1/chat/completions", id="absolute-form-of-another-host"),
    pytest.param("http://other.example/v1%2fchat/completions", id="absolute-form-encoded"),
    pytest.param("http://127.0.0.1//v1/chat/completions", id="absolute-form-two-slashes"),
    pytest.param("/v1/chat/completions#/health", id="fragment"),
]
MOUNTED = [
    pytest.param("/mcp/v1/chat/completions", id="mcp"),
    pytest.param("/mcp", id="mcp-root"),
    pytest.param("/mcp/", id="mcp-slash"),
    pytest.param("/mcp/..%2fv1/chat/completions", id="mcp-dots"),
    pytest.param("/ui/v1/chat/completions", id="ui"),
    pytest.param("/ui/../v1/chat/completions", id="ui-dots"),
    pytest.param("/swagger/v1/chat/completions", id="swagger"),
    pytest.param("/_next/v1/chat/completions", id="next"),
    pytest.param("/litellm-asset-prefix/_next/v1/chat/completions", id="assets"),
]


@pytest.mark.parametrize("target", GOVERNED)
class TestAGovernedSpelling:
    def test_it_is_served_inside_the_permit(self, fleet, target):
        answer = spell(fleet, target, ["eu-a"])
        assert answer.status == 200, answer.body
        assert fleet.calls() == {"eu-a": 1}

    def test_another_permit_sends_nothing(self, fleet, target):
        answer = spell(fleet, target, ELSEWHERE)
        assert (answer.status, answer.code) == (403, "not_authorized")
        assert fleet.calls() == {}


@pytest.mark.parametrize("target", [*REFUSED, *MOUNTED])
class TestARefusedSpelling:
    @pytest.mark.parametrize("endpoints", [["eu-a"], ELSEWHERE], ids=["valid", "elsewhere"])
    def test_no_permit_opens_it(self, fleet, target, endpoints):
        answer = spell(fleet, target, endpoints)
        assert (answer.status, answer.code) == (403, "path_not_permitted")
        assert fleet.calls() == {}


@pytest.mark.parametrize("method", ["HEAD", "GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
class TestAnotherMethod:
    def test_it_is_refused_on_a_governed_path(self, fleet, method):
        answer = spell(fleet, CHAT, ["eu-a"], method=method)
        assert answer.status == 403
        assert method == "HEAD" or answer.code == "path_not_permitted"
        assert fleet.calls() == {}

    def test_an_override_header_changes_nothing(self, fleet, method):
        answer = spell(fleet, CHAT, ["eu-a"], method=method, headers={"x-http-method-override": "POST"})
        assert answer.status == 403
        assert fleet.calls() == {}


@pytest.mark.parametrize(
    "header", ["x-original-url", "x-rewrite-url", "x-forwarded-prefix", "x-forwarded-path"]
)
def test_a_header_does_not_move_a_request(fleet, header):
    opened = spell(fleet, "/mcp/x", ["eu-a"], headers={header: CHAT})
    assert (opened.status, opened.code) == (403, "path_not_permitted")
    served = spell(fleet, CHAT, ["eu-a"], headers={header: "/health/liveliness"})
    assert served.status == 200, served.body
    assert fleet.calls() == {"eu-a": 1}


PREFLIGHT = {
    "origin": "https://app.example.com",
    "access-control-request-method": "POST",
    "access-control-request-headers": "x-llm-permit",
}


@pytest.mark.parametrize("target", [CHAT, "/v1%2fchat/completions", "/v1/chat/completions/"])
def test_a_preflight_is_answered_whatever_the_spelling(fleet, target):
    answer = spell(fleet, target, ELSEWHERE, method="OPTIONS", headers=PREFLIGHT)
    assert answer.status == 200
    assert "access-control-allow-origin" in answer.headers
    assert fleet.calls() == {}


@pytest.fixture(scope="module")
def shared_rooted_fleet(tmp_path_factory):
    # With a root path LiteLLM writes it into the UI's files: into a copy, not into the installed package.
    env = {"SERVER_ROOT_PATH": ROOT, "LITELLM_UI_PATH": str(tmp_path_factory.mktemp("ui"))}
    with Fleet(env=env) as fleet:
        yield fleet.ready()


@pytest.fixture
def rooted_fleet(shared_rooted_fleet):
    shared_rooted_fleet.clear()
    yield shared_rooted_fleet
    assert shared_rooted_fleet.out_of_set() == []


class TestUnderARootPath:
    GOVERNED = (
        f"{ROOT}{CHAT}",
        CHAT,
        f"{ROOT}%2fv1/chat/completions",
        f"/%67ateway{CHAT}",
    )
    REFUSED = (
        f"http://other.example{ROOT}{CHAT}",
        f"{ROOT}{ROOT}{CHAT}",
        f"/{ROOT}{CHAT}",
        f"{ROOT}/{CHAT}",
        f"{ROOT}x{CHAT}",
        f"{ROOT.upper()}{CHAT}",
        f"{ROOT}{CHAT}/",
        f"{ROOT}/mcp/x",
        f"{ROOT}/../{CHAT}",
        f"{CHAT}{ROOT}",
    )

    @pytest.mark.parametrize("target", GOVERNED)
    def test_a_governed_spelling_is_served_inside_the_permit(self, rooted_fleet, target):
        answer = spell(rooted_fleet, target, ["eu-a"])
        assert answer.status == 200, answer.body
        assert rooted_fleet.calls() == {"eu-a": 1}

    @pytest.mark.parametrize("target", GOVERNED)
    def test_another_permit_sends_nothing(self, rooted_fleet, target):
        answer = spell(rooted_fleet, target, ELSEWHERE)
        assert (answer.status, answer.code) == (403, "not_authorized")
        assert rooted_fleet.calls() == {}

    @pytest.mark.parametrize("target", REFUSED)
    @pytest.mark.parametrize("endpoints", [["eu-a"], ELSEWHERE], ids=["valid", "elsewhere"])
    def test_another_spelling_is_refused(self, rooted_fleet, target, endpoints):
        answer = spell(rooted_fleet, target, endpoints)
        assert (answer.status, answer.code) == (403, "path_not_permitted")
        assert rooted_fleet.calls() == {}

    @pytest.mark.parametrize("target", [CHAT, f"{ROOT}{CHAT}"])
    def test_a_preflight_is_answered(self, rooted_fleet, target):
        answer = spell(rooted_fleet, target, ELSEWHERE, method="OPTIONS", headers=PREFLIGHT)
        assert answer.status == 200
        assert rooted_fleet.calls() == {}
