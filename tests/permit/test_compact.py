import pytest
from permit_signing import encode

from litellm_plugin.errors import PermitRejected, Reason
from litellm_plugin.permit import JoseHeader, parse_compact

HEADER = b'{"alg":"ES256","kid":"k","typ":"permit+jwt"}'
GOOD = f"{encode(HEADER)}.{encode(b'{}')}.{encode(b'signature')}"


def with_header(data):
    return f"{encode(data)}.{encode(b'{}')}.{encode(b'signature')}"


def assert_malformed(token):
    with pytest.raises(PermitRejected) as caught:
        parse_compact(token, max_bytes=16_384)
    assert caught.value.reason is Reason.PERMIT_MALFORMED


def test_well_formed_token_is_split_and_decoded():
    token = parse_compact(GOOD, max_bytes=len(GOOD))

    assert token.header == JoseHeader("ES256", "k", "permit+jwt")
    assert (token.payload, token.signature) == (b"{}", b"signature")
    assert token.signing_input.decode() == GOOD.rpartition(".")[0]


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("", id="R02-empty"),
        pytest.param("   ", id="R02-spaces"),
        *[
            pytest.param(GOOD[:5] + character + GOOD[5:], id=f"R08-character-{ord(character):x}")
            for character in " \n\t\0=+/é\u200b\ud800\u0660"
        ],
        pytest.param(GOOD + "\n", id="R08-newline-at-the-end"),
        pytest.param(GOOD.replace(".", ""), id="R09-no-dot"),
        pytest.param(GOOD.replace(".", "", 1), id="R09-one-dot"),
        pytest.param(GOOD + ".", id="R09-three-dots"),
        pytest.param(GOOD + ".YQ.YQ", id="R10-five-segments"),
        pytest.param('{"payload":"e30","signatures":[]}', id="R11-json-serialization"),
        pytest.param(f"Bearer {GOOD}", id="R12-scheme"),
        pytest.param(f'"{GOOD}"', id="R13-quoted"),
        pytest.param(GOOD[GOOD.index(".") :], id="R14-empty-header"),
        pytest.param(f"{encode(HEADER)}..YQ", id="R14-empty-payload"),
        pytest.param(GOOD[: GOOD.rindex(".") + 1], id="R14-empty-signature"),
        pytest.param(f"{encode(HEADER)}.e30.YWJjY", id="R15-impossible-length"),
        pytest.param(f"{encode(HEADER)}.e30.YR", id="R15-non-zero-trailing-bits"),
    ],
)
def test_other_text_is_malformed(token):
    assert_malformed(token)


@pytest.mark.parametrize("max_bytes", [pytest.param(len(GOOD), id="A08-exactly-at-the-cap")])
def test_longest_token_is_accepted(max_bytes):
    parse_compact(GOOD, max_bytes=max_bytes)


class Unreadable(str):
    """A text whose length can be asked, and nothing else."""

    __slots__ = ()

    def __len__(self):
        return 10_000_000

    def __iter__(self):
        raise AssertionError

    __getitem__ = encode = __iter__


@pytest.mark.parametrize(
    ("token", "max_bytes"),
    [
        pytest.param(GOOD, len(GOOD) - 1, id="R06-one-byte-above-the-cap"),
        pytest.param("a" * 10_000_000, 16_384, id="R07-ten-megabytes"),
        pytest.param(Unreadable(GOOD), 16_384, id="R07-not-looked-at"),
    ],
)
def test_longer_token_is_not_looked_at(token, max_bytes):
    with pytest.raises(PermitRejected, match="longer than the limit"):
        parse_compact(token, max_bytes=max_bytes)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(HEADER.decode().encode("utf-16"), id="R15-utf-16"),
        pytest.param(b"\xef\xbb\xbf" + HEADER, id="R15-bom"),
        pytest.param(b"\xff", id="R15-not-utf-8"),
        pytest.param(b'["alg"]', id="R16-array"),
        pytest.param(b"null", id="R16-null"),
        pytest.param(b'"ES256"', id="R16-text"),
        pytest.param(b"7", id="R16-number"),
        pytest.param(b'{"alg":"ES256","alg":"none"}', id="R17-alg-twice"),
        pytest.param(b'{"alg":"ES256","kid":"a","kid":"b"}', id="R17-kid-twice"),
        pytest.param(b'{"alg":"ES256","typ":"permit+jwt","typ":"JWT"}', id="R17-typ-twice"),
        pytest.param(b'{"alg":"ES256","\\u0061lg":"none"}', id="R17-alg-twice-escaped"),
        pytest.param(HEADER + b"x", id="R18-trailing-junk"),
        pytest.param(b'{"alg":' * 2_000, id="R19-nested"),
        pytest.param(b'{"kid":"k"}', id="R20-alg-missing"),
        pytest.param(b'{"alg":null}', id="R20-alg-null"),
        pytest.param(b'{"alg":1}', id="R20-alg-int"),
        pytest.param(b'{"alg":["ES256"]}', id="R20-alg-list"),
        pytest.param(b'{"alg":{}}', id="R20-alg-object"),
        pytest.param(b'{"alg":"ES256","typ":["permit+jwt"]}', id="R26-typ-list"),
        pytest.param(b'{"alg":"ES256","typ":null}', id="R26-typ-null"),
        pytest.param(b'{"alg":"ES256","cty":"JWT"}', id="R27-cty"),
        pytest.param(b'{"alg":"ES256","crit":[]}', id="R28-crit-empty"),
        pytest.param(b'{"alg":"ES256","crit":["exp"]}', id="R28-crit-exp"),
        pytest.param(b'{"alg":"ES256","crit":"exp"}', id="R28-crit-text"),
        pytest.param(b'{"alg":"ES256","crit":[1]}', id="R28-crit-number"),
        pytest.param(b'{"alg":"ES256","crit":["alg"]}', id="R28-crit-present-header"),
        pytest.param(b'{"alg":"ES256","crit":["unknown"]}', id="R28-crit-absent-header"),
        pytest.param(b'{"alg":"ES256","crit":["b64"],"b64":true}', id="R28-crit-b64"),
        pytest.param(b'{"alg":"ES256","b64":false}', id="R29-b64-false"),
        pytest.param(b'{"alg":"ES256","b64":"false"}', id="R29-b64-text"),
        pytest.param(b'{"alg":"ES256","b64":true}', id="R29-b64-true"),
        pytest.param(b'{"alg":"ES256","b64":0}', id="R29-b64-number"),
        pytest.param(b'{"alg":"ES256","zip":"DEF"}', id="R30-zip"),
        pytest.param(b'{"alg":"ES256","jwk":{}}', id="R31-jwk"),
        pytest.param(b'{"alg":"ES256","jku":"https://evil.example"}', id="R32-jku"),
        pytest.param(b'{"alg":"ES256","x5u":"https://evil.example"}', id="R32-x5u"),
        pytest.param(b'{"alg":"ES256","x5c":[]}', id="R33-x5c"),
        pytest.param(b'{"alg":"ES256","x5t":"a"}', id="R33-x5t"),
        pytest.param(b'{"alg":"ES256","x5t#S256":"a"}', id="R33-x5t-s256"),
        pytest.param(b'{"alg":"ES256","Kid":"k"}', id="R34-unknown-header"),
        pytest.param(b'{"alg":"ES256","kid":1}', id="R36-kid-int"),
        pytest.param(b'{"alg":"ES256","kid":null}', id="R36-kid-null"),
        pytest.param(b'{"alg":"ES256","kid":["k"]}', id="R36-kid-list"),
        pytest.param(b'{"alg":"ES256","kid":""}', id="R36-kid-empty"),
        pytest.param(b'{"alg":"ES256","kid":"../../dev/null"}', id="R38-kid-traversal"),
        pytest.param(b'{"alg":"ES256","kid":"x\' UNION SELECT 1"}', id="R38-kid-sql"),
        pytest.param(b'{"alg":"ES256","kid":"k|sleep 10"}', id="R38-kid-shell"),
        pytest.param(b'{"alg":"ES256","kid":"https://evil.example"}', id="R38-kid-url"),
        pytest.param(b'{"alg":"ES256","kid":"k\\u0000"}', id="R38-kid-nul"),
        pytest.param(b'{"alg":"ES256","kid":"k\\n"}', id="R38-kid-newline"),
        pytest.param(b'{"alg":"ES256","kid":"' + b"k" * 10_000 + b'"}', id="R38-kid-10k"),
    ],
)
def test_other_headers_are_malformed(header):
    assert_malformed(with_header(header))
