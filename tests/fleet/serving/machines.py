"""Machines of a fleet that are network namespaces of this one: each has an address, processes
that die together, and a cable that can be pulled.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx

from tests.known_machine import know_machine

ROOT = Path(__file__).parents[3]
HTTP_PORT = 8870
RAY_PORT = 6390
_UP_S = 240.0  # for whatever is waited for, on a busy machine


def why_not() -> str:
    """Why there can be none here; empty where there can."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return "needs network namespaces: root, and ip (iproute2)"
    name = f"probe{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        return f"needs network namespaces: {made.stderr.strip()}"
    _ip("netns", "del", name)
    return ""


class Machine:
    """One of them."""

    def __init__(self, number: int, bridge: str, folder: Path, words: Sequence[str] = ()) -> None:
        """`words` start each of its commands, as with a share of a core."""
        self.number = number
        self._words = words
        self.name = f"{bridge}n{number}"
        self.address = f"10.77.0.{number}"
        self.url = f"http://{self.address}:{HTTP_PORT}"
        self.state_dir = folder / f"state{number}"
        self.log = folder / f"machine{number}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._cable = f"{bridge}v{number}"
        know_machine(self.state_dir)
        _ip("netns", "add", self.name)
        _ip("link", "add", self._cable, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        _ip("link", "set", self._cable, "master", bridge, "up")
        _ip("-n", self.name, "addr", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", self.name, "link", "set", device, "up")

    def run(self, *arguments: str, environment: dict[str, str]) -> None:
        """`appliance ARGUMENTS` on it."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._words, *_inside(self.name), sys.executable, "-m", "appliance", *arguments],
                env={**environment, "APPLIANCE_STATE_DIR": str(self.state_dir)},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def processes(self, words: str = "") -> list[int]:
        """Of its own, those whose command lines have `words`."""
        found = subprocess.run(
            ["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True
        )
        pids = [int(pid) for pid in found.stdout.split()]
        return [pid for pid in pids if words in _command_line(pid)]

    def kill(self) -> None:
        """Everything that runs on it, at once."""
        while pids := self.processes():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if self.process is not None:
                self.process.wait()
        self.process = None

    def signal(self, words: str, number: signal.Signals) -> int:
        """To its processes with such command lines; returns to how many."""
        pids = self.processes(words)
        for pid in pids:
            os.kill(pid, number)
        return len(pids)

    @property
    def has_ended(self) -> bool:
        """By itself."""
        return self.process is not None and self.process.poll() is not None

    def pull_cable(self) -> None:
        _ip("link", "set", self._cable, "down")

    def plug_cable(self) -> None:
        _ip("link", "set", self._cable, "up")

    def remove(self) -> None:
        self.kill()
        _ip("netns", "del", self.name)


class Fleet:
    """A fleet on such machines; the first one has the head."""

    def __init__(self, machines: list[Machine], file: Path, environment: dict[str, str]) -> None:
        self.machines = machines
        self._file = file
        self._environment = environment

    @property
    def head(self) -> Machine:
        return self.machines[0]

    def start(self, *machines: Machine) -> None:
        """These, or all; returns when each has a replica that answers."""
        for machine in machines or self.machines:
            if machine is self.head:
                num_before = self._num_ready()
                self._run(machine, "serve", str(self._file))
                self._await(self._more_ready_than(num_before), "the head")
            else:
                token = str(self.head.state_dir / "fleet-token")
                self._run(machine, "join", self.ray, "--token-file", token)

    @property
    def ray(self) -> str:
        return f"{self.head.address}:{RAY_PORT}"

    def await_replicas(self, num: int) -> None:
        """Until the door of every machine knows so many that answer."""

        def are_there(machine: Machine) -> bool:
            record = httpx.get(f"{machine.url}/v1/models", timeout=5).json()["data"][0]
            ready = [each for each in record.get("replicas", ()) if each["state"] == "ready"]
            return len(ready) == num

        self._await(lambda: all(map(are_there, self.machines)), f"{num} replicas at every door")

    def _run(self, machine: Machine, *arguments: str) -> None:
        machine.run("fleet", *arguments, environment=self._environment)

    def _more_ready_than(self, num: int) -> Callable[[], bool]:
        return lambda: self._num_ready() > num

    def _num_ready(self) -> int:
        """How often the head has said that it is."""
        return self.head.log.read_text().count(" ready: ") if self.head.log.exists() else 0

    def _await(self, is_so: Callable[[], bool], what: str) -> None:
        until_s = time.monotonic() + _UP_S
        while True:
            with contextlib.suppress(httpx.HTTPError, ValueError, KeyError, IndexError):
                if is_so():
                    return
            logs = "\n".join(f"--- {each.name}\n{_tail(each.log)}" for each in self.machines)
            is_over = any(each.has_ended for each in self.machines)
            assert not is_over, f"a machine's process ended\n{logs}"
            assert time.monotonic() < until_s, f"not within {_UP_S:g} s: {what}\n{logs}"
            time.sleep(0.2)


@contextlib.contextmanager
def fleet_of(
    num: int, settings: str, fleet_settings: str = "", shares: Sequence[Sequence[str]] = ()
) -> Iterator[Fleet]:
    """Of so many machines, none of which has been started; `shares` are words before the
    commands of each.
    """
    bridge = f"fl{os.getpid() % 100_000}"
    folder = Path(tempfile.mkdtemp(prefix="fl", dir="/tmp"))  # paths of sockets are short
    _ip("link", "add", bridge, "type", "bridge")
    _ip("addr", "add", "10.77.0.254/24", "dev", bridge)
    _ip("link", "set", bridge, "up")
    machines: list[Machine] = []
    try:
        for number, words in enumerate(shares or [()] * num, start=1):
            machines.append(Machine(number, bridge, folder, words))
        file = folder / "fleet.toml"
        file.write_text(
            f'{settings}\nhost = "0.0.0.0"\nport = {HTTP_PORT}\ninsecure = true\n'
            f'[fleet]\nray = "{machines[0].address}:{RAY_PORT}"\n{fleet_settings}\n'
        )
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_TMPDIR": str(folder)}
        yield Fleet(machines, file, environment)
    finally:
        for machine in machines:
            machine.remove()
        _ip("link", "del", bridge)
        shutil.rmtree(folder, ignore_errors=True)


def _inside(name: str) -> list[str]:
    """Of the machine's network, and of its processes alone: Ray looks for others of its own."""
    unshare = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    return ["ip", "netns", "exec", name, *unshare]


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def _tail(path: Path) -> str:
    return "\n".join(path.read_text().splitlines()[-15:]) if path.exists() else "(nothing)"
