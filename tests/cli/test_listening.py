"""The listening socket, and what accepted ones inherit of it."""

from __future__ import annotations

import socket
from pathlib import Path

from appliance.cli.listening import listening_socket
from appliance.settings import ServerOptions
from tests.serve.server import free_port


def test_accepted_sockets_send_at_once(tmp_path: Path) -> None:
    """Nagle's algorithm would hold back each response on a kept connection for 40 ms."""
    settings = ServerOptions(port=free_port(), models_dir=tmp_path, state_dir=tmp_path)
    with (
        listening_socket(settings) as listening,
        socket.create_connection((settings.host, settings.port)),
    ):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
