"""An RPC helper that speaks llama.cpp's protocol and computes nothing."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator, Sequence

# sizes of answers are as ggml-rpc.cpp packs them
_HELLO, _COUNT, _MEMORY, _ALLOC, _BASE, _FREE, _SET, _COPY = 14, 15, 11, 0, 3, 4, 6, 9
BASE = 1 << 20


class FakeHelper:
    """Serves one connection after the other; `memory` is (free, all) of each device."""

    def __init__(
        self, version: tuple[int, int, int] = (7, 0, 0), memory: Sequence[tuple[int, int]] = ()
    ) -> None:
        self.version = version
        self.memory = memory
        self.has_room = True
        self.commands: list[tuple[int, int]] = []  # with the size of each one's content
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                self._talk(connection)

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _talk(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as reading:
            while head := reading.read(9):
                command, size = struct.unpack("<BQ", head)
                content = reading.read(size)
                self.commands.append((command, size))
                answer = self._answer(command, content)
                if answer is not None:
                    connection.sendall(struct.pack("<Q", len(answer)) + answer)

    def _answer(self, command: int, content: bytes) -> bytes | None:
        if command == _HELLO:
            return bytes(self.version) + bytes(25)
        if command == _COUNT:
            return struct.pack("<I", len(self.memory))
        if command == _MEMORY:
            return struct.pack("<QQ", *self.memory[struct.unpack("<I", content)[0]])
        if command == _ALLOC:
            _, size = struct.unpack("<IQ", content)
            return struct.pack("<QQ", 77 if self.has_room else 0, size)
        if command == _BASE:
            return struct.pack("<Q", BASE)
        if command == _COPY:
            return b"\1"
        assert command in (_FREE, _SET), command
        return None


@contextlib.contextmanager
def running(helper: FakeHelper) -> Iterator[FakeHelper]:
    thread = threading.Thread(target=helper.serve, daemon=True)
    thread.start()
    try:
        yield helper
    finally:
        helper.close()
        thread.join()
