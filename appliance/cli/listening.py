"""The sockets and the HTTP server on them:
bound early, never held open by peers that are gone.

Knows no model.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI

from appliance.api.app import create_app
from appliance.api.door.hosts import names_to_check
from appliance.api.transport.connection import patient
from appliance.api.transport.websocket.protocol import BoundedWebSocket
from appliance.cli.network import unix_socket
from appliance.cli.network.certificates import Certificates
from appliance.errors import BadSettings
from appliance.gateway.accounts.admission import Admission
from appliance.gateway.lifecycle import Gateway
from appliance.loopback import is_loopback, socket_path
from appliance.settings import ServerOptions

_log = logging.getLogger(__name__)
# the machine has no such address, or no such kind of them
_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_Address = tuple[socket.AddressFamily, tuple[Any, ...]]  # as `bind` takes the latter
_MANY_FILES = 65_536  # where there is no hard limit
# Longer than clients keep an idle connection (httpx 5 s, Go 90 s at most, browsers 60 s
# or more): who closes first may do so just when the other one sends.
_IDLE_S = 120
_CLOSE_S = 2  # for connections to be closed, once no answer is in flight any more


class HttpServer(uvicorn.Server):
    """uvicorn, with signals left to us: a stop first lets the answers in flight come to
    their end.
    """

    @property
    def app(self) -> FastAPI:
        app = self.config.app
        assert isinstance(app, FastAPI)
        return app

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def allow_many_files() -> None:
    """Raises the limit on open files to what we may have: each connection takes one,
    and 1024 is a common default.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MANY_FILES if hard == resource.RLIM_INFINITY else hard
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as error:  # macOS has another limit below the one it reports
        _log.info("the limit on open files stays at %d: %s", soft, error)


def allowed_names(settings: ServerOptions, admission: Admission) -> tuple[str, ...] | None:
    """See `names_to_check`."""
    return names_to_check(settings.host, settings.allowed_host, requires_key=admission.requires_key)


def http_config(
    settings: ServerOptions,
    gateway: Gateway,
    max_body_bytes: int,
    certificates: Certificates | None = None,
) -> uvicorn.Config:
    """With `certificates` it speaks TLS alone."""
    app = create_app(
        gateway,
        max_body_bytes=max_body_bytes,
        client_timeout_s=settings.client_timeout_s,
        sse_keep_alive_s=settings.sse_keep_alive_s,
        resume_s=settings.resume_s,
        allowed_hosts=allowed_names(settings, gateway.admission),
        allowed_origins=settings.allow_origin,
        strict_parameters=settings.strict_parameters,
        logs_prompts=settings.log_prompts,
    )
    config = uvicorn.Config(
        app,
        http=patient(settings.client_timeout_s, app.state.error_shapes),
        lifespan="off",
        ws=BoundedWebSocket,
        ws_max_size=max_body_bytes,
        # each token would be packed by itself: slower than to send it, and hardly smaller
        ws_per_message_deflate=False,
        # proxies give up what is silent; dead peers the kernel finds (`_drop_dead_peers`)
        ws_ping_interval=settings.sse_keep_alive_s or None,
        ws_ping_timeout=None,
        log_config=None,
        access_log=False,  # ours says more: `appliance.api.door.access_log`
        server_header=False,
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=_CLOSE_S,
    )
    if certificates is not None:
        config.load()  # it would make a context of its own from files
        config.ssl = certificates.context
    return config


def listening_sockets(settings: ServerOptions) -> list[socket.socket]:
    """Bound before anything slow begins: a port that is taken is reported at once.

    A name is listened on at all its addresses that this machine has; `localhost` always
    has 127.0.0.1 and ::1 where there is IPv6. Raises `BadSettings`.
    """
    path = socket_path(settings.host)
    if path is not None:
        return [unix_socket.bound(path, int(settings.socket_mode, 8))]
    found: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, address in _addresses(settings.host, settings.port):
            try:
                found.append(_bound(family, address, settings.client_timeout_s))
            except OSError as error:
                if error.errno not in _NO_SUCH_ADDRESS:
                    raise
                missing = error
        if missing is not None and not found:
            raise missing
    except (OSError, UnicodeError) as error:  # the latter: a name that cannot be one
        for sock in found:
            sock.close()
        raise _cannot_listen(settings, error) from error
    return found


def _addresses(host: str, port: int) -> list[_Address]:
    """Raises `BadSettings` where a name that should be this machine's own is not: what
    is left open on loopback must not be open to others.
    """
    if host.lower().removesuffix(".") == "localhost":
        return [(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::1", port))]
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    found: dict[_Address, None] = {(info[0], info[4]): None for info in infos}  # each once
    for _, address in found:
        if is_loopback(host) and not is_loopback(str(address[0])):
            raise BadSettings(
                f"--host {host} should be this machine alone, but it resolves to {address[0]}. "
                "Use 127.0.0.1, or correct /etc/hosts."
            )
    return [*found]


def _bound(
    family: socket.AddressFamily, address: tuple[Any, ...], timeout_s: float
) -> socket.socket:
    """`::` takes IPv4 too, where the system lets one socket do so."""
    is_dual = family == socket.AF_INET6 and address[0] == "::" and socket.has_dualstack_ipv6()
    sock = socket.create_server(address, family=family, backlog=1024, dualstack_ipv6=is_dual)
    # Accepted sockets inherit it. asyncio sets it itself only on sockets made as TCP's,
    # which `create_server` makes as any protocol's; without it each response on a kept
    # connection waits for the client's delayed acknowledgement, 40 ms.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _drop_dead_peers(sock, timeout_s)
    return sock


def _cannot_listen(settings: ServerOptions, error: Exception) -> BadSettings:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    way_out = "Stop what listens there, or choose another --port or --host."
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        reason = os.strerror(error.errno)  # asyncio's words for it have the address once more
        way_out = (
            "'appliance' shows whether it is a server of ours, and 'appliance stop' ends that; or "
            "choose another --port."
        )
    elif isinstance(error, OSError) and error.errno in _NO_SUCH_ADDRESS:
        is_ipv6 = ":" in settings.host
        instead = "0.0.0.0" if settings.host == "::" else "127.0.0.1"
        reason = "this machine has no IPv6" if is_ipv6 and not _has_ipv6() else reason
        way_out = f"Choose an address that this machine has, such as --host {instead}."
    elif isinstance(error, socket.gaierror):
        way_out = "Choose a name or an address that this machine has as --host."
    return BadSettings(
        f"Cannot listen on {settings.host} port {settings.port}: {reason}. {way_out}"
    )


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def _drop_dead_peers(sock: socket.socket, timeout_s: float) -> None:
    """Has the kernel end connections, those `sock` will accept, whose peer acknowledges
    or takes nothing for so long.

    Otherwise what is still to be written would keep a connection open after the server
    has closed it; and a peer that vanished while its answer is computed, of which
    nothing is written yet, would be noticed only then.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):  # probed after so long, and again
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, int(timeout_s / 2)))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, int(timeout_s / 4)))
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * timeout_s))


def base_url(settings: ServerOptions) -> str:
    if socket_path(settings.host) is not None:
        return settings.host
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{'http' if settings.tls_cert is None else 'https'}://{host}:{settings.port}/v1"
