"""What is said to an RPC helper of llama.cpp before anything is computed on it: who it is,
what devices it has, how fast it copies.

Knows no plan. Runs in the parent: bytes on a socket, nothing native.

Source: ggml/include/ggml-rpc.h and ggml/src/ggml-rpc/ggml-rpc.cpp of llama.cpp as pinned in
pyproject.toml. A request is a command (1 byte), the size of what follows (8) and that;
an answer is its size (8) and itself. All numbers are little-endian.
"""

from __future__ import annotations

import enum
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

# RPC_PROTO_*_VERSION; the last number changes with the numbers of ggml's operations.
VERSION = (7, 0, 0)
_CAPABILITIES = bytes(24)  # of the transport: TCP alone
_MAX_DEVICES = 16
_TYPE_I8 = 24  # ggml.h, GGML_TYPE_I8
# struct rpc_tensor: id, type, buffer, ne, nb, op, op_params, flags, src, view_src, view_offs,
# data, name, use_count
_TENSOR = struct.Struct("<QIQ4I4II16ii10QQQQ64si")


class _Command(enum.IntEnum):
    """enum rpc_cmd"""

    ALLOC_BUFFER = 0
    BUFFER_GET_BASE = 3
    FREE_BUFFER = 4
    SET_TENSOR = 6
    COPY_TENSOR = 9
    GET_DEVICE_MEMORY = 11
    HELLO = 14
    DEVICE_COUNT = 15


class RpcError(Exception):
    """It is no helper that can be used; the text says why, to be read after its address."""


class WrongVersion(RpcError):
    """It is a helper of another llama.cpp."""


@dataclass(frozen=True)
class Buffer:
    """Memory of a helper's device."""

    handle: int
    base: int
    num_bytes: int


class RpcConnection:
    """A conversation with one helper, which serves one at a time.

    Connects, and compares versions. Raises `RpcError`, as all methods do: nobody listens,
    it is busy, or it is something else.
    """

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        try:
            self._socket = socket.create_connection((host, port), timeout_s)
        except OSError as error:
            raise RpcError(f"cannot be reached ({_why(error)})") from error
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.version = self._greet()
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> RpcConnection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def _greet(self) -> tuple[int, int, int]:
        try:
            answer = self._ask(_Command.HELLO, _CAPABILITIES, 4 + len(_CAPABILITIES))
        except TimeoutError as error:
            raise RpcError(
                "accepts connections but does not answer: a helper serves one model of one server "
                "at a time, and this one may be in use"
            ) from error
        version = (answer[0], answer[1], answer[2])
        if version != VERSION:
            raise WrongVersion(
                f"speaks RPC {_dotted(version)}, and this llama.cpp speaks {_dotted(VERSION)}. "
                "Install the same version of the appliance on both machines"
            )
        return version

    def num_devices(self) -> int:
        (count,) = struct.unpack("<I", self._ask(_Command.DEVICE_COUNT, b"", 4))
        if not 0 < count <= _MAX_DEVICES:
            raise RpcError(f"says that it has {count} devices")
        return int(count)

    def memory(self, device: int) -> tuple[int, int]:
        """(free, all) in bytes."""
        answer = self._ask(_Command.GET_DEVICE_MEMORY, struct.pack("<I", device), 16)
        free, total = struct.unpack("<QQ", answer)
        return free, total

    def allocate(self, device: int, num_bytes: int) -> Buffer | None:
        """None: there is no room."""
        answer = self._ask(_Command.ALLOC_BUFFER, struct.pack("<IQ", device, num_bytes), 16)
        handle, size = struct.unpack("<QQ", answer)
        if not handle:
            return None
        (base,) = struct.unpack(
            "<Q", self._ask(_Command.BUFFER_GET_BASE, struct.pack("<Q", handle), 8)
        )
        return Buffer(handle, base, size)

    def free(self, buffer: Buffer) -> None:
        self._send(_Command.FREE_BUFFER, struct.pack("<Q", buffer.handle))

    def write(self, buffer: Buffer, data: bytes) -> None:
        """To its begin; what is asked next is answered when it is there."""
        tensor = _bytes_tensor(buffer, 0, len(data))
        self._send(_Command.SET_TENSOR, tensor + struct.pack("<BQ", 0, 0) + data)

    def copy_halves(self, buffer: Buffer) -> None:
        """The first half of a buffer over the second."""
        half = buffer.num_bytes // 2
        tensors = _bytes_tensor(buffer, 0, half) + _bytes_tensor(buffer, half, half)
        if self._ask(_Command.COPY_TENSOR, tensors, 1) != b"\1":
            raise RpcError("cannot copy in its own memory")

    def _ask(self, command: _Command, content: bytes, answer_bytes: int) -> bytes:
        self._send(command, content)
        (size,) = struct.unpack("<Q", self._receive(8))
        if size != answer_bytes:
            raise RpcError(
                f"is no helper: it answers {command.name} with {size} bytes instead of "
                f"{answer_bytes}"
            )
        return self._receive(size)

    def _send(self, command: _Command, content: bytes) -> None:
        try:
            self._socket.sendall(struct.pack("<BQ", command, len(content)) + content)
        except TimeoutError:
            raise
        except OSError as error:
            raise RpcError(f"went away ({_why(error)})") from error

    def _receive(self, num_bytes: int) -> bytes:
        """Raises `TimeoutError` too."""
        received = bytearray()
        while len(received) < num_bytes:
            try:
                piece = self._socket.recv(num_bytes - len(received))
            except TimeoutError:
                raise
            except OSError as error:
                raise RpcError(f"went away ({_why(error)})") from error
            if not piece:
                raise RpcError("closed the connection: it is no helper, or of another version")
            received += piece
        return bytes(received)


def _bytes_tensor(buffer: Buffer, offset: int, num_bytes: int) -> bytes:
    shape: Sequence[int] = (num_bytes, 1, 1, 1)
    strides: Sequence[int] = (1, num_bytes, num_bytes, num_bytes)
    return _TENSOR.pack(
        *(1, _TYPE_I8, buffer.handle, *shape, *strides),
        *(0, *bytes(16), 0, *bytes(10), 0, 0, buffer.base + offset, b"", 0),
    )


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


def _why(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
