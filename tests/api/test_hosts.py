"""The names under which a server is asked: any loopback name, what was allowed, and none
that a web page could have made up.
"""

from __future__ import annotations

import asyncio

import httpx
import pytest

from appliance.api.app import create_app
from tests.api.scripted_client import ScriptedClient, gateway_around, http_to
from tests.api.serving import Serve


async def ask(host: str, *allowed: str) -> httpx.Response:
    app = create_app(gateway_around(ScriptedClient()), allowed_hosts=allowed)
    async with http_to(app, host=host) as http:
        return await http.get("/v1/models")


@pytest.mark.parametrize(
    "host",
    [
        "localhost.:8080",
        "chat.localhost:3000",
        "127.0.0.2:8080",
        "127.1",
        "0.0.0.0:8080",
        "0:8080",
        "[::]:8080",
        "[::1]",
        "[::ffff:127.0.0.1]:8080",
        "ip6-localhost:8080",
        "localhost:",
    ],
)
async def test_any_loopback_name_is_ours(host: str) -> None:
    assert (await ask(host)).status_code == 200


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("llm.example.org", "llm.example.org"),
        ("LLM.example.org.:443", "llm.example.org"),
        ("a.b.example.org", "*.example.org"),
        ("llm", "llm"),
        ("10.0.0.1:8080", "10.0.0.1"),
        ("[fd00::1]:8080", "fd00::1"),
        ("[fd00::1]", "[fd00::1]"),
        ("anything", "*"),
        ("127.0.0.1", "llm.example.org"),
    ],
)
async def test_an_allowed_name_is_ours(host: str, allowed: str) -> None:
    assert (await ask(host, allowed)).status_code == 200


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("llm.example.org", "example.org"),
        ("example.org", "*.example.org"),
        ("evilexample.org", "*.example.org"),
        ("llm.example.org.evil.example", "llm.example.org"),
        ("127.0.0.1.evil.example", "llm.example.org"),
        ("127.0.0.1@evil.example", "llm.example.org"),
        ("evil.example:127.0.0.1", "llm.example.org"),
        ("[::1]evil", "llm.example.org"),
        ("192.168.0.5:8080", "llm.example.org"),
    ],
)
async def test_no_other_name_is(host: str, allowed: str) -> None:
    assert (await ask(host, allowed)).status_code == 403


async def test_a_refusal_names_the_host_and_the_option() -> None:
    error = (await ask("llm.example.org:8443")).json()["error"]
    assert error["code"] == "foreign_host"
    assert "'llm.example.org'" in error["message"]
    assert error["message"].endswith("serve with --allowed-host llm.example.org.")
    assert len((await ask("x" * 5_000)).json()["error"]["message"]) < 600


async def test_only_http_1_0_may_name_no_host_and_nobody_two(serve: Serve) -> None:
    app = create_app(gateway_around(ScriptedClient()), allowed_hosts=())
    _, _, address = serve(app).rpartition("/")
    host, _, port = address.partition(":")
    for head, status in (
        ("GET /health HTTP/1.0\r\n", 200),
        ("GET /health HTTP/1.1\r\n", 403),
        ("GET /health HTTP/1.0\r\nHost: evil.example\r\n", 403),
        ("GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n", 403),
        ("GET http://127.0.0.1/health HTTP/1.1\r\nHost: evil.example\r\n", 403),
    ):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"{head}Connection: close\r\n\r\n".encode())
        assert (await reader.read()).startswith(f"HTTP/1.1 {status} ".encode()), head
        writer.close()
        await writer.wait_closed()
