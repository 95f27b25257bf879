"""The listening sockets, and what accepted ones inherit of them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.cli.listening import HttpServer, http_config, listening_sockets
from appliance.errors import BadSettings
from appliance.settings import ServerOptions
from tests.api.scripted_client import ScriptedClient, gateway_around, http_to
from tests.serve.server import free_port


def test_accepted_sockets_send_at_once(tmp_path: Path) -> None:
    """Nagle's algorithm would hold back each response on a kept connection for 40 ms."""
    settings = ServerOptions(port=free_port(), models_dir=tmp_path, state_dir=tmp_path)
    [listening] = listening_sockets(settings)
    with (
        listening,
        socket.create_connection((settings.host, settings.port)),
    ):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


def listen(folder: Path, host: str, port: int | None = None) -> list[socket.socket]:
    return listening_sockets(
        ServerOptions(host=host, port=port or free_port(), models_dir=folder, state_dir=folder)
    )


def accepts(sockets: list[socket.socket], host: str) -> bool:
    """Whether one of them takes a connection to `host`, which sends at once."""
    port = sockets[0].getsockname()[1]
    try:
        client = socket.create_connection((host, port), timeout=10)
    except OSError:
        return False
    with client:
        for sock in sockets:
            sock.setblocking(False)
            try:
                accepted, _ = sock.accept()
            except BlockingIOError:
                continue
            with accepted:
                return bool(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
    return False


@pytest.mark.parametrize(
    ("host", "reached_at", "not_at"),
    [
        ("localhost", ["127.0.0.1", "::1"], []),
        ("LOCALHOST.", ["127.0.0.1", "::1"], []),
        ("::", ["127.0.0.1", "127.0.0.2", "::1"], []),
        ("0.0.0.0", ["127.0.0.1"], ["::1"]),
        ("127.0.0.1", ["127.0.0.1"], ["127.0.0.2", "::1"]),
        ("::1", ["::1"], ["127.0.0.1"]),
        ("127.1", ["127.0.0.1"], ["::1"]),
    ],
)
@needs_ipv6
def test_a_host_is_listened_on_at_all_its_addresses(
    tmp_path: Path, host: str, reached_at: list[str], not_at: list[str]
) -> None:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(sock) for sock in listen(tmp_path, host)]
        assert [address for address in reached_at if not accepts(sockets, address)] == []
        assert [address for address in not_at if accepts(sockets, address)] == []


def no_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    create_server = socket.create_server

    def without_ipv6(address: Any, *, family: Any = socket.AF_INET, **options: Any) -> Any:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return create_server(address, family=family, **options)

    monkeypatch.setattr(socket, "create_server", without_ipv6)


def test_without_ipv6_localhost_is_listened_on_and_the_rest_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_ipv6(monkeypatch)
    [sock] = listen(tmp_path, "localhost")
    with sock:
        assert accepts([sock], "127.0.0.1")
    for host, instead in (("::", "0.0.0.0"), ("::1", "127.0.0.1")):
        with pytest.raises(BadSettings, match=f"has no IPv6.*--host {instead}"):
            listen(tmp_path, host)


def test_a_name_that_is_taken_at_one_address_is_refused_and_nothing_stays_open(
    tmp_path: Path,
) -> None:
    port = free_port()
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(BadSettings) as raised,
    ):
        listen(tmp_path, "localhost", port)
    assert raised.value.message == (
        f"Cannot listen on localhost port {port}: Address already in use. 'appliance' shows "
        "whether it is a server of ours, and 'appliance stop' ends that; or choose another --port."
    )
    for sock in listen(tmp_path, "localhost", port):
        sock.close()


def test_an_address_or_a_name_that_is_nobodys_names_the_way_out(tmp_path: Path) -> None:
    for host in ("192.0.2.1", "nowhere.invalid"):
        with pytest.raises(BadSettings, match=f"Cannot listen on {host} .* this machine has"):
            listen(tmp_path, host)


def test_a_loopback_name_that_leads_elsewhere_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No key is asked for there: it must not be open to others."""

    def astray(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("0.0.0.0", 8080))]

    monkeypatch.setattr(socket, "getaddrinfo", astray)
    with pytest.raises(BadSettings, match=r"chat.localhost should be this machine alone, .*0\.0"):
        listen(tmp_path, "chat.localhost")


# --- which names and pages are let in -------------------------------------------------


@pytest.mark.parametrize(
    ("options", "keys", "statuses"),
    [
        ({}, [], (200, 403)),
        ({"allowed_host": ("llm.example.org",)}, [], (200, 200)),
        ({}, ["secret"], (200, 200)),
        ({"host": "0.0.0.0"}, ["secret"], (200, 200)),
        ({"host": "0.0.0.0", "allowed_host": ("other.example.org",)}, ["secret"], (200, 403)),
        ({"host": "localhost."}, [], (200, 403)),
        ({"host": "chat.localhost"}, [], (200, 403)),
    ],
)
async def test_names_are_checked_where_no_key_is_or_where_some_are_allowed(
    tmp_path: Path, options: dict[str, Any], keys: list[str], statuses: tuple[int, int]
) -> None:
    settings = ServerOptions(models_dir=tmp_path, state_dir=tmp_path, **options)
    app: Any = http_config(settings, gateway_around(ScriptedClient(), keys), 1 << 20).app
    found = []
    for host in ("localhost:8080", "llm.example.org"):
        async with http_to(app, host=host) as http:
            found.append((await http.get("/health")).status_code)
    assert (*found,) == statuses


async def test_pages_that_are_allowed_by_the_option_are_let_in(tmp_path: Path) -> None:
    origin = "http://localhost:3000"
    asked = {"origin": origin, "access-control-request-method": "POST"}
    for allowed, status in (((origin,), 204), ((), 403)):
        settings = ServerOptions(models_dir=tmp_path, state_dir=tmp_path, allow_origin=allowed)
        app: Any = http_config(settings, gateway_around(ScriptedClient()), 1 << 20).app
        async with http_to(app) as http:
            assert (await http.options("/v1/models", headers=asked)).status_code == status


@needs_ipv6
async def test_one_server_answers_at_all_addresses_and_stops(tmp_path: Path) -> None:
    settings = ServerOptions(
        host="localhost", port=free_port(), models_dir=tmp_path, state_dir=tmp_path
    )
    server = HttpServer(http_config(settings, gateway_around(ScriptedClient()), 1 << 20))
    sockets = listening_sockets(settings)
    serving = asyncio.create_task(server.serve(sockets=sockets))
    async with httpx.AsyncClient() as http:
        for host in ("127.0.0.1", "[::1]", "localhost"):
            response = await http.get(f"http://{host}:{settings.port}/health", timeout=30)
            assert response.json()["status"] == "ok"
    server.should_exit = True
    await serving
    assert not [sock for sock in sockets if sock.fileno() != -1]
