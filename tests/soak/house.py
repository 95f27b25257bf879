"""A served model with a home, a state folder on a disk of its own, keys and a clock:
started, looked at, stopped and started again.

Knows no fault and no load.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from appliance.database.files import opened
from appliance.gateway.accounts.caller import CallerLimits
from appliance.gateway.accounts.key_records import FILE_NAME, MIGRATIONS, KeyTerms, create_key
from tests.serve.server import Server, environment, free_port
from tests.soak.asks import MODEL
from tests.soak.memory_group import MemoryGroup
from tests.soak.stepped_clock import SteppedClock

AWAIT_S = 120.0
_GONE_S = 10.0  # all end with the server
_STATE_BYTES = 64 << 20
_FLAGS = (
    *("--no-tune", "--slots", "4", "--ctx", "2048", "--kv-cells", "8192", "--kv-type", "f16"),
    *("--resident-prefix-cells", "1024", "--prefix-host-bytes", "32MiB"),
    *("--prefix-disk-bytes", "8MiB"),
    *("--client-timeout-s", "20", "--log-level", "info"),
)
WARDEN = "warden"
BY_DAY = KeyTerms(limits=CallerLimits(tokens_per_day=10**9))  # whose tokens are written down
_TERMS = {
    WARDEN: KeyTerms(is_admin=True, priority=100),  # sees everything, and need not wait long
    "bob": KeyTerms(),
    "alice": BY_DAY,
    "phone": KeyTerms(limits=CallerLimits(requests_per_minute=120, tokens_per_minute=20_000)),
    "agents": KeyTerms(limits=CallerLimits(tokens_per_day=10**9, concurrent_requests=2)),
}
_MARK = "SOAK_RUN"  # in the environment of each process that a run has started


class House:
    """Everything of one run is below `folder`. `close` leaves nothing behind."""

    def __init__(self, folder: Path, *, prefix_ttl_s: int = 5) -> None:
        """Mounts, limits and clocks where this machine lets us; see `missing`."""
        self.missing: dict[str, str] = {}  # what this machine does not let us do, and why
        self.url = ""
        self.lines: list[str] = []  # of servers that have ended
        self.prefix_ttl_s = prefix_ttl_s
        self._folder = folder
        self._run = uuid.uuid4().hex
        self._server: Server | None = None
        self._port = free_port()
        self._ends = contextlib.ExitStack()
        self._home = folder / "home"
        self.state = folder / "state"
        for path in (self._home, self.state):
            path.mkdir(parents=True)
        self.has_own_disk = self._mount()
        self.clock = self._made("a clock that steps", lambda: SteppedClock(folder))
        self.group = self._made(
            "a control group", lambda: self._ends.enter_context(MemoryGroup.made())
        )
        self.keys = {name: self.create_key(name, terms) for name, terms in _TERMS.items()}

    def _made(self, name: str, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except OSError as error:
            self.missing[name] = str(error)
            return None

    def _mount(self) -> bool:
        """A small disk for the state alone, so that it can be full."""
        options = f"size={_STATE_BYTES},mode=700"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "soak", str(self.state)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            self.missing["a disk of its own"] = done.stderr.strip()
            return False
        self._ends.callback(subprocess.run, ["umount", "-l", str(self.state)], check=True)
        return True

    def close(self) -> None:
        for process in self.processes():
            process.kill()
        if self._server is not None:
            self._server.end()
        self._ends.close()

    # --- the server -------------------------------------------------------------------

    @property
    def server(self) -> Server:
        assert self._server is not None, "it is not started"
        return self._server

    @property
    def pid(self) -> int:
        return self.server.process.pid

    def begin(self) -> None:
        """Starts it, and does not wait."""
        flags = (*_FLAGS, "--prefix-ttl-s", str(self.prefix_ttl_s), "--state-dir", str(self.state))
        command = [sys.executable, "-m", "appliance", "serve", MODEL, *flags]
        command += ["--port", str(self._port)]
        if self.clock is not None:
            command = [*self.clock.wrapping, *command]
        if self.group is not None:
            command = [*self.group.wrapping, *command]
        variables = {**environment(self._home), _MARK: self._run}
        self._server = Server(command, self._port, variables, self._folder)
        self.url = self._server.url

    def start(self) -> None:
        """Returns when it is ready."""
        self.begin()
        self.server.await_line(" ready: ")

    @property
    def is_ready(self) -> bool:
        return " ready: " in self.server.log

    @property
    def has_ended(self) -> bool:
        return self.server.process.poll() is not None

    def stop(self) -> int:
        """In good order. Its exit code."""
        self.server.process.terminate()
        code = self.server.process.wait(AWAIT_S)
        self.server.end()
        self.lines += self.server.lines
        return code

    def kill(self) -> list[list[str]]:
        """At once; the command lines of what is still there long after, which is then ended,
        too.
        """
        self.server.process.kill()
        self.server.process.wait(AWAIT_S)
        deadline_s = time.monotonic() + _GONE_S
        while (left := self.processes()) and time.monotonic() < deadline_s:
            time.sleep(0.05)
        commands = [process.cmdline() for process in left]
        for process in left:
            process.kill()
        self.server.end()
        self.lines += self.server.lines
        return commands

    def worker(self) -> psutil.Process:
        """Waits for one that serves."""
        pid = self.await_value(
            "a worker", lambda: self.asks("/ps").get("models", [{}])[0].get("pid")
        )
        return psutil.Process(pid)

    def processes(self) -> list[psutil.Process]:
        """All that the run has started and that still live."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                is_alive = process.status() != psutil.STATUS_ZOMBIE
                if is_alive and process.environ().get(_MARK) == self._run:
                    found.append(process)
        return found

    # --- what it says -----------------------------------------------------------------

    def asks(self, path: str) -> Any:
        """What a GET with the warden's key gives."""
        headers = {"authorization": f"Bearer {self.keys[WARDEN]}"}
        response = httpx.get(f"{self.url}{path}", headers=headers, timeout=30)
        assert response.status_code in (200, 503), response.text
        return response.json() if path != "/metrics" else response.text

    def metric(self, name: str) -> float:
        """The sum of its samples."""
        families = text_string_to_metric_families(self.asks("/metrics"))
        samples = [sample for family in families for sample in family.samples]
        return sum(sample.value for sample in samples if sample.name == name)

    def await_value(self, what: str, value: Callable[[], Any], limit_s: float = AWAIT_S) -> Any:
        """The first one that is true."""
        deadline_s = time.monotonic() + limit_s
        while not (found := value()):
            assert time.monotonic() < deadline_s, f"no {what} within {limit_s:.0f} s"
            time.sleep(0.05)
        return found

    # --- keys -------------------------------------------------------------------------

    def create_key(self, name: str, terms: KeyTerms) -> str:
        """As `appliance keys create` does, from another process than the server."""
        with opened(self.state / FILE_NAME, MIGRATIONS) as connection:
            return create_key(connection, name, terms, time.time())


def exit_on_sigterm() -> None:
    """As at Ctrl-C: what was mounted and started is undone."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


@contextlib.contextmanager
def house_in(folder: Path, *, prefix_ttl_s: int = 5) -> Iterator[House]:
    house = House(folder, prefix_ttl_s=prefix_ttl_s)
    try:
        yield house
    finally:
        house.close()
