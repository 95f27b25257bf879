"""Responses that run whether their client waits or not.

Knows no request and no wire format but that its events are logged. Those that have ended
stay for a while, for whoever reads their events.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

import msgspec

from appliance.api.errors import INTERNAL_FAILURE, Failure
from appliance.api.openai.errors import openai_error
from appliance.api.openai.responses.event_log import EventLog, FollowedLog
from appliance.api.openai.responses.stream import ResponsesFormat
from appliance.api.openai.responses.turn import Turn
from appliance.api.openai.responses.wire import ResponseRecord
from appliance.api.transport.pump import pump
from appliance.errors import ApplianceError, BadRequest, QueueFull
from appliance.gateway.choice_stream import ChoiceStream

_log = logging.getLogger(__name__)

MAX_RUNNING = 4  # at once: others want an answer while they wait
MAX_UNFINISHED = 128  # running and queued, each with its prompt
_MAX_ENDED = 64  # that are kept with their events
_MAX_ENDED_BYTES = 16 << 20  # of these events

_LOST = Failure(
    status=500,
    message="The server was stopped before the response had ended. Send the request again.",
    code="server_stopped",
)


@dataclass(eq=False, kw_only=True)
class BackgroundResponse:
    turn: Turn
    responses: ResponsesFormat
    is_streamed: bool  # its events may be read
    log: EventLog = field(default_factory=EventLog)
    is_cancelled: bool = False  # by its client
    task: asyncio.Task[None] | None = None

    @property
    def record(self) -> ResponseRecord:
        """As it is now."""
        return self.responses.record

    def followed(self, after: int = -1) -> tuple[FollowedLog, FollowedLog]:
        """The events after this one, as they come, and their format.

        Raises `BadRequest` where they may not be read, and `StreamGone`.
        """
        if not self.is_streamed:
            raise not_streamed()
        log = FollowedLog(self.log, after + 1)
        return log, log


class BackgroundResponses:
    """Of one application."""

    def __init__(self) -> None:
        self._known: dict[str, BackgroundResponse] = {}  # those that ended: longest ago first
        self._num_unfinished = 0
        self._may_run = asyncio.Semaphore(MAX_RUNNING)

    def find(self, owner: str, response_id: str) -> BackgroundResponse | None:
        found = self._known.get(response_id)
        return found if found is not None and found.turn.owner == owner else None

    async def start(
        self, turn: Turn, events: ChoiceStream, responses: ResponsesFormat
    ) -> BackgroundResponse:
        """Returns when it is on disk that there is such a response.

        Raises `QueueFull`, and `StorageFailed`.
        """
        if self._num_unfinished >= MAX_UNFINISHED:
            raise QueueFull(
                f"{MAX_UNFINISHED} responses run or wait in the background, which is the limit."
            )
        self._num_unfinished += 1
        try:
            responses.record.background = True
            await turn.add(_lost(responses.record))
        except BaseException:
            self._num_unfinished -= 1
            raise
        running = BackgroundResponse(
            turn=turn, responses=responses, is_streamed=bool(turn.request.stream)
        )
        running.log.add(responses.queued())
        self._known[running.record.id] = running
        running.task = asyncio.create_task(
            self._run(running, events), name=f"response {running.record.id}"
        )
        return running

    async def cancel(self, running: BackgroundResponse) -> None:
        """Returns when it has ended; does nothing where it had."""
        if running.task is not None and not running.task.done():
            running.is_cancelled = True
            running.task.cancel()
            await asyncio.wait([running.task])

    async def forget(self, running: BackgroundResponse) -> None:
        """Its client deletes it."""
        await self.cancel(running)
        self._known.pop(running.record.id, None)

    async def _run(self, running: BackgroundResponse, events: ChoiceStream) -> None:
        try:
            async with self._may_run:
                await pump(events, running.responses, running.log)
        except asyncio.CancelledError:
            if not running.is_cancelled:
                raise  # the server stops, and the disk has what is true then
            if running.record.status in ("queued", "in_progress"):
                running.responses.cancelled()
        except Exception as error:  # noqa: BLE001  # whoever asks for the response is told
            if not isinstance(error, ApplianceError):
                _log.exception("a response in the background failed")
            failure = Failure.of(error) if isinstance(error, ApplianceError) else INTERNAL_FAILURE
            running.log.add(running.responses.failed(failure))
        finally:
            self._num_unfinished -= 1
            running.log.end()
            self._keep_last(running)

    def _keep_last(self, ended: BackgroundResponse) -> None:
        if (response_id := ended.record.id) in self._known:
            self._known[response_id] = self._known.pop(response_id)
        over = [each for each in self._known.values() if each.log.is_over]
        num_bytes = sum(each.log.num_bytes for each in over)
        for index, each in enumerate(over):
            if len(over) - index <= _MAX_ENDED and num_bytes <= _MAX_ENDED_BYTES:
                break
            num_bytes -= each.log.num_bytes
            del self._known[each.record.id]


def not_streamed() -> BadRequest:
    return BadRequest(
        "The events of this response cannot be read: only those of one that was created with "
        "'background' and 'stream', for some time after its end. Leave out 'stream'.",
        param="stream",
    )


def not_in_background() -> BadRequest:
    return BadRequest(
        "Only a response that was created with 'background' can be cancelled: a client cancels "
        "another one by closing its connection."
    )


def _lost(record: ResponseRecord) -> ResponseRecord:
    """What is true of it should the server be stopped before it has ended."""
    return msgspec.structs.replace(record, status="failed", error=openai_error(_LOST).error)
