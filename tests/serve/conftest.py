"""Fixtures that start real servers, in a home directory of their own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Embedded
from tests.serve.server import Server, StartServer, environment, free_port


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory, embedded: Embedded) -> Path:
    """A home directory in which the embedded model is converted at the first start, and
    then stays so.
    """
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def start_server(home: Path, tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers with the given flags, which measure nothing first; whatever is
    left at the end is killed.
    """
    started: list[Server] = []

    def start(*flags: str) -> Server:
        port = free_port()
        command = [
            sys.executable,
            "-m",
            "appliance",
            "serve",
            "--no-tune",
            "--port",
            str(port),
            *flags,
        ]
        server = Server(command, port, environment(home), tmp_path)
        started.append(server)
        server.await_line(" ready: ")
        return server

    yield start
    for server in started:
        server.end()
