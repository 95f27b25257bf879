"""Who is let through to the endpoints: callers with a key, and callers who meant this host.

Knows no endpoint.
"""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from appliance.api.errors import error_response
from appliance.errors import ForeignHost, Unauthorized
from appliance.gateway.admission import Admission

OPEN_PATHS = frozenset({"/health"})  # for probes, which hold no key

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


class KeyGuard:
    """ASGI middleware: `Authorization: Bearer KEY` on every path but the open ones,
    unknown paths included.
    """

    def __init__(self, app: ASGIApp, *, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            try:
                self._admission.authorize(Headers(scope=scope).get("authorization"))
            except Unauthorized as error:
                await error_response(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class HostGuard:
    """ASGI middleware: takes only requests whose `Host` is one of ours, on whatever port.

    A web page can make its own name resolve to 127.0.0.1 (DNS rebinding) and then talk
    to a local server as if it were its own; its requests still carry the page's name as
    `Host`.
    """

    def __init__(self, app: ASGIApp, *, allowed_hosts: Collection[str]) -> None:
        self._app = app
        self._allowed_hosts = frozenset(host.lower() for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] == "http"
            and _host_name(Headers(scope=scope).get("host", "")) not in self._allowed_hosts
        ):
            error = ForeignHost(
                "This server answers only requests to its own host name; "
                "to reach it from elsewhere, serve with an API key and the address as --host."
            )
            await error_response(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _host_name(host: str) -> str:
    """`Localhost:8080` -> `localhost`, `[::1]:8080` -> `[::1]`; only a port is taken off."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower()
