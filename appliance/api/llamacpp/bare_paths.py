"""/completions and /embeddings, which llama.cpp has without OpenAI's /v1 and in shapes of
its own, and which clients of OpenAI's ask for whose base URL lacks it.

Knows no field beyond those by which a body shows who is meant.
"""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from appliance.api.format_router import FormatRouter
from appliance.gateway.lifecycle import Gateway


class _Shown(msgspec.Struct):
    """What only llama.cpp's clients send, and what only OpenAI's do."""

    n_predict: Any = None
    content: Any = None
    input: Any = None


class _Forwarded(Response):
    """The answer of another path to the same request."""

    def __init__(self, path: str, body: bytes) -> None:
        super().__init__()
        self._to = path
        self._sent = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_read = False

        async def replayed() -> Message:
            nonlocal is_read
            if is_read:
                return await receive()
            is_read = True
            return {"type": "http.request", "body": self._sent, "more_body": False}

        meant = {**scope, "path": self._to, "raw_path": self._to.encode()}
        await scope["app"].router(meant, replayed, send)


def _shown_by(body: bytes) -> _Shown:
    try:
        return msgspec.json.decode(body, type=_Shown)
    except (ValueError, RecursionError):
        return _Shown()  # the path that is taken then says what is wrong


def bare_path_routes(_gateway: Gateway) -> FormatRouter:
    router = FormatRouter("llama.cpp")

    async def completions(request: Request) -> Response:
        body = await request.body()
        is_native = _shown_by(body).n_predict is not None
        return _Forwarded("/completion" if is_native else "/v1/completions", body)

    async def embeddings(request: Request) -> Response:
        body = await request.body()
        shown = _shown_by(body)
        is_native = shown.content is not None and shown.input is None
        return _Forwarded("/embedding" if is_native else "/v1/embeddings", body)

    for path, forward in (("/completions", completions), ("/embeddings", embeddings)):
        router.add_route(path, forward, methods=["POST"], include_in_schema=False)
    return router
