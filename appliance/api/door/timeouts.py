"""How long a client lets its request take: the header `x-request-timeout`.

Knows no endpoint, and ends nothing itself.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from appliance.api.fields.timeouts import ALLOWED, seconds_of
from appliance.api.transport.refusal import refuse
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
        try:
            timeout_s = None if sent is None else _seconds(sent)
        except BadRequest as error:
            await refuse(error, scope, receive, send)
            return
        # also without a header: what the body asks for is not to outlive this request
        token = ASKED_TIMEOUT_S.set(timeout_s)
        try:
            await self._app(scope, receive, send)
        finally:
            ASKED_TIMEOUT_S.reset(token)


def _seconds(sent: str) -> float:
    try:
        return seconds_of(sent)
    except ValueError as error:
        raise BadRequest(
            f"The header '{TIMEOUT_HEADER}' must be {ALLOWED}.", param=TIMEOUT_HEADER
        ) from error
