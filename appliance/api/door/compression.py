"""Whole responses, packed where the client accepts that.

Knows no endpoint. Streams go out as they are: a packer holds bytes back until it has
enough of them, or makes each short event longer.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.api.door import zstd

MIN_BYTES = 1024  # below that, packing saves no packet
_MANY_BYTES = 64 << 10  # packed beside the event loop
_GZIP = 31  # zlib's number of the form
_GZIP_LEVEL = 1  # five times as fast as the usual one, and JSON packs nearly as well
_PACKED_TYPES = ("application/json", "text/plain", "text/html", "text/css", "text/javascript")


def _gzip(data: bytes) -> bytes:
    packer = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP)
    return packer.compress(data) + packer.flush()


# The best first.
_PACKERS: Mapping[str, Callable[[bytes], bytes]] = {
    **({"zstd": zstd.compressed} if zstd.IS_THERE else {}),
    "gzip": _gzip,
}


def accepted_coding(accept_encoding: str) -> str | None:
    """The best of our codings that the header's value accepts; None for none (RFC 9110,
    12.5.3).
    """
    weights: dict[str, float] = {}
    for part in accept_encoding.lower().split(","):
        name, _, parameters = part.partition(";")
        weights[name.strip()] = _weight(parameters)
    others = weights.get("*", 0.0)
    usable = {name: weights.get(name, others) for name in _PACKERS}
    best = max(usable.values())
    return next(name for name, weight in usable.items() if weight == best) if best > 0 else None


def _weight(parameters: str) -> float:
    name, _, value = parameters.partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0


class Compression:
    """ASGI middleware: packs a response that comes in one piece."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            coding = accepted_coding(", ".join(Headers(scope=scope).getlist("accept-encoding")))
            send = _Packing(send, coding).send
        await self._app(scope, receive, send)


class _Packing:
    """A `send` that holds the head back until it has seen the body, or its first part."""

    def __init__(self, send: Send, coding: str | None) -> None:
        self._send = send
        self._coding = coding
        self._head: Message | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _may_be_packed(message):
            self._head = message
            return
        if self._head is not None:
            head, self._head = self._head, None
            message = await self._packed(head, message)
            await self._send(head)
        await self._send(message)

    async def _packed(self, head: Message, message: Message) -> Message:
        """The body's message; `head` changes with it."""
        body = message.get("body", b"")
        if message.get("more_body", False) or len(body) < MIN_BYTES:
            return message
        headers = MutableHeaders(raw=[*head["headers"]])
        head["headers"] = headers.raw
        headers.add_vary_header("Accept-Encoding")
        if self._coding is None:
            return message
        pack = _PACKERS[self._coding]
        packed = await asyncio.to_thread(pack, body) if len(body) > _MANY_BYTES else pack(body)
        headers["Content-Encoding"] = self._coding
        headers["Content-Length"] = str(len(packed))
        return {**message, "body": packed}


def _may_be_packed(head: Message) -> bool:
    headers = Headers(raw=[*head["headers"]])
    media_type = headers.get("content-type", "").partition(";")[0].strip()
    return media_type in _PACKED_TYPES and "content-encoding" not in headers
