from __future__ import annotations

import json

import pytest

from litellm_plugin.errors import PermitRejected, Reason, Verdict
from litellm_plugin.proxy import denial


def a_body(template="/v1/chat/completions", reason=Reason.NOT_AUTHORIZED):
    return json.loads(
        denial.body(
            Verdict(reason, "No."),
            request_id="r-1",
            policy_version="42",
            decision_id="d-1",
            template=template,
        )
    )


def headers_of(reason, retry_after_s=None):
    return dict(denial.headers(Verdict(reason, "No."), retry_after_s))


@pytest.mark.parametrize("reason", Reason)
def test_the_body_says_why_and_for_which_request(reason):
    assert a_body(reason=reason) == {
        "error": {
            "type": "permit_error",
            "code": str(reason),
            "message": "No.",
            "request_id": "r-1",
            "policy_version": "42",
            "decision_id": "d-1",
        }
    }


@pytest.mark.parametrize(
    ("rejected", "message"),
    [
        pytest.param(
            PermitRejected(Reason.CLAIM_INVALID, "exp", "a lifetime of at most 300 s"),
            "The permit is not valid here: claim_invalid (exp): expected a lifetime of at most 300 s."
            " Ask the policy gateway for a new one.",
            id="detail-and-expected",
        ),
        pytest.param(
            PermitRejected(Reason.SIGNATURE_INVALID, expected="a signature by the issuer's key"),
            "The permit is not valid here: signature_invalid: expected a signature by the issuer's key."
            " Ask the policy gateway for a new one.",
            id="expected-alone",
        ),
        pytest.param(
            PermitRejected(Reason.REPLAYED, "all 3 tries are used"),
            "The permit is not valid here: replayed (all 3 tries are used). Ask the policy gateway for a new one.",
            id="detail-alone",
        ),
        pytest.param(
            PermitRejected(Reason.INTERNAL_ERROR),
            "The permit router failed; nothing was sent to a provider.",
            id="internal-error",
        ),
    ],
)
def test_the_verdict_on_a_permit_says_what_was_expected(rejected, message):
    assert denial.verdict_of(rejected) == Verdict(rejected.reason, message)


def test_anthropics_path_gets_anthropics_outer_type():
    assert a_body("/v1/messages") == {"type": "error", **a_body()}


@pytest.mark.parametrize("template", ["/v1/messages/count_tokens", "/v1/responses", None])
def test_other_paths_get_none(template):
    assert a_body(template) == a_body()


@pytest.mark.parametrize("reason", Reason)
def test_official_clients_are_told_whether_to_try_again(reason):
    lines = headers_of(reason)
    retry = {b"retry-after": b"1"} if reason.is_temporary else {b"x-should-retry": b"false"}
    challenge = {b"www-authenticate": b'Permit error="invalid_permit"'} if reason.status == 401 else {}
    assert lines == {b"content-type": b"application/json", **retry, **challenge}


@pytest.mark.parametrize(
    ("asked_s", "written"),
    [
        pytest.param(None, b"1", id="nothing-asked"),
        pytest.param(0.0, b"1", id="zero"),
        pytest.param(-5.0, b"1", id="negative"),
        pytest.param(2.0, b"2", id="as-asked"),
        pytest.param(2.2, b"3", id="not-before"),
        pytest.param(60.0, b"60", id="limit"),
        pytest.param(1e9, b"60", id="huge"),
        pytest.param(float("inf"), b"60", id="infinite"),
    ],
)
def test_retry_after_is_clamped(asked_s, written):
    assert headers_of(Reason.UNAVAILABLE, asked_s)[b"retry-after"] == written


async def test_the_whole_denial_is_sent_with_its_length():
    sent = []

    async def send(message):
        sent.append(message)

    await denial.send_http(send, Verdict(Reason.EXPIRED, "No."), b"{}", [(b"a", b"b")])
    assert sent == [
        {"type": "http.response.start", "status": 401, "headers": [(b"a", b"b"), (b"content-length", b"2")]},
        {"type": "http.response.body", "body": b"{}"},
    ]


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        pytest.param(Reason.EXPIRED, 4401, id="401"),
        pytest.param(Reason.PATH_NOT_PERMITTED, 4403, id="403"),
        pytest.param(Reason.NOT_READY, 4503, id="503"),
        pytest.param(Reason.INTERNAL_ERROR, 4403, id="500"),
        pytest.param(Reason.BODY_TOO_LARGE, 4403, id="413"),
    ],
)
async def test_a_websocket_is_closed_with_its_code(reason, code):
    sent = []

    async def send(message):
        sent.append(message)

    await denial.close_websocket(send, Verdict(reason, "No."))
    assert sent == [{"type": "websocket.close", "code": code, "reason": str(reason)}]
