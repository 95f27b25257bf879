"""A real server process on a free port: started, awaited by its log, ended."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.known_machine import know_machine_at

AWAIT_S = 120.0


class Server:
    """A running `appliance serve` whose standard error is read line by line."""

    def __init__(
        self, command: list[str], port: int, environment: dict[str, str], folder: Path
    ) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.lines: list[str] = []
        self._more = threading.Condition()
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=folder,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    def await_line(self, words: str) -> None:
        """Waits until a line with `words` has been logged."""
        with self._more:
            seen = self._more.wait_for(
                lambda: words in self.log or not self._reader.is_alive(), AWAIT_S
            )
        assert seen, f"no {words!r} within {AWAIT_S} s:\n{self.log}"
        assert words in self.log, f"the server ended without {words!r}:\n{self.log}"

    def await_more(self, num_lines: int) -> None:
        """Waits until more than so many lines have been logged."""
        with self._more:
            seen = self._more.wait_for(
                lambda: len(self.lines) > num_lines or not self._reader.is_alive(), AWAIT_S
            )
        assert seen, f"silent for {AWAIT_S} s:\n{self.log}"
        assert len(self.lines) > num_lines, f"the server ended:\n{self.log}"

    def health(self) -> dict[str, Any]:
        answer: dict[str, Any] = httpx.get(f"{self.url}/health", timeout=10).json()
        return answer

    def processes(self) -> dict[str, Any]:
        answer: dict[str, Any] = httpx.get(f"{self.url}/ps", timeout=10).json()
        return answer

    def states(self) -> dict[str, str]:
        """Of each model, whether it is loaded."""
        return {model["id"]: model["state"] for model in self.processes()["models"]}

    def worker(self) -> psutil.Process:
        [child] = psutil.Process(self.process.pid).children()
        return child

    def end(self) -> None:
        """Kills what is left."""
        if self.process.poll() is None:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):  # it ended by itself just now
                    child.kill()
            self.process.kill()
            self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._more:
                self.lines.append(line.rstrip())
                self._more.notify_all()
        with self._more:
            self._more.notify_all()


StartServer = Callable[..., Server]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def environment(home: Path) -> dict[str, str]:
    """With this home directory, where a server knows its machine."""
    know_machine_at(home)
    return bare_environment(home)


def bare_environment(home: Path) -> dict[str, str]:
    """With this home directory, and nothing written into it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("APPLIANCE_", "XDG_"))
    }
    return {**kept, "HOME": str(home)}
