"""One request's events on their way to its reader, bounded.

Knows no worker and no wire format.
"""

from __future__ import annotations

import asyncio
from collections import deque

from appliance.errors import ApplianceError, SlowReader
from appliance.protocol.events import Message

_MAX_UNREAD_EVENTS = 4096  # at 50 tokens a second more than a minute of an answer nobody reads


class Mailbox:
    """Filled by the channel's reader, emptied
    by one consumer on the same event loop.
    """

    def __init__(self, max_unread_events: int = _MAX_UNREAD_EVENTS) -> None:
        self._events: deque[Message | ApplianceError] = deque()
        self._max_unread_events = max_unread_events
        self._filled = asyncio.Event()

    def put(self, event: Message | ApplianceError) -> bool:
        """Never blocks.

        False: the reader is too slow, and the request ends for it in `SlowReader`.
        """
        if len(self._events) >= self._max_unread_events:
            self._events.clear()
            self._events.append(
                SlowReader(
                    f"The client reads too slowly: {self._max_unread_events} events were waiting "
                    "to be read, so the response was abandoned."
                )
            )
            self._filled.set()
            return False
        self._events.append(event)
        self._filled.set()
        return True

    async def get(self) -> Message | ApplianceError:
        """The next event, in order; waits for one."""
        while not self._events:
            self._filled.clear()
            await self._filled.wait()
        return self._events.popleft()
