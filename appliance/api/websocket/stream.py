"""WS /v1/stream: many requests on one connection, each with an id of its client's.

Knows no format's records and no bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from msgspec import UNSET
from starlette.types import Scope

from appliance.api.errors import Failure
from appliance.api.openai.errors import openai_error
from appliance.api.transport.client_watch import unless_ended
from appliance.api.transport.completed_choice import completed_choices
from appliance.api.transport.open_streams import OpenStream, OpenStreams
from appliance.api.transport.pump import pump, pump_on
from appliance.api.transport.websocket.connection import MessageConnection
from appliance.api.websocket.bodies import ENDPOINTS, read_body
from appliance.api.websocket.failures import InvalidMessage, failure_of, refusal_of
from appliance.api.websocket.labels import END, LabelledFormat
from appliance.api.websocket.message_log import MessageLog
from appliance.api.websocket.messages import (
    AskMessage,
    CancelMessage,
    PingMessage,
    RequestId,
    ResumeMessage,
    ServerMessage,
    decoded,
    head_of,
    id_in,
    read_message,
    tail_of,
)
from appliance.api.websocket.sink import MessageSink
from appliance.errors import StreamGone
from appliance.gateway.accounts.caller import Caller
from appliance.gateway.lifecycle import Gateway
from appliance.logs import REQUEST_ID

MAX_REQUESTS = 64  # in progress on one connection
_GONE = (
    "There is no stream to go on with: it was interrupted too long ago, more has been sent since "
    "than is kept, or it is not known here. Send the request again to begin anew."
)


@dataclass(eq=False)
class _Running:
    """A request in progress on this connection."""

    head: bytes
    is_cancelled: bool = False  # by its client
    last_words: bytes | None = None  # where it is, and had begun
    sink: MessageSink | None = None  # once it may begin
    task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        self.is_cancelled = True
        if self.task is not None:
            self.task.cancel()


class StreamRequests:
    """Those of one connection."""

    def __init__(
        self,
        connection: MessageConnection,
        gateway: Gateway,
        caller: Caller,
        *,
        scope: Scope,
        streams: OpenStreams,
    ) -> None:
        self._connection = connection
        self._gateway = gateway
        self._caller = caller
        self._scope = scope
        self._path: str = scope["path"]
        self._streams = streams
        self._running: dict[RequestId, _Running] = {}
        self._log = MessageLog(scope, caller)

    async def handle(self, data: bytes) -> None:
        """One message of the client's."""
        named: RequestId | None = None
        try:
            fields = decoded(data)
            named = id_in(fields)
            message = read_message(fields)
            if isinstance(message, AskMessage | ResumeMessage):
                self._begin(message)
        except InvalidMessage as invalid:
            # an error with the id of a request in progress would be that request's end
            head = head_of(None if named in self._running else named)
            await self._tell(head, invalid.failure)
            return
        if isinstance(message, CancelMessage):
            if running := self._running.get(message.id):
                running.cancel()
        elif isinstance(message, PingMessage):
            await self._connection.send(head_of(message.id) + tail_of(ServerMessage(type="pong")))

    def _begin(self, message: AskMessage | ResumeMessage) -> None:
        """Raises `InvalidMessage` where its id does not tell it from others."""
        if message.id in self._running:
            raise refusal_of(
                400,
                f"A request with the id {message.id!r} is in progress: choose another one.",
                "id_in_use",
                param="id",
            )
        running = self._running[message.id] = _Running(head_of(message.id))
        running.task = self._connection.start(self._run(message, running))

    async def _run(self, message: AskMessage | ResumeMessage, running: _Running) -> None:
        """To the last message with its id, which every request has while the connection
        lasts.
        """
        try:
            with self._log.request(message.type) as outcome:
                outcome.status = await self._status_of(message, running)
        finally:
            self._free(message.id, running)

    async def _status_of(self, message: AskMessage | ResumeMessage, running: _Running) -> int:
        """HTTP's, of a request at its end."""
        try:
            await self._serve(message, running)
        except asyncio.CancelledError:
            if not running.is_cancelled:
                raise
            if running.sink is None or not running.sink.is_over:
                cancelled = ServerMessage(type="done", cancelled=True)
                words = running.last_words or running.head + tail_of(cancelled)
                await self._connection.send(words)
        except Exception as error:  # noqa: BLE001  # others on this connection go on
            failure = failure_of(error)
            await self._tell(running.head, failure)
            return failure.status
        return HTTPStatus.OK

    def _free(self, request_id: RequestId, running: _Running) -> None:
        """Its client may use the id again."""
        if self._running.get(request_id) is running:
            del self._running[request_id]

    async def _serve(self, message: AskMessage | ResumeMessage, running: _Running) -> None:
        if len(self._running) > MAX_REQUESTS:
            raise refusal_of(
                429,
                f"{MAX_REQUESTS} requests are in progress on this connection, which is the limit.",
                "queue_full",
            )
        if isinstance(message, ResumeMessage):
            await self._resume(message, running)
        else:
            await self._answer(message, running)

    async def _answer(self, message: AskMessage, running: _Running) -> None:
        endpoint, body = ENDPOINTS[message.type], message.body
        is_whole = body.get("stream") is False
        if body.get("stream") is None:
            body = {**body, "stream": True}
        request, ignored = read_body(endpoint.model, body, self._scope)
        events, wire_format = await endpoint.begin(self._gateway, self._caller, request)
        labelled = LabelledFormat(wire_format)
        stream = None
        if self._streams.resume_s > 0 and not is_whole:
            stream = self._streams.open(self._caller.id, self._path, events, labelled, "websocket")
        sink = running.sink = MessageSink(
            self._connection.send,
            running.head,
            labelled,
            stream=stream,
            ignored_parameters=ignored,
            on_end=lambda: self._free(message.id, running),
        )
        if is_whole:
            choices = await completed_choices(events)
            await sink.start(choices[0].unenforced, choices[0].route)
            whole = labelled.whole(choices)
            await sink.write(whole if isinstance(whole, Sequence) else [whole])
            await sink.write([END])
        elif stream is None:
            await pump(events, labelled, sink)
        else:
            await self._write_kept(stream, running, pump(events, labelled, sink, stream.progress))

    async def _resume(self, message: ResumeMessage, running: _Running) -> None:
        try:
            stream, last = await self._streams.take(
                f"{message.stream}.{message.after}", self._caller.id, self._path, "websocket"
            )
        except StreamGone as error:
            raise StreamGone(_GONE) from error
        labelled, progress = stream.wire_format, stream.progress
        assert isinstance(labelled, LabelledFormat)
        sink = running.sink = MessageSink(
            self._connection.send,
            running.head,
            labelled,
            stream=stream,
            on_end=lambda: self._free(message.id, running),
        )

        async def repeat() -> None:
            # Who has all of it is told again that it has ended: every request has an end.
            after = last - 1 if stream.is_over_after(last) else last
            await sink.write_again(stream.frames_after(after), are_last=progress.is_ended)

        work = pump_on(stream.events, labelled, sink, progress, repeat)
        await self._write_kept(stream, running, work)

    async def _write_kept(
        self, stream: OpenStream, running: _Running, work: Coroutine[Any, Any, None]
    ) -> None:
        """Until it has ended, its client cancels it, or comes back for it elsewhere."""
        try:
            is_written = await unless_ended(work, stream.until_wanted())
        except asyncio.CancelledError:
            has_begun = stream.num_frames and not stream.progress.is_ended
            if running.is_cancelled and running.sink is not None and has_begun:
                stream.progress.is_ended = True
                running.last_words = running.sink.cancelled()
            raise
        finally:
            self._streams.left(stream)
        if not is_written:
            raise refusal_of(409, "The stream goes on on another connection.", "stream_taken")

    async def _tell(self, head: bytes, failure: Failure) -> None:
        message = ServerMessage(
            type="error",
            request_id=REQUEST_ID.get() or UNSET,
            status=failure.status,
            data=openai_error(failure),
        )
        await self._connection.send(head + tail_of(message))
