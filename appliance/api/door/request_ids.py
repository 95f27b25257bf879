"""An id for each request: the client's own, or one that is made. It is in each response and
in each log line of the request.

Knows no endpoint.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.api.door.access_log import AccessLog
from appliance.gateway.telemetry.context import RequestContext
from appliance.gateway.telemetry.origin import Origin
from appliance.protocol.events import CacheUse

REQUEST_ID_HEADER = b"x-request-id"
CACHE_HEADER = b"x-cache"  # whether the answer was there already, where somebody looked
# What can stand in a log line and in a header as it is; UUIDs, ULIDs and most other ids.
_VALID = re.compile(rb"[A-Za-z0-9._:+/=@-]{1,128}")
# https://www.w3.org/TR/trace-context; what is no such thing is ignored
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_MAX_TRACESTATE_BYTES = 512
_STARTS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})


def new_request_id() -> str:
    return f"req_{secrets.token_hex(12)}"


def origin_of(headers: Iterable[tuple[bytes, bytes]]) -> Origin:
    """`headers` with names in lower case; of one that comes several times, the last."""
    found = dict(headers)
    sent, traceparent = found.get(REQUEST_ID_HEADER, b""), found.get(b"traceparent", b"")
    tracestate = found.get(b"tracestate", b"")
    is_traced = _TRACEPARENT.fullmatch(traceparent) is not None
    has_state = is_traced and len(tracestate) <= _MAX_TRACESTATE_BYTES and tracestate.isascii()
    return Origin(
        request_id=sent.decode() if _VALID.fullmatch(sent) else new_request_id(),
        traceparent=traceparent.decode("latin-1") if is_traced else "",
        tracestate=tracestate.decode() if has_state else "",
    )


class RequestIds:
    """ASGI middleware, the outermost: what any other one logs or responds is known by its
    id, and all that happens is over when `access_log` writes its line.
    """

    def __init__(self, app: ASGIApp, *, access_log: AccessLog) -> None:
        self._app = app
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        began_s = time.perf_counter()
        context = RequestContext(origin=origin_of(scope["headers"]))
        context.begin()
        header = (REQUEST_ID_HEADER, context.origin.request_id.encode())
        status: int | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] in _STARTS:
                status = message.get("status", 101)
                message = {**message, "headers": [*message.get("headers", ()), header]}
                if context.cache is not CacheUse.NONE:
                    message["headers"].append((CACHE_HEADER, context.cache.value.encode()))
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            self._access_log.write(scope, context, status, time.perf_counter() - began_s)
