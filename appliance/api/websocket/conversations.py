"""The latest response of each lane of a connection, so that the next turn need only send
what is new.

Knows no event. Bounded: what would be too large is forgotten, and its client is told so
when it refers to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from appliance.api.openai.responses.wire import ResponseRecord
from appliance.api.websocket.failures import InvalidMessage, refusal_of

MAX_BYTES = 2 << 20  # of all conversations of a connection, as JSON


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A response, and all items up to it."""

    response_id: str
    items: list[Any]  # JSON
    num_bytes: int  # of the items


class Conversations:
    def __init__(self) -> None:
        self._latest: dict[str | None, Turn] = {}  # by lane, the latest last

    def items_with(self, previous_id: object, new_input: object) -> list[Any] | object:
        """The whole input of a turn. Raises `InvalidMessage` where the previous response
        is not known.
        """
        if previous_id is None:
            return new_input
        turn = next((t for t in self._latest.values() if t.response_id == previous_id), None)
        if turn is None:
            raise _not_found(previous_id)
        new = _items_of(new_input)
        # what is no list of items is refused where it is validated
        return new_input if new is None else [*turn.items, *new]

    def remember(self, lane: str | None, whole_input: object, record: ResponseRecord) -> None:
        """The end of a turn."""
        output = msgspec.to_builtins(record.output)
        items = [*(_items_of(whole_input) or ()), *output]
        turn = Turn(response_id=record.id, items=items, num_bytes=len(msgspec.json.encode(items)))
        self._latest.pop(lane, None)
        self._latest[lane] = turn
        while sum(turn.num_bytes for turn in self._latest.values()) > MAX_BYTES:
            del self._latest[next(iter(self._latest))]


def _items_of(said: object) -> list[Any] | None:
    if said is None:
        return []
    if isinstance(said, str):
        message: Mapping[str, Any] = {"type": "message", "role": "user", "content": said}
        return [message]
    return said if isinstance(said, list) else None


def _not_found(previous_id: object) -> InvalidMessage:
    shown = str(previous_id)[:100]
    return refusal_of(
        400,
        f"Previous response with id '{shown}' not found: a connection knows the latest response of "
        "each of its lanes. Send all items again, without 'previous_response_id'.",
        "previous_response_not_found",
        param="previous_response_id",
    )
