"""Fixtures that start real servers, in a home directory of their own."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.conftest import Embedded
from tests.known_machine import know_machine
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
    with contextlib.ExitStack() as ends:
        yield lambda *flags: ends.enter_context(_started(home, tmp_path, *flags))


@pytest.fixture(scope="module")
def real_server(
    real_model: Path, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """One server for all tests of a module, with a model that answers questions: see
    `real_model`.
    """
    folder = tmp_path_factory.mktemp("real")
    with _started(home, folder, str(real_model), "--ctx", "2048", "--alias", "real") as server:
        yield server


@pytest.fixture(scope="module")
def real_api(real_server: Server) -> Iterator[openai.OpenAI]:
    """OpenAI's client of it, where the model is called "real"."""
    url = f"{real_server.url}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=120) as api:
        yield api


@contextlib.contextmanager
def _started(home: Path, folder: Path, *flags: str) -> Iterator[Server]:
    if "--state-dir" in flags:
        know_machine(Path(flags[flags.index("--state-dir") + 1]))
    port = free_port()
    command = [sys.executable, "-m", "appliance", "serve", "--no-tune", "--port", str(port)]
    server = Server([*command, *flags], port, environment(home), folder)
    try:
        server.await_line(" ready: ")
        yield server
    finally:
        server.end()
