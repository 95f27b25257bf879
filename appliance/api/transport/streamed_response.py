"""An HTTP response that is written event by event. Knows no wire format.

It watches for the client's leaving all the while; a client that stays but takes nothing
is given up after the application's `client_timeout_s`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from appliance.api.transport.client_watch import impatient, unless_disconnected
from appliance.api.transport.completed_choice import ChoiceEvents
from appliance.api.transport.pump import pump
from appliance.api.transport.sse import ServerSentEvents
from appliance.api.transport.wire_format import StreamItem, WireFormat


class Framing(Protocol):
    """How a stream's items are told apart in a body."""

    media_type: str
    headers: Mapping[str, str]

    def frame(self, item: StreamItem) -> bytes: ...


SERVER_SENT_EVENTS = ServerSentEvents()


class StreamedResponse(Response):
    """The status is sent with the first event,
    so a refusal before it is raised and gets its own status.

    What fails later ends the stream with what the format writes of it, and without
    `EndMark`: OpenAI's clients raise `APIError` on it.
    """

    # Like Starlette's own streaming responses it leaves out Response.__init__, which
    # wants a body at once.
    def __init__(
        self,
        events: ChoiceEvents,
        wire_format: WireFormat,
        framing: Framing = SERVER_SENT_EVENTS,
    ) -> None:
        self.status_code = 200
        self.media_type = framing.media_type
        self.background = None
        self.init_headers(framing.headers)
        self._events = events
        self._format = wire_format
        self._framing = framing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        timeout_s: float = scope["app"].state.client_timeout_s
        await unless_disconnected(receive, self._write(impatient(send, timeout_s)))

    async def _write(self, send: Send) -> None:
        await pump(self._events, self._format, _BodySink(self, self._framing, send))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _BodySink:
    def __init__(self, response: Response, framing: Framing, send: Send) -> None:
        self._response = response
        self._frame = framing.frame
        self._send = send

    async def start(self) -> None:
        await self._send(
            {
                "type": "http.response.start",
                "status": self._response.status_code,
                "headers": self._response.raw_headers,
            }
        )

    async def write(self, items: Sequence[StreamItem]) -> None:
        body = self._frame(items[0]) if len(items) == 1 else b"".join(map(self._frame, items))
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
