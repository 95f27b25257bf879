"""A Unix socket: its mode, what lies at its path, and its end."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from appliance.cli.network.unix_socket import bound, removal
from appliance.errors import BadSettings
from appliance.settings import ServerOptions
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around
from tests.cli.network.conftest import Listen


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "appliance.sock"


@pytest.fixture
def listening(path: Path) -> Iterator[socket.socket]:
    with bound(path, 0o660) as sock:
        yield sock


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_it_has_its_mode_whatever_the_mask(path: Path, mode: int, mask: int) -> None:
    before = os.umask(mask)
    try:
        with bound(path, mode):
            assert stat.S_IMODE(path.stat().st_mode) == mode
    finally:
        os.umask(before)


def test_a_socket_that_a_dead_server_left_is_replaced(path: Path) -> None:
    bound(path, 0o660).close()
    assert path.is_socket()
    with bound(path, 0o660) as sock, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        sock.accept()[0].close()


def test_one_on_which_somebody_listens_stays(path: Path, listening: socket.socket) -> None:
    inode = path.stat().st_ino
    with pytest.raises(BadSettings, match="a server listens there"):
        bound(path, 0o660)
    assert path.stat().st_ino == inode
    # also where nobody is let in at the moment: the first probe waits still
    listening.listen(0)
    with pytest.raises(BadSettings, match="a server listens there"):
        bound(path, 0o660)


def test_what_is_no_socket_stays(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(BadSettings, match="a file that is no socket"):
        bound(path, 0o660)
    assert path.read_text() == "precious"


def test_a_folder_that_is_not_there_and_a_long_path_are_named(path: Path) -> None:
    with pytest.raises(BadSettings, match="No such file or directory"):
        bound(path / "below", 0o660)
    with pytest.raises(BadSettings, match=r"longer than .*103 bytes"):
        bound(path.with_name("x" * 104), 0o660)


def test_it_is_removed_at_the_end_but_not_another_servers(path: Path) -> None:
    with bound(path, 0o660):
        remove = removal(path)
    remove()
    assert not path.exists()
    remove()  # nothing left to do
    with bound(path, 0o660):
        remove = removal(path)
    path.rename(path.with_suffix(".old"))  # its inode is not given to the next one
    with bound(path, 0o660):
        remove()
        assert path.is_socket()


@pytest.mark.parametrize(
    ("options", "host", "status"),
    [
        ({}, "localhost", 200),
        ({}, "whatever.example.org", 200),  # as a proxy in front passes it on
        ({"allowed_host": ("llm.example.org",)}, "llm.example.org", 200),
        ({"allowed_host": ("llm.example.org",)}, "other.example.org", 403),
    ],
)
async def test_a_server_answers_there_to_any_name_unless_some_are_allowed(
    tmp_path: Path,
    path: Path,
    listen: Listen,
    options: dict[str, tuple[str]],
    host: str,
    status: int,
) -> None:
    settings = ServerOptions(
        host=f"unix:{path}", models_dir=tmp_path, state_dir=tmp_path, **options
    )
    listen(settings, gateway_around(ScriptedClient(*ANSWER)))
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    async with httpx.AsyncClient(transport=transport, timeout=30) as http:
        response = await http.post(
            f"http://{host}/v1/chat/completions?a=1",
            json={"messages": [{"role": "user", "content": "Hello"}], "unknown": 1},
        )
    assert response.status_code == status
    if status == 200:
        assert response.json()["choices"][0]["message"]["content"] == "It was a café…"
