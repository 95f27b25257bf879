"""`appliance serve` inside a control group:
started, watched until it is ready or killed, stopped.

Knows no load.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.cli.bench.stream import Endpoint
from appliance.fit.plan.footprint import largest_body_bytes
from bench.memory_groups.groups import MemoryGroup

ROOT = Path(__file__).parents[2]
_HOST = "127.0.0.1"
_START_S = 240.0
_STOP_S = 20.0
_POLL_S = 0.1


class Killed(Exception):
    """The kernel ended a process of the group, or the server ended by itself; the text
    says which and when.
    """


@dataclass(frozen=True)
class Home:
    """Where a server finds and leaves its files."""

    models: Path
    state: Path
    log: Path
    environment: Mapping[str, str] | None = None  # None: our own


@dataclass(frozen=True, kw_only=True)
class Served:
    """What a server reports that it serves."""

    quantization: str
    kv_type: str
    ctx: int  # tokens
    kv_cells: int  # tokens
    slots: int


class GroupServer:
    """A running server; `port` is on loopback."""

    def __init__(
        self, process: subprocess.Popen[bytes], port: int, group: MemoryGroup, model: str
    ) -> None:
        self._process = process
        self._group = group
        self._port = port
        self.endpoint = Endpoint(_HOST, port, model, max_request_s=1800)

    def await_ready(self) -> Served:
        """Raises `Killed`."""
        deadline_s = time.monotonic() + _START_S
        while time.monotonic() < deadline_s:
            self.check()
            with contextlib.suppress(OSError, http.client.HTTPException):  # not listening yet
                if (health := self.health())["status"] == "ok":
                    model = health["models"][0]
                    return Served(**{name: model[name] for name in Served.__dataclass_fields__})
            time.sleep(_POLL_S)
        raise Killed(f"not ready after {_START_S:.0f} s")

    def check(self) -> None:
        """Raises `Killed` if anything of it was."""
        if self._group.counters().num_oom_kills:
            raise Killed("killed for want of memory")
        if self._process.poll() is not None:
            raise Killed(f"the server ended with {self._process.returncode}")

    def health(self) -> dict[str, Any]:
        with contextlib.closing(
            http.client.HTTPConnection(_HOST, self._port, timeout=10)
        ) as connection:
            connection.request("GET", "/health")
            found: dict[str, Any] = json.load(connection.getresponse())
            return found

    def post_largest_body(self, ctx: int) -> None:
        """A body as large as this context allows, of what takes most memory to parse;
        it is refused.
        """
        element = b'{"":1},'
        body = b'{"prompt":[' + element * ((largest_body_bytes(ctx) - 16) // len(element)) + b"0]}"
        with contextlib.closing(
            http.client.HTTPConnection(_HOST, self._port, timeout=60)
        ) as connection:
            connection.request(
                "POST", "/v1/completions", body, {"Content-Type": "application/json"}
            )
            status = connection.getresponse().status
        if status != http.client.BAD_REQUEST:
            raise Killed(f"a body of {len(body)} bytes ended in status {status}")

    def complete_in_form(self) -> None:
        """One answer kept to a schema: from then on the worker holds what it compiles
        grammars with.
        """
        asked = {
            "prompt": [300, 301],
            "max_tokens": 8,
            "json_schema": {"properties": {"a": {"type": "string"}}},
        }
        with contextlib.closing(
            http.client.HTTPConnection(_HOST, self._port, timeout=60)
        ) as connection:
            connection.request(
                "POST", "/v1/completions", json.dumps(asked), {"Content-Type": "application/json"}
            )
            status = connection.getresponse().status
        if status != http.client.OK:
            raise Killed(f"an answer kept to a schema ended in status {status}")

    def num_used_cells(self) -> int:
        """As of the last heartbeat, at most a second ago."""
        return int(self.health()["models"][0]["num_used_cells"])

    def stop(self) -> None:
        """In good order if it does so soon; what remains is killed with the group."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_S)


@contextlib.contextmanager
def serving(
    group: MemoryGroup, model: str, home: Home, flags: Sequence[str]
) -> Iterator[GroupServer]:
    """A server of `model` in `group` for as long as the block lasts; not ready yet."""
    port = _free_port()
    command = group.inside(
        *command_of("serve", model, home), "--port", str(port), "--drain-s", "0", *flags
    )
    with home.log.open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=home.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    server = GroupServer(process, port, group, model)
    try:
        yield server
    finally:
        server.stop()


def command_of(name: str, model: str, home: Home) -> list[str]:
    directories = ["--models-dir", str(home.models), "--state-dir", str(home.state)]
    return [sys.executable, "-m", "appliance", name, model, *directories]


def _free_port() -> int:
    with socket.create_server((_HOST, 0)) as sock:
        port: int = sock.getsockname()[1]
        return port
