"""Runs in a child: confines itself, and prints what it can still do.

Knows no test. Usage: python -m tests.confinement.confined MODEL STATE
Prints a JSON object: for each attempt its result, or the name of the system's error.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import appliance.worker.child  # noqa: F401 - keeps NumPy's BLAS from starting threads
from appliance.confinement.confine import Needs, confine
from appliance.text.rendering.renderers import RENDERER

_NEW_USER = 0x10000000  # CLONE_NEWUSER


def main(argv: list[str]) -> None:
    import numpy as np  # as a worker has it when it confines itself

    model, state = Path(argv[0]), Path(argv[1])
    confinement = confine(Needs(readable=(model,), writable=(state,)))
    beside = model.with_name("beside.gguf")
    libc = ctypes.CDLL(None, use_errno=True)
    attempts: dict[str, Callable[[], object]] = {
        "read the model": lambda: model.read_bytes().decode(),
        "write the model": lambda: model.write_bytes(b""),
        "remove the model": model.unlink,
        "read beside it": beside.read_bytes,
        "list its folder": lambda: list(model.parent.iterdir()),
        "write state": lambda: (state / "a").write_text("a"),
        "rename state": lambda: (state / "a").replace(state / "b").name,
        "remove state": (state / "b").unlink,
        "write /etc/passwd": lambda: os.close(os.open("/etc/passwd", os.O_WRONLY)),
        "touch /etc/passwd": lambda: os.utime("/etc/passwd"),
        "read /etc/passwd": Path("/etc/passwd").read_bytes,
        "the parent's environment": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
        "signal the parent": lambda: os.kill(os.getppid(), 0),
        "a TCP socket": lambda: socket.socket(socket.AF_INET),
        "a UDP socket": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
        "a Unix socket": lambda: socket.socket(socket.AF_UNIX),
        "a pair of sockets": lambda: len(socket.socketpair()),
        "a shell": lambda: subprocess.run(["/bin/sh", "-c", "true"], check=True),
        "change a mode": lambda: state.chmod(0o700),
        "a name space": lambda: _checked(libc.unshare(_NEW_USER)),
        "trace": lambda: _checked(libc.ptrace(0, 0, 0, 0)),
        "a thread": _in_a_thread,
        "numbers": lambda: int(np.ones((64, 64)).dot(np.ones(64)).sum()),
        "a renderer": lambda: _renderer(),
    }
    found = {what: _outcome(attempt) for what, attempt in attempts.items()}
    print(json.dumps({**found, "in force": str(confinement), "gaps": confinement.gaps}))


def _outcome(attempt: Callable[[], object]) -> object:
    try:
        result = attempt()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return result if isinstance(result, str | int) else "possible"


def _checked(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "")


def _in_a_thread() -> str:
    outcomes: list[object] = []
    thread = threading.Thread(
        target=lambda: outcomes.append(_outcome(Path("/etc/passwd").read_bytes))
    )
    thread.start()
    thread.join()
    return str(outcomes[0])


def _renderer() -> int:
    """It ends by itself when its input does."""
    return subprocess.run(RENDERER, stdin=subprocess.DEVNULL, check=False).returncode


if __name__ == "__main__":
    main(sys.argv[1:])
