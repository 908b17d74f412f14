import asyncio
import logging

import httpx
import pytest
import respx
from permit_signing import ALGORITHMS, ISSUER, jwk, jwks, pem

from litellm_plugin.errors import ConfigurationError, KeysUnavailable
from litellm_plugin.permit import FileKeys, KeyDocumentError, KeyFormat, RefreshTimes, UrlKeys

URL = "https://policy.example.com/jwks.json"
OLD = jwk("rsa", kid="old")
NEW = jwk("P-256", kid="new")
TIMES = RefreshTimes(interval_s=300, max_stale_s=3_600, cooldown_s=30)


def url_keys(**options):
    return UrlKeys(**{"url": URL, "issuer": ISSUER, "algorithms": ALGORITHMS, "times": TIMES, **options})


def file_keys(path, key_format=KeyFormat.JWKS, **options):
    return FileKeys(path, key_format, issuer=ISSUER, algorithms=ALGORITHMS, times=TIMES, **options)


def kids(source, now_s):
    return {key.kid for key in source.current(now_s).keys}


@pytest.fixture
def server():
    with respx.mock:
        yield respx.get(URL)


async def test_keys_are_unavailable_before_the_first_load(server):  # R74
    source = url_keys()

    with pytest.raises(KeysUnavailable):
        source.current(0)
    assert source.age_s(0) is None
    assert source.is_due(0)
    assert not server.called


async def test_keys_are_current_after_a_refresh(server):
    server.respond(content=jwks(OLD))
    source = url_keys()

    await source.refresh(10)

    assert kids(source, 12) == {"old"}
    assert source.age_s(12) == 2
    assert not source.is_due(309)
    assert source.is_due(310)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        pytest.param([[OLD], [OLD, NEW]], {"old", "new"}, id="C21-A05-new-key-beside-the-old"),
        pytest.param([[OLD], [OLD, NEW], [NEW]], {"new"}, id="R41-old-key-retired"),
        pytest.param([[OLD], [NEW]], {"new"}, id="C23-R41-old-key-removed-at-once"),
    ],
)
async def test_keys_follow_a_rotation(server, answers, expected):
    server.side_effect = [httpx.Response(200, content=jwks(*entries)) for entries in answers]
    source = url_keys()

    for number in range(len(answers)):
        await source.refresh(number * 300)

    assert kids(source, 900) == expected


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(httpx.Response(200, content=b"<html>"), id="C19-html"),
        pytest.param(httpx.Response(200, content=b""), id="C19-empty"),
        pytest.param(httpx.Response(200, content=b'{"keys":[]}'), id="C19-no-keys"),
        pytest.param(httpx.Response(200, content=jwks(NEW)[:-5]), id="C19-truncated"),
        pytest.param(httpx.Response(200, content=jwks(NEW) + b" " * 300_000), id="C19-too-big"),
        pytest.param(httpx.Response(200, content=b"[" * 100_000), id="C19-deep"),
        pytest.param(httpx.Response(200, content=b"[]"), id="C19-list"),
        pytest.param(httpx.Response(200, content=b"{}"), id="C19-empty-object"),
        pytest.param(httpx.Response(200, content=jwks(NEW).decode().encode("utf-16")), id="C19-utf-16"),
        pytest.param(
            httpx.Response(200, content=jwks(NEW), headers={"content-encoding": "br"}), id="compressed"
        ),
        pytest.param(httpx.Response(500, content=jwks(NEW)), id="server-error"),
        pytest.param(httpx.Response(302, headers={"location": "https://evil.example"}), id="C19-redirect"),
        pytest.param(httpx.ConnectError("down"), id="C18-A06-down"),
        pytest.param(httpx.ReadTimeout("slow"), id="C18-A06-slow"),
        pytest.param(RuntimeError("unforeseen"), id="R75-unforeseen"),
    ],
)
async def test_last_good_keys_stay_until_they_are_stale(server, answer):
    server.side_effect = [httpx.Response(200, content=jwks(OLD)), answer]
    source = url_keys()
    await source.refresh(0)

    await source.refresh(300)

    assert kids(source, 3_600) == {"old"}
    with pytest.raises(KeysUnavailable):
        source.current(3_601)


async def test_redirect_is_not_followed(server):
    elsewhere = respx.get("https://evil.example/").respond(content=jwks(NEW))
    server.respond(302, headers={"location": "https://evil.example/"})

    await url_keys().refresh(0)

    assert server.called
    assert not elsewhere.called


async def test_long_answer_is_cut_off(server):
    sent = []

    async def long_answer():
        for _ in range(100):
            sent.append(65_536)
            yield b" " * sent[-1]

    server.respond(stream=long_answer())

    await url_keys().refresh(0)

    assert sum(sent) <= 6 * 65_536


async def test_slow_answer_is_cut_off(server):  # C19
    async def drip(request):
        await asyncio.sleep(60)

    server.side_effect = drip
    source = url_keys(times=RefreshTimes(timeout_s=0.01))

    await source.refresh(0)

    with pytest.raises(KeysUnavailable):
        source.current(0)


async def test_cancelled_refresh_is_not_swallowed(server):
    async def hang(request):
        await asyncio.sleep(60)

    server.side_effect = hang
    task = asyncio.create_task(url_keys().refresh(0))
    await asyncio.sleep(0)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_failed_refresh_is_retried_after_the_cooldown(server):
    source = url_keys()
    server.respond(content=jwks(OLD))
    await source.refresh(0)
    server.respond(500)

    await source.refresh(300)

    assert not source.is_due(329)
    assert source.is_due(330)


async def test_a_first_load_that_failed_is_retried_soon(server):  # C17
    server.respond(500)
    source = url_keys()

    await source.refresh(0)

    assert not source.is_due(1)
    assert source.is_due(2)


async def test_unknown_kids_wish_for_one_refresh_per_cooldown(server):  # R37, C21, C22
    server.respond(content=jwks(OLD))
    source = url_keys()
    await source.refresh(0)
    refreshed_s = []

    for now_s in range(100, 190):
        source.note_unknown_kid(now_s)
        if source.is_due(now_s):
            await source.refresh(now_s)
            refreshed_s.append(now_s)

    assert refreshed_s == [100, 130, 160]


async def test_changes_of_state_are_logged_once(server, caplog):
    server.side_effect = [
        httpx.Response(200, content=jwks(OLD)),
        *[httpx.ConnectError("https://user:password@policy.example.com")] * 3,
        *[httpx.Response(200, content=jwks(OLD, {"kty": "oct"}))] * 2,
    ]
    source = url_keys()

    with caplog.at_level(logging.INFO, logger="LiteLLM Proxy.permit_router"):
        for now_s in range(6):
            await source.refresh(now_s)

    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "INFO", "WARNING"]
    assert "password" not in caplog.text


@pytest.mark.parametrize(
    ("url", "allow_http"),
    [
        pytest.param("https://policy.example.com/jwks", False, id="https"),
        pytest.param("http://127.0.0.1:8080/jwks", False, id="loopback"),
        pytest.param("http://[::1]/jwks", False, id="loopback-v6"),
        pytest.param("http://localhost/jwks", False, id="localhost"),
        pytest.param("http://policy.internal/jwks", True, id="http-that-is-allowed"),
    ],
)
def test_url_that_keys_may_come_from(url, allow_http):
    url_keys(url=url, allow_http=allow_http)


@pytest.mark.parametrize(
    ("url", "allow_http"),
    [
        pytest.param("http://policy.example.com/jwks", False, id="http"),
        pytest.param("http://localhost.example.com/jwks", False, id="looks-like-localhost"),
        pytest.param("http://10.0.0.1/jwks", False, id="private-address"),
        pytest.param("file:///etc/keys", True, id="file"),
        pytest.param("https:///jwks", True, id="no-host"),
        pytest.param("", True, id="empty"),
    ],
)
def test_other_urls_stop_the_start(url, allow_http):
    with pytest.raises(ConfigurationError):
        url_keys(url=url, allow_http=allow_http)


def test_jwks_file_is_loaded_at_the_start(tmp_path):
    path = tmp_path / "jwks.json"
    path.write_bytes(jwks(OLD))
    source = file_keys(path)

    source.load(5)

    assert kids(source, 5) == {"old"}
    assert not source.is_due(6)


def test_pem_file_is_loaded_under_its_kid(tmp_path):
    path = tmp_path / "key.pem"
    path.write_bytes(pem("P-256"))
    source = file_keys(path, KeyFormat.PEM, kid="k")

    source.load(0)

    assert kids(source, 0) == {"k"}


@pytest.mark.parametrize(
    "content", [None, b"half", b"{}" + b" " * 300_000], ids=["absent", "broken", "too-big"]
)
def test_unusable_file_stops_the_start(tmp_path, content):
    path = tmp_path / "jwks.json"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(KeyDocumentError):
        file_keys(path).load(0)


async def test_replaced_file_is_read_at_the_next_refresh(tmp_path):  # C24
    path = tmp_path / "jwks.json"
    path.write_bytes(jwks(OLD))
    source = file_keys(path)
    source.load(0)

    path.write_bytes(jwks(NEW))
    await source.refresh(300)

    assert kids(source, 300) == {"new"}


@pytest.mark.parametrize("content", [None, b'{"keys":[{"kty"'], ids=["removed", "half-written"])
async def test_last_good_keys_outlive_a_broken_file(tmp_path, content):  # C24
    path = tmp_path / "jwks.json"
    path.write_bytes(jwks(OLD))
    source = file_keys(path)
    source.load(0)

    path.unlink() if content is None else path.write_bytes(content)
    await source.refresh(300)

    assert kids(source, 300) == {"old"}
