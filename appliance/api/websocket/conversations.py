"""The latest responses of a connection's lanes that are not stored, so that the next turn
need only send what is new.

Knows no event. Bounded: what would be too large is forgotten, and its client is told so
when it refers to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from appliance.api.openai.responses.stored_items import StoredJson
from appliance.api.openai.responses.wire import ResponseRecord

MAX_BYTES = 2 << 20  # of all conversations of a connection, as JSON


@dataclass(frozen=True, kw_only=True)
class LaneTurn:
    """A response, and all items up to it."""

    response_id: str
    items: Sequence[StoredJson]
    num_bytes: int  # of the items


class Conversations:
    def __init__(self) -> None:
        self._latest: dict[str | None, LaneTurn] = {}  # by lane, the latest last

    def find(self, response_id: str | None) -> LaneTurn | None:
        turns = self._latest.values()
        return next((turn for turn in turns if turn.response_id == response_id), None)

    def remember(
        self, lane: str | None, items: Sequence[StoredJson], record: ResponseRecord
    ) -> None:
        """The end of a turn; `items`: all that it responds to."""
        items = [*items, *msgspec.to_builtins(record.output)]
        num_bytes = len(msgspec.json.encode(items))
        self._latest.pop(lane, None)
        self._latest[lane] = LaneTurn(response_id=record.id, items=items, num_bytes=num_bytes)
        while sum(turn.num_bytes for turn in self._latest.values()) > MAX_BYTES:
            del self._latest[next(iter(self._latest))]
