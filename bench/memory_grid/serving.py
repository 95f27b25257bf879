"""Starts one real server, uses every cell and every buffer of it,
and reads what it then holds.

Knows no prediction.

Memory is read from /proc: anonymous pages often, for their peak; file-mapped ones once
at the end, for while nothing else wants memory they only grow. A file that both
processes map (Python, its libraries) counts once.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx

_START_S = 120.0
_ANSWER_S = 600.0
_SAMPLE_S = 0.02
_NUM_ANSWER_TOKENS = 48


@dataclass(frozen=True)
class Measured:
    """Bytes of both processes."""

    parent_anonymous: int  # at its peak
    worker_anonymous: int  # at its peak
    model_mapped: int
    code_mapped: int  # all other files

    @property
    def anonymous(self) -> int:
        return self.parent_anonymous + self.worker_anonymous

    @property
    def total(self) -> int:
        return self.anonymous + self.model_mapped + self.code_mapped


@dataclass(frozen=True)
class GridServer:
    """A server that is ready."""

    url: str
    parent: int  # process id
    worker: int  # process id
    num_vocab: int


def measure(
    model: Path, arguments: Sequence[str], *, slots: int, ctx: int, num_vocab: int, home: Path
) -> Measured:
    """The memory of `appliance serve MODEL ARGUMENTS` once all slots have filled their
    `ctx` tokens.
    """
    with _serving(model, arguments, num_vocab, home) as server, _Peak(server) as peak:
        _fill(server, slots, ctx)
        peak.sample()
        files = _mapped_files(server)
    at = model.stat()
    model_bytes = files.pop((at.st_dev, at.st_ino), 0)
    return Measured(peak.parent, peak.worker, model_bytes, sum(files.values()))


@contextlib.contextmanager
def _serving(
    model: Path, arguments: Sequence[str], num_vocab: int, home: Path
) -> Iterator[GridServer]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "appliance",
        "serve",
        str(model),
        "--port",
        str(port),
        *arguments,
    ]
    command += ["--prefix-host-bytes", "0", "--prefix-disk-bytes", "0"]  # beside the plan's need
    env = {**os.environ, "HOME": str(home), "XDG_DATA_HOME": "", "XDG_STATE_HOME": ""}
    with (
        (home / "serve.log").open("w") as log,
        subprocess.Popen(command, env=env, stdout=log, stderr=log) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            yield GridServer(
                url, process.pid, _wait_ready(process, url, home / "serve.log"), num_vocab
            )
        finally:
            process.terminate()
            process.wait(60)


def _wait_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> int:
    """The worker's process id, once it is ready."""
    deadline_s = time.monotonic() + _START_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended: {log.read_text()[-2000:]}")
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.get(f"{url}/health").json()
            if answer["status"] == "ok":
                return int(answer["models"][0]["pid"])
        time.sleep(0.1)
    raise RuntimeError("the server did not become ready")


def _fill(server: GridServer, slots: int, ctx: int) -> None:
    """All slots at once, each with a prompt and an answer
    that together take its whole context.
    """

    def ask(slot: int) -> None:
        tokens = random.Random(slot).choices(
            range(300, server.num_vocab), k=ctx - _NUM_ANSWER_TOKENS
        )
        body = {
            "prompt": tokens,
            "max_tokens": _NUM_ANSWER_TOKENS,
            "temperature": 1.0,
            "top_p": 0.95,
        }
        httpx.post(f"{server.url}/v1/completions", json=body, timeout=_ANSWER_S).raise_for_status()

    form = {
        "prompt": [300, 301],
        "max_tokens": 8,
        "json_schema": {"properties": {"a": {"type": "string"}}},
    }
    httpx.post(f"{server.url}/v1/completions", json=form, timeout=_ANSWER_S).raise_for_status()
    with ThreadPoolExecutor(slots) as pool:
        list(pool.map(ask, range(slots)))


class _Peak:
    """Samples both processes' anonymous pages in a thread."""

    def __init__(self, server: GridServer) -> None:
        self._server = server
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.parent = self.worker = 0

    def __enter__(self) -> _Peak:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(_SAMPLE_S):
            self.sample()

    def sample(self) -> None:
        self.parent = max(self.parent, _anonymous_bytes(self._server.parent))
        self.worker = max(self.worker, _anonymous_bytes(self._server.worker))


def _anonymous_bytes(pid: int) -> int:
    found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None, "a kernel before 4.5"
    return int(found[1]) * 1024


def _mapped_files(server: GridServer) -> dict[tuple[int, int], int]:
    """Resident bytes of each mapped file, by device and inode: the larger of what the
    two processes have of it.
    """
    files: dict[tuple[int, int], int] = {}
    for pid in (server.parent, server.worker):
        for key, num_bytes in _files_of(pid).items():
            files[key] = max(files.get(key, 0), num_bytes)
    return files


def _files_of(pid: int) -> dict[tuple[int, int], int]:
    """From smaps (proc(5)): of each mapping what is resident and not anonymous."""
    files: dict[tuple[int, int], int] = {}
    key: tuple[int, int] | None = None
    rss = 0
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if re.fullmatch(r"[0-9a-f]+-[0-9a-f]+", words[0]):
            major, minor = (int(part, 16) for part in words[3].split(":"))
            inode = int(words[4])
            key = (os.makedev(major, minor), inode) if inode else None
        elif key is not None and words[0] == "Rss:":
            rss = int(words[1]) * 1024
        elif key is not None and words[0] == "Anonymous:":
            files[key] = files.get(key, 0) + rss - int(words[1]) * 1024
    return files
