"""Runs in a child process: llama.cpp's RPC server, which computes layers for a model on
another machine. It serves one connection after the other, and ends with its standard input.

Usage: python -m appliance.llama.rpc.server HOST PORT THREADS [CACHE_DIR]
Reads lines `FREE TOTAL` in bytes: what the CPU's memory has for a model, as it is told to
whoever asks; llama.cpp itself would say that all of it is free (ggml-cpu.cpp,
`ggml_backend_cpu_device_get_memory`).
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys
import threading
import time

from llama_cpp._ggml import libggml  # the binding offers no back ends

from appliance.errors import ApplianceError
from appliance.llama import library, use_all_cpus
from appliance.llama.rpc.backend import rpc_function
from appliance.llama.rpc.keep_alive import keep_alive, listening_sockets

_CPU, _GPU, _IGPU = 0, 1, 2  # ggml-backend.h, enum ggml_backend_dev_type
_LISTENS_WITHIN_S = 10.0
_GetMemory = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(ctypes.c_size_t)
)
# endpoint, folder of the cache, threads, number of devices, devices
_START_ARGUMENTS = (ctypes.c_char_p,) * 2 + (ctypes.c_size_t,) * 2
_Start = ctypes.CFUNCTYPE(None, *_START_ARGUMENTS, ctypes.POINTER(ctypes.c_void_p))


class _DeviceHead(ctypes.Structure):
    """The begin of `struct ggml_backend_device`: its interface (ggml-backend-impl.h)."""

    _fields_ = (
        ("get_name", ctypes.c_void_p),
        ("get_description", ctypes.c_void_p),
        ("get_memory", ctypes.c_void_p),
    )


class _Memory:
    """What the parent last said of the machine's memory, in bytes."""

    def __init__(self) -> None:
        self._free, self._total = self._next()
        self.callback = _GetMemory(self._tell)

    def follow(self) -> None:
        """For ever; at the end of the standard input the process ends."""
        while True:
            self._free, self._total = self._next()

    def _next(self) -> tuple[int, int]:
        line = sys.stdin.readline()
        if not line:
            os._exit(0)
        free, total = map(int, line.split())
        return free, total

    def _tell(
        self,
        _device: int,
        free: ctypes._Pointer[ctypes.c_size_t],
        total: ctypes._Pointer[ctypes.c_size_t],
    ) -> None:
        free[0], total[0] = self._free, self._total


def main(argv: list[str]) -> int:
    host, port, threads = argv[0], int(argv[1]), int(argv[2])
    cache_dir = argv[3].encode() if argv[3:] else None
    use_all_cpus()
    library.start()
    memory = _Memory()
    threading.Thread(target=memory.follow, name="memory", daemon=True).start()
    threading.Thread(target=_keep_connections_alive, name="keep-alive", daemon=True).start()
    try:
        start = _Start(rpc_function("ggml_backend_rpc_start_server"))
    except ApplianceError as error:
        print(error.message, file=sys.stderr)  # noqa: T201 - a program's own error output
        return 1
    devices = _devices(memory)
    start(f"{host}:{port}".encode(), cache_dir, threads, len(devices), devices)
    return 1  # it only ever returns where it cannot listen, and has said so


def _devices(memory: _Memory) -> ctypes.Array[ctypes.c_void_p]:
    """All GPUs, else the CPU; as llama.cpp's own server chooses (tools/rpc/rpc-server.cpp)."""
    libggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    libggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    libggml.ggml_backend_dev_get.restype = ctypes.c_void_p
    libggml.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    libggml.ggml_backend_dev_type.restype = ctypes.c_int
    handles = [libggml.ggml_backend_dev_get(at) for at in range(libggml.ggml_backend_dev_count())]
    kinds = {handle: libggml.ggml_backend_dev_type(handle) for handle in handles}
    chosen = [handle for handle in handles if kinds[handle] in (_GPU, _IGPU)]
    if not chosen:
        chosen = [handle for handle in handles if kinds[handle] == _CPU][:1]
        head = _DeviceHead.from_address(chosen[0])
        head.get_memory = ctypes.cast(memory.callback, ctypes.c_void_p).value
    return (ctypes.c_void_p * len(chosen))(*chosen)


def _keep_connections_alive() -> None:
    """Connections inherit it from the socket that listens: a peer that vanished without a
    word would block this helper for ever.
    """
    until_s = time.monotonic() + _LISTENS_WITHIN_S
    while time.monotonic() < until_s:
        found = listening_sockets()
        for one in found:
            keep_alive(one)
            print(f"listening {_name(one)}", flush=True)  # noqa: T201 - the parent waits for it
            one.close()
        if found:
            return
        time.sleep(0.01)


def _name(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"{host}:{port}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
