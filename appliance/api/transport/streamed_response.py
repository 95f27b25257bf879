"""An HTTP response that is written event by event. Knows no wire format.

It watches for the client's leaving all the while; a client that stays but takes nothing
is given up after the application's `client_timeout_s`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Protocol

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from appliance.api.auto_route import route_headers
from appliance.api.transport.client_watch import impatient, unless_disconnected
from appliance.api.transport.completed_choice import ChoiceEvents
from appliance.api.transport.open_streams import OpenStream, OpenStreams
from appliance.api.transport.pump import Progress, fail, pump, pump_on
from appliance.api.transport.sse import ServerSentEvents
from appliance.api.transport.unenforced import unenforced_headers
from appliance.api.transport.wire_format import StreamItem, WireFormat
from appliance.gateway.choice_stream import ChoiceStream
from appliance.protocol.events import Route


class Framing(Protocol):
    """How a stream's items are told apart in a body."""

    media_type: str
    headers: Mapping[str, str]
    comment: bytes  # between two frames, and for nobody to read; empty where there is none

    def frame(self, item: StreamItem) -> bytes: ...


SERVER_SENT_EVENTS = ServerSentEvents()


class StreamedResponse(Response):
    """The status is sent with the first event, so a refusal before it is raised and
    gets its own status; or with the first comment, where the application's
    `sse_keep_alive_s` is over before: then a refusal is written like a failure.

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
        self._frame_with(framing)
        self._events = events
        self._format = wire_format

    def _frame_with(self, framing: Framing) -> None:
        self.status_code = 200
        self.media_type = framing.media_type
        self.background = None
        self.init_headers(framing.headers)
        self._framing = framing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Goes on with the stream that the header `Last-Event-ID` names, where there is
        one. Raises `StreamGone` where that is not possible.
        """
        stream, last = await self._stream(scope)
        state = scope["app"].state
        sink = _BodySink(self, self._framing, impatient(send, state.client_timeout_s))
        beside: list[Coroutine[Any, Any, None]] = []
        if state.sse_keep_alive_s > 0 and self._framing.comment:
            beside.append(sink.keep_alive(self._framing.comment, state.sse_keep_alive_s))
        if stream is None:
            await unless_disconnected(receive, self._write(sink), *beside)
            return
        sink.keep_in(stream)
        beside.append(stream.until_wanted())
        try:
            await unless_disconnected(receive, self._write_kept(sink, stream, last), *beside)
        finally:
            stream.streams.left(stream)

    async def _stream(self, scope: Scope) -> tuple[OpenStream | None, int | None]:
        """The stream that is written, if a client may come back to it, and the number
        of the last event that this one has.

        Events get ids where the client names event streams among what it accepts, as
        all do that come back: many others expect nothing before an event's data.
        """
        streams: OpenStreams = scope["app"].state.open_streams
        events = self._events
        if not (
            streams.resume_s > 0
            and isinstance(self._framing, ServerSentEvents)
            and isinstance(events, ChoiceStream)
        ):
            return None, None
        owner, path = scope["state"]["caller"].id, scope["path"]
        headers = Headers(scope=scope)
        if last_event_id := headers.get("last-event-id"):
            return await streams.take(last_event_id, owner, path)
        if self._framing.media_type not in headers.get("accept", "").lower():
            return None, None
        return streams.open(owner, path, events, self._format), None

    async def _write_kept(self, sink: _BodySink, stream: OpenStream, last: int | None) -> None:
        if last is None:
            await self._write(sink, stream.progress)
            return
        missed = stream.frames_after(last)

        async def repeat() -> None:
            await sink.start()
            if missed:
                await sink.write_again(missed)

        await pump_on(stream.events, stream.wire_format, sink, stream.progress, repeat)
        await sink.end()

    async def _write(self, sink: _BodySink, progress: Progress | None = None) -> None:
        progress = progress or Progress()
        try:
            await pump(self._events, self._format, sink, progress)
        except Exception as error:
            if not sink.begin_failing():
                raise
            await fail(error, self._format, sink, progress)
        await sink.end()


class ResumedResponse(StreamedResponse):
    """The rest of the stream that the id of an event names, whatever was asked for then;
    204 where nothing is left of it, which has browsers' `EventSource` stop.

    Also for an `EventSource` that comes back itself: its header `Last-Event-ID` counts.
    """

    def __init__(self, event_id: str) -> None:
        self._frame_with(SERVER_SENT_EVENTS)
        self._event_id = event_id

    async def _stream(self, scope: Scope) -> tuple[OpenStream | None, int | None]:
        streams: OpenStreams = scope["app"].state.open_streams
        last_event_id = Headers(scope=scope).get("last-event-id") or self._event_id
        stream, last = await streams.take(last_event_id, scope["state"]["caller"].id)
        if stream.is_over_after(last):
            self.status_code = 204
        return stream, last


class _BodySink:
    def __init__(self, response: Response, framing: Framing, send: Send) -> None:
        self._response = response
        self._frame = framing.frame
        self._send = send
        self._order = asyncio.Lock()  # comments come neither before the start nor after the end
        self._is_started = False
        self._is_ended = False
        self._time = asyncio.get_running_loop().time
        self._last_write_s = self._time()

    async def start(self, unenforced: Sequence[str] = (), route: Route | None = None) -> None:
        async with self._order:
            if not self._is_started and not self._is_ended:
                self._is_started = True
                self._response.headers.update(unenforced_headers(unenforced))
                self._response.headers.update(route_headers(route))
                await self._send(
                    {
                        "type": "http.response.start",
                        "status": self._response.status_code,
                        "headers": self._response.raw_headers,
                    }
                )

    def keep_in(self, stream: OpenStream) -> None:
        """Frames are numbered and kept, for a client that comes back."""
        frame, number, stream_id = self._frame, SERVER_SENT_EVENTS.numbered, stream.id.encode()

        def kept(item: StreamItem) -> bytes:
            framed = number(frame(item), stream_id, stream.num_frames)
            stream.add(framed)
            return framed

        self._frame = kept

    async def write_again(self, frames: Sequence[bytes]) -> None:
        """Those of an earlier response."""
        await self._send(
            {"type": "http.response.body", "body": b"".join(frames), "more_body": True}
        )

    async def write(self, items: Sequence[StreamItem]) -> None:
        body = self._frame(items[0]) if len(items) == 1 else b"".join(map(self._frame, items))
        self._last_write_s = self._time()
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    def begin_failing(self) -> bool:
        """Whether the failure belongs into this response; else no comment may start it
        any more.
        """
        self._is_ended = not self._is_started
        return self._is_started

    async def end(self) -> None:
        async with self._order:
            self._is_ended = True
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def keep_alive(self, comment: bytes, interval_s: float) -> None:
        """Writes `comment` whenever nothing has been written for so long. Runs until
        it is cancelled.
        """
        while True:
            silent_s = self._time() - self._last_write_s
            if silent_s < interval_s:
                await asyncio.sleep(interval_s - silent_s)
                continue
            self._last_write_s = self._time()
            await self.start()
            async with self._order:
                if not self._is_ended:
                    await self._send(
                        {"type": "http.response.body", "body": comment, "more_body": True}
                    )
