"""The seam between formats and transports: a format turns events into records, a
transport frames these and sends them.

Knows no format and no transport. Neither side imports the other: both import this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import msgspec

from appliance.api.errors import Failure
from appliance.api.transport.completed_choice import CompletedChoice
from appliance.gateway.choice_stream import ChoiceStream
from appliance.protocol.events import Event, Finished

WireRecord = msgspec.Struct | Mapping[str, Any]  # becomes a JSON object


class NamedRecord(NamedTuple):
    """An item of a stream whose kind is named beside its data,
    where frames have a place for it.
    """

    name: str
    record: WireRecord | msgspec.Raw  # JSON already


@dataclass(frozen=True)
class EndMark:
    """The last item of a stream, for clients that wait for one. It is written as it
    stands, not as JSON.
    """

    text: str


StreamItem = WireRecord | NamedRecord | EndMark


class WireFormat(Protocol):
    """How one request's choices, counted from 0, are written.

    Items may refer to what a later call changes: they are framed before the next call.
    """

    def items(self, index: int, event: Event) -> Sequence[StreamItem]:
        """What a stream holds of one event of a choice;
        empty where it has nothing of it.
        """

    def end(self, finished: Sequence[Finished]) -> Sequence[StreamItem]:
        """What a stream holds after all choices have ended;
        here are their ends, by index.
        """

    def failed(self, failure: Failure) -> Sequence[StreamItem]:
        """What a stream that broke holds last."""

    def whole(self, choices: Sequence[CompletedChoice]) -> WireRecord | Sequence[WireRecord]:
        """Everything in one piece: one JSON object, or a list of them."""


class FormattedEvents(NamedTuple):
    """A request that is about to be answered, whatever then frames it."""

    events: ChoiceStream  # nothing is computed before it is entered
    wire_format: WireFormat
