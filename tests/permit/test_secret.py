import base64

import pytest
from permit_signing import NOW, claims, header, pem, signed, verifier

from litellm_plugin.errors import PermitRejected
from litellm_plugin.permit import KeyDocumentError, secret_keys

SECRET = bytes(range(224, 256))
PLAIN = "correct horse battery staple, twice over"


def token(secret):
    return signed(header("HS256", kid="hs"), claims(), secret, "HS256")


def accepts(text, secret):
    keys = secret_keys("GATEWAY_SECRET", {"GATEWAY_SECRET": text}, kid="hs")
    return verifier(keys=keys, algorithms=frozenset({"HS256"})).verify(token(secret), NOW, 0.0).kid == "hs"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        pytest.param("base64:" + base64.b64encode(SECRET).decode(), SECRET, id="A01-base64"),
        pytest.param(
            "base64:" + base64.urlsafe_b64encode(SECRET).decode().rstrip("="), SECRET, id="A01-base64url"
        ),
        pytest.param(PLAIN, PLAIN.encode(), id="A01-text"),
        pytest.param(f" {PLAIN}\n", PLAIN.encode(), id="A01-text-from-a-file"),
        pytest.param("ab" * 32, b"ab" * 32, id="A01-hex-is-text"),
    ],
)
def test_secret_of_a_symmetric_issuer_verifies(text, secret):
    assert accepts(text, secret)


def test_secret_that_is_not_marked_as_base64_is_text():
    with pytest.raises(PermitRejected):
        accepts(base64.b64encode(SECRET).decode(), SECRET)


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({}, id="not-set"),
        pytest.param({"GATEWAY_SECRET": " \n"}, id="R23-empty"),
        pytest.param({"GATEWAY_SECRET": "hunter2"}, id="R23-short"),
        pytest.param(
            {"GATEWAY_SECRET": "base64:" + base64.b64encode(b"hunter2" * 4).decode()}, id="R23-short-base64"
        ),
        pytest.param({"GATEWAY_SECRET": "base64:hunter2 hunter2?" + "A" * 60}, id="no-base64"),
        pytest.param({"GATEWAY_SECRET": "base64:" + "AAA!A" * 20}, id="stray-characters"),
        pytest.param({"GATEWAY_SECRET": "base64:A" + "AAAA" * 20}, id="impossible-length"),
        pytest.param({"GATEWAY_SECRET": "base64:hunter2é" + "A" * 60}, id="no-ascii"),
        pytest.param({"GATEWAY_SECRET": pem("rsa").decode()}, id="R23-public-pem"),
    ],
)
def test_other_secrets_stop_the_start_and_are_not_repeated(environ):
    with pytest.raises(KeyDocumentError) as caught:
        secret_keys("GATEWAY_SECRET", environ)
    assert "hunter2" not in str(caught.value)
    assert "GATEWAY_SECRET" not in str(caught.value)
