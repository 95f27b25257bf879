"""One model over two machines by llama.cpp's RPC: the helper in a network namespace of its
own where that can be made, else on loopback.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from appliance.llama.checks.rpc import has_rpc
from tests.serve.server import Server, StartServer, environment, free_port

pytestmark = pytest.mark.skipif(
    not has_rpc(), reason="the installed llama.cpp has no RPC backend (./install.sh builds it)"
)
HOST, NAMESPACE = "10.231.77.2", "appliance-test-helper"
REQUEST = {"prompt": "The old man looked at the", "max_tokens": 48, "temperature": 0}
REQUEST |= {"ignore_eos": True}
# alike with and without a helper, so that both compute the same numbers
ALIKE = ("--kernels", "off", "--kv-type", "f16", "--flash-attention", "on", "--threads", "1")


@dataclass(frozen=True)
class Place:
    """Where helpers run."""

    host: str
    prefix: Sequence[str]  # of a command


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with contextlib.ExitStack() as ends:
        try:
            ip("netns", "add", NAMESPACE)
            ends.callback(ip, "netns", "del", NAMESPACE)
            ip("link", "add", "appl-here", "type", "veth", "peer", "appl-there")
            ip("link", "set", "appl-there", "netns", NAMESPACE)
            ip("addr", "add", "10.231.77.1/24", "dev", "appl-here")
            ip("link", "set", "appl-here", "up")
            for words in (("addr", "add", f"{HOST}/24", "dev"), ("link", "set", "up", "dev")):
                ip("-n", NAMESPACE, *words, "appl-there")
        except (OSError, subprocess.CalledProcessError):
            yield Place("127.0.0.1", ())
            return
        yield Place(HOST, ("ip", "netns", "exec", NAMESPACE))


@contextlib.contextmanager
def helper(place: Place, port: int, home: Path, folder: Path) -> Iterator[Server]:
    command = [*place.prefix, sys.executable, "-m", "appliance", "rpc-worker", "--threads", "1"]
    command += ["--listen", f"{place.host}:{port}"]
    started = Server(command, port, environment(home), folder)
    try:
        started.await_line("lending this machine")
        yield started
    finally:
        started.end()


def answer(server: Server) -> str:
    got = httpx.post(f"{server.url}/v1/completions", json=REQUEST, timeout=120)
    assert got.status_code == 200, got.text
    text: str = got.json()["choices"][0]["text"]
    return text


def test_a_model_over_two_machines_outlives_one(
    place: Place, start_server: StartServer, home: Path, tmp_path: Path
) -> None:
    port = free_port()
    address = f"{place.host}:{port}"
    with helper(place, port, home, tmp_path) as lent:
        server = start_server("novels-6m", "--rpc", address, "--gpu-layers", "4", *ALIKE)
        assert f"4 of 7 layers with their KV cache fit on {address}" in server.log
        lent.await_line("a server has connected")
        together = answer(server)

        request = {**REQUEST, "max_tokens": 1500, "stream": True}
        url = f"{server.url}/v1/completions"
        with httpx.stream("POST", url, json=request, timeout=120) as stream:
            lines = stream.iter_lines()
            first = next(lines)
            assert first.startswith("data: {"), first
            kill(lent.process.pid)
            rest = [line for line in lines if line]
        assert f"{address}, which computed some of the model's layers, is gone" in rest[-1]

    server.await_line(f"the helper {address} cannot be reached")
    alone = answer(server)
    assert alone == together
    server.await_line("planned anew on what is left")

    with helper(place, port, home, tmp_path) as lent:
        unload(server)
        assert answer(server) == together
        assert "a server has connected" in lent.log, "a helper that is back is used again"


def kill(pid: int) -> None:
    """A process with its children."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in processes:
        process.kill()


def unload(server: Server) -> None:
    request: dict[str, Any] = {"model": "novels-6m", "keep_alive": 0}
    httpx.post(f"{server.url}/api/generate", json=request, timeout=60).raise_for_status()
    server.await_line("novels-6m is unloaded")


def test_what_would_listen_to_everyone_is_refused(home: Path, tmp_path: Path) -> None:
    for address, words in (
        ("0.0.0.0:50052", "0.0.0.0 may be reached by everyone"),
        ("8.8.8.8", "8.8.8.8 is a public address"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "appliance", "rpc-worker", "--listen", address],
            env={**os.environ, **environment(home)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, words in done.stderr) == (2, True), done.stderr
        assert "--insecure" in done.stderr
