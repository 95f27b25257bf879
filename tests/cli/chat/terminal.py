"""A terminal in which a program runs. Knows no command."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

APPLIANCE = (sys.executable, "-m", "appliance")
AWAIT_S = 60.0
CTRL_C, CTRL_D = "\x03", "\x04"
# takes the terminal as its own, so that Ctrl-C reaches it, and becomes the command
_TAKE = (
    "import fcntl, os, struct, sys, termios\n"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "size = struct.pack('HHHH', int(sys.argv[1]), int(sys.argv[2]), 0, 0)\n"
    "fcntl.ioctl(0, termios.TIOCSWINSZ, size)\n"
    "os.execv(sys.argv[3], sys.argv[3:])\n"
)
_BEGUN_ESCAPE = re.compile(r"\x1b[^a-zA-Z]*$")  # whose end has not come yet
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-_]")


class Terminal:
    def __init__(
        self,
        words: Sequence[str],
        around: dict[str, str],
        *,
        program: Sequence[str] = APPLIANCE,
        size: tuple[int, int] = (24, 80),
    ) -> None:
        """`size` is in lines and columns."""
        self._master, slave = os.openpty()
        command = [*program, *words]
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE, *map(str, size), *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**around, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"},
            start_new_session=True,
        )
        os.close(slave)
        self.raw = ""
        self._read_until = 0
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def text(self) -> str:
        """What has been written, without what moves and colours it."""
        whole = _BEGUN_ESCAPE.sub("", self.raw)
        return _ESCAPES.sub("", whole).replace("\r\n", "\n")

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    async def sees(self, words: str) -> None:
        """Waits for words behind those that were waited for before."""
        seen = await asyncio.to_thread(self._await, words)
        assert seen, f"no {words!r} within {AWAIT_S} s:\n{self.text}"

    async def exit_code(self) -> int:
        return await asyncio.to_thread(self.process.wait, AWAIT_S)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        os.close(self._master)

    def _await(self, words: str) -> bool:
        def seen() -> bool:
            at = self.text.find(words, self._read_until)
            if at >= 0:
                self._read_until = at + len(words)
            return at >= 0

        with self._more:
            return self._more.wait_for(lambda: seen() or not self._reader.is_alive(), AWAIT_S)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # EIO: nobody has the other end any more
                data = b""
            with self._more:
                self.raw += data.decode(errors="replace")
                self._more.notify_all()
            if not data:
                return


StartTerminal = Callable[..., Terminal]
