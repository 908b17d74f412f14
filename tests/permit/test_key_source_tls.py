from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from permit_signing import ALGORITHMS, ISSUER, jwk, jwks, private_key

from litellm_plugin.errors import KeysUnavailable
from litellm_plugin.permit import UrlKeys

HOST = "127.0.0.1"
DOCUMENT = jwks(jwk("P-256", kid="ec"))
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s" % (len(DOCUMENT), DOCUMENT)


def certificate():
    """A certificate of this host that only its own key vouches for."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder(name, name, private_key("P-256").public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False
        )
    )
    return builder.sign(private_key("P-256"), hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.fixture
def pem_file(tmp_path):
    """The certificate and its private key."""
    path = tmp_path / "server.pem"
    key = private_key("P-256").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(certificate() + key)
    return path


async def answer(reader, writer):
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER)
        await writer.drain()
    writer.close()


@pytest.fixture
async def url(pem_file):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem_file)
    async with await asyncio.start_server(answer, HOST, 0, ssl=context) as server:
        yield f"https://{HOST}:{server.sockets[0].getsockname()[1]}/jwks.json"


def url_keys(url):
    return UrlKeys(url, issuer=ISSUER, algorithms=ALGORITHMS)


async def test_keys_of_a_server_that_nobody_vouches_for_are_not_taken(url):
    source = url_keys(url)

    await source.refresh(0)

    with pytest.raises(KeysUnavailable):
        source.current(0)


async def test_keys_are_taken_from_whom_the_trust_store_of_the_start_vouches_for(url, pem_file, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(pem_file))
    source = url_keys(url)
    monkeypatch.delenv("SSL_CERT_FILE")

    await source.refresh(0)

    assert source.current(0).keys[0].kid == "ec"
