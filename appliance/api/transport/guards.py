"""Who is let through to the endpoints:
callers with a key, and callers who meant this host.

Knows no endpoint beyond the table of open paths. Whatever is not `lifespan` is guarded,
so that a route of a new kind, such as a WebSocket, is too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from appliance.api.door.keys import caller_with
from appliance.api.transport.caller import set_caller
from appliance.api.transport.refusal import refuse
from appliance.errors import ForeignHost, Unauthorized
from appliance.gateway.admission import Admission

# Paths that need no key, and why.
OPEN_PATHS: Mapping[str, str] = {
    "/": "says what listens here, and no more",
    "/health": "probes hold no key; without one they see the status alone",
}

_MAX_ORIGIN_CHARS = 100  # in a message

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


class KeyGuard:
    """ASGI middleware: a key on every path but the open ones, unknown paths included.
    Whose key it is goes with the request.
    """

    def __init__(self, app: ASGIApp, *, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and scope["path"] not in OPEN_PATHS:
            try:
                caller = caller_with(Headers(scope=scope), self._admission)
            except Unauthorized as error:
                await refuse(error, scope, receive, send)
                return
            set_caller(scope, caller)
        await self._app(scope, receive, send)


class HostGuard:
    """ASGI middleware: takes only requests whose `Host` is one
    of ours, on whatever port.

    A web page can make its own name resolve to 127.0.0.1 (DNS rebinding) and then talk
    to a local server as if it were its own; its requests still carry the page's name as
    `Host`.
    """

    def __init__(self, app: ASGIApp, *, allowed_hosts: Collection[str]) -> None:
        self._app = app
        self._allowed_hosts = frozenset(host.lower() for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            host = Headers(scope=scope).get("host", "")
            if _host_name(host) not in self._allowed_hosts:
                error = ForeignHost(
                    "This server answers only requests to its own host name. To reach it from "
                    "elsewhere, serve with an API key and the address as --host."
                )
                await refuse(error, scope, receive, send)
                return
        await self._app(scope, receive, send)


class OriginGuard:
    """ASGI middleware: a web page may open a WebSocket only if
    it came from this host itself.

    Browsers let any page open one to any server, without asking it first (CORS knows no
    WebSockets), but they name the page's origin; other clients send no `Origin`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Over HTTP it is the body's content type that keeps other pages out: see
        # `BodyGuard`.
        if scope["type"] not in ("lifespan", "http"):
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            own = headers.get("host", "").lower()
            if origin is not None and origin.lower().partition("://")[2] != own:
                error = ForeignHost(
                    f"A page of another origin ({origin[:_MAX_ORIGIN_CHARS]}) may not connect here."
                )
                await refuse(error, scope, receive, send)
                return
        await self._app(scope, receive, send)


def _host_name(host: str) -> str:
    """`Localhost:8080` -> `localhost`, `[::1]:8080` -> `[::1]`;
    only a port is taken off.
    """
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower()
