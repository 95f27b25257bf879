"""Every way in which a request fails before
or inside an endpoint becomes one kind of response.

Knows no endpoint and no shape.
"""

from __future__ import annotations

import logging
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.api.door.methods import allowed
from appliance.api.door.paths import KnownRoutes
from appliance.api.errors import INTERNAL_FAILURE, MAX_ECHOED_CHARS, Failure, validation_failure
from appliance.api.transport.refusal import failure_response, refuse_websocket
from appliance.errors import ApplianceError

_log = logging.getLogger(__name__)


def install_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(ApplianceError, _on_appliance_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.router.default = _NoRoute(app.router.default)


class _NoRoute:
    """Where no route is: of a WebSocket Starlette would only say that it is refused."""

    def __init__(self, otherwise: ASGIApp) -> None:
        self._otherwise = otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self._otherwise(scope, receive, send)
            return
        path = scope["path"]
        message = f"There is no WebSocket at {path[:MAX_ECHOED_CHARS]}."
        if scope["app"].state.known_routes.methods_at(path):
            message += " The path takes plain HTTP requests."
        failure = Failure(status=404, message=message, code="unknown_path")
        await refuse_websocket(failure, scope, receive, send)


class UnexpectedErrors:
    """ASGI middleware, the outermost: logs an exception that nobody handled, and
    responds with 500 without its details.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_started = False

        async def watched_send(message: Message) -> None:
            nonlocal has_started
            has_started = has_started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except Exception:
            if scope["type"] != "http" or has_started:
                # too late for a status: the server must break the connection, or the
                # response would look whole
                raise
            _log.exception("%s %s failed", scope["method"], scope["path"])
            await failure_response(INTERNAL_FAILURE, scope)(scope, receive, send)


async def _on_appliance_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApplianceError)
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.warning("responded with %d %s: %s", error.status, error.code, error.message)
    return failure_response(Failure.of(error), request.scope)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return failure_response(validation_failure(error.errors()), request.scope)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own refusals:
    no such path, no such method, a body that is no text.
    """
    assert isinstance(error, HTTPException)
    target = f"{request.method} {request.url.path[:MAX_ECHOED_CHARS]}"
    routes: KnownRoutes = request.app.state.known_routes
    status, code, message = error.status_code, None, str(error.detail)
    headers = error.headers or {}
    if status == HTTPStatus.NOT_FOUND and routes.takes_websocket(request.url.path):
        status, code = HTTPStatus.UPGRADE_REQUIRED, "upgrade_required"
        message = f"This path takes a WebSocket (ws://), not: {target}."
        headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
    elif status == HTTPStatus.NOT_FOUND:
        near = routes.near(request.url.path)
        hint = f" Did you mean {near}?" if near else ""
        code, message = "unknown_path", f"There is no such path: {target}.{hint}"
    elif status == HTTPStatus.METHOD_NOT_ALLOWED:
        # Starlette names those of one route, and a path may have several
        methods = routes.methods_at(request.url.path)
        headers = {"Allow": allowed(methods)} if methods else headers
        taken = headers.get("Allow", "another method")
        code, message = "method_not_allowed", f"This path takes {taken}, not: {target}."
    failure = Failure(status=status, message=message, code=code, headers=headers)
    return failure_response(failure, request.scope)
