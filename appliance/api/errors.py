"""Every failure as OpenAI's clients expect it: `{"error": {"message", "type", "param",
"code"}}` with its status.

Knows no endpoint. Field by field as in
https://platform.openai.com/docs/guides/error-codes; a wrong request is 400, never 422.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.errors import ApplianceError, BadRequest

_log = logging.getLogger(__name__)

_MAX_PARAM_CHARS = 100  # a field name comes from the client and may be a megabyte long

_TYPE_BY_STATUS = {403: "permission_error", 429: "rate_limit_error"}  # else by class: 4xx or 5xx

_HEADERS_BY_STATUS: Mapping[int, Mapping[str, str]] = {
    401: {"WWW-Authenticate": "Bearer"},
    408: {"Connection": "close"},  # the rest of the body is not waited for
    429: {"Retry-After": "1"},  # a slot frees within an answer's time
    503: {"Retry-After": "2"},  # a worker restarts within seconds
}

# pydantic's name of what is wrong -> OpenAI's code; our own validators bring their code
# as the name.
_CODE_BY_KIND = {
    "extra_forbidden": "unknown_parameter",
    "missing": "missing_required_parameter",
    "json_invalid": "invalid_json",
    "unsupported_parameter": "unsupported_parameter",
}


class ErrorDetail(msgspec.Struct):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(msgspec.Struct):
    error: ErrorDetail


# For the OpenAPI description; naming 4XX also keeps FastAPI from announcing its own
# 422.
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {
        "description": description,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["error"],
                    "properties": {
                        "error": {
                            "type": "object",
                            "required": ["message", "type", "param", "code"],
                            "properties": {
                                "message": {"type": "string"},
                                "type": {"type": "string"},
                                "param": {"type": ["string", "null"]},
                                "code": {"type": ["string", "null"]},
                            },
                        }
                    },
                }
            }
        },
    }
    for status, description in (
        ("4XX", "The request was refused."),
        ("5XX", "The server could not answer."),
    )
}


def error_body(error: ApplianceError) -> ErrorBody:
    """What went wrong, without the status: also an event in a stream that has begun."""
    return _body(error.status, error.message, error.param, error.code)


def internal_error_body() -> ErrorBody:
    """For what nobody foresaw: details are in the log, not in the answer."""
    return _body(
        500, "An internal error occurred; the server's log has the details.", None, "internal_error"
    )


def error_response(error: ApplianceError) -> Response:
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    return _response(error.status, error_body(error), headers)


def install_error_handlers(app: FastAPI) -> None:
    """One shape for all three ways in which a request fails before or inside an endpoint."""
    app.add_exception_handler(ApplianceError, _on_appliance_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)


class UnexpectedErrors:
    """ASGI middleware, the outermost: logs an exception that nobody handled, and
    answers 500 without its details.
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
                # answer would look whole
                raise
            _log.exception("%s %s failed", scope["method"], scope["path"])
            await _response(500, internal_error_body())(scope, receive, send)


async def _on_appliance_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApplianceError)
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.warning("Answered %d %s: %s", error.status, error.code, error.message)
    return error_response(error)


async def _on_validation_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _response(BadRequest.status, validation_body(error.errors()))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own refusals: no such path, no such method, a body that is no text."""
    assert isinstance(error, HTTPException)
    target = f"{request.method} {request.url.path[:_MAX_PARAM_CHARS]}"
    if error.status_code == HTTPStatus.NOT_FOUND:
        body = _body(404, f"There is no such path: {target}.", None, "unknown_path")
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        body = _body(
            405, f"This path does not take this method: {target}.", None, "method_not_allowed"
        )
    else:
        body = _body(error.status_code, str(error.detail), None, None)
    return _response(error.status_code, body, error.headers)


def validation_body(errors: Sequence[Mapping[str, Any]]) -> ErrorBody:
    """The first of pydantic's complaints, in a sentence that names the field."""
    first = errors[0]
    kind, param = first["type"], _param(first["loc"])
    if kind == "json_invalid":
        return _body(
            400, f"The body is not valid JSON: {first['ctx']['error']}.", None, "invalid_json"
        )
    if param is None:
        return _body(400, "The body must be a JSON object.", None, "invalid_value")
    if kind == "missing":
        message = f"Missing required parameter: '{param}'."
    elif kind == "extra_forbidden":
        message = f"Unrecognized request argument supplied: '{param}'."
    else:
        message = f"Invalid '{param}': {first['msg']}"
        message += "" if message.endswith(".") else "."
    return _body(400, message, param, _CODE_BY_KIND.get(kind, "invalid_value"))


def _param(loc: Sequence[str | int]) -> str | None:
    """`("body", "messages", 0, "content")` -> `messages[0].content`; None for the body as a whole.

    Parts in angle brackets are our tags of a union's branches, not names in the
    request.
    """
    param = ""
    for part in loc[1:]:
        if isinstance(part, int):
            param += f"[{part}]"
        elif not part.startswith("<"):
            param += f".{part}" if param else part
    if not param and len(loc) > 1:  # a field of the body that is named like a tag
        param = str(loc[-1])
    return param[:_MAX_PARAM_CHARS] or None


def _body(status: int, message: str, param: str | None, code: str | None) -> ErrorBody:
    by_class = (
        "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    )
    return ErrorBody(ErrorDetail(message, _TYPE_BY_STATUS.get(status, by_class), param, code))


def _response(status: int, body: ErrorBody, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        msgspec.json.encode(body),
        status_code=status,
        media_type="application/json",
        headers={**_HEADERS_BY_STATUS.get(status, {}), **(headers or {})},
    )
