"""One HTTP connection: who opens it and sends no whole request head,
or an endless one, loses it; who speaks HTTP/1.0 is answered in HTTP/1.0.

Knows no application.

uvicorn waits for a head as long as it takes, and keeps what it has of it; to a client
of HTTP/1.0 it sends chunks, which that does not know.
"""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from typing import Any

import msgspec
from starlette.types import Message, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from appliance.api.door.request_ids import origin_of
from appliance.api.door.safe_headers import SAFE_HEADERS
from appliance.api.errors import ErrorShape, ErrorShapes, Failure
from appliance.api.transport.http_parser import SteadyParser
from appliance.errors import ApplianceError, BadRequest, HeadTooLarge, HeadTooSlow
from appliance.gateway.telemetry.context import RequestContext

MAX_HEAD_BYTES = 64 << 10
_MOST_FRAME = 16  # bytes of framing to each of a body that comes in chunks of one
_REASONS = {400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large"}


class PatientConnection(HttpToolsProtocol):
    """A subclass sets the limit and the shapes: see `patient`."""

    timeout_s: float  # for a whole head, from its first byte or from when the connection was made
    error_shapes: ErrorShapes
    _num_body_bytes = 0
    _num_read_body_bytes = 0  # in one read
    _ends_in_read = False  # a request does
    _meets_in_read = False  # another one begins behind it
    _num_frame_bytes = 0  # sizes of chunks, and what may follow the last one
    _timer: asyncio.TimerHandle | None = None
    _is_in_head = True
    _num_head_bytes = 0
    _is_websocket = False
    _lingers = False  # the last response is out, its request not yet in

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = SteadyParser(self)  # type: ignore[assignment] # all that uvicorn asks
        self.url, self.headers = b"", []  # uvicorn's, of a request that has begun

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._num_read_body_bytes, self._ends_in_read, self._meets_in_read = 0, False, False
        super().data_received(data)
        if self._is_websocket:
            return  # what comes from now on is another protocol's
        # Where requests meet in a read, nobody knows whose the rest is: the next read counts.
        num_bytes = 0 if self._meets_in_read else len(data) - self._num_read_body_bytes
        if self._is_in_head:
            self._num_head_bytes += num_bytes
            if self._num_head_bytes > MAX_HEAD_BYTES:
                self._refuse(
                    HeadTooLarge(f"The request's head is larger than {MAX_HEAD_BYTES} bytes.")
                )
            return
        self._num_frame_bytes += num_bytes
        if self._num_frame_bytes > MAX_HEAD_BYTES + _MOST_FRAME * self._num_body_bytes:
            self._refuse(
                HeadTooLarge(
                    f"The request has more than {MAX_HEAD_BYTES} bytes of framing around its body."
                )
            )
        elif self.cycle is not None and self.cycle.response_complete:
            self._start_timer()  # what comes is no request, and ended uvicorn's wait for one

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_in_head:  # what follows a body is read by nobody, and would be kept
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._num_body_bytes += len(body)
        self._num_read_body_bytes += len(body)
        super().on_body(body)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head = True
        self._meets_in_read = self._ends_in_read
        self._start_timer()

    def _should_upgrade(self) -> bool:
        """Only to what can be a WebSocket; any other offer is ignored."""
        has_key = any(name == b"sec-websocket-key" for name, _ in self.headers)
        return has_key and self.parser.get_method() == b"GET" and super()._should_upgrade()

    def handle_websocket_upgrade(self) -> None:
        super().handle_websocket_upgrade()
        self._is_websocket = True
        self._stop_timer()
        if not getattr(self.transport.get_protocol(), "handshake_initiated", True):
            self._refuse(
                HeadTooLarge("The head of a WebSocket's request has too long or too many lines.")
            )

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self.cycle is not None and self.cycle.scope is self.scope:  # else an upgrade was taken
            # before it begins, which it does when this has returned
            _answer_as_asked(self.cycle)
            if not self.cycle.keep_alive:
                self.cycle.transport = _LastWords(self)  # type: ignore[assignment] # all it uses
        self._is_in_head = False
        self._num_head_bytes = self._num_body_bytes = self._num_frame_bytes = 0
        self._stop_timer()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._ends_in_read = True
        if self._lingers:
            self.transport.close()

    def close_when_read(self) -> None:
        """Closes once the rest of the request is there, or the time for it is over.

        Bytes that nobody read make the kernel reset the connection, and a client that
        is still sending would lose the response: a refusal of its body, as a rule.
        """
        if self.cycle.more_body and self.transport.can_write_eof():
            self._lingers = True
            self.transport.write_eof()
            self._start_timer()
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Where uvicorn's parser cannot read what came."""
        self._refuse(BadRequest(msg))

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.timeout_s, self._give_up)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self._is_answering:
            self._start_timer()  # the head of another request must not end this one
        elif self._num_head_bytes:
            self._refuse(
                HeadTooSlow(f"The request's head did not arrive within {self.timeout_s:g} s.")
            )
        else:
            self.transport.close()

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _may_respond(self) -> bool:
        """Whether a refusal is read as the response to the request that is at fault."""
        if not self._is_answering:
            return True
        # its body: nothing of the response is written yet, and no other one is due before
        is_first = not self._is_in_head and not self.pipeline
        return is_first and not self.cycle.response_started

    def _refuse(self, error: ApplianceError) -> None:
        """In a context of its own, for the next request may come on this connection."""
        if not self.transport.is_closing():
            copy_context().run(self._refuse_by_id, error)

    def _refuse_by_id(self, error: ApplianceError) -> None:
        context = RequestContext(origin=origin_of(self.headers))
        context.begin()
        if self._may_respond:  # else it would stand amidst another response
            shape = self._error_shape()
            record = shape.to_record(Failure.of(error))
            body = msgspec.json.encode(record)
            headers = {
                "Content-Type": "application/json",
                "Content-Length": str(len(body)),
                "Connection": "close",
                "X-Request-Id": context.origin.request_id,
                **SAFE_HEADERS,
                **shape.headers(record),
            }
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            head = f"HTTP/1.1 {error.status} {_REASONS[error.status]}\r\n{lines}\r\n"
            self.transport.write(head.encode("ascii") + body)
        self.transport.close()

    def _error_shape(self) -> ErrorShape:
        """By as much of the head as is read, as it was written: no path is mended here."""
        path = self.url.partition(b"?")[0].decode("latin-1")
        return self.error_shapes.of(path, {name for name, _ in self.headers})


class _LastWords:
    """The transport of a cycle after which the connection is to be closed."""

    def __init__(self, connection: PatientConnection) -> None:
        self._connection = connection
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing

    def close(self) -> None:
        self._connection.close_when_read()


def _answer_as_asked(cycle: RequestResponseCycle) -> None:
    """Without chunks to HTTP/1.0: what has no length there ends with the connection.

    A client that waits for word to send its body, and gets its answer instead, may
    never send it; so what it sends next could not be told from a body.
    """
    is_old = cycle.scope["http_version"] == "1.0"
    if is_old:
        cycle.waiting_for_100_continue = False  # not known there either
    if is_old or cycle.waiting_for_100_continue:
        cycle.send = _sender_of(cycle, chunks=not is_old)  # type: ignore[method-assign, assignment]


def _sender_of(cycle: RequestResponseCycle, *, chunks: bool) -> Send:
    send: Any = cycle.send
    ends_by_closing = False

    async def send_as_asked(message: Message) -> None:
        nonlocal ends_by_closing
        if message["type"] == "http.response.start":
            cycle.keep_alive = cycle.keep_alive and not cycle.waiting_for_100_continue
            has_length = any(name == b"content-length" for name, _ in message.get("headers", ()))
            ends_by_closing = not (chunks or has_length)
            if ends_by_closing:
                cycle.chunked_encoding = False
        elif ends_by_closing:  # uvicorn compares each part with the length that was announced
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    return send_as_asked


def patient(timeout_s: float, error_shapes: ErrorShapes) -> type[PatientConnection]:
    """The protocol for `uvicorn.Config(http=...)`."""
    attributes = {"timeout_s": timeout_s, "error_shapes": error_shapes}
    return type("PatientConnection", (PatientConnection,), attributes)
