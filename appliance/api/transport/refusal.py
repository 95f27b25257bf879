"""Failures as they go out:
an HTTP response, or a WebSocket that is refused before it opens.

Knows no shape: that of the path is looked up.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from appliance.api.door.content_coding import TAKEN
from appliance.api.errors import ErrorShapes, Failure
from appliance.api.transport.unknown_parameters import ignored_headers
from appliance.errors import ApplianceError

_POLICY_VIOLATION = 1008  # RFC 6455, 7.4.1
_DENIAL_RESPONSE = "websocket.http.response"  # ASGI's extension: a refusal with status and body

_HEADERS_BY_STATUS: Mapping[int, Mapping[str, str]] = {
    401: {"WWW-Authenticate": "Bearer"},
    408: {"Connection": "close"},  # the rest of the body is not waited for
    415: {"Accept-Encoding": TAKEN},
    429: {"Retry-After": "1"},  # a slot frees within the time of an answer
    503: {"Retry-After": "2"},  # a worker restarts within seconds
}


def failure_response(failure: Failure, scope: Scope) -> Response:
    shapes: ErrorShapes = scope["app"].state.error_shapes
    shape = shapes.of(scope["path"], {name for name, _ in scope["headers"]})
    record = shape.to_record(failure)
    return Response(
        msgspec.json.encode(record),
        status_code=failure.status,
        media_type="application/json",
        headers={
            **_HEADERS_BY_STATUS.get(failure.status, {}),
            **failure.headers,
            **shape.headers(record),
            **ignored_headers(scope),
        },
    )


async def refuse(error: ApplianceError, scope: Scope, receive: Receive, send: Send) -> None:
    """For guards, which stand in front of the application's own handlers.

    Raises `error` where the scope is of a kind that has no way to refuse.
    """
    if scope["type"] == "http":
        await failure_response(Failure.of(error), scope)(scope, receive, send)
    elif scope["type"] == "websocket":
        await refuse_websocket(Failure.of(error), scope, receive, send)
    else:
        raise error


async def refuse_websocket(failure: Failure, scope: Scope, receive: Receive, send: Send) -> None:
    """Before it opens."""
    await receive()  # websocket.connect
    if _DENIAL_RESPONSE in scope.get("extensions", {}):
        await failure_response(failure, scope)(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": failure.code})
