"""Confines itself as a worker does, tries what it must not be able to do, and prints what it
found: a JSON object with `landlock_version`, `has_seccomp`, `gaps` and `still_possible`.

Knows no model.

Usage: python -m appliance.confinement.probe
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable

from appliance.confinement.confine import Needs, confine


def main() -> int:
    confinement = confine(Needs())
    possible = [what for what, attempt in _ATTEMPTS.items() if _is_possible(attempt)]
    found = {**dataclasses.asdict(confinement), "still_possible": possible}
    print(json.dumps(found))  # noqa: T201 - the answer to the parent
    return 0


def _is_possible(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True


def _write_a_file() -> None:
    os.close(os.open("/tmp", os.O_TMPFILE | os.O_WRONLY))


_ATTEMPTS: dict[str, Callable[[], object]] = {
    "reading other files": lambda: os.close(os.open("/etc/passwd", os.O_RDONLY)),
    "writing files": _write_a_file,
    "opening sockets": lambda: socket.socket(socket.AF_INET).close(),
    "running programs": lambda: subprocess.run(["/bin/true"], check=False),
    "sending signals to others": lambda: os.kill(os.getppid(), 0),
}

if __name__ == "__main__":
    sys.exit(main())
