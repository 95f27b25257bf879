"""Sockets that llama.cpp has opened in this process: a peer that vanishes is noticed.

Knows no library. llama.cpp sets nothing of the kind itself: where a cable is cut, it would
wait for ever. Does nothing where the system shows no open files (other systems than Linux).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

_IDLE_S, _INTERVAL_S, _NUM_PROBES = 5, 2, 4
GONE_AFTER_S = _IDLE_S + _INTERVAL_S * _NUM_PROBES
_ESTABLISHED = 1  # include/net/tcp_states.h


def keep_alive(connection: socket.socket) -> None:
    """Ends a connection whose peer says nothing to probes, or acknowledges nothing, for
    `GONE_AFTER_S`. A socket that listens hands it down.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", _IDLE_S),
        ("TCP_KEEPINTVL", _INTERVAL_S),
        ("TCP_KEEPCNT", _NUM_PROBES),
        ("TCP_USER_TIMEOUT", 1000 * GONE_AFTER_S),
    ):
        if (option := getattr(socket, name, None)) is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


def listening_sockets() -> list[socket.socket]:
    """Copies of this process's TCP sockets that listen; to be closed."""
    return [one for one in _tcp_sockets() if _is_kept(one, listens=True)]


def connections() -> list[socket.socket]:
    """Copies of this process's TCP sockets that were connected; to be closed."""
    return [one for one in _tcp_sockets() if _is_kept(one, listens=False)]


def lost_peers(endpoints: Sequence[tuple[str, int]]) -> list[str]:
    """Of these, as `ADDRESS:PORT`, those to which no connection is up any more."""
    up = set()
    for one in connections():
        with one, contextlib.suppress(OSError):
            state = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
            if state == _ESTABLISHED:
                up.add(one.getpeername())
    return [f"{host}:{port}" for host, port in endpoints if (host, port) not in up]


def _tcp_sockets() -> Iterator[socket.socket]:
    try:
        files = list(Path("/proc/self/fd").iterdir())
    except OSError:
        return
    seen = set()
    for file in files:
        with contextlib.suppress(OSError):  # the one that listed the folder is closed by now
            name = str(file.readlink())
            if not name.startswith("socket:") or name in seen:
                continue
            seen.add(name)
            copy = socket.socket(fileno=os.dup(int(file.name)))
            if copy.family in (socket.AF_INET, socket.AF_INET6) and (
                copy.type == socket.SOCK_STREAM
            ):
                yield copy
            else:
                copy.close()


def _is_kept(one: socket.socket, *, listens: bool) -> bool:
    if bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)) == listens:
        return True
    one.close()
    return False
