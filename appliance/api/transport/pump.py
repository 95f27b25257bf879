"""From a request's events through a wire format
to a stream's sink, one event at a time.

Knows no wire format, no frames and no HTTP: every transport that streams has a sink.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from appliance.api.errors import INTERNAL_FAILURE, Failure
from appliance.api.transport.completed_choice import ChoiceEvents
from appliance.api.transport.wire_format import StreamItem, WireFormat
from appliance.errors import ApplianceError
from appliance.gateway.choices import ChoiceEvent
from appliance.protocol.events import Finished, Route, Started

_log = logging.getLogger(__name__)


class StreamSink(Protocol):
    """Where a stream goes. Its methods return when the client has room for more, which
    is what holds back the next event.
    """

    async def start(self, unenforced: Sequence[str], route: Route | None = None) -> None:
        """The request is accepted: items follow. See `Started` for `unenforced` and `route`."""

    async def write(self, items: Sequence[StreamItem]) -> None:
        """At least one item."""


@dataclass
class Progress:
    """How far a stream has come."""

    finished: dict[int, Finished] = field(default_factory=dict)  # by index
    is_ended: bool = False  # its last items are written


async def pump(
    events: ChoiceEvents,
    wire_format: WireFormat,
    sink: StreamSink,
    progress: Progress | None = None,
) -> None:
    """Returns at the stream's end, also at that of one which broke: the format then has
    written why.

    What fails before the first event is raised: nothing of the answer is written yet.
    With `progress`, one that is left early can be gone on with, by `pump_on`.
    """
    progress = progress or Progress()
    async with events as happening:
        happened = await anext(happening)
        if isinstance(started := happened.event, Started):
            await sink.start(started.unenforced, started.route)
        else:
            await sink.start(())
        try:
            if items := wire_format.items(happened.index, happened.event):
                await sink.write(items)
            await _pump(happening, wire_format, sink, progress)
        except Exception as error:  # noqa: BLE001  # it has started: it can only end with an error
            await fail(error, wire_format, sink, progress)


async def pump_on(
    events: ChoiceEvents,
    wire_format: WireFormat,
    sink: StreamSink,
    progress: Progress,
    repeat: Callable[[], Awaitable[None]],
) -> None:
    """The rest of a stream that `pump` did not bring to its end, from the same `events`.

    `repeat` starts the sink and writes what was written before. Where the events cannot
    be entered now, that is raised before, and may be tried again.
    """
    if progress.is_ended:
        await repeat()
        return
    async with events as happening:
        await repeat()
        try:
            await _pump(happening, wire_format, sink, progress)
        except Exception as error:  # noqa: BLE001  # as above
            await fail(error, wire_format, sink, progress)


async def _pump(
    happening: AsyncIterator[ChoiceEvent],
    wire_format: WireFormat,
    sink: StreamSink,
    progress: Progress,
) -> None:
    finished = progress.finished
    async for happened in happening:
        if isinstance(happened.event, Finished):
            finished[happened.index] = happened.event
        if items := wire_format.items(happened.index, happened.event):
            await sink.write(items)
    progress.is_ended = True
    if items := wire_format.end([finished[index] for index in sorted(finished)]):
        await sink.write(items)


async def fail(
    error: Exception, wire_format: WireFormat, sink: StreamSink, progress: Progress
) -> None:
    """The end of a stream that has started."""
    progress.is_ended = True
    if isinstance(error, ApplianceError):
        _log.warning("a stream broke: %s: %s", error.code, error.message)
        failure = Failure.of(error)
    else:
        _log.error("a stream broke", exc_info=error)
        failure = INTERNAL_FAILURE
    await sink.write(wire_format.failed(failure))
