"""What is taken as a request body: JSON, said to be JSON by web pages, up to a size once
unpacked, within a time.

Knows no endpoint and no field.

Bodies are parsed on the event loop, everybody's: the parsers hold Python's lock from
the first byte to the last, so a thread would free nobody (a mebibyte takes 23 ms as
token ids, 2 as text). What bounds the pause is the size.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from inspect import iscoroutinefunction
from typing import Any

from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.api.door.content_coding import unpacker_of
from appliance.api.door.pages import may_be_of_a_page
from appliance.api.fields.request import RequestModel, names_of
from appliance.api.transport import json_text
from appliance.api.transport.refusal import refuse
from appliance.api.transport.unknown_parameters import UnknownParameters, ignored_headers
from appliance.errors import ApplianceError, BadRequest, BodyTooLarge, BodyTooSlow
from appliance.time_limit import within

# where nobody knows the context; `appliance.fit` has a smaller bound for most
MAX_BODY_BYTES = 16 << 20
CLIENT_TIMEOUT_S = 30.0
_LARGE_BODY_BYTES = 256 << 10
_MESSAGE_TOO_BIG = 1009  # RFC 6455, 7.4.1


class BodyGuard:
    """ASGI middleware: reads the whole body before anyone parses it, and refuses it as
    soon as it is too long.

    Of web pages it insists on a JSON content type, because a browser sends those across
    sites only after asking (CORS preflight); a form or plain text any page may post to
    a server on the visitor's own machine. Other clients' bodies are JSON whatever they
    are said to be: LiteLLM says nothing, and `curl -d` that they are forms.

    A WebSocket's handshake has no body; of its messages none over the limit is handed
    on. Raises `ValueError` for any other kind of scope: what nobody can read, nobody
    takes.
    """

    def __init__(
        self, app: ASGIApp, *, max_bytes: int, timeout_s: float, unread: tuple[str, ...] = ()
    ) -> None:
        """What is posted below the paths `unread` an endpoint reads itself, as it comes, and
        looks at its type: files, which are longer than what is kept in memory.
        """
        self._app = app
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._unread = unread

    def _is_unread(self, scope: Scope) -> bool:
        path: str = scope["path"]
        return scope["method"] == "POST" and path.startswith(self._unread)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._is_unread(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._pass_on_with_body(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._app(scope, self._bounded(receive, send), send)
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        else:
            raise ValueError(f"no body is known of a {scope['type']!r} scope")

    async def _pass_on_with_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await within(self._timeout_s, self._read(Headers(scope=scope), receive))
        except asyncio.TimeoutError:
            slow = BodyTooSlow(
                f"The body did not arrive within {self._timeout_s:g} s (--client-timeout-s)."
            )
            await refuse(slow, scope, receive, send)
            return
        except ApplianceError as error:
            await refuse(error, scope, receive, send)
            return
        if body is not None:
            await self._app(
                _said_to_be_json(scope) if body else scope, _replay(body, receive), send
            )

    async def _read(self, headers: Headers, receive: Receive) -> bytes | None:
        """The body, or None when the client left before it was whole."""
        announced = headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self._max_bytes:
            raise self._too_large()
        unpacker = unpacker_of(", ".join(headers.getlist("content-encoding")))
        body = bytearray()
        num_received = 0
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            num_received += len(part)
            body += unpacker.feed(part, self._max_bytes - len(body) + 1)
            if max(num_received, len(body)) > self._max_bytes:
                raise self._too_large()
            more = message.get("more_body", False)
        unpacker.finish()
        if body and may_be_of_a_page(headers) and not _is_json(headers.get("content-type", "")):
            raise BadRequest(
                "The body must be JSON, sent with the header 'Content-Type: application/json'."
            )
        return bytes(body)

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(
            f"The body is larger than {self._max_bytes} bytes, which is the most this server takes."
        )

    def _bounded(self, receive: Receive, send: Send) -> Receive:
        """A `receive` for a WebSocket,
        which closes it in place of a message over the limit.
        """

        async def bounded() -> Message:
            message = await receive()
            data = message.get("bytes") or (message.get("text") or "").encode()
            if len(data) > self._max_bytes:
                await send({"type": "websocket.close", "code": _MESSAGE_TOO_BIG})
                return {"type": "websocket.disconnect", "code": _MESSAGE_TOO_BIG}
            return message

        return bounded


def _is_json(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or (
        media_type.startswith("application/") and media_type.endswith("+json")
    )


def _said_to_be_json(scope: Scope) -> Scope:
    """FastAPI reads no other bodies."""
    if _is_json(Headers(scope=scope).get("content-type", "")):
        return scope
    headers = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
    return {**scope, "headers": [*headers, (b"content-type", b"application/json")]}


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body in one piece and then passes on, which reports
    when the client leaves.
    """
    is_read = False

    async def replayed() -> Message:
        nonlocal is_read
        if is_read:
            return await receive()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


class StrictJsonRoute(APIRoute):
    """A route whose body is JSON to the letter: Python's own parser also takes NaN, and
    halves of surrogate pairs.

    Such a half is no character: it could neither be tokenized nor be repeated in an
    error message. What the body's model does not know is taken off: see
    `UnknownParameters`.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        # a plain function would run in a thread, and what it reads is the event loop's
        assert iscoroutinefunction(self.endpoint), f"{self.path} has to be a coroutine"
        handle = super().get_route_handler()
        model = self._body_model()
        known = None
        if model is not None and not model.refuses_unknown:
            known = frozenset(names_of(model).by_sent)
        nested = {} if model is None else model.nested_parameters

        async def strict(request: Request) -> Response:
            response = await handle(_StrictRequest(request.scope, request.receive, known, nested))
            response.headers.update(ignored_headers(request.scope))
            return response

        return strict

    def _body_model(self) -> type[RequestModel] | None:
        """None where there is no body."""
        if self.body_field is None:
            return None
        model = self.body_field.field_info.annotation
        assert isinstance(model, type)
        assert issubclass(model, RequestModel)
        return model


class _StrictRequest(Request):
    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        known: frozenset[str] | None,
        nested: Mapping[str, type[RequestModel]],
    ) -> None:
        super().__init__(scope, receive)
        self._known = known
        self._nested = nested

    async def json(self) -> Any:
        try:
            body = await self.body()
            decoded = json_text.decode(body)
        except ValueError as error:
            # the exception that FastAPI takes for invalid JSON
            raise json.JSONDecodeError(str(error), "", 0) from error
        if len(body) > _LARGE_BODY_BYTES:
            await asyncio.sleep(0)  # streams have their turn before validation takes as long again
        if isinstance(decoded, dict) and self._known is not None:
            return self._without_unknown(decoded, self._known)
        return decoded

    def _without_unknown(self, body: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
        unknown: UnknownParameters = self.app.state.unknown_parameters
        read = unknown.taken_off(body, known, self.scope)
        for name, model in self._nested.items():
            if isinstance(inner := read.get(name), dict):
                inner_known = names_of(model).by_sent
                read[name] = unknown.taken_off(inner, inner_known, self.scope, f"{name}.")
        return read
