import logging

import httpx
import pytest
import respx
from permit_signing import ALGORITHMS, ISSUER, jwk, jwks

from litellm_plugin.errors import ConfigurationError, KeysUnavailable
from litellm_plugin.permit import FileKeys, KeyDocumentError, KeyFormat, RefreshTimes, UrlKeys

URL = "https://policy.example.com/jwks.json"
LIMIT_BYTES = 256 * 1024
DOCUMENT = jwks(jwk("P-256", kid="ec"))
LONGEST = DOCUMENT.ljust(LIMIT_BYTES)


class EndlessFile:
    """A file that gives as many bytes as it is asked for, and says how many that were."""

    def __init__(self):
        self.asked_bytes = []

    def open(self, mode):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def read(self, size):
        self.asked_bytes.append(size)
        return DOCUMENT.ljust(size)


def url_keys():
    return UrlKeys(URL, issuer=ISSUER, algorithms=ALGORITHMS)


def file_keys(path):
    return FileKeys(path, KeyFormat.JWKS, issuer=ISSUER, algorithms=ALGORITHMS)


def test_plain_http_is_refused_where_nobody_allowed_it():
    with pytest.raises(ConfigurationError):
        UrlKeys(URL.replace("https", "http"), issuer=ISSUER, algorithms=ALGORITHMS)


@pytest.mark.parametrize("scheme", ["ftp", "gopher", "ws", "wss", "httpx"])
def test_no_other_scheme_is_taken_though_http_is_allowed(scheme):
    with pytest.raises(ConfigurationError):
        UrlKeys(URL.replace("https", scheme), issuer=ISSUER, algorithms=ALGORITHMS, allow_http=True)


def test_times_that_nobody_set():
    assert RefreshTimes() == RefreshTimes(interval_s=300, max_stale_s=3_600, cooldown_s=30, timeout_s=5)


def test_the_longest_file_is_read(tmp_path):
    path = tmp_path / "jwks.json"
    path.write_bytes(LONGEST)
    source = file_keys(path)

    source.load(0)

    assert source.age_s(0) == 0


def test_a_longer_file_is_refused_though_its_keys_stand_first(tmp_path):
    path = tmp_path / "jwks.json"
    path.write_bytes(LONGEST + b" ")

    with pytest.raises(KeyDocumentError):
        file_keys(path).load(0)


def test_no_more_of_a_file_is_read_than_tells_that_it_is_too_long():
    file = EndlessFile()

    with pytest.raises(KeyDocumentError):
        file_keys(file).load(0)

    assert file.asked_bytes == [LIMIT_BYTES + 1]


@respx.mock
async def test_the_longest_answer_is_read():
    respx.get(URL).respond(content=LONGEST)
    source = url_keys()

    await source.refresh(0)

    assert source.age_s(0) == 0


@respx.mock
async def test_a_longer_answer_is_refused_though_its_keys_stand_first():
    respx.get(URL).respond(content=LONGEST + b" ")
    source = url_keys()

    await source.refresh(0)

    with pytest.raises(KeysUnavailable):
        source.current(0)


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "x-unknown"])
@respx.mock
async def test_an_answer_that_says_it_is_encoded_is_refused(encoding):
    respx.get(URL).respond(stream=httpx.ByteStream(DOCUMENT), headers={"content-encoding": encoding})
    source = url_keys()

    await source.refresh(0)

    with pytest.raises(KeysUnavailable):
        source.current(0)


@pytest.mark.parametrize("status", [199, 201, 203, 206, 304, 404])
@respx.mock
async def test_an_answer_of_another_status_is_refused_though_it_holds_keys(status):
    respx.get(URL).respond(status, content=DOCUMENT)
    source = url_keys()

    await source.refresh(0)

    with pytest.raises(KeysUnavailable):
        source.current(0)


@respx.mock
async def test_a_refresh_that_nobody_made_in_time_stays_due():
    respx.get(URL).respond(content=DOCUMENT)
    source = url_keys()

    await source.refresh(0)

    assert source.is_due(1_000)


@respx.mock
async def test_an_unknown_kid_long_after_the_last_one_wishes_again():
    respx.get(URL).respond(content=DOCUMENT)
    source = url_keys()
    source.note_unknown_kid(0)
    await source.refresh(0)

    source.note_unknown_kid(100)

    assert source.is_due(100)


@respx.mock
async def test_an_answer_without_content_encoding_is_asked_for():
    route = respx.get(URL).respond(content=DOCUMENT)

    await url_keys().refresh(0)

    assert route.calls.last.request.headers["accept-encoding"] == "identity"


@respx.mock
async def test_a_first_load_that_failed_is_logged(caplog):
    respx.get(URL).mock(side_effect=httpx.ConnectError("down"))

    with caplog.at_level(logging.WARNING, logger="LiteLLM Proxy.permit_router"):
        await url_keys().refresh(0)

    assert [record.levelname for record in caplog.records] == ["WARNING"]
