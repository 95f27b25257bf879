"""How long a client lets its request take: the header `x-request-timeout`.

Knows no endpoint, and ends nothing itself.
"""

from __future__ import annotations

import math

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from appliance.api.transport.refusal import refuse
from appliance.durations import duration_s
from appliance.errors import BadRequest
from appliance.gateway.queue.deadline import ASKED_TIMEOUT_S

TIMEOUT_HEADER = "x-request-timeout"


class RequestTimeouts:
    """ASGI middleware: what the header says holds for all that the request asks of models;
    on a WebSocket for each of its requests.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sent = None if scope["type"] == "lifespan" else Headers(scope=scope).get(TIMEOUT_HEADER)
        if sent is None:
            await self._app(scope, receive, send)
            return
        try:
            timeout_s = _seconds(sent)
        except BadRequest as error:
            await refuse(error, scope, receive, send)
            return
        token = ASKED_TIMEOUT_S.set(timeout_s)
        try:
            await self._app(scope, receive, send)
        finally:
            ASKED_TIMEOUT_S.reset(token)


def _seconds(sent: str) -> float:
    try:
        timeout_s = duration_s(sent)
    except ValueError:
        timeout_s = 0.0
    if not 0 < timeout_s < math.inf:
        raise BadRequest(
            f"The header '{TIMEOUT_HEADER}' must be a time above 0, such as 30 (seconds), 1.5 or "
            "1m30s.",
            param=TIMEOUT_HEADER,
        )
    return timeout_s
