"""Streams that a client may come back to, and what it may have missed of them.

Knows no wire format, no HTTP and no model. Bounded by time, by bytes and in number.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from appliance.api.transport.pump import Progress
from appliance.api.transport.wire_format import WireFormat
from appliance.errors import StreamGone
from appliance.gateway.choice_stream import ChoiceStream

_MAX_BYTES = 16 << 20  # of all streams together, as written
_MAX_STREAM_BYTES = 1 << 20  # of one, the last ones: 4,000 tokens of a chat
_MIN_STREAM_BYTES = 32 << 10
_MAX_LEFT = 256  # streams that nobody reads
_MAX_SUSPENDED = 32  # of them, whose requests are held in parent and worker, with their prompts
_ID_BYTES = 9  # random: whoever knows an id and has no key may read the stream


Framed = Literal["sse", "websocket"]  # how the frames are written that are kept


@dataclass(kw_only=True)
class OpenStream:
    """One stream, while it is written and for a while after; its frames are counted
    from 0.
    """

    id: str
    owner: str  # the caller's id
    path: str
    framed: Framed
    events: ChoiceStream
    wire_format: WireFormat
    streams: OpenStreams
    progress: Progress = field(default_factory=Progress)
    num_frames: int = 0
    num_bytes: int = 0  # of the frames that are kept
    _frames: deque[bytes] = field(default_factory=deque)  # the last ones
    _is_written: bool = False  # to a client
    _is_left: asyncio.Event = field(default_factory=asyncio.Event)
    _is_wanted: asyncio.Event = field(default_factory=asyncio.Event)  # by another connection

    def add(self, frame: bytes) -> None:
        """It is about to be written. What was written is kept, because nobody knows how
        much of it a client got whose connection broke.
        """
        self.num_frames += 1
        self._frames.append(frame)
        self.num_bytes += len(frame)
        while self.num_bytes > self.streams.max_stream_bytes:
            self.num_bytes -= len(self._frames.popleft())

    def frames_after(self, last: int) -> list[bytes]:
        """Raises `StreamGone` where the next one is not kept any more."""
        num_dropped = self.num_frames - len(self._frames)
        if last + 1 < num_dropped:
            raise StreamGone(
                "The stream cannot be continued: more has been sent since the event of this "
                "'Last-Event-ID' than is kept."
            )
        return list(islice(self._frames, last + 1 - num_dropped, None))

    def enter(self) -> None:
        """From now on one response writes it, until `leave`."""
        assert not self._is_written
        self._is_written = True
        self._is_left.clear()
        self._is_wanted.clear()

    def is_over_after(self, last: int) -> bool:
        """Whether nothing is left of it for who has frame `last`."""
        return self.progress.is_ended and last + 1 == self.num_frames

    def leave(self) -> None:
        self._is_written = False
        self._is_left.set()

    async def until_wanted(self) -> None:
        """Until the client has come back on another connection: this one is broken,
        whether that is known yet or not.
        """
        await self._is_wanted.wait()

    async def take_over(self) -> None:
        """The caller enters before anything else happens on the event loop."""
        while self._is_written:
            self._is_wanted.set()
            await self._is_left.wait()


class OpenStreams:
    """Of one application. `resume_s` is how long a client may stay away; with 0 nobody
    may come back.
    """

    def __init__(self, resume_s: float) -> None:
        self.resume_s = resume_s
        self.max_stream_bytes = _MAX_STREAM_BYTES
        self._streams: dict[str, OpenStream] = {}
        self._left: dict[str, float] = {}  # until when, of those that nobody writes: oldest first
        self._suspended: dict[str, None] = {}  # those of them that have not ended
        self._num_left_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def open(
        self,
        owner: str,
        path: str,
        events: ChoiceStream,
        wire_format: WireFormat,
        framed: Framed = "sse",
    ) -> OpenStream:
        """A new stream, before its events are entered."""
        stream = OpenStream(
            id=secrets.token_urlsafe(_ID_BYTES),
            owner=owner,
            path=path,
            framed=framed,
            events=events,
            wire_format=wire_format,
            streams=self,
        )
        events.keep(stream.id)
        stream.enter()
        self._streams[stream.id] = stream
        self._share_out()
        return stream

    def find(
        self,
        last_event_id: str,
        owner: str,
        path: str | None = None,
        framed: Framed = "sse",
    ) -> tuple[OpenStream, int]:
        """The stream that could be gone on with, and the number of the last frame that
        its client has. `path`: None for any that is `framed` so.

        Raises `StreamGone`, which does not tell whether it is somebody else's.
        """
        stream_id, _, number = last_event_id.rpartition(".")
        stream = self._streams.get(stream_id)
        if (
            stream is None
            or stream.owner != owner
            or path not in (None, stream.path)
            or framed != stream.framed
            or not (number.isascii() and number.isdecimal() and len(number) < 10)
            or int(number) >= stream.num_frames
        ):
            raise StreamGone.unknown()
        stream.frames_after(int(number))
        return stream, int(number)

    async def take(
        self,
        last_event_id: str,
        owner: str,
        path: str | None = None,
        framed: Framed = "sse",
    ) -> tuple[OpenStream, int]:
        """What `find` gives, to be gone on with now; raises as it does, and then the
        stream stays as it is.
        """
        stream, last = self.find(last_event_id, owner, path, framed)
        await stream.take_over()
        if stream.id not in self._streams:
            raise StreamGone.unknown()
        del self._left[stream.id]
        self._suspended.pop(stream.id, None)
        self._num_left_bytes -= stream.num_bytes
        stream.enter()
        return stream, last

    def left(self, stream: OpenStream) -> None:
        """Nobody writes it any more: from now on its time runs, so that it may be kept
        for `resume_s`.
        """
        stream.leave()
        if not stream.num_frames:
            self._drop(stream)  # nobody has an id of it
            return
        self._left[stream.id] = asyncio.get_running_loop().time() + self.resume_s
        self._num_left_bytes += stream.num_bytes
        if stream.progress.is_ended:
            stream.events.forget()  # of several answers, one may have ended the others
        else:
            self._suspended[stream.id] = None
        if len(self._suspended) > _MAX_SUSPENDED:
            self._drop_left(next(iter(self._suspended)))
        while self._num_left_bytes > _MAX_BYTES or len(self._left) > _MAX_LEFT:
            self._drop_left(next(iter(self._left)))
        self._set_timer()

    def _drop_left(self, stream_id: str) -> None:
        stream = self._streams[stream_id]
        del self._left[stream_id]
        self._suspended.pop(stream_id, None)
        self._num_left_bytes -= stream.num_bytes
        self._drop(stream)

    def _drop(self, stream: OpenStream) -> None:
        del self._streams[stream.id]
        self._share_out()
        if not stream.progress.is_ended:
            stream.events.forget()

    def _share_out(self) -> None:
        """What is written may keep as much together as what is left."""
        num_written = max(1, len(self._streams) - len(self._left))
        self.max_stream_bytes = max(
            _MIN_STREAM_BYTES, min(_MAX_STREAM_BYTES, _MAX_BYTES // num_written)
        )

    def _set_timer(self) -> None:
        if self._timer is None and self._left:
            until_s = next(iter(self._left.values()))
            self._timer = asyncio.get_running_loop().call_at(until_s, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now_s = asyncio.get_running_loop().time()
        while self._left and next(iter(self._left.values())) <= now_s:
            self._drop_left(next(iter(self._left)))
        self._set_timer()
