"""What every response says beside its content: that it is of the type that it names, and
that nobody on the way keeps it.

Knows no endpoint.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Sources: https://fetch.spec.whatwg.org/#x-content-type-options-header, and RFC 9111, 5.2.2.5
SAFE_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}

_RAW = tuple((name.lower().encode(), value.encode()) for name, value in SAFE_HEADERS.items())
_STARTS = frozenset({"http.response.start", "websocket.http.response.start"})


class SafeHeaders:
    """ASGI middleware; what an endpoint says itself holds."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_safe(message: Message) -> None:
            if message["type"] in _STARTS:
                headers = [*message.get("headers", ())]
                said = {name for name, _ in headers}
                headers += [header for header in _RAW if header[0] not in said]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_safe)
