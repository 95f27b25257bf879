"""One request as the parent reads it, and those whose reader has left and may come back.

Knows no socket and no wire format.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.errors import ApplianceError, StreamGone, from_record
from appliance.protocol.events import Failed, Message, Started
from appliance.worker.mailbox import Mailbox
from appliance.worker.process import WorkerProcess


@dataclass
class Reading:
    """A request that `process` has been sent, and where its events come in."""

    process: WorkerProcess
    request_id: int
    mailbox: Mailbox
    resume_id: str = ""  # see `GenerateRequest`
    is_started: bool = False
    is_ended: bool = False

    @property
    def may_be_resumed(self) -> bool:
        """Whether it is suspended when its reader leaves. Before it has started, it may
        not have reached the engine.
        """
        return bool(self.resume_id) and self.is_started and not self.is_ended

    def note(self, event: Message | ApplianceError) -> Message:
        """An event of it, but a `Delta`, as it is read; raises what ends the request."""
        if isinstance(event, Started):
            self.is_started = True
            return event
        self.is_ended = True
        if isinstance(event, ApplianceError):
            raise event
        if isinstance(event, Failed):
            raise from_record(event.error)
        return event


class Interrupted:
    """Requests whose readers have left, by their resume id."""

    def __init__(self) -> None:
        self._readings: dict[str, Reading] = {}

    def put(self, reading: Reading) -> None:
        assert reading.resume_id not in self._readings
        self._readings[reading.resume_id] = reading

    def take(self, resume_id: str) -> Reading:
        """Raises `StreamGone` for an unknown one."""
        reading = self._readings.pop(resume_id, None)
        if reading is None:
            raise StreamGone.unknown()
        return reading

    def discard(self, resume_id: str) -> Reading | None:
        """None: there is no such request."""
        return self._readings.pop(resume_id, None)
