"""TLS: what new connections are shown when files change, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path

import httpx
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from appliance.cli.network.certificates import Certificates
from appliance.errors import BadSettings
from appliance.settings import ServerOptions
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around
from tests.cli.network.conftest import Listen
from tests.cli.network.own_certificates import Authority
from tests.serve.server import free_port

CHAT = {"messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def cert(tmp_path: Path) -> Path:
    return tmp_path / "cert.pem"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "key.pem"


def handshake(
    certificates: Certificates,
    client: ssl.SSLContext,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    name: str | None = None,
) -> ssl.SSLObject:
    """A handshake in memory. Raises what the client raises."""
    client.minimum_version = client.maximum_version = version
    client.check_hostname = name is not None
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = client.wrap_bio(to_client, to_server, server_hostname=name)
    ours = certificates.context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (theirs, ours):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return theirs


def is_shown(certificates: Certificates, authority: Authority) -> bool:
    try:
        return bool(handshake(certificates, authority.trust()).getpeercert())
    except ssl.SSLCertVerificationError:
        return False


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", [None, "llm.example.org"])
def test_the_whole_chain_is_shown_also_to_who_names_no_host(
    cert: Path, key: Path, version: ssl.TLSVersion, name: str | None
) -> None:
    authority = Authority()
    authority.write(cert, key, "llm.example.org")
    shown = handshake(Certificates(cert, key), authority.trust(), version, name)
    assert shown.getpeercert()["subjectAltName"] == (("DNS", "llm.example.org"),)  # type: ignore[index]
    assert shown.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]


def test_older_versions_are_refused(cert: Path, key: Path) -> None:
    authority = Authority()
    authority.write(cert, key)
    certificates = Certificates(cert, key)
    assert certificates.context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert certificates.context.options & ssl.OP_NO_RENEGOTIATION


def test_changed_files_are_taken_up_and_others_are_not_read(cert: Path, key: Path) -> None:
    old, new = Authority(), Authority()
    old.write(cert, key)
    certificates = Certificates(cert, key)
    assert not certificates.refresh()
    new.write(cert, key)
    assert is_shown(certificates, old)
    assert certificates.refresh()
    assert (is_shown(certificates, old), is_shown(certificates, new)) == (False, True)


def test_a_turned_link_is_a_change(tmp_path: Path) -> None:
    old, new = Authority(), Authority()
    for folder, authority in (("1", old), ("2", new)):
        (tmp_path / folder).mkdir()
        authority.write(tmp_path / folder / "cert.pem", tmp_path / folder / "key.pem")
    live = tmp_path / "live"
    live.symlink_to("1")
    certificates = Certificates(live / "cert.pem", live / "key.pem")
    (tmp_path / "next").symlink_to("2")
    (tmp_path / "next").rename(live)
    assert certificates.refresh()
    assert is_shown(certificates, new)


def test_what_cannot_be_used_keeps_the_old_one_is_said_once_and_mended(
    cert: Path, key: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = Authority(), Authority()
    old.write(cert, key)
    certificates = Certificates(cert, key)
    new.write(cert, cert.with_name("unused.pem"))  # the certificate first, as tools do
    assert [certificates.refresh() for _ in range(3)] == [False] * 3
    assert is_shown(certificates, old)
    assert [record.getMessage() for record in caplog.records] == [
        f"The key in {key} (--tls-key) does not belong to the certificate in {cert}. The "
        "certificate from before is used on."
    ]
    cert.with_name("unused.pem").rename(key)
    assert certificates.refresh()
    assert is_shown(certificates, new)
    key.unlink()
    assert not certificates.refresh()
    assert is_shown(certificates, new)
    assert f"--tls-key {key} cannot be read: No such file" in caplog.messages[-1]


def test_other_files_replace_them_unless_they_cannot_be_used(cert: Path, key: Path) -> None:
    old, new = Authority(), Authority()
    old.write(cert, key)
    certificates = Certificates(cert, key)
    other = cert.with_name("other.pem"), cert.with_name("other.key")
    with pytest.raises(BadSettings, match=r"--tls-cert .*other.pem cannot be read"):
        certificates.replace(*other)
    assert is_shown(certificates, old)
    new.write(*other)
    certificates.replace(*other)
    assert is_shown(certificates, new)
    cert.unlink()
    assert not certificates.refresh()  # nobody looks at the former files


def test_key_and_certificate_may_be_in_one_file(cert: Path) -> None:
    issued = trustme.CA().issue_cert("127.0.0.1")
    cert.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
    Certificates(cert, None)


def test_an_encrypted_key_is_refused_and_nobody_is_asked(cert: Path, key: Path) -> None:
    Authority().write(cert, key)
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(BadSettings, match="encrypted, and nobody is there"):
        Certificates(cert, key)


def test_what_is_no_certificate_is_refused(cert: Path, key: Path) -> None:
    Authority().write(cert, key)
    cert.write_text("nothing")
    with pytest.raises(BadSettings, match="cannot be used"):
        Certificates(cert, key)


async def test_a_stream_goes_on_while_the_certificate_is_replaced(
    tmp_path: Path, cert: Path, key: Path, listen: Listen
) -> None:
    old, new = Authority(), Authority()
    old.write(cert, key)
    certificates, gate = Certificates(cert, key), asyncio.Event()
    client = ScriptedClient(*ANSWER[:2], gate, *ANSWER[2:])
    settings = ServerOptions(
        port=free_port(), tls_cert=cert, tls_key=key, models_dir=tmp_path, state_dir=tmp_path
    )
    listen(settings, gateway_around(client), certificates)
    url = f"https://127.0.0.1:{settings.port}"
    async with (
        httpx.AsyncClient(base_url=url, verify=old.trust(), timeout=30) as http,
        http.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as response,
    ):
        await client.reached_wait.wait()
        new.write(cert, key)
        assert certificates.refresh()
        async with httpx.AsyncClient(base_url=url, verify=new.trust(), timeout=30) as later:
            assert (await later.get("/health")).json()["status"] == "ok"
        async with httpx.AsyncClient(base_url=url, verify=old.trust(), timeout=30) as distrusting:
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await distrusting.get("/health")
        gate.set()
        lines = [line async for line in response.aiter_lines() if line]
        assert (await http.get("/health")).status_code == 200  # on the same connection
    assert "café" in "".join(lines)
    assert lines[-1] == "data: [DONE]"


async def test_who_speaks_no_tls_there_loses_the_connection(
    tmp_path: Path, cert: Path, key: Path, listen: Listen
) -> None:
    Authority().write(cert, key)
    settings = ServerOptions(
        port=free_port(), tls_cert=cert, tls_key=key, models_dir=tmp_path, state_dir=tmp_path
    )
    client = ScriptedClient(*ANSWER)
    listen(settings, gateway_around(client), Certificates(cert, key))
    async with httpx.AsyncClient(timeout=30) as http:
        with pytest.raises(httpx.TransportError):
            await http.post(f"http://127.0.0.1:{settings.port}/v1/chat/completions", json=CHAT)
    assert client.requests == []
