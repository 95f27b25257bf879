"""`HEAD` and `OPTIONS` on every route, though hardly one declares them.

Knows no endpoint. CORS is another one's: a preflight does not come this far.
"""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.api.door.paths import KnownRoutes


class UndeclaredMethods:
    """ASGI middleware: `HEAD` is `GET` without its body, `OPTIONS` names the methods."""

    def __init__(self, app: ASGIApp, *, routes: KnownRoutes) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope.get("method")
        path = scope.get("path", "")
        if method == "HEAD" and self._routes.answers_head_by_get(path):
            scope, send = {**scope, "method": "GET"}, _without_body(send)
        elif method == "OPTIONS" and (methods := self._routes.methods_at(path)):
            response = Response(status_code=204, headers={"Allow": allowed(methods)})
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)


def allowed(methods: set[str]) -> str:
    """The value of an `Allow` header at a path that has these methods."""
    undeclared = {"OPTIONS", "HEAD"} if "GET" in methods else {"OPTIONS"}
    return ", ".join(sorted(methods | undeclared))


def _without_body(send: Send) -> Send:
    """The length that `GET` would have stays in the head."""

    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_head
