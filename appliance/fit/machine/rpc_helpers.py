"""RPC helpers: other machines that llama.cpp computes layers on, as devices of this one.

Knows no model. Asks over the network and runs nothing native.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from appliance.fit.machine.accelerators import RPC, Accelerator, Link
from appliance.fit.machine.rpc_protocol import RpcConnection, RpcError, WrongVersion

DEFAULT_PORT = 50052  # llama.cpp's own
_TIMEOUT_S = 3.0
_NUM_ROUND_TRIPS = 8
_SMALL_BYTES, _LARGE_BYTES = 128 << 10, 8 << 20
_QUICK_S = 0.05  # after which a small write tells enough
_COPY_BYTES = 64 << 20
_COPY_SHARE = 8  # of the free memory, 1 / this at most is copied
_NUM_COPIES = 3


@dataclass(frozen=True)
class HelperList:
    """The devices of all that answered, and in words what became of the others."""

    devices: tuple[Accelerator, ...] = ()
    missing: tuple[str, ...] = ()
    # another version: to be mended by people, where one that is missing may come back
    refused: tuple[str, ...] = ()


def ask_helpers(addresses: Sequence[str], timeout_s: float = _TIMEOUT_S) -> HelperList:
    """All at once; each is `HOST:PORT`, and takes up to some seconds where it is silent."""
    if not addresses:
        return HelperList()
    with ThreadPoolExecutor(len(addresses), thread_name_prefix="helper") as threads:
        answers = list(threads.map(lambda address: _answer(address, timeout_s), addresses))
    return HelperList(
        tuple(device for answer in answers if isinstance(answer, tuple) for device in answer),
        tuple(
            str(answer)
            for answer in answers
            if isinstance(answer, RpcError) and not isinstance(answer, WrongVersion)
        ),
        tuple(str(answer) for answer in answers if isinstance(answer, WrongVersion)),
    )


def endpoint_of(address: str) -> tuple[str, int]:
    """(IPv4 address, port) of `HOST:PORT`, as llama.cpp understands them: it speaks no
    IPv6. Raises `RpcError`.
    """
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(host, int(port), socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        raise RpcError(f"has no IPv4 address ({error.strerror})") from error
    ip, number = found[0][4][:2]
    return str(ip), int(number)


def _answer(address: str, timeout_s: float) -> tuple[Accelerator, ...] | RpcError:
    try:
        host, port = endpoint_of(address)
        with RpcConnection(host, port, timeout_s) as connection:
            return _devices(connection, address, f"{host}:{port}")
    except TimeoutError:
        return RpcError(f"the helper {address} stopped answering within {timeout_s:g} s")
    except RpcError as error:
        return type(error)(f"the helper {address} {error}")


def _devices(connection: RpcConnection, address: str, endpoint: str) -> tuple[Accelerator, ...]:
    count = connection.num_devices()
    devices = []
    for at in range(count):
        free, total = connection.memory(at)
        devices.append(
            Accelerator(
                name=endpoint if at == 0 else f"{endpoint}#{at}",
                description=f"RPC helper {address}",
                kind=RPC,
                memory_total_bytes=total,
                memory_free_bytes=free,
                link=_link(connection, at, free),
            )
        )
    return tuple(devices)


def _link(connection: RpcConnection, device: int, free_bytes: int) -> Link:
    round_trip_s = min(_timed(connection.num_devices) for _ in range(_NUM_ROUND_TRIPS))
    half = min(_COPY_BYTES, free_bytes // (2 * _COPY_SHARE))
    buffer = connection.allocate(device, 2 * max(half, _LARGE_BYTES))
    if buffer is None:
        return Link(round_trip_s=round_trip_s, bytes_per_s=0.0, copy_bytes_per_s=0.0)

    def write(num_bytes: int) -> float:
        def write_and_wait() -> None:
            connection.write(buffer, bytes(num_bytes))
            connection.num_devices()

        return max(_timed(write_and_wait) - round_trip_s, 1e-9)

    num_bytes, took_s = _SMALL_BYTES, write(_SMALL_BYTES)
    if took_s < _QUICK_S:
        # the first one also has the memory mapped there
        num_bytes, took_s = _LARGE_BYTES, min(write(_LARGE_BYTES) for _ in range(3))
    copy_s = min(_timed(lambda: connection.copy_halves(buffer)) for _ in range(_NUM_COPIES))
    connection.free(buffer)
    return Link(
        round_trip_s=round_trip_s,
        bytes_per_s=num_bytes / took_s,
        # read and written, as `Bandwidth` counts
        copy_bytes_per_s=buffer.num_bytes / max(copy_s - round_trip_s, 1e-9),
    )


def _timed(work: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s
