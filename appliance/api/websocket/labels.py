"""What each record of a stream is about, beside the record: so that a client need not
know a format to follow a stream.

Knows no format: what a record is about follows from the event that it is of.
"""

from __future__ import annotations

from collections.abc import Sequence

from appliance.api.errors import Failure
from appliance.api.transport.completed_choice import CompletedChoice
from appliance.api.transport.wire_format import EndMark, StreamItem, WireFormat, WireRecord
from appliance.protocol.events import Delta, Event, Finished

TOKEN, TOOL, RECORD, ERROR = "token", "tool", "record", "error"
END = EndMark("")  # of every stream that did not break; a format's own marks are left out


class LabelledFormat:
    """A `WireFormat` around another one. `label` is that of the items which it has just
    returned, and so is `status`, of an error.
    """

    def __init__(self, wire_format: WireFormat) -> None:
        self._format = wire_format
        self.label = RECORD
        self.status = 0

    def items(self, index: int, event: Event) -> Sequence[StreamItem]:
        if isinstance(event, Delta):
            self.label = TOKEN if event.tool_call is None else TOOL
        else:
            self.label = RECORD
        return self._format.items(index, event)

    def end(self, finished: Sequence[Finished]) -> Sequence[StreamItem]:
        self.label = RECORD
        items = self._format.end(finished)
        return [*(item for item in items if not isinstance(item, EndMark)), END]

    def failed(self, failure: Failure) -> Sequence[StreamItem]:
        self.label, self.status = ERROR, failure.status
        return self._format.failed(failure)

    def whole(self, choices: Sequence[CompletedChoice]) -> WireRecord | Sequence[WireRecord]:
        return self._format.whole(choices)
