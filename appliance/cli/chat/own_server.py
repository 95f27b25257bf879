"""A server of one command's own: started, awaited, ended with it.

Knows no setting but where its child listens. It listens on a Unix socket in a folder of
this user's, and wants a key that nobody else has.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

from appliance.cli.network.reaching import Address
from appliance.cli.running_server import RunningServer
from appliance.errors import ApplianceError, NothingFits, SetupError
from appliance.loopback import UNIX

_POLL_S = 0.1
_END_S = 15.0
_MAX_LOG_BYTES = 1 << 20
_ERRORS = {2: SetupError, 3: NothingFits}  # by the child's exit code


@contextlib.contextmanager
def own_server(
    flags: Sequence[str], log: Path, on_wait: Callable[[str], None]
) -> Iterator[RunningServer]:
    """Yields it as soon as it is ready. `on_wait` is told the last line of its log.

    Raises what ended the child, as an `ApplianceError` with its message.
    """
    with tempfile.TemporaryDirectory(prefix="appliance-") as folder:
        path, key_file = Path(folder, "socket"), Path(folder, "key")
        key = secrets.token_urlsafe(32)
        key_file.touch(mode=0o600)
        key_file.write_text(key + "\n", encoding="ascii")
        reached = ["--host", f"{UNIX}{path}", "--api-key-file", str(key_file)]
        serve = [sys.executable, "-m", "appliance.cli.chat.owned", str(os.getpid()), "serve"]
        command = [*serve, *flags, *reached]
        address = Address(host=f"{UNIX}{path}")
        with _child(command, log) as (child, log_at):
            _await_ready(child, address, log, log_at, on_wait)
            yield RunningServer(address=address, key=key)


@contextlib.contextmanager
def _child(command: list[str], log: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """With where its part of the log begins. A Ctrl-C on the terminal is not for it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _MAX_LOG_BYTES:
        log.unlink()
    log.touch(mode=0o600)
    with log.open("ab") as out, _ended_in_order():
        log_at = out.tell()
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield child, log_at
        finally:
            child.terminate()
            try:
                child.wait(_END_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


@contextlib.contextmanager
def _ended_in_order() -> Iterator[None]:
    """A terminal that is closed, or a SIGTERM, ends this process so that it can end its
    child.
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    numbers = (signal.SIGHUP, signal.SIGTERM)
    before = [signal.signal(number, leave) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _await_ready(
    child: subprocess.Popen[bytes],
    address: Address,
    log: Path,
    log_at: int,
    on_wait: Callable[[str], None],
) -> None:
    while not _is_ready(address):
        on_wait(_message(_last_line(log, log_at)))
        exit_code = child.poll()
        if exit_code is not None:
            reason = _last_line(log, log_at).removeprefix("error: ")
            kind = _ERRORS.get(exit_code, ApplianceError)
            raise kind(f"{reason or f'The server ended with exit code {exit_code}.'} (log: {log})")
        time.sleep(_POLL_S)


def _is_ready(address: Address) -> bool:
    connection = address.connection(_END_S)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _last_line(log: Path, log_at: int) -> str:
    with log.open("rb") as lines:
        lines.seek(max(log_at, lines.seek(0, os.SEEK_END) - 4096))
        return (lines.read().decode(errors="replace").strip().splitlines() or [""])[-1]


def _message(line: str) -> str:
    """Of a line of the log, without its time, level and logger."""
    _, separator, message = line.partition(": ")
    return message if separator else line
