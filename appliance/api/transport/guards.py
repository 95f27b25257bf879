"""Who is let through to the endpoints:
callers with a key, and callers who meant this host.

Knows no endpoint beyond the tables of open paths and of administrators'. Whatever is not
`lifespan` is guarded, so that a route of a new kind, such as a WebSocket, is too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from appliance.api.door.hosts import HostNames, name_of
from appliance.api.door.keys import caller_with
from appliance.api.door.limits import with_limits
from appliance.api.door.origins import Origins
from appliance.api.page import PAGE_PATHS
from appliance.api.transport.caller import set_caller
from appliance.api.transport.files.form import MULTIPART
from appliance.api.transport.refusal import refuse
from appliance.errors import (
    ForeignHost,
    ForeignOrigin,
    NotAllowed,
    RateLimited,
    Unauthorized,
)
from appliance.gateway.accounts.admission import Admission
from appliance.gateway.accounts.quotas import Quotas, is_limited

# Paths that need no key, and why.
OPEN_PATHS: Mapping[str, str] = {
    "/": "says what listens here, and no more; to browsers it is the page",
    **dict.fromkeys(PAGE_PATHS, "a file of the page: the same on every server"),
    "/health": "probes hold no key; without one they see the status alone",
}
# Paths that show what everybody does, where there are keys: for administrators alone.
# `/stats` and `/usage` show others their own part.
ADMIN_PATHS: Mapping[str, str] = {
    "/metrics": "names the holders of keys, and says what each has used",
}

_MAX_ECHOED_CHARS = 100  # of a header, in a message


class KeyGuard:
    """ASGI middleware: a key on every path but the open ones, unknown paths included.
    Whose key it is goes with the request, and what is left of its limits with the response.
    """

    def __init__(self, app: ASGIApp, *, admission: Admission, quotas: Quotas) -> None:
        self._app = app
        self._admission = admission
        self._quotas = quotas

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and scope["path"] not in OPEN_PATHS:
            try:
                caller = await caller_with(
                    Headers(scope=scope), self._admission, scope.get("subprotocols", ())
                )
            except (RateLimited, Unauthorized) as error:
                await refuse(error, scope, receive, send)
                return
            set_caller(scope, caller)
            if scope["path"] in ADMIN_PATHS and not caller.is_admin:
                await refuse(_no_administrator(scope["path"]), scope, receive, send)
                return
            if is_limited(caller.limits):
                send = with_limits(send, lambda: self._quotas.standings(caller))
        await self._app(scope, receive, send)


class HostGuard:
    """ASGI middleware: takes only requests whose `Host` is one of ours.

    A web page can make its own name resolve to 127.0.0.1 (DNS rebinding) and then talk
    to a local server as if it were its own; its requests still carry the page's name as
    `Host`. Only HTTP/1.0, which no browser speaks, may leave it out.
    """

    def __init__(self, app: ASGIApp, *, hosts: HostNames) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and self._hosts.are_checked:
            named = Headers(scope=scope).getlist("host")
            may_be_missing = scope.get("http_version") == "1.0"
            if not (named or may_be_missing) or not all(map(self._hosts.include, named)):
                await refuse(_foreign_host(named), scope, receive, send)
                return
        await self._app(scope, receive, send)


class OriginGuard:
    """ASGI middleware: a web page may open a WebSocket or send a form only if it came from
    this host itself, or is allowed to use it.

    Browsers let any page do both to any server, without asking it first (CORS knows no
    WebSockets, and forms are older), but they name the page's origin; other clients send
    no `Origin`.
    """

    def __init__(self, app: ASGIApp, *, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Over HTTP it is the body's content type that keeps other pages out, but for
        # forms: see `BodyGuard`.
        is_asked_first = scope["type"] == "http" and not _is_form(scope)
        if scope["type"] != "lifespan" and not is_asked_first:
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            own = headers.get("host", "").lower()
            is_own = origin is None or origin.lower().partition("://")[2] == own
            if origin is not None and not is_own and not self._origins.include(origin):
                shown = origin[:_MAX_ECHOED_CHARS]
                error = ForeignOrigin(
                    f"A page of another origin ({shown}) may not connect here. If it shall, "
                    f"serve with --allow-origin {shown}."
                )
                await refuse(error, scope, receive, send)
                return
        await self._app(scope, receive, send)


def _is_form(scope: Scope) -> bool:
    content_type = Headers(scope=scope).get("content-type", "")
    return content_type.strip().lower().startswith(MULTIPART)


def _no_administrator(path: str) -> NotAllowed:
    return NotAllowed(
        f"{path} is for administrators' keys, as 'appliance keys create NAME --admin' makes them. "
        "GET /stats and GET /usage show what this key has used itself."
    )


def _foreign_host(named: Sequence[str]) -> ForeignHost:
    name = name_of(", ".join(named))[:_MAX_ECHOED_CHARS]
    if not name:
        return ForeignHost("The request names no host. Send the header 'Host'.")
    return ForeignHost(
        f"This server is not asked as '{name}', for a web page could have made up that name "
        "(DNS rebinding). If it is yours, as that of a tunnel or a proxy, serve with "
        f"--allowed-host {name}."
    )
