"""One WebSocket's bytes: what a client sends while it reads nothing is bounded.

Knows no application and no message.

uvicorn answers each ping at once, and keeps every part of a message until the last one
has come: who sends both without end would fill the memory.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from uvicorn._types import ASGIReceiveEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request, Response

from appliance.api.door.request_ids import REQUEST_ID_HEADER, origin_of
from appliance.api.door.safe_headers import SAFE_HEADERS

MAX_PARTS = 4096  # of one message; they may be empty

_log = logging.getLogger(__name__)
# uvicorn tells of every connection, which over HTTP it does in its access log alone
_log.addFilter(lambda record: record.levelno != logging.INFO or _log.isEnabledFor(logging.DEBUG))


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """The protocol for `uvicorn.Config(ws=...)`."""

    _num_parts = 0
    _waits_for_reader = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _log
        self._accept = self.conn.accept
        self.conn.accept = self._accept_or_refuse  # type: ignore[method-assign]  # of one connection

    def _accept_or_refuse(self, request: Request) -> Response:
        """No application sees what is no handshake, so none completes the refusal."""
        response = self._accept(request)
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            headers = [
                (name.lower().encode(), value.encode(errors="replace"))
                for name, value in request.headers.raw_items()
            ]
            response.headers[REQUEST_ID_HEADER.decode()] = origin_of(headers).request_id
            response.headers.update(SAFE_HEADERS)
        return response

    def handle_text(self, event: Frame) -> None:
        self._num_parts = 1
        super().handle_text(event)

    def handle_bytes(self, event: Frame) -> None:
        self._num_parts = 1
        super().handle_bytes(event)

    def handle_cont(self, event: Frame) -> None:
        self._num_parts += 1
        if self._num_parts <= MAX_PARTS:
            super().handle_cont(event)
        elif not self.close_sent:
            self.frames = []
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, f"more than {MAX_PARTS} parts")
            self.handle_parser_exception()

    def handle_ping(self) -> None:
        super().handle_ping()
        if not self.writable.is_set():
            self._waits_for_reader = True
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._waits_for_reader:
            self._waits_for_reader = False
            if not self.read_paused:
                self.transport.resume_reading()

    async def receive(self) -> ASGIReceiveEvent:
        message = await super().receive()
        if self._waits_for_reader:
            self.transport.pause_reading()
        return message
