"""From a request's events through a wire format
to a stream's sink, one event at a time.

Knows no wire format, no frames and no HTTP: every transport that streams has a sink.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from appliance.api.errors import INTERNAL_FAILURE, Failure
from appliance.api.transport.completed_choice import ChoiceEvents
from appliance.api.transport.wire_format import StreamItem, WireFormat
from appliance.errors import ApplianceError
from appliance.protocol.events import Finished, Started

_log = logging.getLogger(__name__)


class StreamSink(Protocol):
    """Where a stream goes. Its methods return when the client has room for more, which
    is what holds back the next event.
    """

    async def start(self, unenforced: Sequence[str]) -> None:
        """The request is accepted: items follow. See `Started` for `unenforced`."""

    async def write(self, items: Sequence[StreamItem]) -> None:
        """At least one item."""


async def pump(events: ChoiceEvents, wire_format: WireFormat, sink: StreamSink) -> None:
    """Returns at the stream's end, also at that of one which broke: the format then has
    written why.

    What fails before the first event is raised: nothing of the answer is written yet.
    """
    finished: dict[int, Finished] = {}
    async with events as happening:
        happened = await anext(happening)
        await sink.start(happened.event.unenforced if isinstance(happened.event, Started) else ())
        try:
            if items := wire_format.items(happened.index, happened.event):
                await sink.write(items)
            async for happened in happening:
                if isinstance(happened.event, Finished):
                    finished[happened.index] = happened.event
                if items := wire_format.items(happened.index, happened.event):
                    await sink.write(items)
            if items := wire_format.end([finished[index] for index in sorted(finished)]):
                await sink.write(items)
        except Exception as error:  # noqa: BLE001  # it has started: it can only end with an error
            await sink.write(wire_format.failed(stream_failure(error)))


def stream_failure(error: Exception) -> Failure:
    """What a stream that has started says of its end, once that is logged."""
    if isinstance(error, ApplianceError):
        _log.warning("a stream broke: %s: %s", error.code, error.message)
        return Failure.of(error)
    _log.error("a stream broke", exc_info=error)
    return INTERNAL_FAILURE
