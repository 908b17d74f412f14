import base64

import pytest
from permit_signing import NOW, claims, header, signed, verifier

from litellm_plugin.errors import PermitRejected
from litellm_plugin.permit import KeyDocumentError, secret_keys

NO_UTF_8 = bytes(range(0xC0, 0xE0))
# Base64 of 33 bytes needs no padding; this one ends in the letter X.
ENDS_IN_X = bytes(range(32)) + b"\x17"


def verify(text, secret):
    keys = secret_keys("GATEWAY_SECRET", {"GATEWAY_SECRET": text}, kid="hs")
    token = signed(header("HS256", kid="hs"), claims(), secret, "HS256")
    return verifier(keys=keys, algorithms=frozenset({"HS256"})).verify(token, NOW, 0.0)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        pytest.param("s" * 32, b"s" * 32, id="shortest-text"),
        pytest.param("base64:" + base64.b64encode(b"s" * 32).decode(), b"s" * 32, id="shortest-base64"),
        pytest.param("base64:" + base64.b64encode(ENDS_IN_X).decode(), ENDS_IN_X, id="base64-that-ends-in-x"),
        pytest.param(NO_UTF_8.decode("utf-8", "surrogateescape"), NO_UTF_8, id="bytes-that-are-no-utf-8"),
    ],
)
def test_every_byte_of_a_secret_counts(text, secret):
    assert verify(text, secret).kid == "hs"
    with pytest.raises(PermitRejected):
        verify(text, secret[:-1])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("s" * 31, id="text-of-31-bytes"),
        pytest.param("base64:" + base64.b64encode(b"s" * 31).decode(), id="base64-of-31-bytes"),
        pytest.param("base64:=" + base64.b64encode(b"s" * 32).decode(), id="padding-that-comes-first"),
    ],
)
def test_a_secret_that_is_short_or_misspelt_stops_the_start(text):
    with pytest.raises(KeyDocumentError):
        secret_keys("GATEWAY_SECRET", {"GATEWAY_SECRET": text})
