"""Ray's own processes on this machine: the head of a fleet, or a node that joins one.

Knows no model. Whoever reaches Ray's ports may run programs on all nodes, so nobody is let in
without the fleet's token (https://docs.ray.io/en/latest/ray-security/token-auth.html), and
what is told of oneself (usage statistics, a dashboard) is off.
"""

from __future__ import annotations

import collections
import contextlib
import ipaddress
import logging
import os
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from appliance.errors import BadSettings, SetupError

TOKEN_FILE = "fleet-token"
_STORAGE = "fleet-head"  # what a head remembers, in its state directory
_OBJECT_BYTES = 100 << 20  # answers are small; Ray would take a third of the memory
_START_S = 180.0
DRAIN_S = 30  # for answers in flight on a node that leaves
_STOP_S = DRAIN_S + 30.0
_LOOK_S = 1.0
_ASK_S = 60.0  # for a head, which may be busy, to answer anything
_ATTEMPTS = 3  # Ray gives a node 30 s to start, which a busy machine does not always keep to
# what nobody uses here, each a process: a page, and what adds machines of a cloud
_HEAD_WITHOUT = ("--include-dashboard=false", "--no-monitor")
_MOST_CHARS = 200  # of a line that is repeated
_WRONG_TOKEN = "InvalidAuthToken"  # in what Ray says then
_UP = "will now block forever"  # what `ray start --block` says once its node is one
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

_log = logging.getLogger(__name__)


def token_file(state_dir: Path) -> Path:
    """The fleet's token; made where there is none. Raises `SetupError`."""
    path = state_dir / TOKEN_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(number, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(32))
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {error.strerror}.") from error
    return path


def ray_variables(token: Path, state_dir: Path | None = None) -> dict[str, str]:
    """For Ray's processes, and for this one before it imports ray. `state_dir`: of a head,
    which finds its fleet again there after a restart.
    """
    variables = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(DRAIN_S),
        # or what computes would give way to everything else on its machine
        "RAY_worker_niceness": "0",
    }
    if state_dir is not None:
        variables["RAY_gcs_storage"] = "rocksdb"
        variables["RAY_gcs_storage_path"] = str(state_dir / _STORAGE)
    return variables


def parts_of(address: str) -> tuple[str, int]:
    """Host and port. Raises `BadSettings`."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise BadSettings(
            f"A head's address reads HOST:PORT, such as 10.0.0.1:6379 (got {address!r})."
        )
    return host.strip("[]"), int(port)


def is_there(address: str) -> bool:
    """Whether somebody listens."""
    try:
        with socket.create_connection(parts_of(address), timeout=2):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def head(address: str, variables: Mapping[str, str]) -> Iterator[None]:
    """One that listens at `address`; one that runs there already is left as it is.

    Raises `BadSettings` where that is no address of this machine's, and `SetupError` where it
    cannot be started, or something else is there.
    """
    host, port = parts_of(address)
    _check_own(host, address)
    if is_there(address):
        if not _answers_as_head(address, variables):
            raise SetupError(
                f"Something listens at {address}, but it is not this fleet's head: it does not "
                "answer as Ray does to who has this token. Stop it, or give another port for `ray` "
                "in the [fleet] table."
            )
        yield
        return
    arguments = ("--head", f"--node-ip-address={host}", f"--port={port}")
    with contextlib.ExitStack() as stack:
        for attempt in range(_ATTEMPTS):
            node = RayNode((*arguments, *_HEAD_WITHOUT), variables)
            if node.await_up():
                stack.callback(node.stop)
                break
            node.stop()
            _log.warning("Ray's head did not come up (%d): %s", attempt + 1, node.last_words)
        else:
            raise SetupError(f"Ray's head did not start at {address}: {node.last_words}")
        yield


def join(address: str, variables: Mapping[str, str], stopping: threading.Event) -> None:
    """This machine is a node of the fleet whose head is at `address`, until `stopping` is set.
    Where the head is away for long, the node ends itself: then it joins anew.

    Raises `SetupError` where nobody is there at first, it cannot join at all, or the token is
    another fleet's.
    """
    if not is_there(address):
        raise SetupError(
            f"No head answers at {address}. Start it there (`appliance fleet serve FILE`), with "
            "`ray` in its [fleet] table an address that this machine reaches."
        )
    arguments = (f"--address={address}", f"--node-ip-address={_own_address(address)}")
    num_failed = 0  # one after the other
    while not stopping.is_set():
        node = RayNode(arguments, variables)
        try:
            if node.await_up():
                num_failed = 0
                _log.info("joined the fleet at %s", address)
                node.await_end(stopping)
                if not stopping.is_set():
                    _log.warning("left the fleet, and joins it again: %s", node.last_words)
            elif _WRONG_TOKEN in node.last_words:
                raise SetupError(
                    f"The head at {address} does not know this token. Copy {TOKEN_FILE} from its "
                    "state directory again."
                )
            elif not stopping.is_set():
                num_failed += 1
                if num_failed == _ATTEMPTS:
                    raise SetupError(f"Ray did not join the fleet at {address}: {node.last_words}")
                _log.warning("did not join the fleet, and tries again: %s", node.last_words)
        finally:
            node.stop()
        while not is_there(address) and not stopping.wait(_LOOK_S):
            pass


class RayNode:
    """`ray start --block`, and what it says."""

    def __init__(self, arguments: tuple[str, ...], variables: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            _start(*arguments),
            env={**os.environ, **variables, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._is_up = threading.Event()
        self._lines: collections.deque[str] = collections.deque(maxlen=3)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def last_words(self) -> str:
        return " / ".join(line[:_MOST_CHARS] for line in self._lines)

    def await_up(self) -> bool:
        """False where it ended, or took too long."""
        until_s = time.monotonic() + _START_S
        while time.monotonic() < until_s and self._process.poll() is None:
            if self._is_up.wait(_LOOK_S):
                return True
        return False

    def await_end(self, stopping: threading.Event) -> None:
        """Until it ends by itself, or is to."""
        while self._process.poll() is None and not stopping.wait(_LOOK_S):
            pass

    def stop(self) -> None:
        """Returns when nothing of it is left."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(_STOP_S)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as said:
            for line in said:
                text = _COLOURS.sub("", line).strip()
                if text:
                    self._lines.append(text)
                if _UP in text:
                    self._is_up.set()


def _start(*arguments: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "ray.scripts.scripts",
        "start",
        "--block",
        "--disable-usage-stats",
        "--include-log-monitor=false",
        f"--object-store-memory={_OBJECT_BYTES}",
        *arguments,
    ]


def _answers_as_head(address: str, variables: Mapping[str, str]) -> bool:
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        done = subprocess.run(
            command, env={**os.environ, **variables}, capture_output=True, timeout=_ASK_S
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _check_own(host: str, address: str) -> None:
    """Raises `BadSettings`."""
    try:
        family, _, _, _, place = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        if ipaddress.ip_address(place[0]).is_unspecified:
            raise BadSettings(
                f"`ray` is {address}, which other machines cannot join: give the address of this "
                "machine by which they reach it."
            )
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind(place)
    except OSError as error:
        raise BadSettings(
            f"`ray` is {address}, and {host} is no address of this machine ({error.strerror}). It "
            "is the head's own, on which `appliance fleet serve` runs."
        ) from error


def _own_address(head_address: str) -> str:
    """This machine's, as the head sees it."""
    host, port = parts_of(head_address)
    family = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0][0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((host, port))  # sends nothing
        return str(probe.getsockname()[0])
