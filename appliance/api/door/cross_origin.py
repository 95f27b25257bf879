"""CORS: which web pages a browser lets read our responses, and send what it would not
send without asking.

Knows no endpoint. Sources: https://fetch.spec.whatwg.org/#http-cors-protocol, and for
pages of the internet that reach into a private network
https://wicg.github.io/private-network-access.
"""

from __future__ import annotations

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.api.door.limits import LIMIT_HEADERS
from appliance.api.door.origins import Origins
from appliance.api.transport.refusal import refuse
from appliance.errors import ForeignOrigin

# Of our own headers what a page may read; others it could not see.
_EXPOSED = ", ".join(
    (
        "allow, request-id, retry-after, x-cache, x-ignored-parameters, x-request-id",
        "x-auto-model, x-auto-reason, x-unenforced-schema",
        *LIMIT_HEADERS,
    )
)
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_HEADERS = "authorization, content-type, x-api-key"
_HEADER_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, \t-]{1,4096}")
_MAX_AGE_S = "600"  # for as long a browser need not ask again
_ASKED = "Access-Control-Request-Method, Access-Control-Request-Headers"
_MAX_ORIGIN_CHARS = 100  # in a message


class CrossOrigin:
    """ASGI middleware, the outermost, for errors must be readable too.

    A preflight is answered here, before the key, which browsers do not send with it.
    """

    def __init__(self, app: ASGIApp, *, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        permitted = self._headers_for(origin)
        send = _with_headers(send, permitted)
        asked = headers.get("access-control-request-method")
        if scope["method"] != "OPTIONS" or origin is None or asked is None:
            await self._app(scope, receive, send)
        elif self._origins.include(origin):
            response = Response(status_code=204, headers=_preflight_headers(headers))
            await response(scope, receive, send)
        else:
            await refuse(_refusal(origin), scope, receive, send)

    def _headers_for(self, origin: str | None) -> dict[str, str]:
        """For every response, that to a page which may read it included."""
        if self._origins.are_none:
            return {}
        if origin is None or not self._origins.include(origin):
            return {} if self._origins.include_all else {"Vary": "Origin"}
        found = {"Access-Control-Expose-Headers": _EXPOSED, "Vary": "Origin"}
        if self._origins.name(origin):
            # a browser sends what a proxy in front of us wants, such as a cookie, only so
            found["Access-Control-Allow-Credentials"] = "true"
            found["Access-Control-Allow-Origin"] = origin
        else:
            found["Access-Control-Allow-Origin"] = "*"
        return found


def _preflight_headers(asked: Headers) -> dict[str, str]:
    """What is asked for is granted: the request itself is looked at when it comes."""
    names = asked.get("access-control-request-headers", "")
    granted = {
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Allow-Headers": names if _HEADER_NAMES.fullmatch(names) else _HEADERS,
        "Access-Control-Max-Age": _MAX_AGE_S,
        "Vary": _ASKED,
    }
    if asked.get("access-control-request-private-network") == "true":
        granted["Access-Control-Allow-Private-Network"] = "true"
    return granted


def _refusal(origin: str) -> ForeignOrigin:
    shown = origin[:_MAX_ORIGIN_CHARS]
    return ForeignOrigin(
        f"Web pages of {shown} may not use this server. If they shall, serve with "
        f"--allow-origin {shown}."
    )


def _with_headers(send: Send, headers: dict[str, str]) -> Send:
    async def send_headers(message: Message) -> None:
        if message["type"] == "http.response.start" and headers:
            of_response = MutableHeaders(raw=[*message.get("headers", ())])
            for name, value in headers.items():
                if name == "Vary":
                    of_response.add_vary_header(value)
                else:
                    of_response[name] = value
            message = {**message, "headers": of_response.raw}
        await send(message)

    return send_headers if headers else send
