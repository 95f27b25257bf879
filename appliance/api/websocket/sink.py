"""A request's stream on a WebSocket that other requests share: each record is a message
with its label and its number.

Knows no format and no endpoint.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from msgspec import UNSET

from appliance.api.transport.open_streams import OpenStream
from appliance.api.transport.unenforced import UNENFORCED_HEADER, unenforced_headers
from appliance.api.transport.wire_format import EndMark, NamedRecord, StreamItem
from appliance.api.websocket.labels import ERROR, LabelledFormat
from appliance.api.websocket.messages import ServerMessage, tail_of
from appliance.logs import REQUEST_ID
from appliance.protocol.events import Route

Send = Callable[[bytes], Awaitable[None]]


class MessageSink:
    """See `StreamSink`. `on_end` is called when the last message has been sent. With
    `stream` the messages are kept, for a client that comes back.
    """

    def __init__(
        self,
        send: Send,
        head: bytes,
        labelled: LabelledFormat,
        *,
        on_end: Callable[[], None],
        stream: OpenStream | None = None,
        ignored_parameters: str | None = None,
    ) -> None:
        self._send = send
        self._head = head
        self._labelled = labelled
        self._on_end = on_end
        self._stream = stream
        self._ignored_parameters = ignored_parameters
        self._num_messages = 0
        self.is_over = False  # its last message has been sent

    async def start(self, unenforced: Sequence[str] = (), route: Route | None = None) -> None:
        places = unenforced_headers(unenforced).get(UNENFORCED_HEADER)
        tail = self._kept(
            ServerMessage(
                type="start",
                index=self._next_index,
                request_id=REQUEST_ID.get() or UNSET,
                stream=UNSET if self._stream is None else self._stream.id,
                ignored_parameters=self._ignored_parameters or UNSET,
                unenforced_schema=places or UNSET,
                auto_model=UNSET if route is None else route.model,
                auto_reason=UNSET if route is None else route.reason,
            )
        )
        await self._send(self._head + tail)

    async def write(self, items: Sequence[StreamItem]) -> None:
        # All are kept before the first is sent: where the connection breaks meanwhile,
        # none is missing.
        tails = [self._kept(self._message_of(item)) for item in items]
        is_over = self._labelled.label == ERROR or isinstance(items[-1], EndMark)
        await self.write_again(tails, are_last=is_over)

    async def write_again(self, tails: Sequence[bytes], *, are_last: bool) -> None:
        """Messages as they were written before, on another connection or on this."""
        for tail in tails:
            await self._send(self._head + tail)
        if are_last:
            self.is_over = True
            self._on_end()

    def cancelled(self) -> bytes:
        """The last message of a stream that its client cancelled, to be sent."""
        return self._head + self._kept(
            ServerMessage(type="done", index=self._next_index, cancelled=True)
        )

    @property
    def _next_index(self) -> int:
        return self._num_messages if self._stream is None else self._stream.num_frames

    def _message_of(self, item: StreamItem) -> ServerMessage:
        if isinstance(item, EndMark):
            return ServerMessage(type="done", index=self._next_index)
        label = self._labelled.label
        return ServerMessage(
            type=label,
            index=self._next_index,
            status=self._labelled.status if label == ERROR else UNSET,
            data=item.record if isinstance(item, NamedRecord) else item,
        )

    def _kept(self, message: ServerMessage) -> bytes:
        tail = tail_of(message)
        self._num_messages += 1
        if self._stream is not None:
            self._stream.add(tail)
        return tail
