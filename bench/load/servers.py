"""A server under load: started
from a command line, watched until ready, measured, stopped.

Knows no scenario.

Servers listen on 127.0.0.1 only. Only processes started here are ended.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from appliance.cli.bench.stream import Endpoint, now_s

HOST = "127.0.0.1"
_START_S = 180.0
_STOP_S = 60.0
_POLL_S = 0.05
_IDLE_SHARE = 0.05
_IDLE_WINDOW_S = 1.0


class ServerFailed(Exception):
    """A server ended, or did not become ready."""


@dataclass(frozen=True)
class Command:
    """How to start a server: a command line in which {port}, {model} and {dir} stand
    for what they name.

    {dir} is a directory of this server alone, empty when the run begins and kept over
    restarts.
    """

    name: str
    line: str
    model: Path
    folder: Path

    def words(self, port: int) -> list[str]:
        known = {"{port}": str(port), "{model}": str(self.model), "{dir}": str(self.folder)}
        words = shlex.split(self.line)
        for place, value in known.items():
            words = [word.replace(place, value) for word in words]
        return words


class Server:
    """A running server; what it prints goes to `FOLDER/server.log`."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self._port = _free_port()
        self._past_cpu_s = 0.0
        self.ready_after_s = self._start()

    def restart(self) -> None:
        """Stops it in good order and starts it again with the same command line.

        Raises `ServerFailed`.
        """
        self.stop()
        self.ready_after_s = self._start()

    def stop(self) -> None:
        """SIGTERM, then, after a while, SIGKILL
        to the process group that was made for it.
        """
        self._past_cpu_s = self.cpu_s()
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def cpu_s(self) -> float:
        """CPU time of the server and its children so far, in seconds; that of stopping
        it is not seen.
        """
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended by itself
            process = psutil.Process(self._process.pid)
            return self._past_cpu_s + sum(
                _cpu_s(each) for each in [process, *process.children(recursive=True)]
            )
        return self._past_cpu_s

    def _start(self) -> float:
        started_s = now_s()
        self.command.folder.mkdir(parents=True, exist_ok=True)
        with (self.command.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command.words(self._port),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait_until_ready(started_s)
            self.endpoint = Endpoint(
                HOST, self._port, str(self._get("/v1/models")["data"][0]["id"])
            )
        except BaseException:
            self.stop()
            raise
        return now_s() - started_s

    def _wait_until_ready(self, started_s: float) -> None:
        while now_s() < started_s + _START_S:
            if self._process.poll() is not None:
                raise ServerFailed(
                    f"{self.command.name} ended with {self._process.returncode}: "
                    f"see {self._log_path}"
                )
            with contextlib.suppress(OSError, http.client.HTTPException):  # not listening yet
                if self._status("/health") == http.client.OK:
                    return
            time.sleep(_POLL_S)
        raise ServerFailed(
            f"{self.command.name} was not ready after {_START_S:.0f} s: see {self._log_path}"
        )

    @property
    def _log_path(self) -> Path:
        return self.command.folder / "server.log"

    def _status(self, path: str) -> int:
        with contextlib.closing(
            http.client.HTTPConnection(HOST, self._port, timeout=10)
        ) as connection:
            connection.request("GET", path)
            return connection.getresponse().status

    def _get(self, path: str) -> dict[str, list[dict[str, str]]]:
        with contextlib.closing(
            http.client.HTTPConnection(HOST, self._port, timeout=10)
        ) as connection:
            connection.request("GET", path)
            found: dict[str, list[dict[str, str]]] = json.load(connection.getresponse())
            return found


@contextlib.contextmanager
def started(command: Command) -> Iterator[Server]:
    """A server for as long as the block lasts. Raises `ServerFailed`."""
    server = Server(command)
    try:
        yield server
    finally:
        server.stop()


@dataclass(frozen=True, kw_only=True)
class CpuUse:
    """What was computed on this machine, in seconds of CPU time, over `elapsed_s`; all
    counted since some beginning.
    """

    elapsed_s: float
    machine_s: float
    loaded_s: float  # the server under load
    idle_s: float  # the other server
    generator_s: float

    @classmethod
    def now(cls, loaded: Server, idle: Server | None = None) -> CpuUse:
        times = psutil.cpu_times()
        busy_s = (
            sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)
        )
        return cls(
            elapsed_s=now_s(),
            machine_s=busy_s,
            loaded_s=loaded.cpu_s(),
            idle_s=idle.cpu_s() if idle is not None else 0.0,
            generator_s=time.process_time(),
        )

    def since(self, earlier: CpuUse) -> CpuUse:
        return CpuUse(
            elapsed_s=self.elapsed_s - earlier.elapsed_s,
            machine_s=self.machine_s - earlier.machine_s,
            loaded_s=self.loaded_s - earlier.loaded_s,
            idle_s=self.idle_s - earlier.idle_s,
            generator_s=self.generator_s - earlier.generator_s,
        )

    @property
    def foreign_s(self) -> float:
        """What went to processes of neither the servers nor the generator."""
        return max(self.machine_s - self.loaded_s - self.idle_s - self.generator_s, 0.0)

    def share(self, cpu_s: float) -> float:
        """Of all CPU time that the machine had."""
        return cpu_s / (self.elapsed_s * (psutil.cpu_count() or 1))


def wait_until_idle(most_s: float, loaded: Server, idle: Server | None = None) -> None:
    """Until nothing but these servers computes on this machine, for `most_s` seconds at
    most: others' work is no server's fault.
    """
    ends_s = now_s() + most_s
    while now_s() < ends_s:
        before = CpuUse.now(loaded, idle)
        time.sleep(_IDLE_WINDOW_S)
        use = CpuUse.now(loaded, idle).since(before)
        if use.share(use.foreign_s) < _IDLE_SHARE:
            return


def _cpu_s(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):  # a child that has ended meanwhile
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port
