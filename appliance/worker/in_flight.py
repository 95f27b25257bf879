"""The requests that a worker has been sent and has not ended: whose event goes where.

Knows no process and no wire format.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from appliance.errors import ApplianceError
from appliance.protocol.events import Message
from appliance.worker.mailbox import Mailbox


class InFlight:
    """A mailbox for each request, by its id."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._mailboxes: dict[int, Mailbox] = {}

    def open(self) -> tuple[int, Mailbox]:
        """For a new request, which gets an id that no other one has had."""
        request_id = next(self._ids)
        mailbox = self._mailboxes[request_id] = Mailbox()
        return request_id, mailbox

    def close(self, request_id: int) -> None:
        """Nobody reads its events any more; unknown ids are ignored."""
        self._mailboxes.pop(request_id, None)

    def deliver(self, event: Message) -> bool:
        """False: its reader is too slow, and the request has ended for it."""
        mailbox = self._mailboxes.get(event.request_id)
        # None: cancelled here while the event was on its way.
        if mailbox is None or mailbox.put(event):
            return True
        del self._mailboxes[event.request_id]
        return False

    def end_all(self, error: Callable[[], ApplianceError]) -> None:
        """Each request gets an error of its own."""
        for mailbox in self._mailboxes.values():
            mailbox.put(error())
        self._mailboxes.clear()
