"""The wall clock of a server, set forward and back while it runs, and nobody else's.

Knows no server: a library of our own stands before the system's (stepped_clock.c).
"""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from pathlib import Path

_SOURCE = Path(__file__).with_suffix(".c")


class SteppedClock:
    """Raises `OSError` where there is no C compiler, or this is not Linux."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None or sys.platform != "linux":
            raise OSError(errno.ENOENT, "it needs Linux and a C compiler")
        self._library, self._file = folder / "stepped_clock.so", folder / "ahead_s"
        command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(self._library), str(_SOURCE)]
        subprocess.run([*command, "-ldl"], check=True)
        self.set_ahead(0)

    @property
    def wrapping(self) -> tuple[str, ...]:
        """Before a command that is to see it."""
        return ("env", f"STEPPED_CLOCK={self._file}", f"LD_PRELOAD={self._library}")

    def set_ahead(self, seconds: int) -> None:
        """Of the machine's clock; negative: behind it."""
        with self._file.open("r+b" if self._file.exists() else "w+b") as file:
            file.write(seconds.to_bytes(8, sys.byteorder, signed=True))
