"""The port and the HTTP server on it:
bound early, never held open by peers that are gone.

Knows no model.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import socket
from collections.abc import Iterator

import uvicorn

from appliance.api.app import create_app
from appliance.api.openai.errors import OPENAI_ERRORS
from appliance.api.transport.connection import patient
from appliance.api.transport.guards import LOOPBACK_HOSTS
from appliance.errors import BadSettings
from appliance.gateway.lifecycle import Gateway
from appliance.settings import ServerOptions, is_loopback

_log = logging.getLogger(__name__)
_MANY_FILES = 65_536  # where there is no hard limit
# Longer than clients keep an idle connection (httpx 5 s, Go 90 s at most, browsers 60 s
# or more): who closes first may do so just when the other one sends.
_IDLE_S = 120
_CLOSE_S = 2  # for connections to be closed, once no answer is in flight any more


class HttpServer(uvicorn.Server):
    """uvicorn, with signals left to us: a stop first lets the answers in flight come to
    their end.
    """

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


def http_config(settings: ServerOptions, gateway: Gateway, max_body_bytes: int) -> uvicorn.Config:
    is_open = is_loopback(settings.host) and not gateway.admission.requires_key
    hosts = LOOPBACK_HOSTS | {settings.host.lower()} if is_open else None
    return uvicorn.Config(
        create_app(
            gateway,
            max_body_bytes=max_body_bytes,
            client_timeout_s=settings.client_timeout_s,
            sse_keep_alive_s=settings.sse_keep_alive_s,
            allowed_hosts=hosts,
            strict_parameters=settings.strict_parameters,
        ),
        http=patient(settings.client_timeout_s, OPENAI_ERRORS),
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=settings.log_level == "debug",
        server_header=False,
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=_CLOSE_S,
    )


def listening_socket(settings: ServerOptions) -> socket.socket:
    """Bound before anything slow begins: a port that is taken is reported at once."""
    try:
        found = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, address = found[0]
        sock = socket.create_server(address[:2], family=family, backlog=1024)
        # Accepted sockets inherit it. asyncio sets it itself only on sockets made as TCP's,
        # which `create_server` makes as any protocol's; without it each response on a kept
        # connection waits for the client's delayed acknowledgement, 40 ms.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _drop_dead_peers(sock, settings.client_timeout_s)
        return sock
    except (OSError, UnicodeError) as error:  # the latter: a name that cannot be one
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadSettings(
            f"Cannot listen on {settings.host} port {settings.port}: {reason}. "
            "Stop what listens there, or choose another --port or --host."
        ) from error


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
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.port}/v1"
