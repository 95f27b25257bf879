"""The events of a response that runs in the background, for whoever reads along.

Knows no format and no response; bounded in bytes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import islice
from types import TracebackType

import msgspec

from appliance.api.errors import Failure
from appliance.api.openai.errors import openai_error
from appliance.api.transport.completed_choice import CompletedChoice
from appliance.api.transport.wire_format import NamedRecord, StreamItem, WireRecord
from appliance.errors import StreamGone
from appliance.gateway.choices import ChoiceEvent
from appliance.protocol.events import Delta, Event, Finished, Route

MAX_BYTES = 4 << 20  # of one log: the last events
_MORE = ChoiceEvent(0, Delta(request_id=0, text="", num_tokens=0))


class EventLog:
    """A `StreamSink`: events are numbered from 0, as those of a response are."""

    def __init__(self) -> None:
        self._events: deque[NamedRecord] = deque()  # the last ones, encoded
        self._num_dropped = 0
        self._changed = asyncio.Event()
        self.num_bytes = 0
        self.is_over = False

    @property
    def num_events(self) -> int:
        return self._num_dropped + len(self._events)

    async def start(
        self,
        unenforced: Sequence[str],  # the Protocol's, like the next
        route: Route | None = None,
    ) -> None:
        """Readers have been told the status before."""

    async def write(self, items: Sequence[StreamItem]) -> None:
        self.add(items)

    def add(self, items: Sequence[StreamItem]) -> None:
        for item in items:
            assert isinstance(item, NamedRecord), "every event of a response has a name"
            encoded = msgspec.json.encode(item.record)
            self._events.append(NamedRecord(item.name, msgspec.Raw(encoded)))
            self.num_bytes += len(encoded)
        while self.num_bytes > MAX_BYTES:
            self.num_bytes -= len(_raw(self._events.popleft()))
            self._num_dropped += 1
        self._wake()

    def end(self) -> None:
        self.is_over = True
        self._wake()

    def after(self, position: int) -> list[NamedRecord]:
        """The events from `position` on. Raises `StreamGone` where the first of them is
        not kept any more.
        """
        if position < self._num_dropped:
            raise StreamGone(
                f"Event {position} is not kept any more: the first that is has the number "
                f"{self._num_dropped}."
            )
        return [*islice(self._events, position - self._num_dropped, None)]

    async def until_more(self, position: int) -> None:
        while self.num_events <= position and not self.is_over:
            await self._changed.wait()

    def _wake(self) -> None:
        """Everyone who waits; whoever comes later waits for the next time."""
        self._changed.set()
        self._changed = asyncio.Event()


class FollowedLog(AbstractAsyncContextManager[AsyncIterator[ChoiceEvent]]):
    """A reader's way through a log, for a `StreamedResponse`: both the events, of which
    each says only that there is more, and the `WireFormat`, which has what it is.
    """

    def __init__(self, log: EventLog, position: int) -> None:
        """Raises `StreamGone`."""
        log.after(position)
        self._log = log
        self._position = position
        self._wakes: AsyncGenerator[ChoiceEvent, None] | None = None

    async def __aenter__(self) -> AsyncIterator[ChoiceEvent]:
        self._wakes = self._wait()
        return self._wakes

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._wakes is not None:
            await self._wakes.aclose()

    async def _wait(self) -> AsyncGenerator[ChoiceEvent, None]:
        yield _MORE
        while not (self._log.is_over and self._position >= self._log.num_events):
            await self._log.until_more(self._position)
            yield _MORE

    def items(self, index: int, event: Event) -> Sequence[StreamItem]:  # noqa: ARG002  # the Protocol's
        events = self._log.after(self._position)
        self._position += len(events)
        return events

    def end(self, finished: Sequence[Finished]) -> Sequence[StreamItem]:  # noqa: ARG002  # the Protocol's
        return ()

    def failed(self, failure: Failure) -> Sequence[StreamItem]:
        return (NamedRecord("error", openai_error(failure)),)

    def whole(self, choices: Sequence[CompletedChoice]) -> WireRecord:  # noqa: ARG002  # the Protocol's
        raise AssertionError("a log is only ever streamed")


def _raw(event: NamedRecord) -> bytes:
    assert isinstance(event.record, msgspec.Raw)
    return bytes(event.record)
